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

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use kube::Client;
use tokio::{sync::watch, task::JoinSet};

pub(crate) use agents::Agent;
pub(crate) use cache::Cache;
pub(crate) use labels::CompactLabels;
pub(crate) use node_mirrors::{NodeMirrorRecord, SlimCondition};
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
        [
            (objects.name(), objects.is_synced()),
            (nodes.name(), nodes.is_synced()),
            (node_mirrors.name(), node_mirrors.is_synced()),
            (agents.name(), agents.is_synced()),
            (secrets.name(), secrets.is_synced()),
            (config_maps.name(), config_maps.is_synced()),
            (bundle_secret.name(), bundle_secret.is_synced()),
        ]
        .into_iter()
        .find(|(_, synced)| !synced)
        .map(|(name, _)| name)
    }
}

/// Starts every watch. None of them ends by itself.
pub(crate) fn watch_all(
    tasks: &mut JoinSet<&'static str>,
    client: &Client,
    config: &ControllerConfig,
    caches: &Arc<Caches>,
    events: &Events,
) {
    tasks.spawn(registry_mirrors::watch(client.clone(), Arc::clone(caches), events.clone()));
    tasks.spawn(nodes::watch(client.clone(), Arc::clone(caches), config.startup_taint.clone()));
    tasks.spawn(node_mirrors::watch(client.clone(), Arc::clone(caches), events.clone()));
    tasks.spawn(agents::watch(client.clone(), config.namespace.clone(), Arc::clone(caches)));
    tasks.spawn(references::watch_secrets(client.clone(), config.namespace.clone(), Arc::clone(caches)));
    tasks.spawn(references::watch_config_maps(client.clone(), config.namespace.clone(), Arc::clone(caches)));
    tasks.spawn(bundle_secret::watch(client.clone(), config.namespace.clone(), Arc::clone(caches)));
}

/// A lock whose holder cannot panic half-way through a change.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The names that a watch must keep, and the end that hears of new ones.
type Wanted = (watch::Sender<BTreeSet<String>>, watch::Receiver<BTreeSet<String>>);
