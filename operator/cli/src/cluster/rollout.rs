//! The roll-out's state, as the controller keeps it in a ConfigMap.

use anyhow::Context;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use registry_mirror_controller::contract::ROLLOUT_CONFIG_MAP;

/// Why no further restart is granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// The node whose restart failed.
    pub node: String,
    /// What failed, in a sentence.
    pub reason: String,
    /// When, as written by the controller.
    pub since: String,
}

/// The ConfigMap of the operator's namespace.
pub fn api(client: Client, namespace: &str) -> Api<ConfigMap> {
    Api::namespaced(client, namespace)
}

/// The pause in force, if there is one.
///
/// # Errors
/// Where the ConfigMap cannot be read.
pub async fn pause(api: &Api<ConfigMap>) -> anyhow::Result<Option<Pause>> {
    let found = api.get_opt(ROLLOUT_CONFIG_MAP).await.with_context(|| {
        format!("ConfigMap {ROLLOUT_CONFIG_MAP} could not be read; name the operator's namespace with -n")
    })?;
    let data = found.and_then(|map| map.data).unwrap_or_default();
    let field = |key: &str| data.get(key).cloned().unwrap_or_default();
    let paused = field("paused") == "true";
    Ok(paused.then(|| Pause { node: field("node"), reason: field("reason"), since: field("since") }))
}
