//! What a given containerd can express of a hosts.toml.

use std::fmt;

use registry_mirror_crds::Capability;

use super::{
    fields::{Fields, KEYS},
    model::{Capabilities, Host, HostsToml},
};
use crate::{bundle::Header, containerd::Version};

/// Something that this containerd cannot express and that was left out of the file.
///
/// What is left narrows what a host is asked for, or leaves the host out: it is never widened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Omitted {
    /// The host.
    pub url: String,
    /// What was left out.
    pub what: Omission,
    /// The daemon's release.
    pub version: Version,
}

/// What was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Omission {
    /// `referrers` is unknown before 2.2 and would spoil the whole file.
    Referrers,
    /// The host, which was for referrers alone.
    Host,
    /// `dial_timeout` is ignored before 2.0.7.
    DialTimeout,
    /// `dial_timeout` makes this release try HTTPS on a host that is meant for plain HTTP.
    DialTimeoutOnHttp,
    /// A second entry for the same url, which TOML does not allow.
    Duplicate,
}

impl fmt::Display for Omitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, what, version } = self;
        match what {
            Omission::Referrers => write!(
                f,
                "{url} is not asked for referrers: containerd {version} does not know this capability, 2.2.0 is the \
                 first that does"
            ),
            Omission::Host => write!(
                f,
                "{url} is left out: it is for referrers alone, and containerd {version} does not know this capability, \
                 2.2.0 is the first that does"
            ),
            Omission::DialTimeout => write!(
                f,
                "the dialTimeout of {url} has no effect: containerd {version} waits 30 seconds for a connection \
                 whatever the file says, 2.0.7 is the first that obeys"
            ),
            Omission::DialTimeoutOnHttp => write!(
                f,
                "the dialTimeout of {url} is left out: with it containerd {version} would try HTTPS first on this \
                 plain http host; leave it out, or upgrade containerd to 2.1.9 or later"
            ),
            Omission::Duplicate => write!(f, "{url} is listed twice: the first entry counts"),
        }
    }
}

/// Whether a file without any `[host]` table is read. 1.5, 1.6 and 1.7 before 1.7.32 reject it.
#[must_use]
pub fn accepts_file_without_hosts(version: Version) -> bool {
    version >= Version::new(1, 7, 32)
}

/// What this containerd can express of the file; what it cannot is listed.
///
/// A file that comes out without hosts gets its `server` as a host too, because old releases reject a file without
/// any. Without a `server` nothing can be put there: see [`accepts_file_without_hosts`].
#[must_use]
pub fn restrict(file: &HostsToml, version: Version) -> (HostsToml, Vec<Omitted>) {
    let HostsToml { server, root, hosts } = file;
    let mut omitted = Vec::new();
    let root_url = server.as_deref().unwrap_or("the registry itself");
    let mut root = restrict_fields(root_url, root, version, &mut omitted);
    // The root entry is always asked, so a capability that is unknown leaves it with the default ones.
    for note in omitted.iter_mut().filter(|note| note.what == Omission::Host) {
        note.what = Omission::Referrers;
        root.capabilities = Capabilities::only([Capability::Pull, Capability::Resolve]).unwrap_or_default();
    }
    let mut kept: Vec<Host> = Vec::with_capacity(hosts.len().max(1));
    for host in hosts {
        if kept.iter().any(|earlier| earlier.url == host.url) {
            omitted.push(Omitted { url: host.url.clone(), what: Omission::Duplicate, version });
            continue;
        }
        let (restricted, notes) = restrict_host(host, version);
        omitted.extend(notes);
        kept.extend(restricted);
    }
    if kept.is_empty()
        && let Some(url) = server
    {
        kept.push(Host { url: url.clone(), fields: root.clone() });
    }
    (HostsToml { server: server.clone(), root, hosts: kept }, omitted)
}

/// What this containerd can express of one host; `None` where nothing is left of it.
#[must_use]
pub fn restrict_host(host: &Host, version: Version) -> (Option<Host>, Vec<Omitted>) {
    let mut omitted = Vec::new();
    let Host { url, fields } = host;
    let fields = restrict_fields(url, fields, version, &mut omitted);
    let is_left = !omitted.iter().any(|note| note.what == Omission::Host);
    (is_left.then(|| Host { url: url.clone(), fields }), omitted)
}

fn restrict_fields(url: &str, fields: &Fields, version: Version, omitted: &mut Vec<Omitted>) -> Fields {
    let mut restricted = Fields { headers: merge_headers(&fields.headers), ..fields.clone() };
    // what a host is asked for is said last, for it may leave the host out
    for key in KEYS.iter().rev() {
        let what = (key.restrict)(&mut restricted, url, version);
        omitted.extend(what.map(|what| Omitted { url: url.to_owned(), what, version }));
    }
    restricted
}

/// A name may stand in the table once.
fn merge_headers(headers: &[Header]) -> Vec<Header> {
    let mut merged: Vec<Header> = Vec::with_capacity(headers.len());
    for header in headers {
        match merged.iter_mut().find(|earlier| earlier.name == header.name) {
            Some(earlier) => earlier.values.extend(header.values.iter().cloned()),
            None => merged.push(header.clone()),
        }
    }
    merged
}
