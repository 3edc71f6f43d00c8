//! RegistryMirror: what a cluster admin writes.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// What is wanted for one registry.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "registry-mirror.dev",
    version = "v1alpha1",
    kind = "RegistryMirror",
    doc = "Redirects the pulls of one registry to mirrors, on every node that the selector matches.",
    plural = "registrymirrors",
    shortname = "rmirror",
    category = "registry-mirrors",
    status = "RegistryMirrorStatus",
    derive = "PartialEq",
    printcolumn(name = "Registry", type_ = "string", json_path = ".spec.registry"),
    printcolumn(name = "Mirror", type_ = "string", json_path = ".status.mirrorSummary"),
    printcolumn(name = "Nodes", type_ = "string", json_path = ".status.nodes.summary"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Programmed\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::upstream::deny_needs_pull_and_resolve())]
#[x_kube(validation = rules::upstream::default_has_no_server())]
#[x_kube(validation = rules::upstream::default_has_no_client_certificate())]
pub struct RegistryMirrorSpec {
    /// The registry as images name it: `host[:port]`, or `_default` for every registry without an object of its own.
    /// Cannot be changed.
    #[schemars(length(max = 262))]
    #[x_kube(validation = rules::registry::immutable())]
    #[x_kube(validation = rules::registry::no_scheme())]
    #[x_kube(validation = rules::registry::no_path())]
    #[x_kube(validation = rules::registry::docker_hub())]
    #[x_kube(validation = rules::registry::lower_case())]
    #[x_kube(validation = rules::registry::port())]
    #[x_kube(validation = rules::registry::host())]
    #[x_kube(validation = rules::registry::nameable())]
    pub registry: String,

    /// The mirrors, tried in this order before the upstream.
    #[schemars(length(max = 16))]
    #[x_kube(validation = rules::mirror::some())]
    #[x_kube(validation = rules::mirror::unique())]
    pub mirrors: Vec<Mirror>,

    /// What containerd does when no mirror serves the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,

    /// The nodes that this object is for. Empty: all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,

    /// How the nodes watch the mirrors. A mirror that makes containerd wait is taken out until it answers again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,

    /// `true` leaves the nodes as they are; the object keeps its claim on the registry.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// One mirror.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::mirror::prefix_or_override())]
#[x_kube(validation = rules::mirror::prefix_without_path())]
#[x_kube(validation = rules::mirror::auth_or_header())]
#[x_kube(validation = rules::tls::needs_https("url"))]
pub struct Mirror {
    /// `https://host[:port][/path]` or `http://…`, without user, query or fragment. containerd appends `/v2` to it.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rules::url::scheme("url"))]
    #[x_kube(validation = rules::url::no_user("url", "take it out and name a Secret in auth.secretRef"))]
    #[x_kube(validation = rules::url::no_query("url"))]
    #[x_kube(validation = rules::url::no_fragment("url"))]
    #[x_kube(validation = rules::url::characters("url"))]
    #[x_kube(validation = rules::url::host("url"))]
    #[x_kube(validation = rules::url::path("url"))]
    #[x_kube(validation = rules::url::docker_hub("url"))]
    pub url: String,

    /// The project of a proxy cache that holds this registry's images, for example a Harbor project: requests go to
    /// `<url>/v2/<repositoryPrefix>/…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    #[x_kube(validation = rules::mirror::prefix_slashes())]
    #[x_kube(validation = rules::mirror::prefix_characters())]
    pub repository_prefix: Option<String>,

    /// `true` uses the url as it stands, without `/v2` appended. Excludes `repositoryPrefix`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub override_path: bool,

    /// What the mirror is asked for.
    #[serde(default = "default_capabilities")]
    #[schemars(length(max = 4))]
    #[x_kube(validation = rules::mirror::some_capability())]
    #[x_kube(validation = rules::mirror::unique_capabilities())]
    pub capabilities: Vec<Capability>,

    /// How the mirror's certificate is checked, and the one that containerd shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,

    /// The credentials that containerd sends to this mirror.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthRef>,

    /// Headers that containerd sends with each request to this mirror.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rules::header::unique())]
    pub headers: Vec<Header>,

    /// How long containerd waits for the TCP connection, for example `3s`. Obeyed from containerd 2.0.7 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rules::duration::form("dialTimeout"))]
    #[x_kube(validation = rules::duration::range("dialTimeout", "10ms", "2m"))]
    pub dial_timeout: Option<String>,
}

fn default_capabilities() -> Vec<Capability> {
    vec![Capability::Pull, Capability::Resolve]
}

/// What a host may be asked for; the names are containerd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// Manifests and blobs by digest.
    Pull,
    /// Tags to digests.
    Resolve,
    /// Uploads.
    Push,
    /// The referrers API, known from containerd 2.2 on.
    Referrers,
}

impl Capability {
    /// Every one that containerd knows.
    pub const ALL: [Self; 4] = [Self::Pull, Self::Resolve, Self::Push, Self::Referrers];

    /// As containerd and the API write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Resolve => "resolve",
            Self::Push => "push",
            Self::Referrers => "referrers",
        }
    }
}

/// How a host's certificate is checked, and the one that containerd shows.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::tls::ca_or_ref())]
pub struct Tls {
    /// `true` accepts any certificate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_verify: bool,

    /// Certificates (PEM) that are trusted for this host besides the node's own roots. Excludes `caRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 131_072))]
    #[x_kube(validation = rules::tls::ca_is_pem())]
    #[x_kube(validation = rules::tls::ca_is_public())]
    pub ca: Option<String>,

    /// Where these certificates stand, in the operator's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<ObjectKeyRef>,

    /// A `kubernetes.io/tls` Secret in the operator's namespace: containerd shows its certificate (mutual TLS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert_ref: Option<SecretRef>,
}

/// Credentials by reference.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthRef {
    /// A `kubernetes.io/basic-auth` or `kubernetes.io/dockerconfigjson` Secret in the operator's namespace.
    pub secret_ref: SecretRef,
}

/// A Secret in the operator's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SecretRef {
    /// The Secret's name.
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::reference::name())]
    pub name: String,
}

/// One key of a Secret in the operator's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyRef {
    /// The Secret's name.
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::reference::name())]
    pub name: String,
    /// The key in its data.
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::reference::key())]
    pub key: String,
}

/// One key of a Secret or ConfigMap in the operator's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKeyRef {
    /// Secret or ConfigMap.
    #[serde(default)]
    pub kind: ObjectKind,
    /// The object's name.
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::reference::name())]
    pub name: String,
    /// The key in its data.
    #[serde(default = "default_ca_key")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::reference::key())]
    pub key: String,
}

fn default_ca_key() -> String {
    "ca.crt".to_owned()
}

/// The kinds of object that hold certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ObjectKind {
    /// A Secret.
    #[default]
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

/// A header that is sent with each request to a mirror.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::header::one_source())]
#[x_kube(validation = rules::header::some_source())]
pub struct Header {
    /// The header's name, sent with exactly this capitalisation.
    #[schemars(length(max = 128))]
    #[x_kube(validation = rules::header::name())]
    #[x_kube(validation = rules::header::authorization())]
    pub name: String,

    /// Its values. Excludes `valueFrom`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 2048)))]
    #[x_kube(validation = rules::header::one_line())]
    pub values: Vec<String>,

    /// Takes the value from a Secret in the operator's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<KeyRef>,
}

/// The registry itself.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::upstream::deny_or_server())]
#[x_kube(validation = rules::upstream::deny_or_tls())]
#[x_kube(validation = rules::tls::needs_https("server"))]
pub struct Upstream {
    /// The url of the upstream, where it is not the registry's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rules::url::scheme("server"))]
    #[x_kube(validation = rules::url::no_user("server", "take it out"))]
    #[x_kube(validation = rules::url::no_query("server"))]
    #[x_kube(validation = rules::url::no_fragment("server"))]
    #[x_kube(validation = rules::url::characters("server"))]
    #[x_kube(validation = rules::url::host("server"))]
    #[x_kube(validation = rules::url::path("server"))]
    #[x_kube(validation = rules::url::docker_hub("server"))]
    pub server: Option<String>,

    /// `Allow`: the upstream is asked when no mirror serves the image. `Deny`: nodes never reach the upstream.
    #[serde(default)]
    pub fallback: Fallback,

    /// How the upstream's certificate is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// Whether nodes may reach the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Fallback {
    /// Ask the upstream last.
    #[default]
    Allow,
    /// Never reach the upstream.
    Deny,
}

/// A label selector, as on other Kubernetes objects, with bounds.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 63}))]
    #[x_kube(validation = rules::selector::labels())]
    pub match_labels: BTreeMap<String, String>,

    /// Requirements that a node must meet, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub match_expressions: Vec<LabelRequirement>,
}

/// One requirement of a label selector.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = rules::selector::needs_values())]
#[x_kube(validation = rules::selector::needs_no_values())]
pub struct LabelRequirement {
    /// The label's key.
    #[schemars(length(max = 317))]
    #[x_kube(validation = rules::selector::key())]
    pub key: String,
    /// How the label is compared.
    pub operator: LabelOperator,
    /// What it is compared with: at least one value for In and NotIn, none for Exists and DoesNotExist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    #[x_kube(validation = rules::selector::values())]
    pub values: Vec<String>,
}

/// The operators of a label selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// The label has one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is present.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

/// How nodes watch their mirrors.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// `false`: a dead mirror stays in place and containerd waits for it at every request.
    #[serde(default = "default_true")]
    pub enabled: bool,

    /// Time between two looks, for example `30s`; at least `5s`.
    #[serde(default = "default_interval")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rules::duration::form("interval"))]
    #[x_kube(validation = rules::duration::range("interval", "5s", "24h"))]
    pub interval: String,
}

const fn default_true() -> bool {
    true
}

fn default_interval() -> String {
    "30s".to_owned()
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self { enabled: true, interval: default_interval() }
    }
}

/// What became of a RegistryMirror.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryMirrorStatus {
    /// The generation of the spec that is compiled and published. A condition names the generation that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Accepted, ResolvedRefs, Programmed, Healthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// How far the nodes are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeSummary>,

    /// Each mirror as the nodes see it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<MirrorNodes>,

    /// The first mirror's url and how many follow, for `kubectl get`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror_summary: Option<String>,

    /// The reason of the first condition that is not as it should be, for `kubectl get`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Counts of nodes.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSummary {
    /// Nodes that the object is for.
    pub matched: u32,
    /// Of these, nodes whose containerd pulls as the object says.
    pub programmed: u32,
    /// Of these, nodes whose containerd must restart once first.
    pub pending_restart: u32,
    /// Of these, nodes that said why they cannot.
    pub failed: u32,
    /// `programmed/matched`.
    pub summary: String,
}

/// One mirror as the nodes see it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MirrorNodes {
    /// The mirror's url.
    pub url: String,
    /// Nodes that it answers.
    pub healthy_nodes: u32,
    /// Nodes that it makes wait.
    pub unhealthy_nodes: u32,
}
