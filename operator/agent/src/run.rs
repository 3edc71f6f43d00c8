//! The node loop: hear, look, plan, apply, prove, report; then wait for the next reason to do so.

use std::{future::Future, sync::Arc, time::Duration};

use kube::Client;
use registry_mirror_core::{
    bundle::Bundle,
    node_bundle::{Heard, Wish, wish},
    node_plan::MirrorHealth,
    status::node::{Effective, Facts, NodeFailure, Verdict},
};
use thiserror::Error;
use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{
    approval::{ClusterApproval, RestartPermission},
    config::AgentConfig,
    health,
    inputs::{self, Inputs, Known, Names, WatchEnded},
    metrics::Metrics,
    node::{Node, NodeError, NodeSettings},
    probes::{self, Startup},
    reporter, second_look,
    serve::serve,
};

/// The agent cannot go on.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The host could not be opened.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A part that the agent needs has ended.
    #[error("{0}; the kubelet starts the agent anew")]
    Ended(String),
}

/// So long an agent that starts waits for the API server's answer before it works from memory. A watch that works
/// answers within a second, and on a node that boots the way to the API server takes a while to come up.
const HEARING: Duration = Duration::from_secs(10);

/// What the agent works from, and what is wrong with the bundle, if something is.
struct Work {
    bundle: Option<Bundle>,
    complaint: Option<String>,
    /// The API server has answered for everything: only then something is said of the node.
    all_heard: bool,
}

/// Runs until `stop`, or until a part that the agent needs has ended.
///
/// A pass that is under way when `stop` comes is finished first: it may be restarting containerd.
///
/// # Errors
/// [`AgentError`].
pub async fn run(config: AgentConfig, client: Client, stop: impl Future<Output = ()>) -> Result<(), AgentError> {
    let AgentConfig { node_name, namespace, bundle_secret, pod_uid, host_root, listen, look_interval, ready_limit } =
        config;
    let metrics = Arc::new(Metrics::new());
    let startup = Arc::new(Startup::default());
    let settings = NodeSettings { host_root, pod_uid: pod_uid.clone(), ready_limit };
    let node = Node::open(settings)?;

    let mut watches = JoinSet::new();
    let names = Names { namespace, bundle: bundle_secret, node: node_name.clone() };
    let inputs = inputs::start(&client, &names, &mut watches);

    let (facts, facts_out) = watch::channel(None);
    let (bundles, bundles_out) = watch::channel(None);
    let (health_out, mirrors) = watch::channel(Arc::new(MirrorHealth::under_way()));
    let mut parts = JoinSet::new();
    let reporter = reporter::run(client.clone(), node_name.clone(), facts_out, inputs.node_mirror.clone());
    parts.spawn(ends(reporter, "the reporter has ended"));
    parts.spawn(ends(serve(listen, Arc::clone(&metrics)), "the metrics' server has ended"));
    parts.spawn(ends(health::run(node.root().clone(), bundles_out, health_out), "the mirrors' probes have ended"));
    if let Some(pod_uid) = pod_uid {
        let startup = Arc::clone(&startup);
        let answers = async move { probes::answer(&pod_uid, startup).await };
        parts.spawn(ends(answers, "the answers to the kubelet have ended"));
    }

    let mut stop = std::pin::pin!(stop);
    let mut drift = node.watch_for_drift(look_interval);
    let mut passes =
        Passes { client, node_name, node, inputs, mirrors, bundles, facts, metrics, startup, failing_since: None };
    let heard_by = Instant::now() + HEARING;
    loop {
        let (again_in, awaits) = match passes.work(Instant::now() >= heard_by) {
            Some(work) => (passes.pass(work).await, false),
            None => (None, true),
        };
        let Passes { node, inputs, mirrors, .. } = &mut passes;
        drift.set_directories(node.watched_directories());
        drift.look_by(node.look_again_at());
        tokio::select! {
            () = &mut stop => {
                tracing::info!("stopped; the node keeps its mirrors");
                return Ok(());
            }
            Some(ended) = watches.join_next() => {
                let what = ended.map_or_else(|error| error.to_string(), |WatchEnded(what)| format!("the watch of {what} has ended"));
                return Err(AgentError::Ended(what));
            }
            Some(ended) = parts.join_next() => {
                return Err(AgentError::Ended(ended.map_or_else(|error| error.to_string(), str::to_owned)));
            }
            () = inputs.changed() => {}
            Ok(()) = mirrors.changed() => {}
            _ = drift.changed() => node.look_afresh(),
            () = node.due() => {}
            () = tokio::time::sleep_until(heard_by), if awaits => {
                tracing::warn!(
                    "the API server has not answered within {} s; the node goes on with what it had last",
                    HEARING.as_secs()
                );
            }
            () = after(again_in) => node.look_afresh(),
        }
    }
}

/// A part that runs for ever: its end, and what there is to say of it.
async fn ends(part: impl Future<Output = ()>, what: &'static str) -> &'static str {
    part.await;
    what
}

/// What passes over the node are made with.
struct Passes {
    client: Client,
    node_name: String,
    node: Node,
    inputs: Inputs,
    mirrors: watch::Receiver<Arc<MirrorHealth>>,
    bundles: watch::Sender<Option<Arc<Bundle>>>,
    facts: watch::Sender<Option<Facts>>,
    metrics: Arc<Metrics>,
    startup: Arc<Startup>,
    /// Since when the host cannot be looked at.
    failing_since: Option<Instant>,
}

impl Passes {
    /// What to work from; `None` while the API server may still answer.
    fn work(&mut self, has_waited: bool) -> Option<Work> {
        // Before they are read: what comes between is heard in the next pass.
        let all_heard = self.inputs.are_known();
        let published = self.inputs.bundle.borrow_and_update().clone();
        let labels = self.inputs.labels.borrow_and_update().clone();
        let heard = match published.heard() {
            Heard::Is(bundle) => Heard::Is(&**bundle),
            Heard::NotYet => Heard::NotYet,
            Heard::Nothing => Heard::Nothing,
        };
        let bundle = match wish(heard, labels.heard(), has_waited) {
            Wish::Wait => return None,
            Wish::Bundle(bundle) => Some(bundle),
            Wish::Remembered { mode } => {
                self.node.remembered().map(|kept| Bundle { mode: mode.unwrap_or(kept.mode), ..kept })
            }
        };
        let complaint = match published {
            Known::Unusable(why) => Some(why),
            Known::NotYet | Known::Absent | Known::Is(_) => None,
        };
        Some(Work { bundle, complaint, all_heard })
    }

    /// One pass. Says after what time the host is to be looked at again, where it could not be.
    async fn pass(&mut self, Work { bundle, complaint, all_heard }: Work) -> Option<Duration> {
        if let Some(bundle) = &bundle {
            self.node.remember(bundle);
            self.tell_probes(bundle);
        }
        self.node.set_health(Arc::clone(&self.mirrors.borrow_and_update()));
        let seen = match &*self.inputs.node_mirror.borrow_and_update() {
            Known::Is(mirror) => Some(Arc::clone(mirror)),
            Known::NotYet | Known::Absent | Known::Unusable(_) => None,
        };
        let generation = seen.as_ref().and_then(|mirror| mirror.metadata.generation);
        let approval = ClusterApproval::new(self.client.clone(), self.node_name.clone(), seen);
        let permission = RestartPermission::Cluster(Box::new(approval));
        let started = Instant::now();
        let found = match &bundle {
            Some(bundle) => self.node.pass(bundle, &permission, &self.metrics).await,
            None => nothing_to_work_from(),
        };
        self.metrics.passes.inc();
        let found = Facts { generation, ..with_complaint(found, complaint) };
        let first_failure = *self.failing_since.get_or_insert(started);
        let second_look::Next { is_said, again_in } = second_look::next(&found.verdict, started - first_failure);
        if again_in.is_none() {
            self.failing_since = None;
        }
        if is_said && all_heard {
            publish(&self.facts, found, &self.metrics);
        }
        self.metrics.pass_seconds.observe(started.elapsed().as_secs_f64());
        self.startup.set_done();
        again_in
    }

    /// Tells the mirrors' probes what the node works from, where that has changed.
    fn tell_probes(&self, bundle: &Bundle) {
        self.bundles.send_if_modified(|current| {
            let changed = current.as_deref() != Some(bundle);
            if changed {
                *current = Some(Arc::new(bundle.clone()));
            }
            changed
        });
    }
}

/// Never, where there is no time.
async fn after(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

fn nothing_to_work_from() -> Facts {
    let why = "the controller has not published a bundle yet; is it running?".to_owned();
    Facts {
        verdict: Verdict::failed(NodeFailure::BundleUnknown, why),
        ..Facts::nothing_known("nothing to ask for yet")
    }
}

/// A bundle that cannot be used is what a person must know first, unless the node has a trouble of its own.
fn with_complaint(mut facts: Facts, complaint: Option<String>) -> Facts {
    if let Some(why) = complaint.filter(|_| facts.verdict.is_ready()) {
        facts.verdict = Verdict::failed(NodeFailure::BundleUnknown, why);
    }
    facts
}

fn publish(out: &watch::Sender<Option<Facts>>, facts: Facts, metrics: &Metrics) {
    metrics.ready.set(i64::from(facts.verdict.is_ready()));
    metrics.effective.set(i64::from(facts.effective == Effective::Yes));
    out.send_if_modified(|current| {
        let changed = current.as_ref() != Some(&facts);
        if changed {
            if current.as_ref().map(|before| &before.verdict) != Some(&facts.verdict) {
                log_verdict(&facts);
            }
            *current = Some(facts);
        }
        changed
    });
}

fn log_verdict(facts: &Facts) {
    match &facts.verdict {
        Verdict::Ready => tracing::info!(registries = facts.registries.len(), "containerd pulls through the mirrors"),
        Verdict::RestartPending => tracing::info!("containerd must restart once; waiting for approval"),
        Verdict::DryRun => tracing::info!("dry run: the plan is reported and nothing is touched"),
        Verdict::Restored(what) | Verdict::Shared(what) => tracing::info!("{what}"),
        Verdict::Failed(_, why) => tracing::warn!("{why}"),
    }
}
