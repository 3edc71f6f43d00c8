//! containerd's old `mirrors`, `configs` and `auths` tables, as a migration carries them over.

use std::path::PathBuf;

use super::{
    ImportError, Imported,
    gathered::{Credentials, Gathered, Host, Tls, Upstream},
    objects::objects,
};
use crate::{
    bundle::Header,
    config_toml::{ConfigSource, MigratedEndpoint, MigratedRegistry},
};

/// The objects that do what these tables do.
///
/// # Errors
/// For a certificate that cannot be read.
pub fn import(
    registries: &[MigratedRegistry],
    files: &dyn ConfigSource,
    namespace: &str,
) -> Result<Imported, ImportError> {
    let mut left_out = Vec::new();
    let mut gathered = Vec::new();
    for MigratedRegistry { registry, endpoints, server } in registries {
        let mut hosts: Vec<Host> = endpoints.iter().map(host).collect();
        let mut upstream = Upstream::Own(Tls::default());
        if let Some(server) = server {
            let last = host(server);
            let is_own = registry.default_server().as_deref() == Some(server.url.as_str());
            let plain = last.credentials.is_none() && last.headers.is_empty() && !last.override_path;
            upstream = match (plain, is_own) {
                (true, true) => Upstream::Own(last.tls.clone()),
                (true, false) => Upstream::Server(last.url.clone(), last.tls.clone()),
                // An upstream has no credentials of its own: it is asked as the last mirror.
                (false, true) => {
                    hosts.push(last.clone());
                    Upstream::Own(last.tls.clone())
                }
                (false, false) => {
                    hosts.push(last.clone());
                    Upstream::Denied
                }
            };
            // A RegistryMirror has at least one mirror.
            if hosts.is_empty() && last.tls != Tls::default() {
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
    objects(gathered, left_out, files, namespace)
}

fn host(endpoint: &MigratedEndpoint) -> Host {
    let MigratedEndpoint { url, override_path, ca_file, client, skip_verify, authorization } = endpoint;
    let mut host = Host {
        override_path: *override_path,
        tls: Tls {
            skip_verify: *skip_verify,
            ca: ca_file.iter().map(PathBuf::from).collect(),
            client: client.as_ref().map(|(certificate, key)| (certificate.into(), Some(key.into()))),
        },
        ..Host::new(url.clone())
    };
    if let Some(value) = authorization {
        match Credentials::from_header(value.reveal()) {
            Some(credentials) => host.credentials = Some(credentials),
            None => host.headers.push(Header { name: "Authorization".to_owned(), values: vec![value.clone()] }),
        }
    }
    host
}
