//! What the controller counts.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::signals::Lane;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ConditionLabels {
    pub condition: String,
    pub status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StateLabels {
    pub state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PassLabels {
    pub pass: &'static str,
}

/// The controller's metrics, with the registry that they are encoded from.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub leads: Gauge,
    pub bundle_bytes: Gauge,
    pub bundle_writes: Counter,
    pub restarts_granted: Counter,
    pub paused: Gauge,
    pub objects: Family<ConditionLabels, Gauge>,
    pub nodes: Family<StateLabels, Gauge>,
    pub pass_seconds: Family<PassLabels, Histogram>,
    pub pass_failures: Family<PassLabels, Counter>,
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("registry_mirror_controller");
        let (leads, bundle_bytes, paused) = (Gauge::default(), Gauge::default(), Gauge::default());
        let (bundle_writes, restarts_granted) = (Counter::default(), Counter::default());
        let (objects, nodes, pass_failures) = (Family::default(), Family::default(), Family::default());
        let pass_seconds = Family::<PassLabels, Histogram>::new_with_constructor(|| {
            Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0])
        });
        registry.register("leads", "1 while this controller holds the Lease", leads.clone());
        registry.register_with_unit("bundle", "Size of the packed bundle", Unit::Bytes, bundle_bytes.clone());
        registry.register("bundle_writes", "Writes of the bundle", bundle_writes.clone());
        registry.register("restarts_granted", "Restarts of containerd that were granted", restarts_granted.clone());
        registry.register("paused", "1 while restarts are paused", paused.clone());
        registry.register("objects", "RegistryMirrors by condition and status", objects.clone());
        registry.register("nodes", "Nodes by what their agents say", nodes.clone());
        registry.register_with_unit("pass_duration", "Duration of a pass", Unit::Seconds, pass_seconds.clone());
        registry.register("pass_failures", "Passes that could not be finished", pass_failures.clone());
        Self {
            registry,
            leads,
            bundle_bytes,
            bundle_writes,
            restarts_granted,
            paused,
            objects,
            nodes,
            pass_seconds,
            pass_failures,
        }
    }

    /// In the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        if encode(&mut text, &self.registry).is_err() {
            text.clear();
        }
        text
    }
}

impl Lane {
    /// As it stands in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Nodes => "nodes",
            Self::Taints => "taints",
            Self::Status => "status",
        }
    }
}
