//! What a node's agent says, as far as it is summed up.

use std::sync::Arc;

use registry_mirror_crds::{MirrorUse, NodeMirrorStatus, NoteReason, condition, reason};

use crate::node_failure::NodeFailure;

/// The last word of one agent.
///
/// Most nodes say the same of their registries, so that part is shared: a controller of 5,000 nodes and 100 objects
/// keeps it once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReport {
    /// Where the node stands.
    pub readiness: Readiness,
    /// The agent's sentence about it; empty where the node is Ready.
    pub message: Box<str>,
    /// Each registry.
    pub registries: Arc<Vec<RegistryReport>>,
}

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Readiness {
    /// As the bundle wants it.
    Ready,
    /// Its containerd waits for a restart.
    RestartPending,
    /// Nothing is touched in this mode.
    DryRun,
    /// It is as before the install.
    Restored,
    /// It cannot.
    Failed(NodeFailure),
    /// Its agent has said nothing yet.
    Unknown,
}

/// One registry on one node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RegistryReport {
    /// The object in force.
    pub object: String,
    /// The hash of the entry in force.
    pub hash: String,
    /// Why it is not in force, where it is not.
    pub error: Option<String>,
    /// Its mirrors.
    pub mirrors: Vec<MirrorReport>,
    /// Whether its containerd does not forward some of the mirrors' credentials to a token server.
    pub credentials_unusable: bool,
}

/// One mirror as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MirrorReport {
    /// As the user wrote it.
    pub url: String,
    /// Whether it answers.
    pub health: Health,
}

/// Whether a mirror answers a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// It does.
    Healthy,
    /// It makes containerd wait.
    Unhealthy,
    /// It is not probed, or this containerd cannot use it.
    NotProbed,
}

impl Readiness {
    /// From the condition `Ready`.
    #[must_use]
    pub fn of(status: &str, reason: &str) -> Self {
        if status == "True" {
            return Self::Ready;
        }
        match reason {
            reason::RESTART_PENDING => Self::RestartPending,
            reason::DRY_RUN => Self::DryRun,
            reason::RESTORED => Self::Restored,
            other => Self::Failed(NodeFailure::of(other)),
        }
    }

    /// The reason, for messages and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => reason::READY,
            Self::RestartPending => reason::RESTART_PENDING,
            Self::DryRun => reason::DRY_RUN,
            Self::Restored => reason::RESTORED,
            Self::Failed(failure) => failure.reason(),
            Self::Unknown => "Unknown",
        }
    }
}

impl From<NodeMirrorStatus> for NodeReport {
    fn from(status: NodeMirrorStatus) -> Self {
        let find = |kind: &str| status.conditions.iter().find(|condition| condition.type_ == kind);
        let ready = find(condition::READY);
        let readiness = ready.map_or(Readiness::Unknown, |ready| Readiness::of(&ready.status, &ready.reason));
        let message = match ready {
            Some(ready) if readiness != Readiness::Ready => ready.message.as_str().into(),
            _ => Box::default(),
        };
        let registries = status.registries.into_iter().map(RegistryReport::from).collect();
        Self { readiness, message, registries: Arc::new(registries) }
    }
}

impl From<registry_mirror_crds::NodeRegistryStatus> for RegistryReport {
    fn from(status: registry_mirror_crds::NodeRegistryStatus) -> Self {
        let registry_mirror_crds::NodeRegistryStatus { registry: _, object, hash, error, mirrors, notes } = status;
        let credentials_unusable = notes.iter().any(|note| note.reason == NoteReason::CredentialsNotForwarded);
        let mirrors = mirrors.into_iter().map(MirrorReport::from).collect();
        Self { object, hash, error, mirrors, credentials_unusable }
    }
}

impl From<registry_mirror_crds::MirrorState> for MirrorReport {
    fn from(state: registry_mirror_crds::MirrorState) -> Self {
        let registry_mirror_crds::MirrorState { url, state, since: _, error } = state;
        let health = match (state, error) {
            (MirrorUse::Active, None) => Health::Healthy,
            // left in place although dead, because every other way is dead too
            (MirrorUse::Active, Some(_)) | (MirrorUse::Drained, _) => Health::Unhealthy,
            (MirrorUse::Unknown | MirrorUse::Unusable, _) => Health::NotProbed,
        };
        Self { url, health }
    }
}
