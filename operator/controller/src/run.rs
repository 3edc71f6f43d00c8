//! The loop.

use std::{future::Future, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::Client;
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    caches::{Caches, watch_all},
    config::ControllerConfig,
    errors::{ControllerError, PassError},
    events::{self, Events},
    leader,
    metrics::{Metrics, PassLabels},
    node_mirrors,
    publish::Publisher,
    restart_scheduler::RestartScheduler,
    rollout::RolloutState,
    serve::{bind, serve},
    signals::{Lane, Signals},
    status::Reporter,
    taints,
};

/// A pass that takes longer is given up and tried again.
const PASS_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest wait before a failed pass is tried again.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// How long a stopping controller waits for its tasks.
const STOP: Duration = Duration::from_secs(5);

/// Runs until `shutdown` resolves.
///
/// # Errors
/// [`ControllerError`] where it cannot start, or a part of it has ended that it needs.
pub async fn run(
    config: ControllerConfig,
    client: Client,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ControllerError> {
    let listen = config.listen;
    let listener = bind(listen).await.map_err(|source| ControllerError::Listen { listen, source })?;
    let signals = Arc::new(Signals::default());
    let caches = Caches::new(Arc::clone(&signals));
    let metrics = Arc::new(Metrics::new());
    let (events, queue) = Events::new();
    let (leads_sender, leads) = watch::channel(false);
    let (stop, stopped) = oneshot::channel();

    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, Arc::clone(&caches), Arc::clone(&metrics)));
    tasks.spawn(events::publish(client.clone(), config.identity.clone(), queue));
    watch_all(&mut tasks, &client, &config, &caches, &events);
    // Of its own, so that it can give the Lease back after the others have ended.
    let mut campaign = JoinSet::new();
    campaign.spawn(leader::campaign(client.clone(), config.clone(), leads_sender, stopped));

    let controller = Controller::new(client, config, caches, events, metrics);
    let ended = tokio::select! {
        () = controller.run(leads) => "loop",
        ended = tasks.join_next() => match ended {
            Some(Ok(name)) => name,
            Some(Err(_)) | None => "unknown",
        },
        ended = campaign.join_next() => match ended {
            Some(Ok(Err(lost))) => return Err(lost),
            Some(Ok(Ok(())) | Err(_)) | None => "campaign for the Lease",
        },
        () = shutdown => {
            tracing::info!("stopping");
            tasks.abort_all();
            // A Lease given back lets the next controller start at once.
            let _ = stop.send(());
            let _ = tokio::time::timeout(STOP, campaign.join_next()).await;
            return Ok(());
        }
    };
    Err(ControllerError::TaskEnded(ended))
}

/// The lanes of work, run one at a time by the loop.
struct Controller {
    client: Client,
    config: ControllerConfig,
    caches: Arc<Caches>,
    events: Events,
    metrics: Arc<Metrics>,
    publisher: Publisher,
    restarter: RestartScheduler,
    reporter: Reporter,
    lanes: [Schedule; 4],
}

/// When a lane runs next.
struct Schedule {
    lane: Lane,
    /// From the first change to the pass, so that changes that come together are dealt with together.
    settle: Duration,
    /// From the beginning of one pass to that of the next.
    pace: Duration,
    due: Option<Instant>,
    last: Option<Instant>,
    failures: u32,
}

impl Schedule {
    const fn new(lane: Lane, settle: Duration, pace: Duration) -> Self {
        Self { lane, settle, pace, due: None, last: None, failures: 0 }
    }

    fn mark(&mut self) {
        let settled = Instant::now() + self.settle;
        let at = self.last.map_or(settled, |last| settled.max(last + self.pace));
        self.due = Some(match self.due {
            // A lane that failed keeps its back-off whatever else changes, so that an API server in trouble has peace.
            Some(due) if self.failures > 0 => due,
            // One that only waits for a deadline, minutes away perhaps, does not wait for it when something changes.
            Some(due) => due.min(at),
            None => at,
        });
    }

    fn at_latest(&mut self, at: Option<Timestamp>) {
        let Some(at) = at else { return };
        let wait = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
        let at = Instant::now() + wait.max(self.pace);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        let backoff = Duration::from_millis(500).saturating_mul(1 << self.failures.min(8)).min(MAX_BACKOFF);
        self.due = Some(Instant::now() + backoff);
    }
}

impl Controller {
    fn new(
        client: Client,
        config: ControllerConfig,
        caches: Arc<Caches>,
        events: Events,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            publisher: Publisher::new(&client, &config),
            restarter: RestartScheduler::new(&client, &config),
            reporter: Reporter::new(&client),
            client,
            config,
            caches,
            events,
            metrics,
            lanes: [
                // A single change is published at once; of fifty in a row the bundle sees a few.
                Schedule::new(Lane::Publish, Duration::from_millis(5), Duration::from_millis(50)),
                Schedule::new(Lane::Nodes, Duration::from_millis(20), Duration::from_millis(100)),
                Schedule::new(Lane::Taints, Duration::from_millis(20), Duration::from_millis(100)),
                Schedule::new(Lane::Status, Duration::from_millis(200), Duration::from_millis(500)),
            ],
        }
    }

    /// Works while it leads. Ends by itself never: where the campaign for the Lease has ended, that says why.
    async fn run(mut self, mut leads: watch::Receiver<bool>) {
        loop {
            if !*leads.borrow_and_update() {
                if leads.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            }
            tracing::info!("this controller leads");
            self.lead(true);
            let campaigns = tokio::select! {
                () = self.work() => true,
                // A pass that is cut off half-way is finished by whoever leads next.
                lost = leads.wait_for(|leads| !leads) => lost.is_ok(),
            };
            if !campaigns {
                return std::future::pending().await;
            }
            tracing::info!("this controller no longer leads");
            self.lead(false);
        }
    }

    fn lead(&mut self, leads: bool) {
        self.events.set_leading(leads);
        self.metrics.leads.set(leads.into());
        self.publisher.forget();
        self.restarter.forget();
        self.reporter.forget();
        self.caches.signals.mark(&Lane::ALL);
    }

    async fn work(&mut self) {
        let signals = Arc::clone(&self.caches.signals);
        loop {
            for lane in signals.take() {
                self.schedule(lane).mark();
            }
            let next = self
                .lanes
                .iter()
                .filter_map(|schedule| schedule.due.map(|due| (due, schedule.lane)))
                .min_by_key(|(due, _)| *due);
            let Some((due, lane)) = next else {
                signals.marked().await;
                continue;
            };
            tokio::select! {
                biased;
                () = signals.marked() => continue,
                () = sleep_until(due) => {}
            }
            self.pass(lane).await;
        }
    }

    fn schedule(&mut self, lane: Lane) -> &mut Schedule {
        let [publish, nodes, taints, status] = &mut self.lanes;
        match lane {
            Lane::Publish => publish,
            Lane::Nodes => nodes,
            Lane::Taints => taints,
            Lane::Status => status,
        }
    }

    async fn pass(&mut self, lane: Lane) {
        let started = Instant::now();
        let schedule = self.schedule(lane);
        (schedule.due, schedule.last) = (None, Some(started));
        let result = tokio::time::timeout(PASS_TIMEOUT, async {
            match lane {
                Lane::Publish => self.publish().await,
                Lane::Nodes => self.nodes().await,
                Lane::Taints => self.taints().await,
                Lane::Status => self.status().await,
            }
        })
        .await
        .unwrap_or(Err(PassError::TimedOut(PASS_TIMEOUT)));
        let labels = PassLabels { pass: lane.name() };
        self.metrics.pass_seconds.get_or_create(&labels).observe(started.elapsed().as_secs_f64());
        let schedule = self.schedule(lane);
        match result {
            Ok(()) if schedule.failures > 0 => {
                schedule.failures = 0;
                tracing::info!(pass = lane.name(), "works again");
            }
            Ok(()) => {}
            Err(error) => {
                schedule.failed();
                if schedule.failures == 1 {
                    tracing::warn!(pass = lane.name(), %error, "will be tried again");
                } else {
                    tracing::debug!(pass = lane.name(), %error, "failed again");
                }
                self.metrics.pass_failures.get_or_create(&labels).inc();
            }
        }
    }

    async fn publish(&mut self) -> Result<(), PassError> {
        let published = self.publisher.pass(&self.caches, &self.config, &self.metrics).await;
        if !matches!(published, Ok(false)) {
            self.schedule(Lane::Nodes).mark();
            self.schedule(Lane::Taints).mark();
            // Also where it failed: the objects that nodes do not get then say so.
            self.schedule(Lane::Status).mark();
        }
        published.map(drop)
    }

    async fn nodes(&mut self) -> Result<(), PassError> {
        if self.caches.first_unsynced().is_some() {
            return Ok(());
        }
        let mode = RolloutState::read(&self.caches).mode.unwrap_or(self.config.mode);
        // One NodeMirror that cannot be written keeps no restart back.
        let made = node_mirrors::pass(&self.client, &self.caches, mode).await;
        let mut wake_at = None;
        let Self { publisher, restarter, caches, config, events, metrics, .. } = self;
        if let Some(outcome) = publisher.outcome() {
            let bundle = outcome.in_force.as_ref().unwrap_or(&outcome.compiled);
            wake_at = restarter.pass(caches, config, bundle, events, metrics).await?;
        }
        self.schedule(Lane::Nodes).at_latest(wake_at);
        made
    }

    async fn taints(&mut self) -> Result<(), PassError> {
        if self.caches.first_unsynced().is_some() {
            return Ok(());
        }
        let deadline = taints::pass(&self.client, &self.caches, &self.config).await?;
        self.schedule(Lane::Taints).at_latest(deadline);
        Ok(())
    }

    async fn status(&mut self) -> Result<(), PassError> {
        let Self { publisher, caches, config, events, metrics, reporter, .. } = self;
        let Some(outcome) = publisher.outcome() else { return Ok(()) };
        let written = reporter.pass(caches, config, outcome, events, metrics).await?;
        let gone = reporter.next_gone(config);
        // While thousands of nodes report, the status follows at a pace that the API server does not feel.
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        let pace = Duration::from_millis(500).saturating_add(Duration::from_millis(10).saturating_mul(written));
        let schedule = self.schedule(Lane::Status);
        schedule.pace = pace.min(Duration::from_secs(10));
        schedule.at_latest(gone);
        Ok(())
    }
}
