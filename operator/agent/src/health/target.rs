//! One way to a registry, and the question that shows whether it answers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use registry_mirror_core::{
    bundle::{Blob, ClientCertificate, Entry, Header, MirrorHost, Tls, Upstream},
    digest::Digest,
    sensitive::Sensitive,
};
use registry_mirror_host::probe::{ClientIdentity, HostTrust, Method, Question, TlsConfig, TlsSettings};

/// How a way is asked.
#[derive(Debug, Clone)]
pub struct Target {
    /// The root of its API.
    url: String,
    headers: Vec<(String, Sensitive)>,
    tls: TlsSettings,
}

impl Target {
    pub(super) fn mirror(mirror: &MirrorHost, blobs: &BTreeMap<Digest, Blob>) -> Self {
        let url = if mirror.override_path { overridden_root(&mirror.url) } else { api_root(&mirror.url) };
        let headers = mirror
            .headers
            .iter()
            .flat_map(|Header { name, values }| values.iter().map(move |value| (name.clone(), value.clone())));
        Self { url, headers: headers.collect(), tls: settings(&mirror.tls, blobs) }
    }

    /// `None` where nodes never reach the upstream, or it depends on the image.
    pub(super) fn upstream(entry: &Entry, blobs: &BTreeMap<Digest, Blob>) -> Option<Self> {
        let (url, tls) = match &entry.upstream {
            Upstream::Registry => (entry.registry.default_server()?, TlsSettings::default()),
            Upstream::Server { url, tls } => {
                (url.clone().or_else(|| entry.registry.default_server())?, settings(tls, blobs))
            }
            Upstream::Denied => return None,
        };
        Some(Self { url: api_root(&url), headers: Vec::new(), tls })
    }

    pub(super) fn question(&self, trust: &HostTrust, limit: Duration) -> Result<(Question, Arc<TlsConfig>), String> {
        let url = self.url.parse().map_err(|error| format!("{} is no url: {error}", self.url))?;
        let tls = self.tls.client_config(trust).map_err(|error| error.to_string())?;
        Ok((Question { url, method: Method::GET, headers: self.headers.clone(), limit }, tls))
    }
}

/// containerd appends `/v2` unless the path ends with it.
fn api_root(url: &str) -> String {
    if url.ends_with("/v2") { format!("{url}/") } else { format!("{url}/v2/") }
}

/// Below the path of a proxy cache's project a registry knows images alone: no challenge is given there.
fn overridden_root(url: &str) -> String {
    match url.split_once("/v2/") {
        Some((before, _)) => format!("{before}/v2/"),
        None => format!("{url}/"),
    }
}

fn settings(tls: &Tls, blobs: &BTreeMap<Digest, Blob>) -> TlsSettings {
    let Tls { skip_verify, ca, client } = tls;
    let pem = |digest: &Digest| blobs.get(digest).map(|blob| blob.pem.clone());
    let client = client.as_ref().and_then(|ClientCertificate { certificate, key }| {
        Some(ClientIdentity { certificate: pem(certificate)?.reveal().to_owned(), key: pem(key)? })
    });
    let ca = ca.as_ref().and_then(pem).map(|pem| pem.reveal().to_owned());
    TlsSettings { skip_verify: *skip_verify, ca, client }
}
