//! NodeMirror status as the controller reads it: what [`super::status`] writes, as far as it is acted on and summed up.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use registry_mirror_crds::{
    DriftStatus, MirrorState, MirrorUse, NodeMirrorStatus, NodeRegistryStatus, NoteReason,
    bounds::{LONGEST_TEXT, shortened},
    condition, reason,
};

use super::failure::{Attempt, NodeFailure};
use crate::{
    budget::{ChangeHash, Cohort, Restart},
    plan::PlanHash,
    status::{condition::Status, event::SlimCondition},
};

/// What one agent says, as far as the controller keeps it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AgentStatus {
    /// What is summed up; `None` until the agent has said something.
    pub report: Option<NodeReport>,
    /// Whether the node waits for a restart.
    pub restart: Restart,
    /// The nodes that this one is an example of.
    pub cohort: Arc<Cohort>,
    /// What a restart that it waits for would change.
    pub change: Option<ChangeHash>,
    /// What its last restart changed that was proved.
    pub proved: Option<ChangeHash>,
    /// Its containerd was seen to read the directory.
    pub effective: bool,
    /// What it says of itself, for Events.
    pub conditions: Box<[SlimCondition]>,
    /// Files of ours that others changed, for Events.
    pub drift: Box<[DriftStatus]>,
}

impl AgentStatus {
    /// Reads a status; `generation` is that of the NodeMirror as it stands.
    #[must_use]
    pub fn of(status: NodeMirrorStatus, generation: i64) -> Self {
        let containerd = status.containerd.as_ref();
        let cohort = containerd.map(|containerd| Cohort::new(&containerd.version, &containerd.distribution));
        let change = status.plan.as_ref().filter(|plan| plan.restart).and_then(|plan| plan.change.clone());
        let is_effective = |condition: &Condition| {
            condition.type_ == condition::EFFECTIVE && Status::of(&condition.status) == Status::True
        };
        Self {
            restart: restart(&status, generation),
            cohort: Arc::new(cohort.unwrap_or_default()),
            change: change.map(ChangeHash::new),
            proved: status.proved_restart.as_ref().map(|proved| ChangeHash::new(proved.change.clone())),
            effective: status.conditions.iter().any(is_effective),
            conditions: status.conditions.iter().map(SlimCondition::from).collect(),
            drift: status.drift.as_slice().into(),
            report: (!status.conditions.is_empty()).then(|| NodeReport::from(status)),
        }
    }
}

/// Whether the node waits for a restart, or has tried one in vain.
#[must_use]
pub fn restart(status: &NodeMirrorStatus, generation: i64) -> Restart {
    // A plan without a name that fits into an approval can be granted to nobody.
    let plan = status.plan.as_ref().and_then(|plan| Some((plan.restart, PlanHash::from_status(&plan.hash)?)));
    let (Some((needs_restart, plan)), Some(ready)) = (plan, ready(status)) else { return Restart::NotNeeded };
    let attempt = match Readiness::said_by(ready) {
        Readiness::RestartPending if needs_restart => return Restart::Pending(plan),
        Readiness::Failed(failure) => failure.attempt(),
        Readiness::RestartPending | Readiness::Ready | Readiness::DryRun | Readiness::Restored | Readiness::Unknown => {
            Attempt::None
        }
    };
    let seen = ready.observed_generation.or(status.observed_generation);
    let under_this_approval = seen.is_some_and(|seen| seen >= generation);
    match attempt {
        // It goes into Events, into the pause and into the status of objects: no node fills them.
        Attempt::Failed => {
            Restart::Failed { plan, why: shortened(ready.message.clone(), LONGEST_TEXT), under_this_approval }
        }
        Attempt::Refused => Restart::Refused { plan, under_this_approval },
        Attempt::None => Restart::NotNeeded,
    }
}

fn ready(status: &NodeMirrorStatus) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == condition::READY)
}

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
    pub fn of(status: Status, reason: &str) -> Self {
        if status == Status::True {
            return Self::Ready;
        }
        match reason {
            reason::RESTART_PENDING => Self::RestartPending,
            reason::DRY_RUN => Self::DryRun,
            reason::RESTORED => Self::Restored,
            other => Self::Failed(NodeFailure::of(other)),
        }
    }

    fn said_by(ready: &Condition) -> Self {
        Self::of(Status::of(&ready.status), &ready.reason)
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
        let ready = ready(&status);
        let readiness = ready.map_or(Readiness::Unknown, Readiness::said_by);
        let message = match ready {
            Some(ready) if readiness != Readiness::Ready => ready.message.as_str().into(),
            _ => Box::default(),
        };
        let registries = status.registries.into_iter().map(RegistryReport::from).collect();
        Self { readiness, message, registries: Arc::new(registries) }
    }
}

impl From<NodeRegistryStatus> for RegistryReport {
    fn from(status: NodeRegistryStatus) -> Self {
        let NodeRegistryStatus { registry: _, object, hash, error, mirrors, notes } = status;
        let credentials_unusable = notes.iter().any(|note| note.reason == NoteReason::CredentialsNotForwarded);
        let mirrors = mirrors.into_iter().map(MirrorReport::from).collect();
        Self { object, hash, error, mirrors, credentials_unusable }
    }
}

impl From<MirrorState> for MirrorReport {
    fn from(state: MirrorState) -> Self {
        let MirrorState { url, state, since: _, error } = state;
        let health = match (state, error) {
            (MirrorUse::Active, None) => Health::Healthy,
            // left in place although dead, because every other way is dead too
            (MirrorUse::Active, Some(_)) | (MirrorUse::Drained, _) => Health::Unhealthy,
            (MirrorUse::Unknown | MirrorUse::Unusable, _) => Health::NotProbed,
        };
        Self { url, health }
    }
}
