//! Events: what changed, once. Agents may not write any, so those about nodes come from here too.
//!
//! They are published by a task of their own, so that no pass waits for them, and are dropped rather than queued
//! without end.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use registry_mirror_core::summary::Status;
use registry_mirror_crds::{DriftStatus, NodeMirror, RegistryMirror, bounds::shortened, condition, reason};
use tokio::sync::mpsc;

use crate::caches::{NodeMirrorRecord, SlimCondition};

/// More than this many at a time are dropped: `kubectl` could not show them anyway.
const QUEUE: usize = 512;
/// The API server takes 1 kB.
const MAX_NOTE: usize = 1000;
/// The recorder remembers each Event for six minutes; a new one forgets them.
const RECORDER_CAPACITY: usize = 256;

/// Where Events are handed in.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<Told>,
    leads: Arc<AtomicBool>,
}

#[derive(Debug)]
pub(crate) struct Told {
    about: ObjectReference,
    kind: EventType,
    action: &'static str,
    reason: String,
    note: String,
}

impl Events {
    pub fn new() -> (Self, mpsc::Receiver<Told>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        (Self { queue, leads: Arc::default() }, receiver)
    }

    /// Only the leader tells.
    pub fn set_leading(&self, leads: bool) {
        self.leads.store(leads, Ordering::Relaxed);
    }

    fn tell(&self, told: Told) {
        if self.leads.load(Ordering::Relaxed) && self.queue.try_send(told).is_err() {
            tracing::debug!("an Event was dropped: too many at a time");
        }
    }

    /// About a node.
    pub fn node(&self, name: &str, uid: &str, warning: bool, reason: &'static str, action: &'static str, note: String) {
        let kind = if warning { EventType::Warning } else { EventType::Normal };
        self.tell(Told { about: about::<NodeMirror>(name, uid), kind, action, reason: reason.to_owned(), note });
    }

    /// A condition of a RegistryMirror changed its status or reason.
    pub fn condition_changed(&self, object: &RegistryMirror, told: &Transition) {
        let mut about = object.object_ref(&());
        // the version that was looked at says nothing to people and would keep equal Events apart
        about.resource_version = None;
        let kind = if told.warning { EventType::Warning } else { EventType::Normal };
        let (action, reason, note) = (told.action, told.reason.clone(), told.note.clone());
        self.tell(Told { about, kind, action, reason, note });
    }

    /// A RegistryMirror cannot be read. Its status cannot say so: that would be written by rules that are not known here.
    pub fn object_unreadable(&self, name: &str, uid: &str, error: &str) {
        let note = format!(
            "This release cannot read the object ({error}). Nodes keep what they have of it: upgrade the operator, or \
             write the object as its release of the CRD says."
        );
        let about = about::<RegistryMirror>(name, uid);
        let reason = reason::INVALID.to_owned();
        self.tell(Told { about, kind: EventType::Warning, action: "Compile", reason, note });
    }

    /// A NodeMirror changed: tells of its conditions, and of files that were put back.
    pub fn node_mirror_changed(&self, name: &str, old: Option<&NodeMirrorRecord>, new: &NodeMirrorRecord) {
        let old = old.filter(|old| old.uid == new.uid);
        let transitions = node_transitions(old.map_or(&[][..], |old| &old.conditions), &new.conditions);
        for told in transitions.into_iter().chain(repairs(old.map(|old| &*old.drift), &new.drift)) {
            let kind = if told.warning { EventType::Warning } else { EventType::Normal };
            let Transition { action, reason, note, warning: _ } = told;
            self.tell(Told { about: about::<NodeMirror>(name, &new.uid), kind, action, reason, note });
        }
    }
}

fn about<K: Resource<DynamicType = ()>>(name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

/// A change that is worth an Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transition {
    pub warning: bool,
    pub action: &'static str,
    pub reason: String,
    pub note: String,
}

/// What is to be told of a node's conditions.
pub(crate) fn node_transitions(old: &[SlimCondition], new: &[SlimCondition]) -> Vec<Transition> {
    let mut told = Vec::new();
    for condition in new {
        let before = old.iter().find(|old| old.kind == condition.kind);
        if before.is_some_and(|old| old.status == condition.status && old.reason == condition.reason) {
            continue;
        }
        let is_true = &*condition.status == "True";
        let was_true = before.is_some_and(|old| &*old.status == "True");
        let (action, warning, words) = match (&*condition.kind, is_true) {
            (condition::READY, true) => ("Program", false, "containerd pulls through the mirrors."),
            (condition::READY, false) => {
                let calm = [reason::RESTART_PENDING, reason::DRY_RUN, reason::RESTORED];
                ("Program", !calm.contains(&&*condition.reason), "")
            }
            (condition::MIRRORS_HEALTHY, false) if &*condition.status == "False" => ("Probe", true, ""),
            (condition::MIRRORS_HEALTHY, true) if before.is_some_and(|old| &*old.status == "False") => {
                ("Probe", false, "Every mirror answers again.")
            }
            (condition::CONFLICTS | condition::CREDENTIALS_UNUSABLE, true) => ("Program", true, ""),
            (condition::CONFLICTS, false) if was_true => {
                ("Program", false, "No foreign files are in the way any more.")
            }
            // Effective, RestartPending: told by Ready already
            _ => continue,
        };
        let note = if condition.message.is_empty() { words.to_owned() } else { condition.message.to_string() };
        told.push(Transition { warning, action, reason: condition.reason.to_string(), note });
    }
    told
}

/// What is to be told of files that others changed and the agent put back. `old` is `None` for a NodeMirror that was not
/// known before: what it lists was told by the controller that saw it happen.
pub(crate) fn repairs(old: Option<&[DriftStatus]>, new: &[DriftStatus]) -> Vec<Transition> {
    let Some(old) = old else { return Vec::new() };
    new.iter()
        .filter(|entry| !old.contains(entry))
        .map(|entry| Transition {
            warning: true,
            action: "Repair",
            reason: reason::DRIFT_REPAIRED.to_owned(),
            note: entry.what.clone(),
        })
        .collect()
}

/// What is to be told of an object's conditions; `old` is empty for one that had no status yet.
pub(crate) fn object_transitions(
    old: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
    new: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
) -> Vec<Transition> {
    let mut told = Vec::new();
    for condition in new {
        let before = old.iter().find(|old| old.type_ == condition.type_);
        if before.is_some_and(|old| old.status == condition.status && old.reason == condition.reason) {
            continue;
        }
        let is_true = condition.status == Status::True.name();
        let is_false = condition.status == Status::False.name();
        let was_bad = before.is_some_and(|old| old.status == Status::False.name());
        let (action, warning) = match condition.type_.as_str() {
            condition::ACCEPTED => ("Compile", !is_true || condition.reason == reason::CONFLICT),
            condition::RESOLVED_REFS if is_false || was_bad => ("Resolve", is_false),
            condition::PROGRAMMED if is_true => ("Program", false),
            condition::PROGRAMMED
                if [
                    reason::NODES_FAILED,
                    reason::ROLLOUT_PAUSED,
                    reason::AGENTS_NOT_READY,
                    reason::PUBLISH_FAILED,
                    reason::BUNDLE_LOST,
                ]
                .contains(&condition.reason.as_str()) =>
            {
                ("Program", true)
            }
            condition::PROGRAMMED if condition.reason == reason::RESTART_PENDING => ("Program", false),
            condition::HEALTHY if is_false || (is_true && was_bad) => ("Probe", is_false),
            condition::CREDENTIALS_UNUSABLE if is_true => ("Program", true),
            _ => continue,
        };
        told.push(Transition { warning, action, reason: condition.reason.clone(), note: condition.message.clone() });
    }
    told
}

/// Publishes what is handed in, for as long as anybody may.
pub(crate) async fn publish(client: Client, instance: String, mut queue: mpsc::Receiver<Told>) -> &'static str {
    let reporter = Reporter { controller: "registry-mirror-controller".to_owned(), instance: Some(instance) };
    let mut recorder = Recorder::new(client.clone(), reporter.clone());
    let mut published = 0;
    while let Some(Told { about, kind, action, reason, note }) = queue.recv().await {
        published += 1;
        if published % RECORDER_CAPACITY == 0 {
            recorder = Recorder::new(client.clone(), reporter.clone());
        }
        let note = Some(shortened(note, MAX_NOTE));
        let event = Event { type_: kind, reason, note, action: action.to_owned(), secondary: None };
        if let Err(error) = recorder.publish(&event, &about).await {
            let object = about.name.unwrap_or_default();
            tracing::debug!(object, reason = event.reason, %error, "an Event could not be published");
        }
    }
    "publishing of Events"
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn said(kind: &str, status: &str, reason: &str, message: &str) -> SlimCondition {
        SlimCondition { kind: kind.into(), status: status.into(), reason: reason.into(), message: message.into() }
    }

    #[test]
    fn a_node_tells_what_changed_and_nothing_twice() {
        let pending =
            [said("Ready", "False", "RestartPending", "It waits."), said("MirrorsHealthy", "Unknown", "NotProbed", "")];
        let told = node_transitions(&[], &pending);
        assert_eq!(
            told.iter().map(|t| (t.reason.as_str(), t.warning)).collect::<Vec<_>>(),
            [("RestartPending", false)]
        );
        assert!(node_transitions(&pending, &pending).is_empty());
        let failed = [
            said("Ready", "False", "RestartFailed", "It did not come back."),
            said("MirrorsHealthy", "False", "MirrorDrained", "m is taken out."),
        ];
        let told = node_transitions(&pending, &failed);
        assert_eq!(
            told.iter().map(|t| (t.note.as_str(), t.warning)).collect::<Vec<_>>(),
            [("It did not come back.", true), ("m is taken out.", true)]
        );
        let well = [said("Ready", "True", "Ready", ""), said("MirrorsHealthy", "True", "AllAnswer", "")];
        let told = node_transitions(&failed, &well);
        assert_eq!(
            told.iter().map(|t| (t.note.as_str(), t.warning)).collect::<Vec<_>>(),
            [("containerd pulls through the mirrors.", false), ("Every mirror answers again.", false)]
        );
    }

    #[test]
    fn a_file_that_was_put_back_is_told_once() {
        let entry = |path: &str, second: i64| DriftStatus {
            path: path.to_owned(),
            at: Time(jiff::Timestamp::from_second(second).unwrap()),
            what: format!("{path} was changed by someone else and is put back."),
        };
        let (first, again) = (entry("/a", 1), entry("/a", 2));
        assert!(repairs(None, std::slice::from_ref(&first)).is_empty(), "a controller that starts repeats nothing");
        let told = repairs(Some(&[]), std::slice::from_ref(&first));
        assert_eq!(told.iter().map(|t| (t.reason.as_str(), t.warning)).collect::<Vec<_>>(), [("DriftRepaired", true)]);
        assert!(told[0].note.contains("/a"));
        assert!(repairs(Some(std::slice::from_ref(&first)), std::slice::from_ref(&first)).is_empty());
        assert_eq!(repairs(Some(std::slice::from_ref(&first)), &[first.clone(), again]).len(), 1);
    }

    #[test]
    fn a_note_is_cut_between_characters() {
        assert!(shortened("é".repeat(1000), MAX_NOTE).len() <= MAX_NOTE);
    }
}
