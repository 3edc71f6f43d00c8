//! The agents' Pods: whether an agent is alive.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, runtime::watcher};
use serde::Deserialize;

use super::{cache::Cache, slim::Slim, watching::keep};
use crate::{
    contract::AGENT_SELECTOR,
    signals::{Lane, Signals},
};

/// One agent's Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agent {
    pub node: Box<str>,
    /// Its condition Ready.
    pub ready: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
}

pub(super) async fn watch(client: Client, namespace: &str, cache: &Cache<Agent>, signals: &Signals) -> &'static str {
    let api: Api<Slim<Pod, Spec>> = Api::namespaced(client, namespace);
    let config = watcher::Config::default().labels(AGENT_SELECTOR).page_size(100);
    keep(api, config, cache, signals, read, |_| {
        signals.mark(&[Lane::Nodes, Lane::Taints, Lane::Status]);
    })
    .await;
    "watch of agents' Pods"
}

/// `None` for a Pod that is not on a node yet, or is on its way out.
fn read(pod: Slim<Pod, Spec>) -> Option<Agent> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let ready = pod.is_ready();
    Some(Agent { node: pod.spec.node_name?.into(), ready })
}
