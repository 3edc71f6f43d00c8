//! The node loop: hear, look, plan, apply, prove, report; then wait for the next reason to do so.

use std::{future::Future, sync::Arc, time::Duration};

use kube::Client;
use registry_mirror_core::{
    bundle::Bundle,
    slice::{Heard, Wish, wish},
};
use thiserror::Error;
use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{
    approval::{ClusterApproval, Leave},
    config::AgentConfig,
    facts::{Effective, Facts, Failure, Verdict},
    health::{self, HealthMap},
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
    slice: Option<Bundle>,
    complaint: Option<String>,
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
    let mut node = Node::open(settings)?;

    let mut watches = JoinSet::new();
    let names = Names { namespace, bundle: bundle_secret, node: node_name.clone() };
    let mut inputs = inputs::start(&client, &names, &mut watches);

    let (facts, facts_out) = watch::channel(None);
    let mut parts: JoinSet<String> = JoinSet::new();
    parts.spawn({
        let (client, node_name, node_mirror) = (client.clone(), node_name.clone(), inputs.node_mirror.clone());
        async move {
            reporter::run(client, node_name, facts_out, node_mirror).await;
            "the reporter has ended".to_owned()
        }
    });
    parts.spawn({
        let metrics = Arc::clone(&metrics);
        async move {
            serve(listen, metrics).await;
            "the metrics' server has ended".to_owned()
        }
    });
    if let Some(pod_uid) = pod_uid {
        let startup = Arc::clone(&startup);
        parts.spawn(async move {
            probes::answer(&pod_uid, startup).await;
            "the answers to the kubelet have ended".to_owned()
        });
    }

    let (slices, slices_out) = watch::channel(None);
    let (health_out, mut mirrors) = watch::channel(Arc::new(HealthMap::under_way()));
    parts.spawn({
        let root = node.root().clone();
        async move {
            health::run(root, slices_out, health_out).await;
            "the mirrors' probes have ended".to_owned()
        }
    });

    let mut stop = std::pin::pin!(stop);
    let mut drift = node.watch_for_drift(look_interval);
    let heard_by = Instant::now() + HEARING;
    // Since when the host cannot be looked at.
    let mut failing_since = None;
    loop {
        // Before they are read: what comes between is heard in the next pass.
        let heard = inputs.are_known();
        let work = work(&mut inputs, &mut node, Instant::now() >= heard_by);
        let awaits = work.is_none();
        let mut again_in = None;
        if let Some(Work { slice, complaint }) = work {
            if let Some(slice) = &slice {
                node.remember(slice);
                tell(&slices, slice);
            }
            node.set_health(Arc::clone(&mirrors.borrow_and_update()));
            let seen = match &*inputs.node_mirror.borrow_and_update() {
                Known::Is(mirror) => Some(Arc::clone(mirror)),
                Known::NotYet | Known::Absent | Known::Unusable(_) => None,
            };
            let generation = seen.as_ref().and_then(|mirror| mirror.metadata.generation);
            let leave = Leave::Cluster(Box::new(ClusterApproval::new(client.clone(), node_name.clone(), seen)));
            let started = Instant::now();
            let found = match &slice {
                Some(slice) => node.pass(slice, &leave, &metrics).await,
                None => nothing_to_work_from(),
            };
            metrics.passes.inc();
            let found = Facts { generation, ..with_complaint(found, complaint) };
            let first_failure = *failing_since.get_or_insert(started);
            let next = second_look::next(&found.verdict, started - first_failure);
            if next.again_in.is_none() {
                failing_since = None;
            }
            if next.is_said && heard {
                publish(&facts, found, &metrics);
            }
            again_in = next.again_in;
            metrics.pass_seconds.observe(started.elapsed().as_secs_f64());
            startup.set_done();
        }

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
                return Err(AgentError::Ended(ended.unwrap_or_else(|error| error.to_string())));
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

/// Never, where there is no time.
async fn after(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// Tells the probes what the node works from, where that has changed.
fn tell(slices: &watch::Sender<Option<Arc<Bundle>>>, slice: &Bundle) {
    slices.send_if_modified(|current| {
        let changed = current.as_deref() != Some(slice);
        if changed {
            *current = Some(Arc::new(slice.clone()));
        }
        changed
    });
}

/// What to work from; `None` while the API server may still answer.
fn work(inputs: &mut Inputs, node: &mut Node, has_waited: bool) -> Option<Work> {
    let bundle = inputs.bundle.borrow_and_update().clone();
    let labels = inputs.labels.borrow_and_update().clone();
    let heard = match bundle.heard() {
        Heard::Is(bundle) => Heard::Is(&**bundle),
        Heard::NotYet => Heard::NotYet,
        Heard::Nothing => Heard::Nothing,
    };
    let slice = match wish(heard, labels.heard(), has_waited) {
        Wish::Wait => return None,
        Wish::Slice(slice) => Some(slice),
        Wish::Remembered { mode } => node.remembered().map(|kept| Bundle { mode: mode.unwrap_or(kept.mode), ..kept }),
    };
    let complaint = match bundle {
        Known::Unusable(why) => Some(why),
        Known::NotYet | Known::Absent | Known::Is(_) => None,
    };
    Some(Work { slice, complaint })
}

fn nothing_to_work_from() -> Facts {
    let why = "the controller has not published a bundle yet; is it running?".to_owned();
    Facts {
        generation: None,
        bundle: None,
        containerd: None,
        plan: None,
        verdict: Failure::BundleUnknown.because(why),
        effective: Effective::Unknown("nothing to ask for yet".to_owned()),
        registries: Vec::new(),
        conflicts: Vec::new(),
        proxy: None,
        drift: Vec::new(),
        restarts: 0,
        proved_restart: None,
    }
}

/// A bundle that cannot be used is what a person must know first, unless the node has a trouble of its own.
fn with_complaint(mut facts: Facts, complaint: Option<String>) -> Facts {
    if let Some(why) = complaint.filter(|_| facts.verdict.is_ready()) {
        facts.verdict = Failure::BundleUnknown.because(why);
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
