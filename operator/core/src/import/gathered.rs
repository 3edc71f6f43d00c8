//! What all formats have in common.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use registry_mirror_crds::Capability;

use crate::{
    hosts_toml::{Capabilities, Fields},
    registry::RegistryName,
    sensitive::Sensitive,
};

/// One registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gathered {
    pub registry: RegistryName,
    /// In order, never empty.
    pub hosts: Vec<Host>,
    pub upstream: Upstream,
    /// Who says so, for messages.
    pub place: String,
}

/// One host before the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub url: String,
    /// As hosts.toml would have it. Credentials are no header here.
    pub fields: Fields,
    pub repository_prefix: Option<String>,
    pub credentials: Option<Credentials>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub username: String,
    pub password: Sensitive,
}

/// What comes after the hosts; of the fields the TLS settings count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Upstream {
    /// The registry itself.
    Own(Fields),
    /// Another server.
    Server(String, Fields),
    /// Nothing: the last host stands in for it.
    Denied,
}

impl Host {
    /// A host that is asked for what every host is asked for, in the way that the fields say.
    pub fn new(url: impl Into<String>, fields: Fields) -> Self {
        let capabilities = Capabilities::only([Capability::Pull, Capability::Resolve]).unwrap_or_default();
        let fields = Fields { capabilities, ..fields };
        Self { url: url.into(), fields, repository_prefix: None, credentials: None }
    }
}

impl Credentials {
    /// From `user:password` in base64, as registries write it down.
    pub fn from_base64(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.trim()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        // Docker pads the text with zeros
        let (username, password) = text.trim_end_matches('\0').split_once(':')?;
        Some(Self { username: username.to_owned(), password: Sensitive::new(password.to_owned()) })
    }

    /// From the value of an `Authorization` header.
    pub fn from_header(value: &str) -> Option<Self> {
        let (scheme, rest) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("basic").then(|| Self::from_base64(rest)).flatten()
    }
}
