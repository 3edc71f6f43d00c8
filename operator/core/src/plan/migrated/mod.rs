//! Old registry tables of config.toml as hosts.toml files, alone or beneath what a RegistryMirror says.
//!
//! The rule for one registry: first the mirrors of the RegistryMirror, then the old endpoints in their old order, then
//! the upstream. An endpoint that a RegistryMirror names too is listed once, where the RegistryMirror has it. The old
//! settings of the upstream itself (its certificates, its credentials) hold as long as the RegistryMirror says nothing
//! of an upstream. With `fallback: Deny` the old endpoints are left out, because one of them may be the upstream.

use std::collections::BTreeSet;

use registry_mirror_crds::Capability;

use super::files::{DesiredRegistry, Directory, Entry as ListedEntry, Listing};
use crate::{
    bundle::{Entry, Upstream},
    config_toml::{MigratedEndpoint, MigratedRegistry},
    containerd::Version,
    desired::Desired,
    hosts_toml::{Capabilities, ClientPair, Fields, Host, HostsToml, render, restrict},
    registry::RegistryName,
};

/// Stands in the mark of a file for which there is no RegistryMirror; no object can be called so.
pub const OBJECT: &str = "(config.toml)";

/// The old settings of one registry as its hosts.toml, for a registry that no RegistryMirror names.
#[must_use]
pub fn alone(migrated: &MigratedRegistry, version: Version) -> DesiredRegistry {
    let MigratedRegistry { registry, endpoints, server } = migrated;
    let model = HostsToml {
        server: server.as_ref().map(|server| server.url.clone()),
        root: server.as_ref().map(|server| fields(server, Capabilities::ALL)).unwrap_or_default(),
        hosts: endpoints.iter().map(host).collect(),
    };
    let (model, _) = restrict(&model, version);
    let why = "# Carried over from the registry tables of containerd's config.toml, which are commented out there.\n";
    DesiredRegistry {
        object: OBJECT.to_owned(),
        registry: registry.clone(),
        hosts_toml: format!("{why}{}", render(&model, version).text),
        certificates: std::collections::BTreeMap::new(),
        secret: model.has_headers(),
    }
}

/// The files of a RegistryMirror with the old settings for the same registry beneath; unchanged where there are none.
#[must_use]
pub fn beneath(found: Desired, entry: &Entry, migrated: &[MigratedRegistry], version: Version) -> Desired {
    let Some(MigratedRegistry { registry: _, endpoints, server }) = settings_of(&entry.registry, migrated) else {
        return found;
    };
    let mut model = found.hosts.clone();
    match &entry.upstream {
        Upstream::Denied => return found,
        Upstream::Server { .. } => {}
        Upstream::Registry => {
            if let Some(server) = server {
                model.root = fields(server, Capabilities::ALL);
                model.server = Some(server.url.clone());
            }
        }
    }
    // A mirror that was taken out because it does not answer must not come back as an old endpoint.
    let named: BTreeSet<&str> = entry.mirrors.iter().map(|mirror| comparable(&mirror.url)).collect();
    model.hosts.extend(endpoints.iter().filter(|endpoint| !named.contains(comparable(&endpoint.url))).map(host));
    found.with(&model, version)
}

/// Adds the old tables of registries that are not in the list yet.
pub fn add_missing(list: &mut Vec<MigratedRegistry>, more: &[MigratedRegistry]) {
    for migrated in more {
        if !list.iter().any(|known| known.registry == migrated.registry) {
            list.push(migrated.clone());
        }
    }
}

/// What was in force for a registry: its own table, or that of `*`.
fn settings_of<'a>(registry: &RegistryName, migrated: &'a [MigratedRegistry]) -> Option<&'a MigratedRegistry> {
    let of = |wanted: &dyn Fn(&RegistryName) -> bool| migrated.iter().find(|migrated| wanted(&migrated.registry));
    of(&|name| name == registry).or_else(|| of(&|name| name.is_default()))
}

/// Registries whose files were carried over and are not in the record (any more): they stay as they are, because
/// nobody knows any other way to these registries.
#[must_use]
pub fn orphans(listing: &Listing, recorded: &[MigratedRegistry]) -> BTreeSet<RegistryName> {
    let names = listing.entries.iter().filter_map(|(name, entry)| match entry {
        ListedEntry::Directory(directory) if is_carried_over(directory) => RegistryName::of_directory(name),
        ListedEntry::Directory(_) | ListedEntry::File | ListedEntry::Symlink { .. } | ListedEntry::Other => None,
    });
    names.filter(|name| !recorded.iter().any(|migrated| migrated.registry == *name)).collect()
}

fn is_carried_over(directory: &Directory) -> bool {
    directory.object().is_some_and(|object| object == OBJECT)
}

fn comparable(url: &str) -> &str {
    url.trim_end_matches('/')
}

/// The endpoint as hosts.toml has it. Nothing was ever pushed to a mirror.
pub(crate) fn host(endpoint: &MigratedEndpoint) -> Host {
    let capabilities = Capabilities::only([Capability::Pull, Capability::Resolve]).unwrap_or_default();
    Host { url: endpoint.url.clone(), fields: fields(endpoint, capabilities) }
}

fn fields(endpoint: &MigratedEndpoint, capabilities: Capabilities) -> Fields {
    let MigratedEndpoint { url: _, override_path, ca_file, client, skip_verify } = endpoint;
    Fields {
        capabilities,
        ca: ca_file.iter().cloned().collect(),
        client: client
            .iter()
            .map(|(certificate, key)| ClientPair { certificate: certificate.clone(), key: Some(key.clone()) })
            .collect(),
        skip_verify: skip_verify.then_some(true),
        override_path: *override_path,
        ..Fields::default()
    }
}

#[cfg(test)]
mod tests;
