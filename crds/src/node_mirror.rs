//! NodeMirror: what a node's agent says of its node, and what the controller grants it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the controller grants this node.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "registry-mirror.dev",
    version = "v1alpha1",
    kind = "NodeMirror",
    doc = "One node: its containerd, what it needs, its mirrors. Named like the node and owned by it; written by the operator.",
    plural = "nodemirrors",
    shortname = "nmirror",
    category = "registry-mirrors",
    status = "NodeMirrorStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Containerd", type_ = "string", json_path = ".status.containerd.version"),
    printcolumn(name = "Distro", type_ = "string", json_path = ".status.containerd.distribution"),
    printcolumn(name = "Plan", type_ = "string", json_path = ".status.plan.kind"),
    printcolumn(name = "Mirrors", type_ = "string", json_path = ".status.summary.mirrors"),
    printcolumn(name = "Restarts", type_ = "integer", json_path = ".status.restarts"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.summary.reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct NodeMirrorSpec {
    /// The one plan that this node may carry out now although it restarts containerd. Written by the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_approval: Option<RestartApproval>,
}

/// Leave for one restart.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartApproval {
    /// The hash of the plan, as in `status.plan.hash`; another plan needs another approval.
    #[schemars(length(min = 1, max = 128))]
    pub plan: String,
    /// When it was granted.
    pub approved_at: Time,
}

/// What the node's agent says; nobody else writes it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeMirrorStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The hash of this node's part of the bundle that is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,

    /// The containerd that pulls this node's images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containerd: Option<ContainerdStatus>,

    /// What the node needs so that containerd reads the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanStatus>,

    /// Each registry that a RegistryMirror names for this node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registries: Vec<NodeRegistryStatus>,

    /// Restarts of containerd that the operator has made on this node.
    #[serde(default)]
    pub restarts: u32,

    /// The last restart that brought a change into force and was proved: an example for nodes that wait with the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proved_restart: Option<ProvedRestart>,

    /// Files of the operator that others changed and that were put back, the last few, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<DriftStatus>,

    /// Ready, Effective, RestartPending, MirrorsHealthy, Conflicts, CredentialsUnusable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// What `kubectl get` shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<NodeMirrorSummary>,
}

/// The containerd of a node.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerdStatus {
    /// As the daemon tells it.
    pub version: String,
    /// What kind of host this is, for example `kubeadm`, `k3s`.
    pub distribution: String,
    /// The file or unit that tells so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// The daemon's main configuration file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_file: Option<String>,
    /// Its `version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_version: Option<u32>,
    /// The directory that holds the hosts.toml files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_path: Option<String>,
    /// When the daemon started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
}

/// What a node needs so that containerd reads the hosts.toml files.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// Names this plan; an approval names the same hash.
    pub hash: String,
    /// Names what a restart changes, whatever else stands in this node's files: the same on all nodes that need the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// What is to be done.
    pub kind: PlanKind,
    /// Whether containerd must restart once.
    pub restart: bool,
    /// Why, in a sentence.
    pub reason: String,
    /// The keys that change. Values that may be secret are redacted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<PlanChange>,
    /// Files of others in the directory that no containerd has read so far and that the restart brings into force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub newly_read: Vec<NewlyReadStatus>,
}

/// A file of somebody else that the restart brings into force.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewlyReadStatus {
    /// The registry whose pulls it changes; `_default` is every one without a directory of its own.
    #[schemars(length(max = 262))]
    pub registry: String,
    /// Its hosts.toml, or the directory that holds certificates alone.
    #[schemars(length(max = 4096))]
    pub path: String,
}

/// A restart that went well.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvedRestart {
    /// What it changed, as in `status.plan.change`.
    pub change: String,
    /// When.
    pub at: Time,
}

/// What is to be done to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PlanKind {
    /// Nothing is known to be needed.
    #[default]
    None,
    /// An effective directory exists: use it. No edit, no restart.
    Adopt,
    /// Set `config_path`; one restart.
    Patch,
    /// Carry legacy `mirrors` and `configs` over into hosts.toml; one restart.
    Migrate,
    /// The operator cannot do it here safely; the reason says why.
    Unsupported,
}

impl PlanKind {
    /// As in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Adopt => "Adopt",
            Self::Patch => "Patch",
            Self::Migrate => "Migrate",
            Self::Unsupported => "Unsupported",
        }
    }
}

/// One key of a containerd configuration file that changes.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanChange {
    /// The file.
    pub file: String,
    /// The key, with its table.
    pub key: String,
    /// The value before; absent where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The value after; absent where it is taken out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// One registry on one node.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRegistryStatus {
    /// The registry.
    pub registry: String,
    /// The RegistryMirror in force.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// The hash of the bundle's entry in force, as the controller compiled it.
    pub hash: String,
    /// Why the entry is not in force, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Each mirror as this node sees it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<MirrorState>,
    /// What the object asks for and this node's containerd does not do. None of it is a fault.
    // Four at most for each of 16 mirrors, and two of the registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 80))]
    pub notes: Vec<NoteStatus>,
}

/// Something that the object asks for and this node's containerd does not do.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NoteStatus {
    /// The url of the mirror that it is about; absent where it is about the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub mirror: Option<String>,
    /// What it is.
    pub reason: NoteReason,
    /// In a sentence.
    #[schemars(length(max = 4096))]
    pub message: String,
}

/// What a node's containerd does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum NoteReason {
    /// The mirror is not asked for referrers.
    ReferrersNotAsked,
    /// The mirror is left out: nothing is left of what it is for.
    MirrorLeftOut,
    /// The mirror's `dialTimeout` has no effect.
    DialTimeoutIgnored,
    /// The mirror's `dialTimeout` is left out, because it would do harm.
    DialTimeoutLeftOut,
    /// The mirror is listed twice.
    ListedTwice,
    /// The mirror does not answer and stays in place, because no other way is left.
    NotTakenOut,
    /// The mirror's credentials reach no token server.
    CredentialsNotForwarded,
    /// No mirror is left.
    NoMirrorLeft,
    /// The `_default` directory is not looked up.
    DefaultDirectoryUnknown,
}

/// One mirror as one node sees it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MirrorState {
    /// The mirror's url.
    pub url: String,
    /// Whether it is in use.
    pub state: MirrorUse,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// What went wrong, where something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Whether a mirror is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum MirrorUse {
    /// In hosts.toml and answering, as far as is known.
    Active,
    /// In hosts.toml; not probed.
    Unknown,
    /// Taken out while dead.
    Drained,
    /// This containerd cannot express it.
    Unusable,
}

/// A file of the operator that somebody else changed.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftStatus {
    /// The file on the node.
    pub path: String,
    /// When it was noticed.
    pub at: Time,
    /// What was changed and what became of it, in a sentence.
    pub what: String,
}

/// What `kubectl get nodemirrors` shows.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeMirrorSummary {
    /// `active/all` mirrors.
    pub mirrors: String,
    /// The reason of the first condition that is not as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
