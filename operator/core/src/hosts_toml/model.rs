//! What a hosts.toml says, apart from how it is written.

use std::{collections::BTreeSet, time::Duration};

use registry_mirror_crds::Capability;

use crate::bundle::Header;

/// The hosts of one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostsToml {
    /// The url that is asked last; `None` is the registry itself.
    pub server: Option<String>,
    /// How that last host is asked.
    pub root: Fields,
    /// The hosts before it, in order. containerd may list one twice ([`super::parse`] tells when).
    pub hosts: Vec<Host>,
}

impl HostsToml {
    /// Whether a header is sent to any host; it may be a credential.
    #[must_use]
    pub fn has_headers(&self) -> bool {
        let hosts = self.hosts.iter().map(|host| &host.fields);
        std::iter::once(&self.root).chain(hosts).any(|fields| !fields.headers.is_empty())
    }
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// As it stands in the file.
    pub url: String,
    /// How it is asked.
    pub fields: Fields,
}

/// How a host is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// What it is asked for.
    pub capabilities: Capabilities,
    /// Files of trusted certificates, besides the roots of the node.
    pub ca: Vec<String>,
    /// Certificates that containerd shows.
    pub client: Vec<ClientPair>,
    /// Whether any certificate is accepted; `None` where the file does not say.
    pub skip_verify: Option<bool>,
    /// Headers of each request, in order.
    pub headers: Vec<Header>,
    /// The url's path is used as it stands, without `/v2` appended.
    pub override_path: bool,
    /// How long a TCP connection may take.
    pub dial_timeout: Option<Duration>,
}

impl Fields {
    /// The TLS settings alone.
    #[must_use]
    pub fn tls(&self) -> Self {
        let skip_verify = self.skip_verify.filter(|skip| *skip);
        Self { ca: self.ca.clone(), client: self.client.clone(), skip_verify, ..Self::default() }
    }
}

/// Files of a certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientPair {
    /// The certificate.
    pub certificate: String,
    /// The key; `None` where it stands in the certificate's file.
    pub key: Option<String>,
}

/// What a host is asked for: everything, or a list that is never empty.
///
/// An empty list in the file means everything (`parseHostConfig`, all releases), so it cannot be expressed here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities(Option<BTreeSet<Capability>>);

impl Capabilities {
    /// Everything that containerd knows.
    pub const ALL: Self = Self(None);

    /// These; `None` for none.
    pub fn only(list: impl IntoIterator<Item = Capability>) -> Option<Self> {
        let set: BTreeSet<_> = list.into_iter().collect();
        (!set.is_empty()).then_some(Self(Some(set)))
    }

    /// The list; `None` is everything.
    #[must_use]
    pub const fn listed(&self) -> Option<&BTreeSet<Capability>> {
        self.0.as_ref()
    }

    /// Whether the host is asked for this.
    #[must_use]
    pub fn allow(&self, capability: Capability) -> bool {
        self.0.as_ref().is_none_or(|set| set.contains(&capability))
    }

    /// Whether containerd asks the host which digest a tag stands for. That takes `pull` and `resolve` together
    /// (`dockerResolver.Resolve`, all releases); manifests by digest and layers are then asked of every host, whatever
    /// its capabilities (`dockerFetcher.Fetch`).
    #[must_use]
    pub fn resolve_tags(&self) -> bool {
        self.allow(Capability::Pull) && self.allow(Capability::Resolve)
    }
}
