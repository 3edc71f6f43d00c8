//! containerd's old `mirrors`, `configs` and `auths` tables.
//!
//! Mirrors and TLS settings are taken as a migration of the node takes them. Credentials, which a migration leaves in
//! config.toml, become Secrets here, with a remark: they do not do quite the same there.

use std::{collections::BTreeMap, path::Path};

use super::{
    ImportError, Imported, Remark,
    gathered::{Credentials, Gathered, Host, Upstream},
    objects::objects,
};
use crate::{
    config_toml::{
        self, ConfigSource, LoadedConfig, MigratedEndpoint, MigratedRegistry, PatchError, RegistryTable, host_of_auths,
    },
    hosts_toml::{self, Fields},
    plan::{config::DEFAULT_DIRECTORY, migrated},
    registry::RegistryName,
    sensitive::Sensitive,
};

/// The tables cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// They say what hosts.toml cannot.
    #[error(transparent)]
    Tables(#[from] PatchError),
    /// The objects cannot be made.
    #[error(transparent)]
    Import(#[from] ImportError),
}

/// The objects that do what these tables do.
///
/// # Errors
/// For what hosts.toml cannot express, and for a certificate that cannot be read.
pub fn import(config: &LoadedConfig, files: &dyn ConfigSource, namespace: &str) -> Result<Imported, ContainerdError> {
    let in_the_way = config.analyze().in_the_way().is_some();
    // The directory and the date go into an edit that is not made.
    let registries = match config_toml::migrate(config, Path::new(DEFAULT_DIRECTORY), "") {
        Ok((_, registries)) => registries,
        Err(error) if in_the_way => return Err(error.into()),
        Err(_) => Vec::new(),
    };
    let mut left_out = Vec::new();
    let mut gathered = Vec::new();
    let users = users(config, &mut left_out);
    for MigratedRegistry { registry, endpoints, server } in &registries {
        let host = |endpoint: &MigratedEndpoint| {
            let hosts_toml::Host { url, fields } = migrated::host(endpoint);
            Host { credentials: user_of(&users, &url), ..Host::new(url, fields) }
        };
        let mut hosts: Vec<Host> = endpoints.iter().map(host).collect();
        let mut upstream = Upstream::Own(Fields::default());
        if let Some(server) = server {
            let last = host(server);
            let is_own = registry.default_server().as_deref() == Some(server.url.as_str());
            let plain = last.credentials.is_none() && !last.fields.override_path;
            upstream = match (plain, is_own) {
                (true, true) => Upstream::Own(last.fields.clone()),
                (true, false) => Upstream::Server(last.url.clone(), last.fields.clone()),
                // An upstream has no credentials of its own: it is asked as the last mirror.
                (false, true) => {
                    hosts.push(last.clone());
                    Upstream::Own(last.fields.clone())
                }
                (false, false) => {
                    hosts.push(last.clone());
                    Upstream::Denied
                }
            };
            // A RegistryMirror has at least one mirror.
            if hosts.is_empty() && last.fields.tls() != Fields::default() {
                hosts.push(last);
            }
        }
        let place = format!("registry.mirrors.\"{registry}\"");
        if hosts.is_empty() {
            left_out.push(format!("{place}: it changes nothing"));
            continue;
        }
        gathered.push(Gathered { registry: registry.clone(), hosts, upstream, place });
    }
    for (name, User { credentials, .. }) in &users {
        // Credentials of a registry that is reached directly.
        let name = if name == "registry-1.docker.io" { "docker.io" } else { name };
        let Ok(registry) = name.parse::<RegistryName>() else { continue };
        if let (Some(url), false) =
            (registry.default_server(), gathered.iter().any(|known: &Gathered| known.registry == registry))
        {
            let hosts = vec![Host { credentials: Some(credentials.clone()), ..Host::new(url, Fields::default()) }];
            let place = format!("registry.configs.\"{name}\"");
            gathered.push(Gathered { registry, hosts, upstream: Upstream::Own(Fields::default()), place });
        }
    }
    let remarks = users.into_values().map(|User { place, .. }| Remark::CredentialsBeatPullSecrets { place }).collect();
    Ok(Imported { remarks, ..objects(gathered, left_out, files, namespace)? })
}

/// Credentials, and the table that they stand in.
struct User {
    credentials: Credentials,
    place: String,
}

/// Users by host, from `configs.<host>.auth` and, over these as in the daemon, `auths.<url>`.
fn users(config: &LoadedConfig, left_out: &mut Vec<String>) -> BTreeMap<String, User> {
    let RegistryTable { configs, auths, .. } = &config.effective.registry;
    let of_configs = configs.iter().filter_map(|entry| {
        let (auth, _) = entry.auth.as_ref()?;
        Some((entry.host.as_str(), auth, format!("registry.configs.\"{}\".auth", entry.host)))
    });
    let of_auths = auths.iter().filter_map(|(url, auth, _)| {
        let host = host_of_auths(url)?;
        Some((host, auth, format!("registry.auths.\"{url}\"")))
    });
    let mut users = BTreeMap::new();
    for (host, auth, place) in of_configs.chain(of_auths) {
        let credentials = if auth.username.is_empty() {
            Credentials::from_base64(&auth.auth)
        } else {
            let password = Sensitive::new(auth.password.clone());
            Some(Credentials { username: auth.username.clone(), password })
        };
        match credentials {
            Some(credentials) => {
                users.insert(host.to_owned(), User { credentials, place });
            }
            None => {
                users.remove(host);
                left_out.push(format!("{place}: an identity token has no counterpart; use a robot account"));
            }
        }
    }
    users
}

fn user_of(users: &BTreeMap<String, User>, url: &str) -> Option<Credentials> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    users
        .iter()
        .find(|(host, _)| *host == authority || (*host == "docker.io" && authority == "registry-1.docker.io"))
        .map(|(_, user)| user.credentials.clone())
}
