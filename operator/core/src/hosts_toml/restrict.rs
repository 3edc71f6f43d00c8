//! What a given containerd can express of a hosts.toml.

use registry_mirror_crds::Capability;

use super::{
    fields::KEYS,
    model::{Capabilities, Fields, Host, HostsToml},
    omission::{Omission, Omitted},
};
use crate::{bundle::Header, containerd::Version};

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
