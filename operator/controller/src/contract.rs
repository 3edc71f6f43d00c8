//! Names that the agents, the chart and the commands know too.

/// The Secret that holds the bundle.
pub const BUNDLE_SECRET: &str = "registry-mirror-bundle";
/// Its type.
pub const BUNDLE_SECRET_TYPE: &str = "registry-mirror.dev/bundle";
/// Annotation on it: the layout of the bundle.
pub const SCHEMA_ANNOTATION: &str = "registry-mirror.dev/schema";
/// Annotation on it: the SHA-256 of the packed bundle.
pub const SHA256_ANNOTATION: &str = "registry-mirror.dev/sha256";

/// The ConfigMap that holds whether restarts are paused.
pub const ROLLOUT_CONFIG_MAP: &str = "registry-mirror-rollout";

/// Keys of that ConfigMap.
pub mod rollout_key {
    /// `true` while restarts are paused; `registry-mirror resume` writes `false`.
    pub const PAUSED: &str = "paused";
    /// The node whose failure paused them.
    pub const NODE: &str = "node";
    /// The plan that failed there.
    pub const PLAN: &str = "plan";
    /// Its agent's sentence.
    pub const REASON: &str = "reason";
    /// When they were paused.
    pub const SINCE: &str = "since";
    /// All failures that the pause was made for, a line each: node and plan.
    pub const FAILURES: &str = "failures";
    /// Enforce, DryRun or Restore: overrides the mode that the controller was started with. Written by
    /// `helm uninstall` and by people, never by the controller.
    pub const MODE: &str = "mode";
    /// The revision of the release that `helm uninstall` wrote the mode for: a later one is not being uninstalled.
    pub const MODE_FOR: &str = "modeFor";
    /// The revision of the release, written by the chart.
    pub const REVISION: &str = "revision";
}

/// Annotation on a NodeMirror: the hash of the plan that a person approved.
pub const APPROVE_ANNOTATION: &str = "registry-mirror.dev/approve";

/// The Lease of the controller that leads.
pub const LEASE: &str = "registry-mirror-controller";

/// Selects the agents' pods in the operator's namespace.
pub const AGENT_SELECTOR: &str = "app.kubernetes.io/name=registry-mirror-operator,app.kubernetes.io/component=agent";

/// Who wrote what, one for each usage, as it stands in `metadata.managedFields`.
pub mod field_manager {
    /// The bundle.
    pub const BUNDLE: &str = "registry-mirror-controller";
    /// NodeMirrors as such.
    pub const NODE_MIRRORS: &str = "registry-mirror-controller-nodes";
    /// Approvals, and the annotation that asks for one.
    pub const RESTARTS: &str = "registry-mirror-controller-restarts";
    /// The pause.
    pub const ROLLOUT: &str = "registry-mirror-controller-rollout";
    /// RegistryMirror status.
    pub const STATUS: &str = "registry-mirror-controller-status";
    /// Nodes' taints.
    pub const TAINTS: &str = "registry-mirror-controller-taints";
    /// The Lease.
    pub const LEASE: &str = "registry-mirror-controller-lease";
    /// The mode that `registry-mirror uninstall` asks for.
    pub const UNINSTALL: &str = "registry-mirror-uninstall";
}
