//! The old settings as values for hosts.toml.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::{
    LoadedConfig,
    document::location,
    errors::PatchError,
    node::Place,
    registry_table::{HostConfig, Mirror, RegistryTable, Tls},
};
use crate::registry::{RegistryName, is_loopback};

/// The name that stands for all registries in `mirrors`.
const WILDCARD: &str = "*";
/// What docker.io is served by (containerd remotes/docker/registry.go `DefaultHost`).
const DOCKER_HUB: &str = "registry-1.docker.io";

/// One registry's old settings, as values for its hosts.toml.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigratedRegistry {
    /// `_default` for the old `*`.
    pub registry: RegistryName,
    /// In the order in which containerd tried them; may be empty. For `pull` and `resolve`: nothing was ever pushed.
    pub endpoints: Vec<MigratedEndpoint>,
    /// What was tried last: the root of hosts.toml; `None` for `_default`, where it is each image's own registry.
    pub server: Option<MigratedEndpoint>,
}

/// One url and how it is talked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigratedEndpoint {
    /// With scheme; a path only together with `override_path`.
    pub url: String,
    /// The url has a path, which the old settings used as it stands, without adding `/v2`.
    pub override_path: bool,
    /// Path of a PEM file on the host.
    pub ca_file: Option<String>,
    /// Paths of a PEM certificate and key on the host.
    pub client: Option<(String, String)>,
    /// Do not verify the server's certificate.
    pub skip_verify: bool,
}

/// A key below the registry table that is taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Removal {
    pub(super) below: Vec<String>,
    /// What a person sees as its old value: names, never secrets.
    pub(super) shown: String,
}

pub(super) struct Carried {
    pub(super) registries: Vec<MigratedRegistry>,
    pub(super) removals: Vec<Removal>,
}

/// How a host is talked to, as far as it is carried over.
struct Access {
    tls: Tls,
    place: Place,
}

struct Carrier<'a> {
    config: &'a LoadedConfig,
    registry: &'a RegistryTable,
    access: BTreeMap<String, Access>,
}

/// What hosts.toml files must say, and what is to be taken out of config.toml for it.
pub(super) fn carry(config: &LoadedConfig) -> Result<Carried, PatchError> {
    let registry = &config.effective.registry;
    let mut carrier = Carrier { config, registry, access: BTreeMap::new() };
    let removals = carrier.removals();
    let mut registries = Vec::new();
    for name in carrier.names()? {
        registries.extend(carrier.registry(&name)?);
    }
    Ok(Carried { registries, removals })
}

impl Carrier<'_> {
    fn refused(&self, place: Place, key: String, why: &str) -> PatchError {
        let (file, line) = location(&self.config.files, place);
        PatchError::NotExpressible { file, line, key, why: why.to_owned() }
    }

    /// Fills `access`, and says what is taken out: never `auth` and `auths`.
    fn removals(&mut self) -> Vec<Removal> {
        let mut removals = Vec::new();
        if !self.registry.mirrors.is_empty() {
            let names: Vec<&str> = self.registry.mirrors.iter().map(|mirror| mirror.name.as_str()).collect();
            removals.push(Removal { below: vec!["mirrors".to_owned()], shown: names.join(", ") });
        }
        let mut partial: Vec<Removal> = Vec::new();
        let mut whole = 0;
        for HostConfig { host, auth, tls, others, place, ignored_tls: _ } in &self.registry.configs {
            let Some((tls, _)) = tls else { continue };
            let mut below = vec!["configs".to_owned(), host.clone()];
            if auth.is_some() || *others {
                below.push("tls".to_owned());
            } else {
                whole += 1;
            }
            partial.push(Removal { below, shown: "(TLS settings)".to_owned() });
            self.access.insert(host.clone(), Access { tls: tls.clone(), place: *place });
        }
        if whole > 0 && whole == self.registry.configs.len() {
            let hosts: Vec<&str> = self.registry.configs.iter().map(|config| config.host.as_str()).collect();
            removals.push(Removal { below: vec!["configs".to_owned()], shown: hosts.join(", ") });
        } else {
            removals.extend(partial);
        }
        removals
    }

    /// The registries that need a hosts.toml: those with mirrors, and those that are reached with TLS settings.
    fn names(&self) -> Result<Vec<RegistryName>, PatchError> {
        let mut names = BTreeSet::new();
        for Mirror { name, place, rewrite, .. } in &self.registry.mirrors {
            let key = format!("registry.mirrors.\"{name}\"");
            if let Some(rewrite) = rewrite {
                return Err(self.refused(
                    *rewrite,
                    format!("{key}.rewrite"),
                    "hosts.toml has no rewrites; take it out and name the mirror's path in its url",
                ));
            }
            if name == WILDCARD {
                if !self.config.version.knows_default_directory() {
                    return Err(self.refused(
                        *place,
                        key,
                        "containerd looks up `_default` from 1.6.17 on; upgrade it, or name each registry",
                    ));
                }
                names.extend(RegistryName::DEFAULT.parse::<RegistryName>());
            } else if !is_never_an_image_host(name) {
                names.insert(self.name(name, *place, key)?);
            }
        }
        for (host, access) in &self.access {
            let registry = if host == DOCKER_HUB { "docker.io" } else { host };
            names.insert(self.name(registry, access.place, format!("registry.configs.\"{host}\""))?);
        }
        Ok(names.into_iter().collect())
    }

    fn name(&self, name: &str, place: Place, key: String) -> Result<RegistryName, PatchError> {
        name.parse::<RegistryName>()
            .map_err(|error| self.refused(place, key, &format!("{error}; correct the name or take it out")))
    }

    /// `registryEndpoints` of internal/cri/server/images/image_pull.go, split into hosts and root.
    fn registry(&self, name: &RegistryName) -> Result<Option<MigratedRegistry>, PatchError> {
        let find = |name: &str| self.registry.mirrors.iter().find(|mirror| mirror.name == name);
        let mirror = if name.is_default() { find(WILDCARD) } else { find(name.as_str()).or_else(|| find(WILDCARD)) };
        let mut endpoints = Vec::new();
        let mut names_itself = false;
        if let Some(mirror) = mirror {
            for endpoint in &mirror.endpoints {
                let url = Url::read(endpoint).map_err(|why| {
                    self.refused(mirror.place, format!("registry.mirrors.\"{}\".endpoint", mirror.name), why)
                })?;
                names_itself |= url.host == name.as_str();
                endpoints.push(self.endpoint(&url)?);
            }
        }
        if name.is_default() {
            return Ok((!endpoints.is_empty()).then(|| MigratedRegistry {
                registry: name.clone(),
                endpoints,
                server: None,
            }));
        }
        if !names_itself {
            let host = if name.as_str() == "docker.io" { DOCKER_HUB } else { name.as_str() };
            let url = Url { scheme: old_default_scheme(host).to_owned(), host: host.to_owned(), path: String::new() };
            endpoints.push(self.endpoint(&url)?);
        }
        let server = endpoints.pop();
        // the upstream named as a mirror too: once is enough
        if endpoints.last() == server.as_ref() {
            endpoints.pop();
        }
        Ok(Some(MigratedRegistry { registry: name.clone(), endpoints, server }))
    }

    fn endpoint(&self, url: &Url) -> Result<MigratedEndpoint, PatchError> {
        let Url { scheme, host, path } = url;
        // hosts.toml tries TLS first on an http url with TLS settings, which the old code never did
        let access = self.access.get(host).filter(|_| scheme == "https");
        let tls = access.map(|access| access.tls.clone()).unwrap_or_default();
        let Tls { insecure_skip_verify, ca_file, cert_file, key_file } = tls;
        let refused = |field: &str, why: &str| {
            let place = access.map_or(Place { file: 0, start: 0, end: 0 }, |access| access.place);
            self.refused(place, format!("registry.configs.\"{host}\".tls.{field}"), why)
        };
        for (field, file) in [("ca_file", &ca_file), ("cert_file", &cert_file), ("key_file", &key_file)] {
            if !file.is_empty() && !file.starts_with('/') {
                return Err(refused(field, "its path is relative to where containerd was started; make it absolute"));
            }
        }
        let client = match (cert_file.is_empty(), key_file.is_empty()) {
            (true, true) => None,
            (false, false) => Some((cert_file, key_file)),
            (false, true) => return Err(refused("cert_file", "the certificate has no key_file; add it")),
            (true, false) => return Err(refused("key_file", "the key has no cert_file; add it")),
        };
        Ok(MigratedEndpoint {
            url: format!("{scheme}://{host}{path}"),
            override_path: !path.is_empty(),
            ca_file: Some(ca_file).filter(|file| !file.is_empty()),
            client,
            skip_verify: insecure_skip_verify,
        })
    }
}

/// Names under `mirrors` that no image reference resolves to: the daemon never looks them up.
fn is_never_an_image_host(name: &str) -> bool {
    name.contains('/') || name == "index.docker.io"
}

/// The scheme of a host that names none, as the code for these tables has it (`defaultScheme` of pkg/cri/server up to
/// 1.7, internal/cri from 2.0): whatever the port is.
fn old_default_scheme(host: &str) -> &'static str {
    if is_loopback(host) { "http" } else { "https" }
}

/// An endpoint as the old code read it: scheme, host and path; user, query and fragment had no effect.
struct Url {
    scheme: String,
    host: String,
    path: String,
}

impl Url {
    fn read(endpoint: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = match endpoint.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => {
                let host = endpoint.split('/').next().unwrap_or_default();
                (old_default_scheme(host).to_owned(), endpoint)
            }
        };
        if scheme != "http" && scheme != "https" {
            return Err("an endpoint has a scheme other than http and https; take it out");
        }
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let at = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let host = authority.rsplit('@').next().unwrap_or_default();
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err("an endpoint names no host; correct it or take it out");
        }
        Ok(Self { scheme, host: host.to_owned(), path: path.to_owned() })
    }
}
