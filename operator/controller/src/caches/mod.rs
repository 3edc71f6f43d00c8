//! What the controller knows of the cluster, each kind as small as it can be: a watch fills it, the passes read it.

mod agents;
mod bundle_secret;
mod cache;
mod labels;
mod node_mirrors;
mod nodes;
mod references;
mod registry_mirrors;
mod slim;
mod watching;

use std::{collections::BTreeSet, sync::Arc};

use kube::Client;
use registry_mirror_core::status::event;
use tokio::task::JoinSet;

pub(crate) use agents::Agent;
pub(crate) use cache::Cache;
pub(crate) use labels::CompactLabels;
pub(crate) use node_mirrors::NodeMirrorRecord;
pub(crate) use nodes::NodeRecord;
pub(crate) use references::ReferencedCache;
pub(crate) use registry_mirrors::ObjectRecord;

use crate::{config::ControllerConfig, contract::ROLLOUT_CONFIG_MAP, events::Events, signals::Signals};

/// All caches.
#[derive(Debug)]
pub(crate) struct Caches {
    pub objects: Cache<ObjectRecord>,
    pub nodes: Cache<NodeRecord>,
    pub node_mirrors: Cache<NodeMirrorRecord>,
    /// By pod.
    pub agents: Cache<Agent>,
    pub secrets: ReferencedCache,
    pub config_maps: ReferencedCache,
    /// The resource version of the bundle's Secret.
    pub bundle_secret: Cache<String>,
    pub signals: Arc<Signals>,
}

impl Caches {
    pub fn new(signals: Arc<Signals>) -> Arc<Self> {
        Arc::new(Self {
            objects: Cache::new("RegistryMirrors"),
            nodes: Cache::new("Nodes"),
            node_mirrors: Cache::new("NodeMirrors"),
            agents: Cache::new("agents' Pods"),
            secrets: ReferencedCache::new("Secrets", BTreeSet::new()),
            config_maps: ReferencedCache::new("ConfigMaps", BTreeSet::from([ROLLOUT_CONFIG_MAP.to_owned()])),
            bundle_secret: Cache::new("the bundle's Secret"),
            signals,
        })
    }

    /// The first kind that the API server has not listed yet, for readiness.
    pub fn first_unsynced(&self) -> Option<&'static str> {
        let Self { objects, nodes, node_mirrors, agents, secrets, config_maps, bundle_secret, signals: _ } = self;
        let cluster = [objects.unsynced(), nodes.unsynced(), node_mirrors.unsynced(), agents.unsynced()];
        let namespace = [secrets.unsynced(), config_maps.unsynced(), bundle_secret.unsynced()];
        cluster.into_iter().chain(namespace).flatten().next()
    }
}

/// Starts every watch. None of them ends by itself. What people are to hear of goes to `events`.
pub(crate) fn watch_all(
    tasks: &mut JoinSet<&'static str>,
    client: &Client,
    config: &ControllerConfig,
    caches: &Arc<Caches>,
    events: &Events,
) {
    let with = || (client.clone(), Arc::clone(caches), config.namespace.clone());
    let (client, all, _) = with();
    let told = events.clone();
    tasks.spawn(async move {
        let unreadable = |name: &str, uid: &str, why: &str| told.object_unreadable(name, uid, why);
        registry_mirrors::watch(client, &all.objects, &all.signals, unreadable).await
    });
    let (client, all, _) = with();
    let startup_taint = config.startup_taint.clone();
    tasks.spawn(async move { nodes::watch(client, &all.nodes, &all.signals, startup_taint.as_deref()).await });
    let (client, all, _) = with();
    let told = events.clone();
    tasks.spawn(async move {
        let changed = |name: &str, old: Option<&NodeMirrorRecord>, new: &NodeMirrorRecord| {
            let old = old.filter(|old| old.uid == new.uid).map(|old| &old.says);
            for event in event::of_node(old, &new.says) {
                told.node(name, &new.uid, event);
            }
        };
        node_mirrors::watch(client, &all.node_mirrors, &all.signals, changed).await
    });
    let (client, all, namespace) = with();
    tasks.spawn(async move { agents::watch(client, &namespace, &all.agents, &all.signals).await });
    let (client, all, namespace) = with();
    tasks.spawn(async move { references::watch_secrets(client, &namespace, &all.secrets, &all.signals).await });
    let (client, all, namespace) = with();
    tasks.spawn(async move { references::watch_config_maps(client, &namespace, &all.config_maps, &all.signals).await });
    let (client, all, namespace) = with();
    tasks.spawn(async move { bundle_secret::watch(client, &namespace, &all.bundle_secret, &all.signals).await });
}
