//! The agents' Pods: whether an agent is alive.

use std::{borrow::Cow, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, Resource, core::ObjectMeta, runtime::watcher};
use serde::Deserialize;

use super::{Caches, watching::keep};
use crate::{contract::AGENT_SELECTOR, signals::Lane};

/// One agent's Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agent {
    pub node: Box<str>,
    /// Its condition Ready.
    pub ready: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct SlimPod {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: SlimSpec,
    #[serde(default)]
    status: SlimStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimSpec {
    node_name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct SlimStatus {
    #[serde(default)]
    conditions: Vec<SlimPodCondition>,
}

#[derive(Debug, Clone, Deserialize)]
struct SlimPodCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl Resource for SlimPod {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        Pod::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Pod::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Pod::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

pub(super) async fn watch(client: Client, namespace: String, caches: Arc<Caches>) -> &'static str {
    let api: Api<SlimPod> = Api::namespaced(client, &namespace);
    let config = watcher::Config::default().labels(AGENT_SELECTOR).page_size(100);
    keep(api, config, &caches.agents, &caches.signals, read, |_| caches.signals.mark(&[Lane::Nodes, Lane::Status]))
        .await;
    "watch of agents' Pods"
}

/// `None` for a Pod that is not on a node yet, or is on its way out.
fn read(pod: SlimPod) -> Option<Agent> {
    let SlimPod { metadata, spec, status } = pod;
    if metadata.deletion_timestamp.is_some() {
        return None;
    }
    let ready = status.conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True");
    Some(Agent { node: spec.node_name?.into(), ready })
}
