//! What other programs left in certs.d for a registry, and what becomes of it beside a hosts.toml of ours.
//!
//! containerd takes one directory for a registry: in the first of its roots that has one, under the first spelling of
//! the name that exists there, `_default` at last (`hostPaths` of core/remotes/docker/config; the roots of a list one
//! by one, seen on 1.7.35, 2.1.9, 2.2.1). A directory of ours hides the one that was read before. So what counted there
//! for the registry itself goes on counting: `.crt` files are authorities that it is verified with, `.cert` and `.key`
//! files are shown to it (`loadCertFiles`, 1.5 to 2.4). A hosts.toml that is hidden is told.

use std::path::{Path, PathBuf};

use super::{
    Bytes, Directory, Entry as Listed, FileEntry, Finding, HOSTS_TOML, Listing, OwnedDirectory, Ownership, What,
    is_docker_style, wanted::is_leftover,
};
use crate::{
    bundle::{Entry, Upstream},
    compile::{authority_file, client_files},
    containerd::Version,
    desired::{CA_PURPOSE, CERTIFICATE_PURPOSE, Desired, KEY_PURPOSE},
    digest::Digest,
    explain::directories,
    hosts_toml::ClientPair,
    registry::RegistryName,
};

/// One of the directories that containerd searches, in its order.
#[derive(Debug, Clone)]
pub struct Root {
    /// On the host.
    pub path: PathBuf,
    /// What stands in it.
    pub listing: Listing,
    /// What of that is ours, as recorded.
    pub ownership: Ownership,
}

/// The directory that containerd would read for a registry if we had written nothing.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    root: usize,
    name: &'a str,
    path: &'a Path,
    directory: &'a Directory,
}

/// Which of the roots a registry's directory of ours belongs into. Total; with one root it is that one.
///
/// The first one, which is read before all others. `_default` is for registries that have no directory in any of them,
/// so it belongs into the last one; but where somebody has a `_default` in an earlier root, that one is read.
#[must_use]
pub fn place(registry: &RegistryName, roots: &[Root]) -> usize {
    if !registry.is_default() {
        return 0;
    }
    let name = RegistryName::DEFAULT;
    let taken = roots.iter().position(|root| match root.listing.entries.get(name) {
        Some(Listed::Directory(directory)) => is_theirs(directory, root.ownership.directories.get(name)),
        Some(Listed::Symlink { .. } | Listed::File | Listed::Other) => true,
        None => false,
    });
    taken.unwrap_or(roots.len().saturating_sub(1))
}

/// What would be read for a registry without us; `None` where containerd would find nothing.
#[must_use]
pub fn standing<'a>(registry: &RegistryName, roots: &'a [Root], version: Version) -> Option<Standing<'a>> {
    for (number, root) in roots.iter().enumerate() {
        for name in directories(registry, version) {
            let Some((name, entry)) = root.listing.entries.get_key_value(&name) else { continue };
            let directory = match entry {
                Listed::Directory(directory) => directory,
                Listed::Symlink { leads_to: Some(directory), .. } => directory,
                // A link that leads nowhere is passed over, and a file ends every pull: nothing of it counts.
                Listed::Symlink { leads_to: None, .. } => continue,
                Listed::File | Listed::Other => return None,
            };
            if is_theirs(directory, root.ownership.directories.get(name)) {
                return Some(Standing { root: number, name, path: &root.path, directory });
            }
        }
    }
    None
}

/// Whether a directory would stand there without us.
fn is_theirs(directory: &Directory, owned: Option<&OwnedDirectory>) -> bool {
    let is_ours = |name: &String, file: &FileEntry| {
        (name == HOSTS_TOML && directory.hosts_are_ours()) || file.is_our_certificate(name) || is_leftover(name, file)
    };
    match owned {
        // Somebody may have laid a certificate into it since; what else is there has no meaning.
        Some(OwnedDirectory { created: true, .. }) => directory.files.keys().any(|name| is_docker_style(name)),
        Some(OwnedDirectory { created: false, .. }) => true,
        // An empty one hides `_default` too.
        None => directory.files.is_empty() || directory.files.iter().any(|(name, file)| !is_ours(name, file)),
    }
}

/// The files of a RegistryMirror with what counted for the registry itself; and what people should know. `at` is the
/// root that they are for.
#[must_use]
pub fn carry(
    mut found: Desired,
    entry: &Entry,
    roots: &[Root],
    at: usize,
    version: Version,
) -> (Desired, Vec<Finding>) {
    let Some(standing) = standing(&entry.registry, roots, version) else { return (found, Vec::new()) };
    let ours = entry.registry.directory();
    let here = roots.get(at).map(|root| root.path.join(&ours)).unwrap_or_default();
    let there = standing.path.join(standing.name);
    let mut findings = Vec::new();
    let mut tell = |what| findings.push(Finding { object: entry.object.clone(), path: there.clone(), what });
    let is_hidden = (standing.root, standing.name) != (at, ours.as_str());
    // `_default` is there to give way to a registry's own directory.
    let is_fallback = standing.name == RegistryName::DEFAULT && !entry.registry.is_default();
    if is_hidden && !is_fallback && standing.directory.files.contains_key(HOSTS_TOML) {
        tell(What::Hidden { by: here.clone() });
    }
    if !asks_the_registry(entry) {
        return (found, findings);
    }
    let Certificates { authorities, clients, unreadable } = certificates(standing.directory);
    if !unreadable.is_empty() {
        tell(What::Unreadable { files: unreadable });
    }
    let carried: Vec<String> = authorities
        .iter()
        .map(|(name, _)| name.clone())
        .chain(clients.iter().map(|client| client.name.clone()))
        .collect();
    if carried.is_empty() {
        return (found, findings);
    }
    tell(What::Carried { files: carried, by: here.clone() });

    let mut model = found.hosts.clone();
    let mut keep = |purpose: &str, content: &str| {
        let name = format!("{purpose}-{}.pem", Digest::of(content.as_bytes()).short());
        let path = here.join(&name).to_string_lossy().into_owned();
        found.registry.certificates.insert(name, content.as_bytes().to_vec());
        path
    };
    for (_, content) in &authorities {
        let file = keep(CA_PURPOSE, content);
        if !model.root.ca.contains(&file) {
            model.root.ca.push(file);
        }
    }
    for Client { name: _, certificate, key } in &clients {
        let certificate = keep(CERTIFICATE_PURPOSE, certificate);
        let pair = ClientPair { certificate, key: Some(keep(KEY_PURPOSE, key)) };
        if !model.root.client.contains(&pair) {
            model.root.client.push(pair);
        }
    }
    (found.with(&model, version), findings)
}

/// Whether the last host that is asked is the registry itself: these certificates are for nobody else.
fn asks_the_registry(entry: &Entry) -> bool {
    let host = |url: &str| url.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default().to_owned());
    match &entry.upstream {
        Upstream::Denied => false,
        Upstream::Registry | Upstream::Server { url: None, .. } => true,
        Upstream::Server { url: Some(url), .. } => {
            entry.registry.default_server().is_some_and(|own| host(&own) == host(url))
        }
    }
}

/// The certificates of a directory, as Docker lays them out.
#[derive(Default)]
struct Certificates {
    authorities: Vec<(String, String)>,
    clients: Vec<Client>,
    /// What containerd cannot read either: with it every pull of the registry would fail.
    unreadable: Vec<String>,
}

struct Client {
    name: String,
    certificate: String,
    key: String,
}

/// In the order of their names, as containerd reads them.
fn certificates(directory: &Directory) -> Certificates {
    let mut found = Certificates::default();
    let text = |file: &FileEntry| match file {
        FileEntry::Regular { content: Some(Bytes(content)), .. }
        | FileEntry::Symlink { content: Some(Bytes(content)), .. } => String::from_utf8(content.clone()).ok(),
        _ => None,
    };
    for (name, file) in &directory.files {
        if matches!(file, FileEntry::Directory) {
            continue;
        }
        if name.ends_with(".crt") {
            match text(file).as_deref().and_then(authority_file) {
                Some(content) => found.authorities.push((name.clone(), content)),
                None => found.unreadable.push(name.clone()),
            }
        } else if let Some(stem) = name.strip_suffix(".cert") {
            let certificate = text(file);
            // Without a key of its own the certificate's file holds it.
            let key = match directory.files.get(&format!("{stem}.key")) {
                Some(key) => text(key),
                None => certificate.clone(),
            };
            match certificate.zip(key).and_then(|(certificate, key)| client_files(&certificate, &key)) {
                Some((certificate, key)) => found.clients.push(Client { name: name.clone(), certificate, key }),
                None => found.unreadable.push(name.clone()),
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
