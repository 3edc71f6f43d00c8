//! RegistryMirror status: written where it differs.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
};
use registry_mirror_core::{
    bundle::Bundle,
    compile::{Conflict, Revision},
    status::{
        event,
        object::{Agent, Known, Node, Rollout, Tally, keys_of, status, tally, unpublished},
    },
};
use registry_mirror_crds::{RegistryMirror, RegistryMirrorStatus};

use crate::{
    caches::{Caches, ObjectRecord},
    config::ControllerConfig,
    contract::field_manager,
    errors::PassError,
    events::Events,
    metrics::{ConditionLabels, Metrics, StateLabels},
    presence::Presence,
    publish::Outcome,
    restart_scheduler::alive_nodes,
    rollout::RolloutState,
};

const CONCURRENCY: usize = 4;

/// Writes what the nodes together say of each object.
pub(crate) struct Reporter {
    api: Api<RegistryMirror>,
    /// The last status written, until the cache shows a newer object than the one that it was written over.
    written: HashMap<String, Written>,
    presence: Presence,
}

struct Written {
    over: Option<String>,
    status: RegistryMirrorStatus,
}

impl Reporter {
    pub fn new(client: &Client) -> Self {
        Self { api: Api::all(client.clone()), written: HashMap::new(), presence: Presence::default() }
    }

    pub fn forget(&mut self) {
        self.written.clear();
        self.presence = Presence::default();
    }

    /// When the next agent that is away counts as gone.
    pub fn next_gone(&self, config: &ControllerConfig) -> Option<Timestamp> {
        self.presence.next_deadline(Timestamp::now(), config.agent_grace)
    }

    fn look_for_agents(&mut self, caches: &Caches, now: Timestamp) {
        let alive = alive_nodes(caches);
        caches.nodes.with(|nodes| {
            self.presence.see(nodes.keys().map(|name| (name.as_str(), alive.contains(name.as_str()))), now);
        });
    }

    /// Sums up and writes. How many objects were written.
    pub async fn pass(
        &mut self,
        caches: &Caches,
        config: &ControllerConfig,
        outcome: &Outcome,
        events: &Events,
        metrics: &Metrics,
    ) -> Result<usize, PassError> {
        let due = self.due(caches, config, outcome, metrics);
        let count = due.len();
        let api = &self.api;
        let writes = due.into_iter().map(|Due { object, old, status }| async move {
            let name = object.metadata.name.clone().unwrap_or_default();
            let manifest = serde_json::json!({
                "apiVersion": RegistryMirror::api_version(&()),
                "kind": RegistryMirror::kind(&()),
                // With the uid a write to an object that was deleted and made anew fails.
                "metadata": {"name": name, "uid": object.metadata.uid},
                "status": status,
            });
            let params = PatchParams::apply(field_manager::STATUS).force();
            let result = api.patch_status(&name, &params, &Patch::Apply(&manifest)).await;
            (name, object, old, status, result)
        });
        let mut results = stream::iter(writes).buffer_unordered(CONCURRENCY);
        let mut first_error = None;
        while let Some((name, object, old, status, result)) = results.next().await {
            match result {
                Ok(_) => {
                    let before = old.as_ref().map_or(&[][..], |old| &old.conditions);
                    for told in event::of_object(before, &status.conditions) {
                        events.object(&object, told);
                    }
                    let over = object.metadata.resource_version.clone();
                    self.written.insert(name, Written { over, status });
                }
                Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
                Err(error) => {
                    let what = format!("writing the status of the RegistryMirror {name}");
                    first_error.get_or_insert_with(|| PassError::api(what)(error));
                }
            }
        }
        first_error.map_or(Ok(count), Err)
    }

    fn due(&mut self, caches: &Caches, config: &ControllerConfig, outcome: &Outcome, metrics: &Metrics) -> Vec<Due> {
        let objects: Vec<Arc<RegistryMirror>> = caches.objects.with(|records| {
            let read = records.values().filter_map(|record| match record {
                ObjectRecord::Read(object) => Some(Arc::clone(object)),
                ObjectRecord::Unreadable { .. } => None,
            });
            read.collect()
        });
        self.written.retain(|name, written| {
            objects.iter().any(|object| {
                object.metadata.name.as_deref() == Some(name) && object.metadata.resource_version == written.over
            })
        });
        let Outcome { compiled, verdicts, in_force, failure } = outcome;
        let bundle = in_force.as_ref().unwrap_or(compiled);
        let rollout = Rollout { mode: bundle.mode, policy: config.policy, paused: RolloutState::read(caches).paused };
        let positions: HashMap<&str, usize> =
            bundle.entries.iter().enumerate().map(|(i, entry)| (entry.object.as_str(), i)).collect();
        let now = Timestamp::now();
        self.look_for_agents(caches, now);
        let agent = |node: &str| self.presence.of(node, now, config.agent_grace);
        let without: Vec<&RegistryMirror> = objects
            .iter()
            .map(Arc::as_ref)
            .filter(|object| !positions.contains_key(object.metadata.name.as_deref().unwrap_or_default()))
            .collect();
        let Count { tallies, mut conflicts, without_entry } =
            Count::new(caches, bundle, &without, agent, Some(metrics));
        let behind = failure.as_ref().map(|_| unpublished(verdicts, compiled, in_force.as_deref())).unwrap_or_default();
        if !behind.is_empty() {
            let wanted = Count::new(caches, compiled, &[], agent, None).conflicts;
            conflicts.retain(|name, _| !behind.contains(name.as_str()));
            conflicts.extend(wanted.into_iter().filter(|(name, _)| behind.contains(name.as_str())));
        }
        metrics.objects.clear();
        let mut due = Vec::new();
        for object in objects {
            let name = object.metadata.name.as_deref().unwrap_or_default();
            let old = self.written.get(name).map(|written| &written.status).or(object.status.as_ref()).cloned();
            // An object that came or changed since it was compiled is not spoken of: the next pass has it.
            let verdict = verdicts.get(name).filter(|verdict| verdict.of == Revision::of(&object));
            let position = positions.get(name);
            let new = verdict.map(|verdict| {
                let known = Known {
                    object: &object,
                    verdict,
                    conflict: conflicts.get(name),
                    entry: position.and_then(|&position| bundle.entries.get(position)),
                    tally: match position {
                        Some(&position) => tallies.get(position),
                        None => without_entry.get(name),
                    },
                    unpublished: failure.as_ref().filter(|_| behind.contains(name)),
                };
                status(known, old.as_ref(), &rollout, now)
            });
            for condition in new.as_ref().or(old.as_ref()).iter().flat_map(|status| &status.conditions) {
                let labels = ConditionLabels { condition: condition.type_.clone(), status: condition.status.clone() };
                metrics.objects.get_or_create(&labels).inc();
            }
            if let Some(status) = new
                && old.as_ref() != Some(&status)
            {
                due.push(Due { object, old, status });
            }
        }
        due
    }
}

/// What all nodes together say.
struct Count {
    /// Of each entry of the bundle.
    tallies: Vec<Tally>,
    /// By the object that loses nodes.
    conflicts: BTreeMap<String, Conflict>,
    /// Of objects without an entry, by name.
    without_entry: HashMap<String, Tally>,
}

impl Count {
    fn new(
        caches: &Caches,
        bundle: &Bundle,
        without_entry: &[&RegistryMirror],
        agent: impl Fn(&str) -> Agent,
        metrics: Option<&Metrics>,
    ) -> Self {
        let selectors = bundle.entries.iter().filter_map(|entry| entry.node_selector.as_ref());
        let keys =
            keys_of(selectors.chain(without_entry.iter().filter_map(|object| object.spec.node_selector.as_ref())));
        caches.nodes.with(|nodes| {
            caches.node_mirrors.with(|mirrors| {
                let nodes: Vec<Node<'_>> = nodes
                    .iter()
                    .map(|(name, node)| Node {
                        name,
                        labels: node.labels.project(&keys),
                        agent: agent(name),
                        report: mirrors.get(name).and_then(|mirror| mirror.says.report.as_ref()),
                    })
                    .collect();
                if let Some(metrics) = metrics {
                    count_nodes(&nodes, metrics);
                }
                let (tallies, conflicts) = tally(bundle, &nodes);
                let without_entry = without_entry.iter().map(|object| {
                    let tally = Tally::without_entry(object.spec.node_selector.as_ref(), &nodes);
                    (object.metadata.name.clone().unwrap_or_default(), tally)
                });
                Self { tallies, conflicts, without_entry: without_entry.collect() }
            })
        })
    }
}

struct Due {
    object: Arc<RegistryMirror>,
    old: Option<RegistryMirrorStatus>,
    status: RegistryMirrorStatus,
}

fn count_nodes(nodes: &[Node<'_>], metrics: &Metrics) {
    let mut counts: HashMap<&'static str, i64> = HashMap::new();
    for node in nodes {
        let state = match node.report {
            _ if node.agent == Agent::Gone => "AgentNotReady",
            None => "Unknown",
            Some(report) => report.readiness.name(),
        };
        *counts.entry(state).or_default() += 1;
    }
    metrics.nodes.clear();
    for (state, count) in counts {
        metrics.nodes.get_or_create(&StateLabels { state }).set(count);
    }
}
