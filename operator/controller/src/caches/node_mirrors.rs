//! NodeMirrors, as far as they are summed up.

use std::{collections::HashSet, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, Client, core::DeserializeGuard, runtime::watcher};
use registry_mirror_core::{
    budget::{Approval, ChangeHash, Cohort, PlanHash, Restart},
    node_failure::{Attempt, NodeFailure},
    summary::{NodeReport, RegistryReport},
};
use registry_mirror_crds::{DriftStatus, NodeMirror, NodeMirrorStatus, bounds::shortened, condition};

use super::{
    Caches,
    watching::{Happened, keep},
};
use crate::{contract::APPROVE_ANNOTATION, events::Events, signals::Lane};

/// The longest name of a plan that an approval takes, as in the CRD.
const LONGEST_HASH: usize = 128;
/// What a node says goes into Events, into the pause and into the status of objects: no node fills them.
const LONGEST_MESSAGE: usize = 4096;

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
    pub restart: Restart,
    /// The nodes that this one is an example of.
    pub cohort: Arc<Cohort>,
    /// What a restart that it waits for would change.
    pub change: Option<ChangeHash>,
    /// What its last restart changed that was proved.
    pub proved: Option<ChangeHash>,
    /// Its containerd was seen to read the directory.
    pub effective: bool,
    /// `None` until the agent has said something.
    pub report: Option<NodeReport>,
    pub conditions: Box<[SlimCondition]>,
    pub drift: Box<[DriftStatus]>,
}

/// A condition, for Events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlimCondition {
    pub kind: Box<str>,
    pub status: Box<str>,
    pub reason: Box<str>,
    /// Kept where it says what is wrong.
    pub message: Box<str>,
}

pub(super) async fn watch(client: Client, caches: Arc<Caches>, events: Events) -> &'static str {
    let api: Api<DeserializeGuard<NodeMirror>> = Api::all(client);
    let mut reader = Reader::default();
    // A NodeMirror lists every registry, so a page of 500 would be tens of megabytes.
    let config = watcher::Config::default().page_size(50);
    keep(
        api,
        config,
        &caches.node_mirrors,
        &caches.signals,
        |object| Some(reader.read(object)),
        |happened| {
            if let Happened::Changed(change) = &happened
                && let Some(new) = change.new
            {
                events.node_mirror_changed(change.name, change.old, new);
            }
            caches.signals.mark(&[Lane::Nodes, Lane::Taints, Lane::Status]);
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
        let restart = status.as_ref().map_or(Restart::NotNeeded, |status| restart(status, generation));
        let cohort = self.cohort(status.as_ref());
        let plan = status.as_ref().and_then(|status| status.plan.as_ref()).filter(|plan| plan.restart);
        let change = plan.and_then(|plan| plan.change.clone()).map(ChangeHash::new);
        let proved = status.as_ref().and_then(|status| status.proved_restart.as_ref());
        let proved = proved.map(|proved| ChangeHash::new(proved.change.clone()));
        let effective = status
            .iter()
            .flat_map(|status| &status.conditions)
            .any(|condition| condition.type_ == condition::EFFECTIVE && condition.status == "True");
        let conditions =
            status.iter().flat_map(|status| &status.conditions).map(SlimCondition::from).collect::<Box<[_]>>();
        let drift = status.as_ref().map(|status| status.drift.clone().into_boxed_slice()).unwrap_or_default();
        let report = status.filter(|status| !status.conditions.is_empty()).map(NodeReport::from).map(|mut report| {
            report.registries = self.share(report.registries);
            report
        });
        NodeMirrorRecord {
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default().into(),
            generation,
            owner_uid: owner.map(|owner| owner.uid),
            approval,
            requested: requested.map(PlanHash::new),
            restart,
            cohort,
            change,
            proved,
            effective,
            report,
            conditions,
            drift,
        }
    }

    fn cohort(&mut self, status: Option<&NodeMirrorStatus>) -> Arc<Cohort> {
        let containerd = status.and_then(|status| status.containerd.as_ref());
        let cohort = containerd.map(|containerd| Cohort::new(&containerd.version, &containerd.distribution));
        let cohort = Arc::new(cohort.unwrap_or_default());
        if let Some(known) = self.cohorts.get(&cohort) {
            return Arc::clone(known);
        }
        self.cohorts.insert(Arc::clone(&cohort));
        cohort
    }

    fn share(&mut self, registries: Arc<Vec<RegistryReport>>) -> Arc<Vec<RegistryReport>> {
        self.reads = self.reads.wrapping_add(1);
        if self.reads.is_multiple_of(1024) {
            self.shared.retain(|known| Arc::strong_count(known) > 1);
        }
        if let Some(known) = self.shared.get(&registries) {
            return Arc::clone(known);
        }
        self.shared.insert(Arc::clone(&registries));
        registries
    }
}

impl From<&Condition> for SlimCondition {
    fn from(condition: &Condition) -> Self {
        // Nobody reads the message of a state that is as it should be.
        let is_well = match condition.type_.as_str() {
            condition::READY | condition::EFFECTIVE | condition::MIRRORS_HEALTHY | condition::PROXY_IN_FORCE => {
                condition.status == "True"
            }
            _ => condition.status != "True",
        };
        Self {
            kind: condition.type_.as_str().into(),
            status: condition.status.as_str().into(),
            reason: condition.reason.as_str().into(),
            message: if is_well {
                Box::default()
            } else {
                shortened(condition.message.clone(), LONGEST_MESSAGE).into()
            },
        }
    }
}

/// Whether the node waits for a restart, from what its agent says.
fn restart(status: &NodeMirrorStatus, generation: i64) -> Restart {
    // A plan without a name that fits into an approval can be granted to nobody.
    let plan = status.plan.as_ref().filter(|plan| (1..=LONGEST_HASH).contains(&plan.hash.len()));
    let Some(plan) = plan else { return Restart::NotNeeded };
    let hash = PlanHash::new(plan.hash.clone());
    let find = |kind: &str| status.conditions.iter().find(|condition| condition.type_ == kind);
    if let Some(ready) = find(condition::READY).filter(|ready| ready.status != "True") {
        let seen = ready.observed_generation.or(status.observed_generation);
        let under_this_approval = seen.is_some_and(|seen| seen >= generation);
        match NodeFailure::of(&ready.reason).attempt() {
            Attempt::Failed => {
                let why = shortened(ready.message.clone(), LONGEST_MESSAGE);
                return Restart::Failed { plan: hash, why, under_this_approval };
            }
            Attempt::Refused => return Restart::Refused { plan: hash, under_this_approval },
            Attempt::None => {}
        }
    }
    let pending = find(condition::RESTART_PENDING).is_some_and(|pending| pending.status == "True");
    if pending && plan.restart { Restart::Pending(hash) } else { Restart::NotNeeded }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(record.restart, Restart::Pending(PlanHash::new("p".into())));
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
                matches!(record.restart, Restart::Failed { under_this_approval, .. } if under_this_approval == expected)
            );
        }
    }

    #[test]
    fn what_touched_nothing_is_no_failure() {
        let read = |reason| {
            let status = serde_json::json!({"plan": plan(), "conditions": [condition("Ready", "False", reason, 1)]});
            Reader::default().read(object(1, &status)).restart
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
        let (Some(a), Some(b)) = (a.report, b.report) else { panic!("both have a report") };
        assert!(Arc::ptr_eq(&a.registries, &b.registries));
    }

    #[test]
    fn a_status_of_another_release_is_no_status() {
        let record = Reader::default().read(object(1, &serde_json::json!({"restarts": "many"})));
        assert_eq!((record.uid.as_str(), record.report), ("u", None));
    }
}
