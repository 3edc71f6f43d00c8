//! What all formats have in common.

use std::{path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use registry_mirror_crds::Capability;

use crate::{bundle::Header, registry::RegistryName, sensitive::Sensitive};

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
    pub override_path: bool,
    pub repository_prefix: Option<String>,
    pub capabilities: Vec<Capability>,
    pub tls: Tls,
    pub credentials: Option<Credentials>,
    pub headers: Vec<Header>,
    pub dial_timeout: Option<Duration>,
}

/// TLS settings by file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tls {
    pub skip_verify: bool,
    pub ca: Vec<PathBuf>,
    /// The certificate, and its key where that is another file.
    pub client: Option<(PathBuf, Option<PathBuf>)>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub username: String,
    pub password: Sensitive,
}

/// What comes after the hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Upstream {
    /// The registry itself.
    Own(Tls),
    /// Another server.
    Server(String, Tls),
    /// Nothing: the last host stands in for it.
    Denied,
}

impl Host {
    /// A host that is asked for what every host is asked for.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            override_path: false,
            repository_prefix: None,
            capabilities: vec![Capability::Pull, Capability::Resolve],
            tls: Tls::default(),
            credentials: None,
            headers: Vec::new(),
            dial_timeout: None,
        }
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
