//! What one pass over the node found and did, as plain values; [`super::status`] turns it into NodeMirror status.

use jiff::Timestamp;
pub use registry_mirror_crds::MirrorUse;
use registry_mirror_crds::NoteReason;

use super::failure::NodeFailure;
use crate::{
    budget::{ChangeHash, ProvedRestart},
    bundle::{Entry, MirrorHost},
    desired::{Note, Shortfall},
    node_plan::{ContainerdObservation, NodePlan},
    plan::{PlanHash, files::NewlyRead},
};

/// The outcome of one pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The generation of the NodeMirror that the pass saw; `None` without a cluster. The controller tells by it whether
    /// a failure came before or after its approval.
    pub generation: Option<i64>,
    /// The hash of the node's slice of the bundle that was worked from.
    pub bundle: Option<String>,
    /// The containerd that was found.
    pub containerd: Option<ContainerdFacts>,
    /// What its configuration needs.
    pub plan: Option<PlanFacts>,
    /// Where the node stands.
    pub verdict: Verdict,
    /// Whether containerd was seen to read the directory.
    pub effective: Effective,
    /// Each registry of the slice.
    pub registries: Vec<RegistryFacts>,
    /// Files of others in the way and tools that rewrite ours, a sentence each.
    pub conflicts: Vec<String>,
    /// containerd's forward proxy; `None` where none is asked for and none is to be taken back.
    pub proxy: Option<ProxyFacts>,
    /// Files of ours that others changed since the agent has started, oldest first, [`DRIFT_KEPT`] at most.
    pub drift: Vec<DriftFacts>,
    /// Restarts that the operator has made here.
    pub restarts: u32,
    /// The last of them that was proved.
    pub proved_restart: Option<ProvedRestart>,
}

impl Facts {
    /// Before anything is known; `why` nobody was asked whether containerd reads the directory.
    #[must_use]
    pub fn nothing_known(why: &str) -> Self {
        Self {
            generation: None,
            bundle: None,
            containerd: None,
            plan: None,
            verdict: Verdict::Ready,
            effective: Effective::Unknown(why.to_owned()),
            registries: Vec::new(),
            conflicts: Vec::new(),
            proxy: None,
            drift: Vec::new(),
            restarts: 0,
            proved_restart: None,
        }
    }

    /// The daemon, and what it needs.
    pub fn describe(&mut self, containerd: &ContainerdObservation, plan: &NodePlan) {
        self.containerd = Some(containerd.facts.clone());
        self.plan = Some(plan.facts());
        self.proxy.clone_from(&plan.proxy_facts);
        self.effective = containerd.effective();
    }
}

/// Where containerd's forward proxy stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyFacts {
    /// containerd has it; settings of others that it overrides, a sentence each.
    InForce(Vec<String>),
    /// It waits for a restart; why, in a sentence.
    Waits(String),
    /// It cannot be set here; why, and what to do instead.
    Unsupported(String),
    /// It waits for somebody else's restart; why.
    HeldBack(String),
}

/// So many changes by others are told; more would hide who makes them.
pub const DRIFT_KEPT: usize = 5;

/// A file of ours that somebody else changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftFacts {
    /// The host path.
    pub path: String,
    /// When it was noticed.
    pub at: Timestamp,
    /// What was changed and what became of it, in a sentence without its full stop.
    pub what: String,
}

/// The containerd of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerdFacts {
    /// As the daemon tells it.
    pub version: String,
    /// The kind of host.
    pub distribution: String,
    /// What tells so.
    pub evidence: String,
    /// The main configuration file.
    pub config_file: String,
    /// Its declared `version`.
    pub config_version: Option<u32>,
    /// The directory of hosts.toml files.
    pub directory: Option<String>,
    /// When the daemon started.
    pub started_at: Option<Timestamp>,
}

/// What the configuration needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanFacts {
    /// Names the plan.
    pub hash: PlanHash,
    /// Names what it changes, whatever else stands in the files.
    pub change: ChangeHash,
    /// `None`, `Adopt`, `Patch`, `Migrate`, `Unsupported`.
    pub kind: registry_mirror_crds::PlanKind,
    /// Whether containerd must restart.
    pub restart: bool,
    /// A sentence.
    pub reason: String,
    /// The keys that change.
    pub changes: Vec<registry_mirror_crds::PlanChange>,
    /// Files of others that the restart brings into force.
    pub newly_read: Vec<NewlyRead>,
}

/// Where the node stands. Each sentence is for the person who must act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As the bundle wants it.
    Ready,
    /// Another node writes the directory for this one too.
    Shared(String),
    /// containerd must restart once and may not yet.
    RestartPending,
    /// Nothing was touched.
    DryRun,
    /// The node is as it was before.
    Restored(String),
    /// Somebody must act; why.
    Failed(NodeFailure, String),
}

impl Verdict {
    /// Something went wrong, with the sentence that says more.
    #[must_use]
    pub fn failed(failure: NodeFailure, why: impl Into<String>) -> Self {
        Self::Failed(failure, why.into())
    }

    /// Whether the node pulls as the bundle wants it.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready | Self::Shared(_))
    }
}

/// Whether containerd was seen to read the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effective {
    /// Not asked yet, or nothing to ask for.
    Unknown(String),
    /// The pull arrived.
    Yes,
    /// It did not; why.
    No(String),
}

/// One registry on this node.
#[derive(Debug, Clone, PartialEq)]
pub struct RegistryFacts {
    /// The registry.
    pub registry: String,
    /// The RegistryMirror.
    pub object: String,
    /// The hash of its entry.
    pub hash: String,
    /// Why it is not in force, where it is not.
    pub error: Option<String>,
    /// Its mirrors.
    pub mirrors: Vec<MirrorFacts>,
    /// What the object asks for and this containerd does not do.
    pub notes: Vec<Note>,
}

impl RegistryFacts {
    /// An entry of the bundle of which nothing else is known yet.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        let unknown = |mirror: &MirrorHost| MirrorFacts {
            url: mirror.display_url.clone(),
            state: MirrorUse::Unknown,
            error: None,
        };
        Self {
            registry: entry.registry.to_string(),
            object: entry.object.clone(),
            hash: entry.hash().as_str().to_owned(),
            error: None,
            mirrors: entry.mirrors.iter().map(unknown).collect(),
            notes: Vec::new(),
        }
    }

    /// What of its notes is to be said of credentials.
    pub fn credentials_unusable(&self) -> impl Iterator<Item = &Note> {
        self.notes.iter().filter(|note| matches!(note.what, Shortfall::CredentialsNotForwarded { .. }))
    }

    /// Takes the notes, and what they say of the mirrors' use.
    pub fn heed(&mut self, notes: Vec<Note>) {
        for note in &notes {
            let Some(mirror) = note.mirror.and_then(|place| self.mirrors.get_mut(place)) else { continue };
            match note.what.reason() {
                NoteReason::MirrorLeftOut => mirror.state = MirrorUse::Unusable,
                // It does not answer, which stands beside it, and is asked all the same.
                NoteReason::NotTakenOut => mirror.state = MirrorUse::Active,
                NoteReason::ReferrersNotAsked
                | NoteReason::DialTimeoutIgnored
                | NoteReason::DialTimeoutLeftOut
                | NoteReason::ListedTwice
                | NoteReason::CredentialsNotForwarded
                | NoteReason::NoMirrorLeft
                | NoteReason::DefaultDirectoryUnknown => {}
            }
        }
        self.notes = notes;
    }
}

/// One mirror on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorFacts {
    /// As the user wrote it.
    pub url: String,
    /// Whether it is in use.
    pub state: MirrorUse,
    /// What is wrong, where something is.
    pub error: Option<String>,
}
