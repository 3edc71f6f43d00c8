//! The objects that the scenarios apply.

use serde_json::{Value, json};

/// The bed's first mirror, as nodes reach it.
pub const MIRROR: &str = "http://mirror.testbed.internal:5000";
/// The bed's second mirror.
pub const MIRROR2: &str = "http://mirror2.testbed.internal:5001";

/// A RegistryMirror to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryMirror {
    /// The object's name.
    pub name: String,
    /// `spec.registry`.
    pub registry: String,
    /// The urls, in order.
    pub mirrors: Vec<String>,
    /// The one node that it is for; all nodes if none is named.
    pub node: Option<String>,
}

impl RegistryMirror {
    /// For all nodes.
    #[must_use]
    pub fn new(name: &str, registry: &str, mirrors: &[&str]) -> Self {
        let mirrors = mirrors.iter().map(|url| (*url).to_owned()).collect();
        Self { name: name.to_owned(), registry: registry.to_owned(), mirrors, node: None }
    }

    /// docker.io through the bed's first mirror.
    #[must_use]
    pub fn docker_hub() -> Self {
        Self::new("docker-hub", "docker.io", &[MIRROR])
    }

    /// The same for one node alone.
    #[must_use]
    pub fn on(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned());
        self
    }

    /// The text for `kubectl apply`.
    #[must_use]
    pub fn manifest(&self) -> String {
        let mirrors: Vec<Value> = self.mirrors.iter().map(|url| json!({"url": url})).collect();
        let mut spec = json!({"registry": self.registry, "mirrors": mirrors});
        if let Some(node) = &self.node {
            spec["nodeSelector"] = json!({"matchLabels": {"kubernetes.io/hostname": node}});
        }
        manifest(&self.name, &spec)
    }
}

/// The text for `kubectl apply` of a RegistryMirror with this spec.
#[must_use]
pub fn manifest(name: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "registry-mirror.dev/v1alpha1",
        "kind": "RegistryMirror",
        "metadata": {"name": name},
        "spec": spec,
    })
    .to_string()
}

/// A pod on a given node that runs until it is deleted. `command` is empty for the image's own entry point.
#[must_use]
pub fn pod(name: &str, node: &str, image: &str, command: &[&str], host_network: bool) -> String {
    let mut container = json!({"name": "main", "image": image});
    if !command.is_empty() {
        container["command"] = json!(command);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": node,
            "hostNetwork": host_network,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            // Also while the test has the node in a state that drives other pods away.
            "tolerations": [{"operator": "Exists"}],
            "containers": [container],
        },
    })
    .to_string()
}
