//! daemon.json of Docker.

use serde::Deserialize;

use super::{
    ImportError, Imported,
    gathered::{Gathered, Host, Upstream},
    objects::objects,
};
use crate::{config_toml::MapSource, hosts_toml::Fields, registry::RegistryName};

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct Daemon {
    registry_mirrors: Vec<String>,
    insecure_registries: Vec<String>,
}

/// The objects that do what a daemon.json does: its mirrors are Docker Hub's alone.
///
/// # Errors
/// For a text that is no JSON.
pub fn import(text: &str, namespace: &str) -> Result<Imported, ImportError> {
    let Daemon { registry_mirrors, insecure_registries } = serde_json::from_str(text)
        .map_err(|error| ImportError::Syntax { what: "daemon.json", why: error.to_string() })?;
    let mut left_out = Vec::new();
    let mut gathered = Vec::new();

    let insecure = |host: &str| insecure_registries.iter().any(|entry| entry == host);
    let hosts: Vec<Host> = registry_mirrors
        .iter()
        .map(|url| {
            let url = url.trim_end_matches('/');
            let host = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or_default();
            Host::new(url, Fields { skip_verify: insecure(host).then_some(true), ..Fields::default() })
        })
        .collect();
    if let (false, Ok(registry)) = (hosts.is_empty(), "docker.io".parse()) {
        let upstream = Upstream::Own(Fields::default());
        gathered.push(Gathered { registry, hosts, upstream, place: "registry-mirrors".to_owned() });
    }
    for entry in &insecure_registries {
        let place = format!("insecure-registries: {entry}");
        if entry.contains('/') {
            left_out.push(format!("{place}: a range of addresses has no counterpart; name the registries in it"));
            continue;
        }
        match entry.parse::<RegistryName>() {
            Ok(registry) => {
                // HTTPS with any certificate, then plain http: what both Docker and containerd make of this.
                let tls = Fields { skip_verify: Some(true), ..Fields::default() };
                let host = Host::new(format!("http://{registry}"), tls.clone());
                gathered.push(Gathered { registry, hosts: vec![host], upstream: Upstream::Own(tls), place });
            }
            Err(error) => left_out.push(format!("{place}: {error}")),
        }
    }
    objects(gathered, left_out, &MapSource::default(), namespace)
}
