//! The Kubernetes API of the operator: `registry-mirror.dev/v1alpha1`.
//!
//! Types only. The generated YAML stands beside `src/`, so that `kubectl apply -f crds/` works; `make crds` writes it
//! and a test fails when it is out of date.

// kube's `printcolumn` and `x_kube` stand on one item many times, with the same `type_`.
#![allow(clippy::duplicated_attributes)]

pub mod bounds;
mod node_mirror;
mod registry_mirror;
mod rules;
mod yaml;

pub use node_mirror::{
    ContainerdStatus, DriftStatus, MirrorState, MirrorUse, NewlyReadStatus, NodeMirror, NodeMirrorSpec,
    NodeMirrorStatus, NodeMirrorSummary, NodeRegistryStatus, NoteReason, NoteStatus, PlanChange, PlanKind, PlanStatus,
    ProvedRestart, RestartApproval,
};
pub use registry_mirror::{
    AuthRef, Capability, Fallback, Header, HealthCheck, KeyRef, LabelOperator, LabelRequirement, LabelSelector, Mirror,
    MirrorNodes, NodeSummary, ObjectKeyRef, ObjectKind, RegistryMirror, RegistryMirrorSpec, RegistryMirrorStatus,
    SecretRef, Tls, Upstream,
};
pub use yaml::{CrdYamlError, NODE_MIRRORS_FILE, REGISTRY_MIRRORS_FILE, crd_files};

/// The API group of every object of the operator.
pub const GROUP: &str = "registry-mirror.dev";
/// The only version so far.
pub const VERSION: &str = "v1alpha1";

/// The condition types that the operator sets, as they stand in `status.conditions[].type`.
pub mod condition {
    /// RegistryMirror: the spec is valid and no older object claims the registry on the same nodes.
    pub const ACCEPTED: &str = "Accepted";
    /// RegistryMirror: every Secret and ConfigMap that the spec names was found and read.
    pub const RESOLVED_REFS: &str = "ResolvedRefs";
    /// RegistryMirror: every matching node that is alive has the files and a containerd that reads them.
    pub const PROGRAMMED: &str = "Programmed";
    /// RegistryMirror: every mirror answers on every node that probes it.
    pub const HEALTHY: &str = "Healthy";
    /// NodeMirror: the node is as the bundle in force wants it.
    pub const READY: &str = "Ready";
    /// NodeMirror: proved by a pull that containerd made through the directory.
    pub const EFFECTIVE: &str = "Effective";
    /// NodeMirror: containerd must restart once and waits for approval.
    pub const RESTART_PENDING: &str = "RestartPending";
    /// NodeMirror: every mirror of this node answers.
    pub const MIRRORS_HEALTHY: &str = "MirrorsHealthy";
    /// NodeMirror: files of others are in the way, or another tool rewrites ours.
    pub const CONFLICTS: &str = "Conflicts";
    /// NodeMirror: containerd goes through the forward proxy that the cluster asks for. Absent where none is asked for.
    pub const PROXY_IN_FORCE: &str = "ProxyInForce";
    /// NodeMirror and RegistryMirror: credentials that this containerd does not forward.
    pub const CREDENTIALS_UNUSABLE: &str = "CredentialsUnusable";
}

/// The reasons that stand beside the conditions.
pub mod reason {
    /// NodeMirror Ready=True: the node is as the bundle wants it.
    pub const READY: &str = "Ready";
    /// NodeMirror: containerd must restart once and waits for approval.
    pub const RESTART_PENDING: &str = "RestartPending";
    /// NodeMirror: the restart failed, the old configuration is back; the message says why.
    pub const RESTART_FAILED: &str = "RestartFailed";
    /// NodeMirror: the restart was refused before anything was touched; the message says why. Other nodes go on.
    pub const RESTART_REFUSED: &str = "RestartRefused";
    /// NodeMirror: it cannot be done safely on this host; the message says why.
    pub const UNSUPPORTED: &str = "Unsupported";
    /// NodeMirror: a restart of containerd is due, and somebody else has changed its configuration or its unit since it
    /// started: a restart would bring that into force too. The message names the files.
    pub const CHANGED_SINCE_START: &str = "ChangedSinceStart";
    /// NodeMirror: containerd's configuration cannot be read and was left as it is; the message names file and line.
    /// Other nodes go on: each checks its own file before it restarts.
    pub const CONFIG_BROKEN: &str = "ConfigBroken";
    /// NodeMirror: a file could not be written; the message says which and why.
    pub const APPLY_FAILED: &str = "ApplyFailed";
    /// NodeMirror: another program changes files of the operator again and again, and one of them is away until it is put
    /// back; the message says which and when.
    pub const CONTESTED: &str = "Contested";
    /// NodeMirror: containerd or the host could not be read; the message says why.
    pub const OBSERVE_FAILED: &str = "ObserveFailed";
    /// NodeMirror: the plan is shown and nothing is touched.
    pub const DRY_RUN: &str = "DryRun";
    /// NodeMirror: the bundle was written by a newer release or is damaged; the last state is kept.
    pub const BUNDLE_UNKNOWN: &str = "BundleUnknown";
    /// NodeMirror: the node is as it was before the operator came.
    pub const RESTORED: &str = "Restored";
    /// NodeMirror: another node's agent owns the directory that this node reads too.
    pub const SHARED: &str = "Shared";
    /// Event about a NodeMirror: somebody changed a file of the operator, and the agent put it back.
    pub const DRIFT_REPAIRED: &str = "DriftRepaired";

    /// RegistryMirror Accepted=True.
    pub const ACCEPTED: &str = "Accepted";
    /// RegistryMirror Accepted=False: a field of the spec is refused; the message says what to write instead.
    pub const INVALID: &str = "Invalid";
    /// RegistryMirror: an older object claims the registry, on some nodes (Accepted=True) or on all (Accepted=False).
    pub const CONFLICT: &str = "Conflict";
    /// RegistryMirror Accepted=False: with this object all objects together no longer fit into one Secret.
    pub const BUNDLE_TOO_LARGE: &str = "BundleTooLarge";
    /// RegistryMirror Accepted=False: `fallback: Deny` for the registry that the operator's own image comes from.
    pub const OWN_REGISTRY_DENIED: &str = "OwnRegistryDenied";

    /// RegistryMirror ResolvedRefs=True.
    pub const RESOLVED: &str = "Resolved";
    /// RegistryMirror ResolvedRefs=False: a Secret or ConfigMap, or the key in it, is missing.
    pub const REF_NOT_FOUND: &str = "RefNotFound";
    /// RegistryMirror ResolvedRefs=False: a Secret or ConfigMap holds something else than is needed.
    pub const REF_MALFORMED: &str = "RefMalformed";

    /// RegistryMirror Programmed=True.
    pub const PROGRAMMED: &str = "Programmed";
    /// RegistryMirror Programmed=False: nodes are still at it.
    pub const PROGRESSING: &str = "Progressing";
    /// RegistryMirror Programmed=False: nodes said why they cannot.
    pub const NODES_FAILED: &str = "NodesFailed";
    /// RegistryMirror Programmed=False: the restarts of containerd are paused after a failure.
    pub const ROLLOUT_PAUSED: &str = "RolloutPaused";
    /// RegistryMirror Programmed=False: agents that are not running keep the object from some nodes.
    pub const AGENTS_NOT_READY: &str = "AgentsNotReady";
    /// RegistryMirror Programmed=True: the selector matches no node.
    pub const NO_MATCHING_NODES: &str = "NoMatchingNodes";
    /// RegistryMirror Programmed=False: Accepted or ResolvedRefs is False and nothing older is in force.
    pub const NOT_IN_FORCE: &str = "NotInForce";
    /// RegistryMirror Programmed=False: the bundle with the object as it is now could not be published; nodes keep what they
    /// have.
    pub const PUBLISH_FAILED: &str = "PublishFailed";
    /// RegistryMirror Programmed=False: the bundle in force was deleted or cannot be read, and one without it would take
    /// objects away from nodes; the message names them.
    pub const BUNDLE_LOST: &str = "BundleLost";
    /// RegistryMirror Programmed=Unknown: `suspend: true` leaves the nodes as they are.
    pub const SUSPENDED: &str = "Suspended";

    /// RegistryMirror Healthy=True, NodeMirror MirrorsHealthy=True.
    pub const HEALTHY: &str = "Healthy";
    /// RegistryMirror Healthy=False: a mirror makes some node wait.
    pub const MIRRORS_UNHEALTHY: &str = "MirrorsUnhealthy";
    /// RegistryMirror Healthy=Unknown: no node has probed a mirror yet, or probes are switched off.
    pub const NOT_PROBED: &str = "NotProbed";
}
