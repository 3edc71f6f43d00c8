//! What a node holds of each mirror and upstream that it probes, as its plan needs it.

use std::{collections::BTreeMap, fmt};

use crate::{
    bundle::{Bundle, Entry, MirrorHost, Mode},
    health::{Health, Seen},
};

/// One place that pulls of an object's registry can go to: a mirror, or the upstream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    object: String,
    /// `None` is the upstream.
    mirror: Option<String>,
}

impl Destination {
    /// A mirror of an object, by its url in the bundle.
    #[must_use]
    pub fn mirror(object: &str, url: &str) -> Self {
        Self { object: object.to_owned(), mirror: Some(url.to_owned()) }
    }

    /// The upstream of an object's registry.
    #[must_use]
    pub fn upstream(object: &str) -> Self {
        Self { object: object.to_owned(), mirror: None }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mirror {
            Some(url) => write!(f, "mirror {url} of RegistryMirror/{}", self.object),
            None => write!(f, "the upstream of RegistryMirror/{}", self.object),
        }
    }
}

/// What is held of every destination of a bundle. The default is that of a node which probes nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MirrorHealth {
    under_way: bool,
    health: BTreeMap<Destination, Health>,
    /// Whether it sends its clients to a token server, by its last answer.
    wants_token: BTreeMap<Destination, bool>,
}

/// What a mirror does with credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credentials {
    /// It takes a token for them.
    ForTokenServer,
    /// It takes them as they are, or wants none.
    Basic,
    /// It has not answered so far.
    NotKnownYet,
    /// Nobody asks it.
    NeverKnown,
}

impl MirrorHealth {
    /// Of destinations that are probed, before the first answer.
    #[must_use]
    pub fn under_way() -> Self {
        Self { under_way: true, ..Self::default() }
    }

    /// Of one destination.
    #[must_use]
    pub fn of(&self, destination: &Destination) -> Health {
        self.health.get(destination).cloned().unwrap_or_default()
    }

    /// Of one mirror of an object.
    #[must_use]
    pub fn mirror(&self, object: &str, url: &str) -> Health {
        self.of(&Destination::mirror(object, url))
    }

    /// Of an object's upstream; known only while one of its mirrors is in doubt.
    #[must_use]
    pub fn upstream(&self, object: &str) -> Health {
        self.of(&Destination::upstream(object))
    }

    /// Whether the credentials of an entry's mirror are for a token server, where that is known or will never be.
    #[must_use]
    pub fn credentials(&self, bundle: &Bundle, entry: &Entry, mirror: &MirrorHost) -> Credentials {
        match self.wants_token.get(&Destination::mirror(&entry.object, &mirror.url)) {
            Some(true) => Credentials::ForTokenServer,
            Some(false) => Credentials::Basic,
            None if self.under_way && is_probed(bundle, entry) => Credentials::NotKnownYet,
            None => Credentials::NeverKnown,
        }
    }

    /// Takes in what one probe has seen, and what it tells of a token server; what was held before, and what is now.
    pub fn note(&mut self, destination: &Destination, seen: Seen, wants_token: Option<bool>) -> (Health, Health) {
        if let Some(wants_token) = wants_token {
            self.wants_token.insert(destination.clone(), wants_token);
        }
        let before = self.of(destination);
        let after = before.after(seen);
        self.health.insert(destination.clone(), after.clone());
        (before, after)
    }

    /// Forgets what nobody asks for any more.
    pub fn retain(&mut self, wanted: impl Fn(&Destination) -> bool) {
        self.health.retain(|destination, _| wanted(destination));
        self.wants_token.retain(|destination, _| wanted(destination));
    }
}

/// Whether a node probes the mirrors of an entry.
#[must_use]
pub fn is_probed(bundle: &Bundle, entry: &Entry) -> bool {
    bundle.mode == Mode::Enforce && !entry.suspend && entry.health_interval_seconds.is_some()
}
