//! One watch that fills one cache.

use std::{collections::BTreeMap, fmt::Debug, future::ready};

use futures::StreamExt;
use kube::{
    Api, Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, watcher},
    },
};
use registry_mirror_client::watch_backoff;
use serde::de::DeserializeOwned;

use super::cache::Cache;
use crate::signals::{Lane, Signals};

/// One object came, changed or went.
pub(super) struct Change<'a, V> {
    pub name: &'a str,
    pub old: Option<&'a V>,
    pub new: Option<&'a V>,
}

/// What happened to the cache.
pub(super) enum Happened<'a, V> {
    /// All of them are known now, for the first time or again.
    Synced,
    /// One of them changed in what is kept of it.
    Changed(Change<'a, V>),
}

/// Keeps the cache as the API server has it, for ever. `read` makes of an object what is worth keeping, or nothing.
///
/// Errors are retried with back-off and logged once until the next success, so that an API server that is away for an
/// hour costs one line for each kind.
pub(super) async fn keep<K, V>(
    api: Api<K>,
    config: watcher::Config,
    cache: &Cache<V>,
    signals: &Signals,
    mut read: impl FnMut(K) -> Option<V>,
    mut happened: impl FnMut(Happened<'_, V>),
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    V: PartialEq,
{
    let what = cache.name();
    // The beginning of a list says nothing of the API server yet. Let through it would count as an answer, and a
    // controller that starts while the API server is away would try without a pause that grows.
    let stream = watcher(api, config).filter(|event| ready(!matches!(event, Ok(watcher::Event::Init))));
    let stream = stream.backoff(watch_backoff());
    let mut stream = std::pin::pin!(stream);
    let mut failing = false;
    let mut listed = BTreeMap::new();
    // `watcher` restarts by itself; its stream has no end.
    while let Some(event) = stream.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                // A list that was cut short begins anew.
                listed.clear();
                if failing {
                    tracing::debug!(what, %error, "still cannot be watched");
                } else {
                    failing = true;
                    tracing::warn!(what, %error, "cannot be watched; what is known stays in force until they can");
                }
                continue;
            }
        };
        if failing {
            failing = false;
            tracing::info!(what, "can be watched again");
        }
        let is_listed = matches!(event, watcher::Event::InitDone);
        take(event, cache, &mut listed, &mut read, &mut happened);
        if is_listed {
            // Nothing is published before every kind is known, and this may be the one that was waited for.
            signals.mark(&Lane::ALL);
        }
    }
}

/// Does to the cache what the API server says. `listed` is what a list has brought so far.
fn take<K: Resource, V: PartialEq>(
    event: watcher::Event<K>,
    cache: &Cache<V>,
    listed: &mut BTreeMap<String, V>,
    read: &mut impl FnMut(K) -> Option<V>,
    happened: &mut impl FnMut(Happened<'_, V>),
) {
    match event {
        watcher::Event::Init => {}
        watcher::Event::InitApply(object) => {
            let name = object.name_any();
            if let Some(value) = read(object) {
                listed.insert(name, value);
            }
        }
        watcher::Event::InitDone => {
            let first = !cache.is_synced();
            let old = cache.replace(std::mem::take(listed));
            if !first {
                // What happened while the watch was away is told as changes.
                cache.with(|new| tell_differences(&old, new, happened));
            }
            happened(Happened::Synced);
        }
        watcher::Event::Apply(object) => {
            let name = object.name_any();
            let old = match read(object) {
                Some(value) => cache.insert(name.clone(), value),
                None => cache.remove(&name),
            };
            cache.with(|entries| {
                let new = entries.get(&name);
                if old.as_ref() != new {
                    happened(Happened::Changed(Change { name: &name, old: old.as_ref(), new }));
                }
            });
        }
        watcher::Event::Delete(object) => {
            let name = object.name_any();
            if let Some(old) = cache.remove(&name) {
                happened(Happened::Changed(Change { name: &name, old: Some(&old), new: None }));
            }
        }
    }
}

fn tell_differences<V: PartialEq>(
    old: &BTreeMap<String, V>,
    new: &BTreeMap<String, V>,
    happened: &mut impl FnMut(Happened<'_, V>),
) {
    for (name, value) in new {
        let before = old.get(name);
        if before != Some(value) {
            happened(Happened::Changed(Change { name, old: before, new: Some(value) }));
        }
    }
    for (name, value) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
        happened(Happened::Changed(Change { name, old: Some(value), new: None }));
    }
}
