//! Objects of one kind, by name.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Objects of one kind, by name. Written by its watch alone.
#[derive(Debug)]
pub(crate) struct Cache<V> {
    name: &'static str,
    entries: Mutex<BTreeMap<String, V>>,
    synced: AtomicBool,
}

/// A lock whose holder cannot panic half-way through a change.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<V> Cache<V> {
    pub const fn new(name: &'static str) -> Self {
        Self { name, entries: Mutex::new(BTreeMap::new()), synced: AtomicBool::new(false) }
    }

    /// What it holds, for messages.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the API server has listed all of them once.
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// Its name, while the API server has not listed it yet.
    pub fn unsynced(&self) -> Option<&'static str> {
        (!self.is_synced()).then_some(self.name)
    }

    /// Looks at all of them. Must not wait for anything inside.
    pub fn with<R>(&self, look: impl FnOnce(&BTreeMap<String, V>) -> R) -> R {
        look(&locked(&self.entries))
    }

    /// Puts one in and gives the old one back.
    pub(super) fn insert(&self, name: String, value: V) -> Option<V> {
        locked(&self.entries).insert(name, value)
    }

    pub(super) fn remove(&self, name: &str) -> Option<V> {
        locked(&self.entries).remove(name)
    }

    /// All of them at once, after a list.
    pub(super) fn replace(&self, entries: BTreeMap<String, V>) -> BTreeMap<String, V> {
        let old = std::mem::replace(&mut *locked(&self.entries), entries);
        self.synced.store(true, Ordering::Release);
        old
    }
}
