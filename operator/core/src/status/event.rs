//! What a person is told of a change: from an old and a new status the Events, each change once.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use registry_mirror_crds::{
    DriftStatus,
    bounds::{LONGEST_TEXT, shortened},
    condition, reason,
};

use super::{
    condition::Status,
    node::{AgentStatus, Readiness},
};

/// A change that is worth an Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Somebody should look.
    pub warning: bool,
    /// What was done, in CamelCase.
    pub action: &'static str,
    /// In CamelCase.
    pub reason: String,
    /// A sentence.
    pub note: String,
}

/// A condition as it is kept of each node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlimCondition {
    kind: Box<str>,
    status: Status,
    reason: Box<str>,
    /// Kept where it says what is wrong.
    message: Box<str>,
}

impl From<&Condition> for SlimCondition {
    fn from(condition: &Condition) -> Self {
        let status = Status::of(&condition.status);
        // Nobody reads the message of a state that is as it should be.
        let is_well = match condition.type_.as_str() {
            condition::READY | condition::EFFECTIVE | condition::MIRRORS_HEALTHY | condition::PROXY_IN_FORCE => {
                status == Status::True
            }
            _ => status != Status::True,
        };
        let message = if is_well { String::new() } else { shortened(condition.message.clone(), LONGEST_TEXT) };
        Self {
            kind: condition.type_.as_str().into(),
            status,
            reason: condition.reason.as_str().into(),
            message: message.into(),
        }
    }
}

/// What is told of a node. `old` is `None` for a NodeMirror that was not known before.
#[must_use]
pub fn of_node(old: Option<&AgentStatus>, new: &AgentStatus) -> Vec<Event> {
    let mut told = Vec::new();
    for SlimCondition { kind, status, reason, message } in &new.conditions {
        let before = old.and_then(|old| old.conditions.iter().find(|old| old.kind == *kind));
        if before.is_some_and(|old| old.status == *status && old.reason == *reason) {
            continue;
        }
        let was_false = before.is_some_and(|old| old.status == Status::False);
        let (action, warning, words) = match (&**kind, status) {
            (condition::READY, Status::True) => ("Program", false, "containerd pulls through the mirrors."),
            (condition::READY, Status::False | Status::Unknown) => {
                ("Program", matches!(Readiness::of(*status, reason), Readiness::Failed(_)), "")
            }
            (condition::MIRRORS_HEALTHY, Status::False) => ("Probe", true, ""),
            (condition::MIRRORS_HEALTHY, Status::True) if was_false => ("Probe", false, "Every mirror answers again."),
            (condition::CONFLICTS | condition::CREDENTIALS_UNUSABLE, Status::True) => ("Program", true, ""),
            // Effective, RestartPending: told by Ready already
            _ => continue,
        };
        let note = if message.is_empty() { words.to_owned() } else { message.to_string() };
        told.push(Event { warning, action, reason: reason.to_string(), note });
    }
    told.extend(old.into_iter().flat_map(|old| repairs(&old.drift, &new.drift)));
    told
}

/// Files that others changed and the agent put back. What a NodeMirror that was not known before lists was told by the
/// controller that saw it happen.
fn repairs(old: &[DriftStatus], new: &[DriftStatus]) -> impl Iterator<Item = Event> {
    new.iter().filter(|entry| !old.contains(entry)).map(|entry| Event {
        warning: true,
        action: "Repair",
        reason: reason::DRIFT_REPAIRED.to_owned(),
        note: entry.what.clone(),
    })
}

/// What is told of a RegistryMirror; `old` is empty for one that had no status yet.
#[must_use]
pub fn of_object(old: &[Condition], new: &[Condition]) -> Vec<Event> {
    let mut told = Vec::new();
    for Condition { type_: kind, status, reason, message, .. } in new {
        let before = old.iter().find(|old| old.type_ == *kind);
        if before.is_some_and(|old| old.status == *status && old.reason == *reason) {
            continue;
        }
        let status = Status::of(status);
        let was_bad = before.is_some_and(|old| Status::of(&old.status) == Status::False);
        let (action, warning) = match (kind.as_str(), status) {
            (condition::ACCEPTED, _) => ("Compile", status != Status::True || reason == reason::CONFLICT),
            (condition::RESOLVED_REFS, Status::False) => ("Resolve", true),
            (condition::RESOLVED_REFS, _) if was_bad => ("Resolve", false),
            (condition::PROGRAMMED, Status::True) => ("Program", false),
            (condition::PROGRAMMED, _) => match reason.as_str() {
                reason::NODES_FAILED
                | reason::ROLLOUT_PAUSED
                | reason::AGENTS_NOT_READY
                | reason::PUBLISH_FAILED
                | reason::BUNDLE_LOST => ("Program", true),
                reason::RESTART_PENDING => ("Program", false),
                _ => continue,
            },
            (condition::HEALTHY, Status::False) => ("Probe", true),
            (condition::HEALTHY, Status::True) if was_bad => ("Probe", false),
            (condition::CREDENTIALS_UNUSABLE, Status::True) => ("Program", true),
            _ => continue,
        };
        told.push(Event { warning, action, reason: reason.clone(), note: message.clone() });
    }
    told
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn said(kind: &str, status: &str, reason: &str, message: &str) -> SlimCondition {
        SlimCondition { kind: kind.into(), status: Status::of(status), reason: reason.into(), message: message.into() }
    }

    fn says(conditions: impl Into<Box<[SlimCondition]>>) -> AgentStatus {
        AgentStatus { conditions: conditions.into(), ..AgentStatus::default() }
    }

    #[test]
    fn a_node_tells_what_changed_and_nothing_twice() {
        let pending = says([
            said("Ready", "False", "RestartPending", "It waits."),
            said("MirrorsHealthy", "Unknown", "NotProbed", ""),
        ]);
        let told = of_node(None, &pending);
        assert_eq!(
            told.iter().map(|t| (t.reason.as_str(), t.warning)).collect::<Vec<_>>(),
            [("RestartPending", false)]
        );
        assert!(of_node(Some(&pending), &pending).is_empty());
        let failed = says([
            said("Ready", "False", "RestartFailed", "It did not come back."),
            said("MirrorsHealthy", "False", "MirrorDrained", "m is taken out."),
        ]);
        let told = of_node(Some(&pending), &failed);
        assert_eq!(
            told.iter().map(|t| (t.note.as_str(), t.warning)).collect::<Vec<_>>(),
            [("It did not come back.", true), ("m is taken out.", true)]
        );
        let well = says([said("Ready", "True", "Ready", ""), said("MirrorsHealthy", "True", "AllAnswer", "")]);
        let told = of_node(Some(&failed), &well);
        assert_eq!(
            told.iter().map(|t| (t.note.as_str(), t.warning)).collect::<Vec<_>>(),
            [("containerd pulls through the mirrors.", false), ("Every mirror answers again.", false)]
        );
    }

    #[test]
    fn a_file_that_was_put_back_is_told_once() {
        let entry = |path: &str, second: i64| DriftStatus {
            path: path.to_owned(),
            at: Time(jiff::Timestamp::from_second(second).expect("in range")),
            what: format!("{path} was changed by someone else and is put back."),
        };
        let says = |drift: &[DriftStatus]| AgentStatus { drift: drift.into(), ..AgentStatus::default() };
        let once = says(&[entry("/a", 1)]);
        assert!(of_node(None, &once).is_empty(), "a controller that starts repeats nothing");
        let told = of_node(Some(&says(&[])), &once);
        assert_eq!(told.iter().map(|t| (t.reason.as_str(), t.warning)).collect::<Vec<_>>(), [("DriftRepaired", true)]);
        assert!(told[0].note.contains("/a"));
        assert!(of_node(Some(&once), &once).is_empty());
        assert_eq!(of_node(Some(&once), &says(&[entry("/a", 1), entry("/a", 2)])).len(), 1);
    }
}
