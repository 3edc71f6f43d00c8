//! Pauses of a watch.

use std::time::Duration;

use kube::runtime::{
    utils::{Backoff, ResetTimerBackoff},
    watcher::ExponentialBackoff,
};

/// Pauses between tries while the API server is away: half a second at first, five at most. kube's own default goes up
/// to 30 s, and a change would wait that long after the API server is back; one node's retries cost it nothing.
#[must_use]
pub fn watch_backoff() -> impl Backoff {
    let pauses = backon::ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times();
    ResetTimerBackoff::new(ExponentialBackoff::from(pauses), Duration::from_secs(60))
}
