//! The Secrets and ConfigMaps that objects name, and no others.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, Resource, ResourceExt, runtime::watcher};
use registry_mirror_core::compile::References;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::{
    cache::{Cache, locked},
    watching::{Happened, keep},
};
use crate::{
    contract::BUNDLE_SECRET_TYPE,
    signals::{Lane, Signals},
};

/// The names that a watch must keep, and the end that hears of new ones.
type Wanted = (watch::Sender<BTreeSet<String>>, watch::Receiver<BTreeSet<String>>);

/// Objects of one kind out of which only the wanted ones are kept.
#[derive(Debug)]
pub(crate) struct ReferencedCache {
    cache: Cache<Arc<References>>,
    always: BTreeSet<String>,
    wanted: Wanted,
    /// The names that the last list was read for.
    covered: Mutex<BTreeSet<String>>,
}

impl ReferencedCache {
    pub(super) fn new(name: &'static str, always: BTreeSet<String>) -> Self {
        Self { cache: Cache::new(name), wanted: watch::channel(always.clone()), always, covered: Mutex::default() }
    }

    pub fn unsynced(&self) -> Option<&'static str> {
        self.cache.unsynced()
    }

    /// Says which names are wanted from now on, and whether all of them are known to exist or not.
    pub fn want(&self, mut names: BTreeSet<String>) -> bool {
        names.extend(self.always.iter().cloned());
        let covers = self.cache.is_synced() && names.is_subset(&locked(&self.covered));
        self.wanted.0.send_if_modified(|wanted| {
            let changed = *wanted != names;
            if changed {
                *wanted = names;
            }
            changed
        });
        covers
    }

    /// Each kept object, as references of its own.
    pub fn with<R>(&self, look: impl FnOnce(&mut dyn Iterator<Item = &References>) -> R) -> R {
        self.cache.with(|entries| look(&mut entries.values().map(Arc::as_ref)))
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<Arc<References>> {
        self.cache.with(|entries| entries.get(name).map(Arc::clone))
    }
}

/// Leaves out what no RegistryMirror can mean, and what is large: Helm's release records are up to 1 MiB each.
fn secret_selector() -> String {
    format!("type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token,type!={BUNDLE_SECRET_TYPE}")
}

pub(super) async fn watch_secrets(
    client: Client,
    namespace: &str,
    cache: &ReferencedCache,
    signals: &Signals,
) -> &'static str {
    let config = watcher::Config::default().fields(&secret_selector()).page_size(20);
    let read = |secret: Secret| {
        let mut references = References::default();
        references.insert_secret(secret);
        references
    };
    watch(Api::namespaced(client, namespace), config, cache, signals, read).await;
    "watch of Secrets"
}

pub(super) async fn watch_config_maps(
    client: Client,
    namespace: &str,
    cache: &ReferencedCache,
    signals: &Signals,
) -> &'static str {
    let read = |config_map: ConfigMap| {
        let mut references = References::default();
        references.insert_config_map(config_map);
        references
    };
    let config = watcher::Config::default().page_size(20);
    watch(Api::namespaced(client, namespace), config, cache, signals, read).await;
    "watch of ConfigMaps"
}

/// Watches all and keeps the wanted ones. A name that is wanted anew is found by listing again: a single read of it
/// could be older or newer than what the watch says next.
async fn watch<K>(
    api: Api<K>,
    config: watcher::Config,
    cache: &ReferencedCache,
    signals: &Signals,
    read: impl Fn(K) -> References,
) where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let mut wanted = cache.wanted.1.clone();
    loop {
        let names = wanted.borrow_and_update().clone();
        let keep_wanted = |object: K| names.contains(&object.name_any()).then(|| Arc::new(read(object)));
        let happened = |happened: Happened<'_, _>| {
            if matches!(happened, Happened::Synced) {
                locked(&cache.covered).clone_from(&names);
            }
            // The pause and the mode stand in a ConfigMap.
            signals.mark(&[Lane::Publish, Lane::Nodes, Lane::Taints, Lane::Status]);
        };
        tokio::select! {
            () = keep(api.clone(), config.clone(), &cache.cache, signals, keep_wanted, happened) => return,
            ended = more_wanted(&mut wanted, &names) => if ended { return },
        }
    }
}

/// Resolves with `false` when a name is wanted that was not before, with `true` when nobody wants anything any more.
async fn more_wanted(wanted: &mut watch::Receiver<BTreeSet<String>>, names: &BTreeSet<String>) -> bool {
    loop {
        if wanted.changed().await.is_err() {
            return true;
        }
        if !wanted.borrow_and_update().is_subset(names) {
            return false;
        }
    }
}
