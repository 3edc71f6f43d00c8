//! Who may restart containerd now.
//!
//! The restart is the only disruptive act, so at no time do more nodes lack a working containerd by our doing than the
//! budget allows. A grant names one plan of one node; the agent reads it live before it acts, so that what is withdrawn
//! here does not happen there.

mod change;
mod max_unavailable;
mod turns;

use std::{collections::BTreeSet, str::FromStr, sync::Arc};

use jiff::{SignedDuration, Timestamp};

pub use change::{ChangeHash, Cohort, ProvedRestart};
pub use max_unavailable::{MaxUnavailable, MaxUnavailableError};

use crate::plan::PlanHash;

/// A refused restart may be tried again after this time; doubled with each refusal, up to [`LONGEST_REST`].
const FIRST_REST: SignedDuration = SignedDuration::from_mins(10);
const LONGEST_REST: SignedDuration = SignedDuration::from_hours(24);

/// How long a node is left alone that has refused its restart so many times in a row.
#[must_use]
pub fn rest_after(refusals: u32) -> SignedDuration {
    let doubled = 1_i32.checked_shl(refusals.saturating_sub(1)).filter(|times| *times > 0).unwrap_or(i32::MAX);
    FIRST_REST.checked_mul(doubled).unwrap_or(LONGEST_REST).min(LONGEST_REST)
}

/// After this time an approval that led to no restart is withdrawn.
pub const APPROVAL_LIFETIME: SignedDuration = SignedDuration::from_mins(10);

/// Who decides that a node may restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// The controller, within the budget.
    #[default]
    Automatic,
    /// A person by `registry-mirror approve`, within the budget.
    Manual,
    /// Nobody.
    Never,
}

impl Policy {
    /// As it is written in the chart's values.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Automatic => "Automatic",
            Self::Manual => "Manual",
            Self::Never => "Never",
        }
    }
}

/// The text names no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no restart policy: write Automatic, Manual or Never")]
pub struct PolicyError(String);

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Automatic, Self::Manual, Self::Never]
            .into_iter()
            .find(|policy| policy.name() == text)
            .ok_or_else(|| PolicyError(text.to_owned()))
    }
}

/// What holds for all nodes.
#[derive(Debug, Clone)]
pub struct Rules<'a> {
    /// Who decides.
    pub policy: Policy,
    /// How many nodes may be unavailable at a time.
    pub max_unavailable: MaxUnavailable,
    /// Whether a failure stops all further restarts.
    pub pause_on_failure: bool,
    /// Whether restarts are paused.
    pub paused: bool,
    /// `false` in the modes that restart nothing (DryRun, Restore).
    pub may_restart: bool,
    /// The failures that a pause was already made for.
    pub known_failures: &'a BTreeSet<Failure>,
    /// The controller's clock.
    pub now: Timestamp,
}

/// One node whose pulls some RegistryMirror redirects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// Its name.
    pub name: String,
    /// Kubernetes says that it is Ready.
    pub ready: bool,
    /// Its agent runs, so that its word counts and an approval would be used.
    pub agent_alive: bool,
    /// It is new and has no pods to disturb, so it restarts outside the budget: see
    /// [`is_fresh`](crate::startup_taint::is_fresh).
    pub fresh: bool,
    /// It runs the cluster's control plane, so it restarts last, alone, and never outside the budget.
    pub control_plane: bool,
    /// Where it stands (`topology.kubernetes.io/zone`), where that is known.
    pub zone: Option<Arc<str>>,
    /// The nodes that it is an example of.
    pub cohort: Arc<Cohort>,
    /// What a restart that it waits for would change; `None` where its agent does not say.
    pub change: Option<ChangeHash>,
    /// What its last restart changed that ended in a proof.
    pub proved: Option<ChangeHash>,
    /// Its containerd was seen to read the directory.
    pub effective: bool,
    /// What its agent says.
    pub restart: Restart,
    /// What it was granted.
    pub approval: Option<Approval>,
    /// The plan that a person approved (annotation `registry-mirror.dev/approve`).
    pub requested: Option<PlanHash>,
    /// When an approval of it was last withdrawn unused; such nodes come last.
    pub withdrawn_at: Option<Timestamp>,
    /// It has refused its restart, and is left alone until then.
    pub rests_until: Option<Timestamp>,
}

impl NodeState {
    /// Whether it counts as unavailable. An approval that is taken back in this very decision may be acted on at this
    /// moment, so it counts too.
    const fn is_away(&self) -> bool {
        !self.ready || self.approval.is_some()
    }
}

/// Whether a node's containerd must restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Restart {
    /// It need not, or not any more.
    #[default]
    NotNeeded,
    /// It waits for leave to carry out this plan.
    Pending(PlanHash),
    /// It could not begin, and touched nothing.
    Refused {
        /// The plan.
        plan: PlanHash,
        /// As with [`Restart::Failed`].
        under_this_approval: bool,
    },
    /// It tried and went back.
    Failed {
        /// The plan.
        plan: PlanHash,
        /// A sentence.
        why: String,
        /// The agent has seen the approval that stands now, so the failure is not one of an earlier approval.
        under_this_approval: bool,
    },
}

impl Restart {
    /// The same for an approval that the agent has not seen when it said this.
    #[must_use]
    pub fn said_before_approval(mut self) -> Self {
        match &mut self {
            Self::NotNeeded | Self::Pending(_) => {}
            Self::Refused { under_this_approval, .. } | Self::Failed { under_this_approval, .. } => {
                *under_this_approval = false;
            }
        }
        self
    }

    /// The plan that it waits with, or would try again.
    #[must_use]
    pub const fn plan(&self) -> Option<&PlanHash> {
        match self {
            Self::NotNeeded => None,
            Self::Pending(plan) | Self::Refused { plan, .. } | Self::Failed { plan, .. } => Some(plan),
        }
    }
}

/// Leave for one plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The plan.
    pub plan: PlanHash,
    /// Since when.
    pub approved_at: Timestamp,
}

/// A plan that failed on a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Failure {
    /// The node.
    pub node: String,
    /// The plan.
    pub plan: PlanHash,
}

/// What to write. All of it follows from the state, so it can be decided again after a crash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Grant these plans.
    pub grant: Vec<Grant>,
    /// Take these nodes' approvals back.
    pub withdraw: Vec<(String, Withdrawal)>,
    /// Take the annotations of these nodes away: granted, or no longer what the node needs.
    pub clear_requests: Vec<String>,
    /// Stop all further restarts.
    pub pause: Option<Pause>,
    /// All failures that stand, to be remembered with the pause.
    pub failures: BTreeSet<Failure>,
    /// When to decide again though nothing changes.
    pub wake_at: Option<Timestamp>,
}

/// Leave for one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The node.
    pub node: String,
    /// Its plan.
    pub plan: PlanHash,
}

/// Why an approval is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withdrawal {
    /// The node has done it.
    Used,
    /// The node needs something else now.
    Superseded,
    /// The node did not use it in [`APPROVAL_LIFETIME`].
    Unused,
    /// The restart failed.
    Failed,
    /// The node could not begin, and touched nothing.
    Refused,
    /// Restarts are paused, or nothing may restart any more.
    Stopped,
}

/// A failure that stops the restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Where it happened.
    pub node: String,
    /// What was tried.
    pub plan: PlanHash,
    /// The agent's sentence.
    pub why: String,
}

/// Decides for all nodes together.
#[must_use]
pub fn decide(nodes: &[NodeState], rules: &Rules<'_>) -> Decisions {
    let mut decisions = Decisions::default();
    let new_failure = failures(nodes, rules, &mut decisions);
    let paused = rules.paused || decisions.pause.is_some();
    let stopped = paused || !rules.may_restart || rules.policy == Policy::Never;

    for node in nodes {
        let Some(approval) = &node.approval else { continue };
        let reason = if new_failure.contains(node.name.as_str()) {
            Some(Withdrawal::Failed)
        } else {
            spent(node, approval, stopped, rules.now)
        };
        match reason {
            Some(reason) => decisions.withdraw.push((node.name.clone(), reason)),
            None => {
                let expires = approval.approved_at.saturating_add(APPROVAL_LIFETIME).unwrap_or(Timestamp::MAX);
                decisions.wake_at = Some(decisions.wake_at.map_or(expires, |at| at.min(expires)));
            }
        }
    }

    // A request that no longer names what the node needs is void; one that must wait stays.
    for node in nodes {
        let Some(requested) = &node.requested else { continue };
        if node.restart.plan() != Some(requested) || rules.policy == Policy::Never {
            decisions.clear_requests.push(node.name.clone());
        }
    }
    if stopped {
        return decisions;
    }
    let rested = nodes.iter().filter(|node| matches!(node.restart, Restart::Refused { .. }) && node.approval.is_none());
    let rested = rested.filter_map(|node| node.rests_until).filter(|until| *until > rules.now).min();
    decisions.wake_at = decisions.wake_at.into_iter().chain(rested).min();

    let (fresh, settled): (Vec<_>, Vec<_>) = nodes.iter().partition(|node| node.fresh && !node.control_plane);
    let mut granted: Vec<&NodeState> = fresh.into_iter().filter(|node| may_be_granted(node, rules)).collect();
    let room = room(&settled, rules.max_unavailable);
    granted.extend(turns::next(&settled, rules, room));
    for node in granted {
        let Some(plan) = node.restart.plan() else { continue };
        decisions.grant.push(Grant { node: node.name.clone(), plan: plan.clone() });
        if node.requested.as_ref() == Some(plan) {
            decisions.clear_requests.push(node.name.clone());
        }
    }
    decisions
}

/// Finds the failures, and pauses on one that is new. The nodes whose failure is new.
fn failures<'n>(nodes: &'n [NodeState], rules: &Rules<'_>, decisions: &mut Decisions) -> BTreeSet<&'n str> {
    let mut new = BTreeSet::new();
    for node in nodes {
        let Restart::Failed { plan, why, under_this_approval } = &node.restart else { continue };
        let failure = Failure { node: node.name.clone(), plan: plan.clone() };
        let again = *under_this_approval && node.approval.as_ref().is_some_and(|approval| approval.plan == *plan);
        if again || !rules.known_failures.contains(&failure) {
            new.insert(node.name.as_str());
            if rules.pause_on_failure && decisions.pause.is_none() {
                decisions.pause = Some(Pause { node: node.name.clone(), plan: plan.clone(), why: why.clone() });
            }
        }
        decisions.failures.insert(failure);
    }
    new
}

/// Whether an approval has to go, and why.
fn spent(node: &NodeState, approval: &Approval, stopped: bool, now: Timestamp) -> Option<Withdrawal> {
    match node.restart.plan() {
        None => Some(Withdrawal::Used),
        Some(plan) if *plan != approval.plan => Some(Withdrawal::Superseded),
        Some(_) if matches!(node.restart, Restart::Refused { under_this_approval: true, .. }) => {
            Some(Withdrawal::Refused)
        }
        Some(_) if stopped => Some(Withdrawal::Stopped),
        Some(_) if now.duration_since(approval.approved_at) >= APPROVAL_LIFETIME => Some(Withdrawal::Unused),
        Some(_) => None,
    }
}

/// How many more nodes may become unavailable.
fn room(nodes: &[&NodeState], max_unavailable: MaxUnavailable) -> usize {
    max_unavailable.of(nodes.len()).saturating_sub(nodes.iter().filter(|node| node.is_away()).count())
}

/// Whether leave would be given to this node and used by it, if there is room.
fn may_be_granted(node: &NodeState, rules: &Rules<'_>) -> bool {
    if node.approval.is_some() || !node.agent_alive || !node.ready {
        return false;
    }
    let Some(plan) = node.restart.plan() else { return false };
    let by_itself = rules.policy == Policy::Automatic
        && match &node.restart {
            Restart::NotNeeded => false,
            Restart::Pending(_) => true,
            Restart::Refused { .. } => node.rests_until.is_none_or(|until| until <= rules.now),
            // Each retry costs one `resume`; where failures do not pause, a person has to ask for it, else the
            // node would restart for ever.
            Restart::Failed { .. } => rules.pause_on_failure,
        };
    by_itself || node.requested.as_ref() == Some(plan)
}

/// The failures as they are kept with the pause: a line each, the node and the plan.
#[must_use]
pub fn failures_to_text(failures: &BTreeSet<Failure>) -> String {
    failures.iter().map(|Failure { node, plan }| format!("{node} {plan}\n")).collect()
}

/// Reads what [`failures_to_text`] wrote; other lines are passed over.
#[must_use]
pub fn failures_from_text(text: &str) -> BTreeSet<Failure> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(node, plan)| Failure { node: node.to_owned(), plan: PlanHash::new(plan.to_owned()) })
        .collect()
}

#[cfg(test)]
mod tests;
