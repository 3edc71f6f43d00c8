//! NodeMirrors, as far as they are summed up.

use std::{collections::HashSet, hash::Hash, sync::Arc};

use kube::{Api, Client, core::DeserializeGuard, runtime::watcher};
use registry_mirror_core::{
    budget::{Approval, Cohort},
    plan::PlanHash,
    status::node::{AgentStatus, RegistryReport},
};
use registry_mirror_crds::NodeMirror;

use super::{
    cache::Cache,
    watching::{Happened, keep},
};
use crate::{
    contract::APPROVE_ANNOTATION,
    signals::{Lane, Signals},
};

/// One NodeMirror.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeMirrorRecord {
    pub uid: String,
    pub resource_version: Box<str>,
    pub generation: i64,
    /// The Node that owns it.
    pub owner_uid: Option<String>,
    pub approval: Option<Approval>,
    /// The plan that a person approved.
    pub requested: Option<PlanHash>,
    /// What its agent says.
    pub says: AgentStatus,
}

/// `changed` hears of each that came or changed, with what was known before.
pub(super) async fn watch(
    client: Client,
    cache: &Cache<NodeMirrorRecord>,
    signals: &Signals,
    changed: impl Fn(&str, Option<&NodeMirrorRecord>, &NodeMirrorRecord),
) -> &'static str {
    let api: Api<DeserializeGuard<NodeMirror>> = Api::all(client);
    let mut reader = Reader::default();
    // A NodeMirror lists every registry, so a page of 500 would be tens of megabytes.
    let config = watcher::Config::default().page_size(50);
    keep(
        api,
        config,
        cache,
        signals,
        |object| Some(reader.read(object)),
        |happened| {
            if let Happened::Changed(change) = &happened
                && let Some(new) = change.new
            {
                changed(change.name, change.old, new);
            }
            signals.mark(&[Lane::Nodes, Lane::Taints, Lane::Status]);
        },
    )
    .await;
    "watch of NodeMirrors"
}

/// Keeps what many nodes say of their registries once.
#[derive(Debug, Default)]
struct Reader {
    shared: HashSet<Arc<Vec<RegistryReport>>>,
    /// As many as there are releases and kinds of hosts.
    cohorts: HashSet<Arc<Cohort>>,
    reads: u32,
}

impl Reader {
    fn read(&mut self, object: DeserializeGuard<NodeMirror>) -> NodeMirrorRecord {
        let (metadata, spec, status) = match object.0 {
            Ok(NodeMirror { metadata, spec, status }) => (metadata, spec, status),
            // An agent of another release: it is there, and what it says is not known.
            Err(invalid) => (invalid.metadata, registry_mirror_crds::NodeMirrorSpec::default(), None),
        };
        let generation = metadata.generation.unwrap_or_default();
        let owner = metadata.owner_references.into_iter().flatten().find(|owner| owner.kind == "Node");
        let requested = metadata.annotations.and_then(|mut annotations| annotations.remove(APPROVE_ANNOTATION));
        let approval = spec
            .restart_approval
            .map(|approval| Approval { plan: PlanHash::new(approval.plan), approved_at: approval.approved_at.0 });
        let mut says = status.map(|status| AgentStatus::of(status, generation)).unwrap_or_default();
        says.cohort = shared(&mut self.cohorts, says.cohort);
        if let Some(report) = &mut says.report {
            report.registries = self.share(Arc::clone(&report.registries));
        }
        NodeMirrorRecord {
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default().into(),
            generation,
            owner_uid: owner.map(|owner| owner.uid),
            approval,
            requested: requested.map(PlanHash::new),
            says,
        }
    }

    fn share(&mut self, registries: Arc<Vec<RegistryReport>>) -> Arc<Vec<RegistryReport>> {
        self.reads = self.reads.wrapping_add(1);
        if self.reads.is_multiple_of(1024) {
            self.shared.retain(|known| Arc::strong_count(known) > 1);
        }
        shared(&mut self.shared, registries)
    }
}

/// The one that is known already, where it is.
fn shared<T: Eq + Hash>(known: &mut HashSet<Arc<T>>, value: Arc<T>) -> Arc<T> {
    if let Some(known) = known.get(&value) {
        return Arc::clone(known);
    }
    known.insert(Arc::clone(&value));
    value
}

#[cfg(test)]
mod tests {
    use registry_mirror_core::budget::Restart;

    use super::*;

    fn object(generation: i64, status: &serde_json::Value) -> DeserializeGuard<NodeMirror> {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "registry-mirror.dev/v1alpha1", "kind": "NodeMirror",
            "metadata": {"name": "n", "uid": "u", "generation": generation,
                "annotations": {"registry-mirror.dev/approve": "p"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "node-uid"}]},
            "spec": {"restartApproval": {"plan": "p", "approvedAt": "2026-01-01T00:00:00Z"}},
            "status": status,
        }))
        .expect("an object")
    }

    fn condition(kind: &str, status: &str, reason: &str, generation: i64) -> serde_json::Value {
        serde_json::json!({"type": kind, "status": status, "reason": reason, "message": "Why.",
            "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    fn plan() -> serde_json::Value {
        serde_json::json!({"hash": "p", "kind": "Patch", "restart": true, "reason": "config_path is not set"})
    }

    #[test]
    fn a_pending_restart_names_its_plan() {
        let status = serde_json::json!({"plan": plan(), "conditions": [
            condition("Ready", "False", "RestartPending", 1), condition("RestartPending", "True", "WaitsForApproval", 1)]});
        let record = Reader::default().read(object(1, &status));
        assert_eq!(record.says.restart, Restart::Pending(PlanHash::new("p".into())));
        assert_eq!(record.requested, Some(PlanHash::new("p".into())));
        assert_eq!(record.owner_uid.as_deref(), Some("node-uid"));
    }

    #[test]
    fn a_failure_belongs_to_the_approval_that_the_agent_has_seen() {
        for (seen, generation, expected) in [(3, 3, true), (2, 3, false)] {
            let status =
                serde_json::json!({"plan": plan(), "conditions": [condition("Ready", "False", "RestartFailed", seen)]});
            let record = Reader::default().read(object(generation, &status));
            assert!(
                matches!(record.says.restart, Restart::Failed { under_this_approval, .. } if under_this_approval == expected)
            );
        }
    }

    #[test]
    fn what_touched_nothing_is_no_failure() {
        let read = |reason| {
            let status = serde_json::json!({"plan": plan(), "conditions": [condition("Ready", "False", reason, 1)]});
            Reader::default().read(object(1, &status)).says.restart
        };
        let plan = PlanHash::new("p".into());
        assert_eq!(read("RestartRefused"), Restart::Refused { plan, under_this_approval: true });
        for reason in ["ConfigBroken", "ApplyFailed", "ObserveFailed", "Unsupported", "SomethingNew"] {
            assert_eq!(read(reason), Restart::NotNeeded, "{reason}");
        }
    }

    #[test]
    fn what_nodes_have_in_common_is_kept_once() {
        let status = || {
            serde_json::json!({"conditions": [condition("Ready", "True", "Ready", 1)],
            "registries": [{"registry": "docker.io", "object": "hub", "hash": "h"}]})
        };
        let mut reader = Reader::default();
        let (a, b) = (reader.read(object(1, &status())), reader.read(object(1, &status())));
        let (Some(a), Some(b)) = (a.says.report, b.says.report) else { panic!("both have a report") };
        assert!(Arc::ptr_eq(&a.registries, &b.registries));
    }

    #[test]
    fn a_status_of_another_release_is_no_status() {
        let record = Reader::default().read(object(1, &serde_json::json!({"restarts": "many"})));
        assert_eq!((record.uid.as_str(), record.says.report), ("u", None));
    }
}
