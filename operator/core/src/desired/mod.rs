//! The files that one entry of the bundle asks for on one node.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    time::Duration,
};

use registry_mirror_crds::{Capability, NoteReason};
use thiserror::Error;

use crate::{
    bundle::{Blob, ClientCertificate, Entry, MirrorHost, Tls, Upstream},
    containerd::Version,
    digest::Digest,
    hosts_toml::{
        self, Capabilities, ClientPair, Fields, Host, HostsToml, Omission, Omitted, accepts_file_without_hosts,
        restrict_host,
    },
    plan::files::DesiredRegistry,
    registry::{RegistryName, is_loopback},
};

/// Whose files are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// The daemon that reads them.
    pub version: Version,
    /// The directory of all registries as the daemon sees it: certificate paths begin with it.
    pub certs_dir: &'a Path,
}

// A certificate's file is named after its purpose and its content: a changed certificate is a new file, so that a pull
// never sees half of a rotated pair. `.crt`, `.cert` and `.key` would be read Docker-style where hosts.toml is absent.
pub(crate) const CA_PURPOSE: &str = "ca";
pub(crate) const CERTIFICATE_PURPOSE: &str = "client";
pub(crate) const KEY_PURPOSE: &str = "key";

/// The files, and what must be said about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The files.
    pub registry: DesiredRegistry,
    /// The hosts.toml as a value.
    pub hosts: HostsToml,
    /// What this node does not do of it.
    pub notes: Vec<Note>,
}

/// Something that the entry asks for and this node does not do. Its text is for people; what it is about are values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The mirror that it is about, by its place in [`Entry::mirrors`]; `None` where it is about the registry.
    pub mirror: Option<usize>,
    /// What it is.
    pub what: Shortfall,
}

/// What a node does not do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Shortfall {
    /// This containerd cannot express it.
    #[error("{0}")]
    Omitted(Omitted),
    /// No mirror is left for this containerd.
    #[error("no mirror of {registry} can be used by containerd {version}: the registry itself is asked")]
    NoMirrorLeft {
        /// The registry.
        registry: RegistryName,
        /// The daemon's release.
        version: Version,
    },
    /// Basic-auth registries take these credentials; registries with a token server refuse them.
    #[error(
        "the credentials of {url} reach registries with basic authentication only: containerd {version} does not \
         forward them to a token server, 2.1.0 is the first that does"
    )]
    CredentialsNotForwarded {
        /// The mirror, as the user wrote it.
        url: String,
        /// The daemon's release.
        version: Version,
    },
    /// The `_default` directory is looked up from 1.6.17 on.
    #[error("containerd {version} does not look up the _default directory, 1.6.17 is the first that does")]
    DefaultDirectoryUnknown {
        /// The daemon's release.
        version: Version,
    },
    /// A dead mirror stays in the file.
    #[error("{url} stays in place although it does not answer: no other way to {registry} is left")]
    NotDrained {
        /// The registry.
        registry: RegistryName,
        /// The mirror, as the user wrote it.
        url: String,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.what.fmt(f)
    }
}

impl Shortfall {
    /// As in NodeMirror status.
    #[must_use]
    pub const fn reason(&self) -> NoteReason {
        match self {
            Self::Omitted(omitted) => match omitted.what {
                Omission::Referrers => NoteReason::ReferrersNotAsked,
                Omission::Host => NoteReason::MirrorLeftOut,
                Omission::DialTimeout => NoteReason::DialTimeoutIgnored,
                Omission::DialTimeoutOnHttp => NoteReason::DialTimeoutLeftOut,
                Omission::Duplicate => NoteReason::ListedTwice,
            },
            Self::NoMirrorLeft { .. } => NoteReason::NoMirrorLeft,
            Self::CredentialsNotForwarded { .. } => NoteReason::CredentialsNotForwarded,
            Self::DefaultDirectoryUnknown { .. } => NoteReason::DefaultDirectoryUnknown,
            Self::NotDrained { .. } => NoteReason::NotTakenOut,
        }
    }
}

/// The bundle contradicts itself; the controller made a mistake. The node keeps its last files.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the bundle's entry of RegistryMirror {object} names a certificate {digest} that the bundle does not hold")]
pub struct MissingBlob {
    object: String,
    digest: Digest,
}

/// The files for one entry. `drained` holds the urls ([`MirrorHost::url`]) of mirrors that make containerd wait: they
/// are left out as long as another way is left.
///
/// # Errors
/// [`MissingBlob`] where a certificate is not in `blobs`.
pub fn desired(
    entry: &Entry,
    blobs: &BTreeMap<Digest, Blob>,
    target: Target<'_>,
    drained: &BTreeSet<String>,
) -> Result<Desired, MissingBlob> {
    let Entry { object, registry, node_selector: _, suspend: _, health_interval_seconds: _, mirrors, upstream } = entry;
    let Target { version, certs_dir } = target;
    let mut files = Files {
        object,
        blobs,
        directory: certs_dir.join(registry.directory()).to_string_lossy().into_owned(),
        certificates: BTreeMap::new(),
    };
    let mut notes = Vec::new();
    if registry.is_default() && !version.knows_default_directory() {
        notes.push(Note { mirror: None, what: Shortfall::DefaultDirectoryUnknown { version } });
    }

    let mut usable = Vec::with_capacity(mirrors.len());
    for (position, mirror) in mirrors.iter().enumerate() {
        let note = |what| Note { mirror: Some(position), what };
        let url = &mirror.display_url;
        if mirror.has_credentials && !version.forwards_authorization_to_token_server() {
            notes.push(note(Shortfall::CredentialsNotForwarded { url: url.clone(), version }));
        }
        let (host, omitted) = restrict_host(&files.host(mirror)?, version);
        notes.extend(omitted.into_iter().map(|omitted| {
            // A person knows the mirror as it was written.
            note(Shortfall::Omitted(Omitted { url: url.clone(), ..omitted }))
        }));
        usable.extend(host);
    }
    if usable.is_empty() {
        let what = Shortfall::NoMirrorLeft { registry: registry.clone(), version };
        notes.push(Note { mirror: None, what });
    }

    let kept = keep_answering(&usable, drained, registry, upstream, version);
    let stays_dead =
        |mirror: &MirrorHost| drained.contains(&mirror.url) && kept.iter().any(|host| host.url == mirror.url);
    for (position, mirror) in mirrors.iter().enumerate().filter(|(_, mirror)| stays_dead(mirror)) {
        let what = Shortfall::NotDrained { registry: registry.clone(), url: mirror.display_url.clone() };
        notes.push(Note { mirror: Some(position), what });
    }

    let (server, root) = match upstream {
        Upstream::Registry => (explicit_server(registry), Fields::default()),
        Upstream::Server { url, tls } => (url.clone().or_else(|| explicit_server(registry)), files.tls_fields(tls)?),
        Upstream::Denied => match last_resolving(&kept).or(kept.last()) {
            Some(Host { url, fields }) => (Some(url.clone()), fields.clone()),
            // No mirror is left for this release; one that is asked in vain still beats the upstream.
            None => (mirrors.last().map(|mirror| mirror.url.clone()), Fields::default()),
        },
    };
    let model = HostsToml { server, root, hosts: kept };
    let registry = DesiredRegistry {
        object: object.clone(),
        registry: registry.clone(),
        hosts_toml: String::new(),
        certificates: files.certificates,
        secret: false,
    };
    Ok(Desired { registry, hosts: HostsToml::default(), notes }.with(&model, version))
}

impl Desired {
    /// The same with these hosts, rendered for this daemon.
    #[must_use]
    pub fn with(mut self, hosts: &HostsToml, version: Version) -> Self {
        // Every mirror is restricted already; what `render` adds is the server as a host where no mirror is left.
        let (hosts, _) = hosts_toml::restrict(hosts, version);
        self.registry.hosts_toml = hosts_toml::render(&hosts, version).text;
        self.registry.secret = hosts.has_headers();
        self.hosts = hosts;
        self
    }
}

/// The hosts without the drained ones; all of them where that would leave no way, because then nothing is better than
/// waiting.
fn keep_answering(
    usable: &[Host],
    drained: &BTreeSet<String>,
    registry: &RegistryName,
    upstream: &Upstream,
    version: Version,
) -> Vec<Host> {
    let answering: Vec<Host> = usable.iter().filter(|host| !drained.contains(&host.url)).cloned().collect();
    let way_left = match upstream {
        Upstream::Denied => last_resolving(&answering).is_some(),
        // Without a url there is nothing to list as a host, and old releases reject a file that lists none.
        Upstream::Registry => {
            !answering.is_empty() || explicit_server(registry).is_some() || accepts_file_without_hosts(version)
        }
        Upstream::Server { url, .. } => {
            !answering.is_empty()
                || url.is_some()
                || explicit_server(registry).is_some()
                || accepts_file_without_hosts(version)
        }
    };
    if way_left { answering } else { usable.to_vec() }
}

fn last_resolving(hosts: &[Host]) -> Option<&Host> {
    hosts.iter().rev().find(|host| host.fields.capabilities.resolve_tags())
}

/// The registry's own url where naming it changes nothing: not for `_default`, which is many registries, and not for a
/// loopback registry, which containerd reaches by HTTPS without verification and then by http as long as no `server`
/// names it (`ConfigureHosts`).
fn explicit_server(registry: &RegistryName) -> Option<String> {
    if is_loopback(registry.as_str()) { None } else { registry.default_server() }
}

struct Files<'a> {
    object: &'a str,
    blobs: &'a BTreeMap<Digest, Blob>,
    directory: String,
    certificates: BTreeMap<String, Vec<u8>>,
}

impl Files<'_> {
    fn host(&mut self, mirror: &MirrorHost) -> Result<Host, MissingBlob> {
        let MirrorHost {
            url,
            display_url: _,
            override_path,
            capabilities,
            tls,
            headers,
            has_credentials: _,
            dial_timeout_ms,
        } = mirror;
        let fields = Fields {
            // An entry has at least one; the default stands for a bundle that breaks this.
            capabilities: Capabilities::only(capabilities.iter().copied())
                .or_else(|| Capabilities::only([Capability::Pull, Capability::Resolve]))
                .unwrap_or_default(),
            headers: headers.clone(),
            override_path: *override_path,
            dial_timeout: dial_timeout_ms.map(Duration::from_millis),
            ..self.tls_fields(tls)?
        };
        Ok(Host { url: url.clone(), fields })
    }

    fn tls_fields(&mut self, tls: &Tls) -> Result<Fields, MissingBlob> {
        let Tls { skip_verify, ca, client } = tls;
        let ca = match ca {
            Some(digest) => vec![self.file(CA_PURPOSE, digest)?],
            None => Vec::new(),
        };
        let client = match client {
            Some(ClientCertificate { certificate, key }) => vec![ClientPair {
                certificate: self.file(CERTIFICATE_PURPOSE, certificate)?,
                key: Some(self.file(KEY_PURPOSE, key)?),
            }],
            None => Vec::new(),
        };
        Ok(Fields { ca, client, skip_verify: skip_verify.then_some(true), ..Fields::default() })
    }

    /// The path of a certificate's file as containerd sees it.
    fn file(&mut self, purpose: &str, digest: &Digest) -> Result<String, MissingBlob> {
        let blob = self
            .blobs
            .get(digest)
            .ok_or_else(|| MissingBlob { object: self.object.to_owned(), digest: digest.clone() })?;
        let name = format!("{purpose}-{}.pem", digest.short());
        let path = format!("{}/{name}", self.directory.trim_end_matches('/'));
        self.certificates.insert(name, blob.pem.reveal().as_bytes().to_vec());
        Ok(path)
    }
}

#[cfg(test)]
mod tests;
