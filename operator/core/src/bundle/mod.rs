//! The bundle: every accepted RegistryMirror with what it refers to, in one Secret that all agents watch.
//!
//! The controller compiles it, an agent selects its slice of it. Nothing in it depends on a node, so that one write
//! reaches all of them.

mod wire;

use std::collections::BTreeMap;

use registry_mirror_crds::{Capability, LabelSelector};
use serde::{Deserialize, Serialize};

pub use wire::{BUNDLE_KEY, MAX_BUNDLE_BYTES, UnpackError, pack, unpack};

use crate::{digest::Digest, proxy::ProxySettings, registry::RegistryName, sensitive::Sensitive};

/// The layout that this release writes. An agent keeps its last state on one that it does not know.
pub const SCHEMA: u32 = 1;

/// All that the agents need to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    /// [`SCHEMA`] of the release that wrote it.
    pub schema: u32,
    /// What agents do with it.
    pub mode: Mode,
    /// One entry per accepted object, oldest first, then by name: the first one that matches a node wins its registry.
    pub entries: Vec<Entry>,
    /// Certificates and keys (PEM), stored once however many entries use them.
    pub blobs: BTreeMap<Digest, Blob>,
    /// The forward proxy of containerd itself; `None` where the operator sets none. An agent of a release that does not
    /// know it goes on with the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxySettings>,
}

/// What agents do with the bundle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Make the node as the bundle says.
    #[default]
    Enforce,
    /// Report the plan; touch nothing.
    DryRun,
    /// Put the node back as it was.
    Restore,
}

/// A certificate or key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blob {
    /// PEM text.
    pub pem: Sensitive,
    /// Whether it holds a private key: its file is for root alone.
    pub private: bool,
}

/// One accepted RegistryMirror.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The object's name.
    pub object: String,
    /// The registry.
    pub registry: RegistryName,
    /// The nodes; `None` is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// `true`: the entry claims its registry and changes nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// Time between two looks at the mirrors in seconds; `None` switches health checks off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_interval_seconds: Option<u32>,
    /// The mirrors in order, never empty.
    pub mirrors: Vec<MirrorHost>,
    /// What comes after them.
    pub upstream: Upstream,
}

impl Entry {
    /// One for all nodes, with the registry itself behind the mirrors.
    #[must_use]
    pub fn new(object: impl Into<String>, registry: RegistryName, mirrors: Vec<MirrorHost>) -> Self {
        Self {
            object: object.into(),
            registry,
            node_selector: None,
            suspend: false,
            health_interval_seconds: None,
            mirrors,
            upstream: Upstream::Registry,
        }
    }

    /// Every certificate and key that the entry names.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        let upstream = match &self.upstream {
            Upstream::Server { url: _, tls } => Some(tls),
            Upstream::Registry | Upstream::Denied => None,
        };
        self.mirrors.iter().map(|mirror| &mirror.tls).chain(upstream).flat_map(|tls| {
            let Tls { skip_verify: _, ca, client } = tls;
            let client = client.as_ref().map(|ClientCertificate { certificate, key }| [certificate, key]);
            ca.iter().chain(client.into_iter().flatten())
        })
    }

    /// Of everything in the entry; certificates count by the digest that names them. A node reports it as the hash of
    /// what it has in force.
    #[must_use]
    pub fn hash(&self) -> Digest {
        // Serialising a plain struct to a Vec cannot fail.
        Digest::of(&serde_json::to_vec(self).unwrap_or_default())
    }
}

/// One mirror as containerd reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MirrorHost {
    /// Where requests go, without trailing slash: with `override_path` as it stands, else `/v2` is appended.
    pub url: String,
    /// The url as the user wrote it, for status.
    pub display_url: String,
    /// containerd's `override_path`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub override_path: bool,
    /// Never empty: containerd takes an empty list for all of them.
    pub capabilities: Vec<Capability>,
    /// How it is reached.
    #[serde(default)]
    pub tls: Tls,
    /// Headers in order, the `Authorization` of credentials among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// Whether an `Authorization` header stems from `auth`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_credentials: bool,
    /// Milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dial_timeout_ms: Option<u64>,
}

impl MirrorHost {
    /// A mirror of which nothing is said but its url.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            display_url: url.to_owned(),
            override_path: false,
            capabilities: vec![Capability::Pull, Capability::Resolve],
            tls: Tls::default(),
            headers: Vec::new(),
            has_credentials: false,
            dial_timeout_ms: None,
        }
    }
}

/// A header.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// With exactly this capitalisation.
    pub name: String,
    /// At least one.
    pub values: Vec<Sensitive>,
}

/// TLS settings; certificates by the digest of their blob.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Any certificate is accepted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_verify: bool,
    /// Trusted certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Digest>,
    /// The certificate that containerd shows, and its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientCertificate>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientCertificate {
    /// The certificate chain.
    pub certificate: Digest,
    /// Its private key.
    pub key: Digest,
}

/// What containerd asks after the mirrors.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Upstream {
    /// The registry itself, as containerd reaches it without configuration.
    Registry,
    /// This server.
    Server {
        /// Without trailing slash; `None` is the registry's own address (with TLS settings of ours).
        url: Option<String>,
        /// How it is reached.
        tls: Tls,
    },
    /// Never the upstream: the root entry repeats the last mirror that can resolve.
    Denied,
}
