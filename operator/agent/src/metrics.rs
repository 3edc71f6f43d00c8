//! What a node counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// The agent's metrics, with the registry that they are encoded from.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Passes over the node.
    pub passes: Counter,
    /// Files of certs.d that were written or removed.
    pub file_changes: Counter,
    /// Restarts of containerd that were tried.
    pub restarts: Counter,
    /// Restarts that were undone.
    pub rollbacks: Counter,
    /// 1 while the node is as the bundle wants it.
    pub ready: Gauge,
    /// 1 while containerd is proved to read the directory.
    pub effective: Gauge,
    /// Duration of a pass.
    pub pass_seconds: Histogram,
    /// Unix time of the last pass.
    pub last_pass: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("registry_mirror_agent");
        let (passes, file_changes, restarts, rollbacks) =
            (Counter::default(), Counter::default(), Counter::default(), Counter::default());
        let (ready, effective) = (Gauge::default(), Gauge::default());
        let last_pass = Gauge::<f64, AtomicU64>::default();
        let pass_seconds = Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0]);
        registry.register("passes", "Passes over the node", passes.clone());
        registry.register("file_changes", "Files of certs.d written or removed", file_changes.clone());
        registry.register("containerd_restarts", "Restarts of containerd that were tried", restarts.clone());
        registry.register("containerd_rollbacks", "Restarts of containerd that were undone", rollbacks.clone());
        registry.register("ready", "1 while the node is as the bundle wants it", ready.clone());
        registry.register("effective", "1 while containerd is proved to read the directory", effective.clone());
        registry.register_with_unit("pass_duration", "Duration of a pass", Unit::Seconds, pass_seconds.clone());
        registry.register_with_unit(
            "last_pass_timestamp",
            "When the last pass ended",
            Unit::Seconds,
            last_pass.clone(),
        );
        Self { registry, passes, file_changes, restarts, rollbacks, ready, effective, pass_seconds, last_pass }
    }

    /// In the OpenMetrics text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        if encode(&mut text, &self.registry).is_err() {
            text.clear();
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
