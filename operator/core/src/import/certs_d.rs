//! A certs.d tree.

use std::path::{Path, PathBuf};

use super::{
    ImportError, Imported,
    gathered::{self, Credentials, Gathered, Upstream},
    objects::objects,
};
use crate::{
    config_toml::ConfigSource,
    containerd::Version,
    hosts_toml::{self, Capabilities, ClientPair, Fields, Host, HostsToml},
    registry::RegistryName,
};

/// One directory's hosts.toml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryFile {
    /// The directory's name: `docker.io`, `host_5000_`, `_default`.
    pub directory: String,
    /// The file.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
}

/// The objects that do what these files do on this containerd.
///
/// # Errors
/// For a file that this containerd ignores, and for a certificate that cannot be read.
pub fn import(
    registries: &[RegistryFile],
    version: Version,
    files: &dyn ConfigSource,
    namespace: &str,
) -> Result<Imported, ImportError> {
    let mut left_out = Vec::new();
    let mut all: Vec<Gathered> = Vec::new();
    for RegistryFile { directory, path, text } in registries {
        let place = path.display().to_string();
        let registry = match registry_of(directory).parse::<RegistryName>() {
            Ok(registry) => registry,
            Err(error) => {
                left_out.push(format!("{place}: {error}"));
                continue;
            }
        };
        if let Some(earlier) = all.iter().find(|earlier| earlier.registry == registry) {
            left_out.push(format!("{place}: {} is for {registry} too", earlier.place));
            continue;
        }
        let file = match hosts_toml::parse(text, version) {
            Ok(file) => file,
            Err(error) => {
                left_out.push(format!("{place}: {error}"));
                continue;
            }
        };
        let base = path.parent().unwrap_or(Path::new("/"));
        all.extend(gather(registry, &file, base, place, &mut left_out));
    }
    objects(all, left_out, files, namespace)
}

/// `host_5000_` is `host:5000`.
fn registry_of(directory: &str) -> String {
    match directory.strip_suffix('_').and_then(|rest| rest.rsplit_once('_')) {
        Some((host, port)) if !host.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => format!("{host}:{port}"),
        _ => directory.to_owned(),
    }
}

fn gather(
    registry: RegistryName,
    file: &HostsToml,
    base: &Path,
    place: String,
    left_out: &mut Vec<String>,
) -> Option<Gathered> {
    let HostsToml { server, root, hosts: listed } = file;
    let mut hosts = Vec::with_capacity(listed.len() + 1);
    for Host { url, fields } in listed {
        if hosts.iter().any(|earlier: &gathered::Host| earlier.url == *url) {
            continue;
        }
        hosts.push(host(url, fields, base, &place, left_out));
    }
    let own = registry.default_server();
    let root_tls = absolute(root, base, &place, left_out).tls();
    let repeats_last = listed.iter().rev().find(|host| host.fields.capabilities.resolve_tags());
    let is_plain = root.headers.is_empty() && !root.override_path;
    let upstream = match server {
        Some(url) if repeats_last.is_some_and(|last| last.url == *url && same_way(&last.fields, root)) => {
            Upstream::Denied
        }
        Some(url) if is_plain && own.as_deref() == Some(url.trim_end_matches('/')) => Upstream::Own(root_tls),
        Some(url) if is_plain => Upstream::Server(url.clone(), root_tls),
        None if root.headers.is_empty() => Upstream::Own(root_tls),
        // What an upstream cannot have, a last mirror can.
        given => match given.clone().or(own) {
            Some(url) => {
                hosts.push(host(&url, root, base, &place, left_out));
                Upstream::Denied
            }
            None => {
                left_out.push(format!("{place}: headers for every registry have no counterpart"));
                Upstream::Own(root_tls)
            }
        },
    };
    if hosts.is_empty() {
        // A RegistryMirror has at least one mirror.
        match &upstream {
            Upstream::Server(url, tls) => hosts.push(gathered::Host::new(url, tls.clone())),
            Upstream::Own(tls) if *tls != Fields::default() => match registry.default_server() {
                Some(url) => hosts.push(gathered::Host::new(url, tls.clone())),
                None => left_out.push(format!("{place}: it names no host")),
            },
            Upstream::Own(_) | Upstream::Denied => left_out.push(format!("{place}: it changes nothing")),
        }
    }
    (!hosts.is_empty()).then_some(Gathered { registry, hosts, upstream, place })
}

/// Whether two entries for one url are asked in the same way.
fn same_way(one: &Fields, other: &Fields) -> bool {
    let without = |fields: &Fields| Fields { capabilities: Capabilities::ALL, ..fields.clone() };
    without(one) == without(other)
}

fn host(url: &str, fields: &Fields, base: &Path, place: &str, left_out: &mut Vec<String>) -> gathered::Host {
    let url = if url.starts_with("http") { url.to_owned() } else { format!("https://{url}") };
    // `/v2` is appended where it is missing, and a RegistryMirror's url is written without it.
    let trimmed = url.trim_end_matches('/');
    let shortened = trimmed.strip_suffix("/v2").filter(|_| !fields.override_path).unwrap_or(trimmed);
    let mut credentials = None;
    let mut headers = Vec::new();
    for header in &fields.headers {
        let basic = (header.name == "Authorization")
            .then(|| header.values.first().and_then(|value| Credentials::from_header(value.reveal())))
            .flatten();
        match basic {
            Some(user) => credentials = Some(user),
            None => headers.push(header.clone()),
        }
    }
    let fields = Fields { headers, ..absolute(fields, base, place, left_out) };
    gathered::Host { url: shortened.to_owned(), fields, repository_prefix: None, credentials }
}

/// The paths of certificates are relative to the file's directory.
fn absolute(fields: &Fields, base: &Path, place: &str, left_out: &mut Vec<String>) -> Fields {
    if fields.client.len() > 1 {
        left_out.push(format!("{place}: a RegistryMirror shows one client certificate, the first of these"));
    }
    let at = |path: &String| base.join(path).to_string_lossy().into_owned();
    let client = |pair: &ClientPair| ClientPair { certificate: at(&pair.certificate), key: pair.key.as_ref().map(at) };
    Fields {
        ca: fields.ca.iter().map(at).collect(),
        client: fields.client.iter().map(client).collect(),
        ..fields.clone()
    }
}
