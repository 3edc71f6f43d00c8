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
    runtime::events::{EventType, Recorder, Reporter},
};
use registry_mirror_core::status::event::Event;
use registry_mirror_crds::{NodeMirror, RegistryMirror, bounds::shortened, reason};
use tokio::sync::mpsc;

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
    event: Event,
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

    fn tell(&self, about: ObjectReference, event: Event) {
        if self.leads.load(Ordering::Relaxed) && self.queue.try_send(Told { about, event }).is_err() {
            tracing::debug!("an Event was dropped: too many at a time");
        }
    }

    /// About a node.
    pub fn node(&self, name: &str, uid: &str, event: Event) {
        self.tell(about::<NodeMirror>(name, uid), event);
    }

    /// About a RegistryMirror.
    pub fn object(&self, object: &RegistryMirror, event: Event) {
        let mut about = object.object_ref(&());
        // the version that was looked at says nothing to people and would keep equal Events apart
        about.resource_version = None;
        self.tell(about, event);
    }

    /// A RegistryMirror cannot be read. Its status cannot say so: that would be written by rules that are not known here.
    pub fn object_unreadable(&self, name: &str, uid: &str, error: &str) {
        let note = format!(
            "This release cannot read the object ({error}). Nodes keep what they have of it: upgrade the operator, or \
             write the object as its release of the CRD says."
        );
        let event = Event { warning: true, action: "Compile", reason: reason::INVALID.to_owned(), note };
        self.tell(about::<RegistryMirror>(name, uid), event);
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

/// Publishes what is handed in, for as long as anybody may.
pub(crate) async fn publish(client: Client, instance: String, mut queue: mpsc::Receiver<Told>) -> &'static str {
    let reporter = Reporter { controller: "registry-mirror-controller".to_owned(), instance: Some(instance) };
    let mut recorder = Recorder::new(client.clone(), reporter.clone());
    let mut published = 0;
    while let Some(Told { about, event: Event { warning, action, reason, note } }) = queue.recv().await {
        published += 1;
        if published % RECORDER_CAPACITY == 0 {
            recorder = Recorder::new(client.clone(), reporter.clone());
        }
        let note = Some(shortened(note, MAX_NOTE));
        let type_ = if warning { EventType::Warning } else { EventType::Normal };
        let event = kube::runtime::events::Event { type_, reason, note, action: action.to_owned(), secondary: None };
        if let Err(error) = recorder.publish(&event, &about).await {
            let object = about.name.unwrap_or_default();
            tracing::debug!(object, reason = event.reason, %error, "an Event could not be published");
        }
    }
    "publishing of Events"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_cut_between_characters() {
        assert!(shortened("é".repeat(1000), MAX_NOTE).len() <= MAX_NOTE);
    }
}
