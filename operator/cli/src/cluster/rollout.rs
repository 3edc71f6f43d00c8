//! The roll-out's state, as the controller keeps it in a ConfigMap.

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use registry_mirror_controller::contract::{ROLLOUT_CONFIG_MAP, field_manager, rollout_key as key};
use serde_json::json;

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
/// Where the ConfigMap, which stands in the operator's namespace from the install on, cannot be read.
pub async fn pause(api: &Api<ConfigMap>) -> anyhow::Result<Option<Pause>> {
    let found = api.get_opt(ROLLOUT_CONFIG_MAP).await.with_context(|| {
        format!("ConfigMap {ROLLOUT_CONFIG_MAP} could not be read; name the operator's namespace with -n")
    })?;
    let Some(found) = found else {
        let namespace = api.namespace().unwrap_or_default();
        bail!(
            "the operator is not in the namespace {namespace} (no ConfigMap {ROLLOUT_CONFIG_MAP}): name its own with -n"
        );
    };
    let data = found.data.unwrap_or_default();
    let field = |key: &str| data.get(key).cloned().unwrap_or_default();
    let paused = field("paused") == "true";
    Ok(paused.then(|| Pause { node: field("node"), reason: field("reason"), since: field("since") }))
}

/// Has every node put back as it was, for the release as it is now.
///
/// # Errors
/// Where the ConfigMap cannot be read or written.
pub async fn ask_for_restore(api: &Api<ConfigMap>) -> anyhow::Result<()> {
    let found = api
        .get_opt(ROLLOUT_CONFIG_MAP)
        .await
        .with_context(|| format!("ConfigMap {ROLLOUT_CONFIG_MAP} could not be read"))?;
    let revision = found.and_then(|map| map.data?.remove(key::REVISION));
    let mut data = json!({ key::MODE: "Restore" });
    if let Some(revision) = revision {
        data[key::MODE_FOR] = revision.into();
    }
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": ROLLOUT_CONFIG_MAP },
        "data": data,
    });
    api.patch(ROLLOUT_CONFIG_MAP, &PatchParams::apply(field_manager::UNINSTALL).force(), &Patch::Apply(&map))
        .await
        .with_context(|| format!("ConfigMap {ROLLOUT_CONFIG_MAP} could not be changed"))?;
    Ok(())
}

/// Whether an uninstall has asked for that and it holds still.
///
/// # Errors
/// Where the ConfigMap cannot be read.
pub async fn restores(api: &Api<ConfigMap>) -> anyhow::Result<bool> {
    let found = api.get_opt(ROLLOUT_CONFIG_MAP).await.with_context(|| {
        format!("ConfigMap {ROLLOUT_CONFIG_MAP} could not be read; name the operator's namespace with -n")
    })?;
    let data = found.and_then(|map| map.data).unwrap_or_default();
    Ok(data.get(key::MODE).is_some_and(|mode| mode == "Restore"))
}

/// Takes that back: nodes are set up again.
///
/// # Errors
/// Where the ConfigMap cannot be written.
pub async fn stop_restoring(api: &Api<ConfigMap>) -> anyhow::Result<()> {
    // Whoever wrote it, in whichever way.
    let patch = json!({ "data": { key::MODE: null, key::MODE_FOR: null } });
    api.patch(ROLLOUT_CONFIG_MAP, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .with_context(|| format!("ConfigMap {ROLLOUT_CONFIG_MAP} could not be changed"))?;
    Ok(())
}
