//! Mirror health as this node sees it: each mirror is asked now and then as containerd would ask it.

mod target;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use registry_mirror_core::{
    bundle::{Bundle, Entry},
    health::{Health, Seen},
    node_plan::{Destination, MirrorHealth, is_probed},
};
use registry_mirror_host::{
    probe::{HostTrust, Outcome, ask},
    root::HostRoot,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use target::Target;

/// The longest that a probe waits. A registry that needs longer for its first byte makes every pull miserable.
const LIMIT: Duration = Duration::from_secs(5);
/// Between the probes that confirm a suspicion.
const CONFIRM_AFTER: Duration = Duration::from_secs(1);
/// Probes under way at a time.
const CONCURRENCY: usize = 8;

/// When a way is to be probed next.
struct Due {
    at: Instant,
    interval: Duration,
}

/// Probes the bundle's mirrors until nobody listens any more.
pub async fn run(
    root: HostRoot,
    mut bundles: watch::Receiver<Option<Arc<Bundle>>>,
    out: watch::Sender<Arc<MirrorHealth>>,
) {
    let mut due: BTreeMap<Destination, Due> = BTreeMap::new();
    let mut health = MirrorHealth::under_way();
    loop {
        let bundle = bundles.borrow_and_update().clone();
        let targets = bundle.as_deref().map_or_else(BTreeMap::new, |bundle| wanted(bundle, &health));
        due.retain(|way, _| targets.contains_key(way));
        health.retain(|way| targets.contains_key(way));
        let now = Instant::now();
        for (way, (interval, _)) in &targets {
            let entry = due.entry(way.clone()).or_insert(Due { at: now, interval: *interval });
            if entry.interval != *interval {
                *entry = Due { at: now, interval: *interval };
            }
        }
        let ready: Vec<Destination> = due.iter().filter(|(_, due)| due.at <= now).map(|(way, _)| way.clone()).collect();
        if ready.is_empty() {
            publish(&out, &health);
            let next = due.values().map(|due| due.at).min();
            tokio::select! {
                changed = bundles.changed() => if changed.is_err() { return },
                () = out.closed() => return,
                () = at(next) => {}
            }
            continue;
        }
        // Read anew for each round: the host's roots change, and holding them costs memory all day.
        let trust = match HostTrust::read(&root) {
            Ok(trust) => trust,
            Err(error) => {
                tracing::warn!("the host's certificate authorities could not be read: {error}");
                HostTrust::nobody()
            }
        };
        let trust = &trust;
        let probes = ready.into_iter().filter_map(|way| targets.get(&way).map(|(_, target)| (way, target.clone())));
        let seen: Vec<(Destination, Probed)> = stream::iter(probes)
            .map(|(way, target)| async move { (way, probe(&target, trust).await) })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        for (way, Probed { seen, wants_token }) in seen {
            let (before, after) = health.note(&way, seen, wants_token);
            log_change(&way, &before, &after);
            if let Some(due) = due.get_mut(&way) {
                let pause = if after.wants_confirmation() { CONFIRM_AFTER } else { jittered(due.interval) };
                due.at = Instant::now() + pause;
            }
        }
    }
}

/// Every way that is to be probed, with its interval.
fn wanted(bundle: &Bundle, health: &MirrorHealth) -> BTreeMap<Destination, (Duration, Target)> {
    let mut targets = BTreeMap::new();
    for entry in bundle.entries.iter().filter(|entry| is_probed(bundle, entry)) {
        let Some(seconds) = entry.health_interval_seconds else { continue };
        let interval = Duration::from_secs(seconds.into());
        for mirror in &entry.mirrors {
            let way = Destination::mirror(&entry.object, &mirror.url);
            targets.insert(way, (interval, Target::mirror(mirror, &bundle.blobs)));
        }
        // Every node asking the upstream twice a minute would be an attack on it; it matters only while a mirror is in
        // doubt.
        if in_doubt(entry, health)
            && let Some(target) = Target::upstream(entry, &bundle.blobs)
        {
            targets.insert(Destination::upstream(&entry.object), (interval, target));
        }
    }
    targets
}

fn in_doubt(entry: &Entry, health: &MirrorHealth) -> bool {
    entry
        .mirrors
        .iter()
        .any(|mirror| matches!(health.mirror(&entry.object, &mirror.url), Health::Suspect { .. } | Health::Dead(_)))
}

/// What one probe brought.
struct Probed {
    seen: Seen,
    /// Known where there was an answer.
    wants_token: Option<bool>,
}

async fn probe(target: &Target, trust: &HostTrust) -> Probed {
    let (question, tls) = match target.question(trust, LIMIT) {
        Ok(asked) => asked,
        Err(why) => return Probed { seen: Seen::Failure(why), wants_token: None },
    };
    let answer = ask(&question, &tls).await;
    let (seen, wants_token) = match &answer.outcome {
        Outcome::Answered(reply) => (Seen::Answer, Some(reply.challenge.is_some())),
        Outcome::Failed(failure) => (Seen::failed(failure.to_string(), answer.took), None),
        Outcome::Silent(_) => (Seen::Silence(answer.outcome.sentence(LIMIT)), None),
    };
    Probed { seen, wants_token }
}

fn publish(out: &watch::Sender<Arc<MirrorHealth>>, health: &MirrorHealth) {
    out.send_if_modified(|current| {
        let changed = **current != *health;
        if changed {
            *current = Arc::new(health.clone());
        }
        changed
    });
}

fn log_change(way: &Destination, before: &Health, after: &Health) {
    match (before, after) {
        (Health::Dead(_), Health::Alive) => tracing::info!("{way} answers again"),
        (before, Health::Dead(why)) if !matches!(before, Health::Dead(_)) => {
            tracing::warn!("{way} makes containerd wait ({why})");
        }
        _ => {}
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Within a tenth of the interval, so that the nodes of a cluster do not ask in step.
fn jittered(interval: Duration) -> Duration {
    let random = RandomState::new().hash_one(()) % 2_001;
    let share = 0.9 + 0.2 * (f64::from(u16::try_from(random).unwrap_or(0)) / 2_000.0);
    interval.mul_f64(share)
}
