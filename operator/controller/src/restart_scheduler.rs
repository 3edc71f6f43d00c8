//! Approvals: the budget's decisions become writes.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::Time};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use registry_mirror_core::{
    budget::{Approval, Decisions, Failure, Grant, NodeState, Restart, Rules, Withdrawal, decide, rest_after},
    bundle::{Bundle, Mode},
    select::{Labels, matches},
    startup_taint::is_fresh,
    status::{event::Event, object::selector_keys, whole_seconds},
};
use registry_mirror_crds::{NodeMirror, RestartApproval};

use crate::{
    caches::{Caches, NodeMirrorRecord, NodeRecord},
    config::ControllerConfig,
    contract::{APPROVE_ANNOTATION, field_manager},
    errors::PassError,
    events::Events,
    metrics::Metrics,
    rollout::{self, RolloutState},
};

/// How long a pause is taken for granted that the cache does not show yet.
const PAUSE_SETTLES: SignedDuration = SignedDuration::from_secs(10);

/// Grants, withdraws, pauses. Remembers its own writes until the caches show them, so that the budget never counts on
/// an old picture.
pub(crate) struct RestartScheduler {
    node_mirrors: Api<NodeMirror>,
    config_maps: Api<ConfigMap>,
    written: HashMap<String, Written>,
    /// When an approval was last withdrawn unused.
    lapsed: HashMap<String, Timestamp>,
    /// Nodes that refused their restart. A new controller tries each of them once more.
    refusals: HashMap<String, Refusals>,
    pause_written: Option<(Timestamp, BTreeSet<Failure>)>,
}

/// How often a node refused in a row, and how long it is left alone.
struct Refusals {
    count: u32,
    rests_until: Timestamp,
}

/// The spec that was written last to a NodeMirror.
struct Written {
    version: Version,
    generation: i64,
    approval: Option<Approval>,
}

/// The state of a NodeMirror that a decision is about. Nothing is written over another one: it may be of the controller
/// that leads by now.
#[derive(Clone)]
struct Version {
    uid: String,
    resource_version: Box<str>,
}

impl RestartScheduler {
    pub fn new(client: &Client, config: &ControllerConfig) -> Self {
        Self {
            node_mirrors: Api::all(client.clone()),
            config_maps: Api::namespaced(client.clone(), &config.namespace),
            written: HashMap::new(),
            lapsed: HashMap::new(),
            refusals: HashMap::new(),
            pause_written: None,
        }
    }

    /// Forgets its own writes: another controller may have written since.
    pub fn forget(&mut self) {
        self.written.clear();
        self.pause_written = None;
    }

    /// Decides and writes. When to decide again though nothing changes.
    pub async fn pass(
        &mut self,
        caches: &Caches,
        config: &ControllerConfig,
        bundle: &Bundle,
        events: &Events,
        metrics: &Metrics,
    ) -> Result<Option<Timestamp>, PassError> {
        let now = whole_seconds(Timestamp::now());
        let rollout = RolloutState::read(caches);
        if !rollout.exists && self.pause_written.is_none() {
            rollout::create(&self.config_maps).await?;
        }
        let mut known_failures = rollout.failures;
        let mut paused = rollout.paused.is_some();
        self.pause_written = self.pause_written.take().filter(|(since, failures)| {
            now.duration_since(*since) < PAUSE_SETTLES && !failures.is_subset(&known_failures)
        });
        if let Some((_, failures)) = &self.pause_written {
            paused = true;
            known_failures.extend(failures.iter().cloned());
        }
        metrics.paused.set(paused.into());
        let rules = Rules {
            policy: config.policy,
            max_unavailable: config.max_unavailable,
            pause_on_failure: config.pause_on_failure,
            paused,
            may_restart: rollout.mode.unwrap_or(config.mode) == Mode::Enforce,
            known_failures: &known_failures,
            now,
        };
        let (states, versions) = self.states(caches, config, bundle, now);
        let decisions = decide(&states, &rules);
        self.carry_out(&decisions, &versions, now, events, metrics).await?;
        Ok(decisions.wake_at)
    }

    /// The matching nodes as the caches and our own last writes have them.
    fn states(
        &mut self,
        caches: &Caches,
        config: &ControllerConfig,
        bundle: &Bundle,
        now: Timestamp,
    ) -> (Vec<NodeState>, HashMap<String, Version>) {
        let deadline = SignedDuration::try_from(config.startup_taint_deadline).unwrap_or(SignedDuration::MAX);
        let alive = alive_nodes(caches);
        let mut matching = Matching::new(bundle);
        let mut versions = HashMap::new();
        let mut states = Vec::new();
        caches.nodes.with(|nodes| {
            caches.node_mirrors.with(|mirrors| {
                self.written.retain(|name, written| {
                    mirrors.get(name).is_some_and(|mirror| {
                        mirror.uid == written.version.uid && mirror.generation < written.generation
                    })
                });
                for (name, node) in nodes {
                    let Some(mirror) = mirrors.get(name) else { continue };
                    // A node that left every selector keeps no approval.
                    let is_held = mirror.approval.is_some()
                        || mirror.requested.is_some()
                        // It takes a proxy back that is not asked for any more.
                        || matches!(mirror.says.restart, Restart::Pending(_));
                    if !is_held && !matching.matches(&node.labels) {
                        continue;
                    }
                    let seen =
                        || Version { uid: mirror.uid.clone(), resource_version: mirror.resource_version.clone() };
                    let newer = self.written.get(name);
                    versions.insert(name.clone(), newer.map_or_else(seen, |written| written.version.clone()));
                    states.push(NodeState {
                        agent_alive: alive.contains(name.as_str()),
                        fresh: is_fresh(node.tainted, node.created, deadline, now),
                        ..self.state(name, node, mirror)
                    });
                }
                self.lapsed.retain(|name, _| nodes.contains_key(name));
                self.refusals.retain(|name, _| mirrors.get(name).is_some_and(|m| m.says.restart != Restart::NotNeeded));
            });
        });
        (states, versions)
    }

    fn state(&self, name: &str, node: &NodeRecord, mirror: &NodeMirrorRecord) -> NodeState {
        let newer = self.written.get(name);
        let restart = mirror.says.restart.clone();
        NodeState {
            name: name.to_owned(),
            ready: node.ready,
            agent_alive: false,
            fresh: false,
            control_plane: node.control_plane,
            zone: node.zone.clone(),
            cohort: Arc::clone(&mirror.says.cohort),
            change: mirror.says.change.clone(),
            proved: mirror.says.proved.clone(),
            effective: mirror.says.effective,
            restart: if newer.is_some() { restart.said_before_approval() } else { restart },
            approval: newer.map_or_else(|| mirror.approval.clone(), |written| written.approval.clone()),
            requested: mirror.requested.clone(),
            withdrawn_at: self.lapsed.get(name).copied(),
            rests_until: self.refusals.get(name).map(|refusals| refusals.rests_until),
        }
    }

    async fn carry_out(
        &mut self,
        decisions: &Decisions,
        versions: &HashMap<String, Version>,
        now: Timestamp,
        events: &Events,
        metrics: &Metrics,
    ) -> Result<(), PassError> {
        let Decisions { grant, withdraw, clear_requests, pause, failures, wake_at: _ } = decisions;
        let uid = |node: &str| versions.get(node).map_or("", |version| version.uid.as_str());
        // The pause goes first: a crash after it leaves approvals that the next pass withdraws.
        if let Some(pause) = pause {
            rollout::pause(&self.config_maps, pause, failures, now).await?;
            self.pause_written = Some((now, failures.clone()));
            tracing::warn!(node = pause.node, plan = pause.plan.as_str(), why = pause.why, "restarts are paused");
            let note = format!(
                "Further restarts of containerd are paused after a failure: {} `registry-mirror resume` lifts it.",
                pause.why
            );
            events.node(&pause.node, uid(&pause.node), event(true, "RolloutPaused", note));
        }
        // What cannot be written of one node is that node's: the others have their turn, and the pass is tried again.
        let mut first_error = None;
        for (node, why) in withdraw {
            if !settled(self.write(node, versions, None, now).await, &mut first_error) {
                continue;
            }
            tracing::info!(node, ?why, "the approval is withdrawn");
            if *why == Withdrawal::Refused {
                let count = self.refusals.get(node).map_or(0, |refusals| refusals.count).saturating_add(1);
                let rests_until = now.saturating_add(rest_after(count)).unwrap_or(Timestamp::MAX);
                self.refusals.insert(node.clone(), Refusals { count, rests_until });
            }
            if *why == Withdrawal::Unused {
                self.lapsed.insert(node.clone(), now);
                let note = "The approval to restart containerd was not used in time and is withdrawn.".to_owned();
                events.node(node, uid(node), event(true, "RestartApprovalWithdrawn", note));
            }
        }
        for Grant { node, plan } in grant {
            let approval = Approval { plan: plan.clone(), approved_at: now };
            if !settled(self.write(node, versions, Some(approval), now).await, &mut first_error) {
                continue;
            }
            metrics.restarts_granted.inc();
            tracing::info!(node, plan = plan.as_str(), "the restart of containerd is granted");
            let note = format!("containerd may restart once to carry out the plan {plan}.");
            events.node(node, uid(node), event(false, "RestartApproved", note));
        }
        // After the grants: a crash between the two leaves a request that is then void.
        for node in clear_requests {
            settled(self.clear_request(node, versions).await.map(|()| true), &mut first_error);
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Writes the approval; `false` where the NodeMirror is not what was decided about any more: the cache shows it soon.
    async fn write(
        &mut self,
        node: &str,
        versions: &HashMap<String, Version>,
        approval: Option<Approval>,
        now: Timestamp,
    ) -> Result<bool, PassError> {
        let Some(Version { uid, resource_version }) = versions.get(node) else { return Ok(false) };
        let granted = approval
            .as_ref()
            .map(|approval| RestartApproval { plan: approval.plan.to_string(), approved_at: Time(now) });
        // A merge patch and not an apply: taking the only field of `spec` away by an apply leaves `spec: null`, which
        // the schema refuses (seen on Kubernetes 1.34). With the uid, a NodeMirror made anew is another one.
        let metadata = serde_json::json!({"uid": uid, "resourceVersion": resource_version});
        let patch = serde_json::json!({"metadata": metadata, "spec": {"restartApproval": granted}});
        let what = format!("writing the approval of the NodeMirror {node}");
        let written = self.node_mirrors.patch(node, &patch_params(), &Patch::Merge(&patch)).await;
        let Some(written) = unless_overtaken(written, what)? else { return Ok(false) };
        let generation = written.metadata.generation.unwrap_or_default();
        let resource_version = written.metadata.resource_version.unwrap_or_default().into();
        let version = Version { uid: uid.clone(), resource_version };
        self.written.insert(node.to_owned(), Written { version, generation, approval });
        Ok(true)
    }

    async fn clear_request(&mut self, node: &str, versions: &HashMap<String, Version>) -> Result<(), PassError> {
        let newer = self.written.get(node).map(|written| &written.version);
        let Some(Version { uid, resource_version }) = newer.or(versions.get(node)) else { return Ok(()) };
        let metadata = serde_json::json!({
            "uid": uid, "resourceVersion": resource_version, "annotations": {APPROVE_ANNOTATION: null},
        });
        let patch = serde_json::json!({"metadata": metadata});
        let what = format!("taking the request off the NodeMirror {node}");
        let written = self.node_mirrors.patch_metadata(node, &patch_params(), &Patch::Merge(&patch)).await;
        unless_overtaken(written, what).map(drop)
    }
}

fn patch_params() -> PatchParams {
    PatchParams { field_manager: Some(field_manager::RESTARTS.to_owned()), ..PatchParams::default() }
}

/// What was written; `None` where the NodeMirror is not the one any more that was decided about.
fn unless_overtaken<T>(written: Result<T, kube::Error>, what: String) -> Result<Option<T>, PassError> {
    match written {
        Ok(written) => Ok(Some(written)),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(None),
        Err(error) => Err(PassError::api(what)(error)),
    }
}

/// Whether it was written; an error is kept where it is the first.
fn settled(result: Result<bool, PassError>, first_error: &mut Option<PassError>) -> bool {
    result.unwrap_or_else(|error| {
        first_error.get_or_insert(error);
        false
    })
}

fn event(warning: bool, reason: &str, note: String) -> Event {
    Event { warning, action: "Restart", reason: reason.to_owned(), note }
}

/// The nodes whose agent runs.
pub(crate) fn alive_nodes(caches: &Caches) -> HashSet<String> {
    caches.agents.with(|agents| {
        agents.values().filter(|agent| agent.ready).map(|agent| agent.node.clone().into_string()).collect()
    })
}

/// Whether any entry is for a node; nodes with the same labels are asked once.
struct Matching<'b> {
    bundle: &'b Bundle,
    keys: BTreeSet<&'b str>,
    known: HashMap<Labels, bool>,
}

impl<'b> Matching<'b> {
    fn new(bundle: &'b Bundle) -> Self {
        Self { bundle, keys: selector_keys(bundle), known: HashMap::new() }
    }

    fn matches(&mut self, labels: &crate::caches::CompactLabels) -> bool {
        let labels = labels.project(&self.keys);
        let bundle = self.bundle;
        *self.known.entry(labels).or_insert_with_key(|labels| {
            bundle.entries.iter().any(|e| e.node_selector.as_ref().is_none_or(|selector| matches(selector, labels)))
        })
    }
}
