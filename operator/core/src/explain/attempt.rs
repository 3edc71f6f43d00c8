//! One host on containerd's way to an image.

use std::path::{Path, PathBuf};

use registry_mirror_crds::Capability;
use serde::Serialize;

use super::ImageReference;
use crate::{
    bundle::Header,
    containerd::Version,
    hosts_toml::{ClientPair, Endpoint, EndpointError, Fields},
    registry::{default_scheme, is_loopback, split_port},
};

/// One host that containerd asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Counted from 1 among those that are asked for the image's manifest; `None` for a host that is asked only once
    /// another has resolved the tag.
    pub order: Option<usize>,
    /// The url of the first request to it, which containerd sends with HEAD.
    pub url: String,
    /// The file that names it; `None` where containerd's default does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The part of the file, or `default`.
    pub section: String,
    /// Any certificate is accepted.
    pub skip_verify: bool,
    /// HTTPS is tried first although the url says http, because TLS settings stand beside it.
    pub https_first: bool,
    /// Files of trusted certificates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ca: Vec<PathBuf>,
    /// Files of client certificates, each with its key where that is another file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub client: Vec<(PathBuf, Option<PathBuf>)>,
    /// Names of the headers that are sent along; their values may be secret.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub header_names: Vec<String>,
    /// The headers, for whoever asks the host.
    #[serde(skip)]
    pub headers: Vec<Header>,
    #[serde(skip)]
    pub(super) asked_first: bool,
}

impl Attempt {
    pub(super) fn of_host(
        image: &ImageReference,
        version: Version,
        url: &str,
        fields: &Fields,
        (file, section): (Option<PathBuf>, String),
    ) -> Result<Self, EndpointError> {
        let endpoint = Endpoint::parse(url, fields.override_path)?;
        let asked_first = if image.digest.is_some() {
            fields.capabilities.allow(Capability::Pull)
        } else {
            fields.capabilities.resolve_tags()
        };
        Ok(Self::new(image, version, endpoint, fields, (file, section), asked_first))
    }

    /// The image's own registry, for a file without `server` and for none at all. Its address and capabilities are
    /// containerd's; TLS settings and headers of the file's root count (`ConfigureHosts`).
    pub(super) fn of_registry(image: &ImageReference, version: Version, root: &Fields, file: Option<PathBuf>) -> Self {
        let registry = image.registry.as_str();
        let mut fields = root.clone();
        if is_loopback(registry) && split_port(registry).1 != Some("80") {
            fields.skip_verify = Some(true);
        }
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let endpoint =
            Endpoint { scheme: default_scheme(registry).to_owned(), host: host.to_owned(), path: "/v2".to_owned() };
        Self::new(image, version, endpoint, &fields, (file, "default".to_owned()), true)
    }

    fn new(
        image: &ImageReference,
        version: Version,
        mut endpoint: Endpoint,
        fields: &Fields,
        (file, section): (Option<PathBuf>, String),
        asked_first: bool,
    ) -> Self {
        let Fields { capabilities: _, ca, client, skip_verify, headers, override_path: _, dial_timeout: _ } = fields;
        let tls_configured = !ca.is_empty() || !client.is_empty() || skip_verify.is_some();
        let https_first = endpoint.scheme == "http"
            && tls_configured
            && !endpoint.host.ends_with(":80")
            && version.prefers_https_where_tls_is_configured();
        if https_first {
            endpoint.scheme = "https".to_owned();
        }
        // Relative paths count from the directory of hosts.toml.
        let directory = file.as_deref().and_then(Path::parent).unwrap_or(Path::new("/"));
        Self {
            order: None,
            url: endpoint.request(&image.registry, &[&image.repository, "manifests", image.reference()]),
            section,
            skip_verify: skip_verify.unwrap_or(false),
            https_first,
            ca: ca.iter().map(|path| directory.join(path)).collect(),
            client: client
                .iter()
                .map(|ClientPair { certificate, key }| {
                    (directory.join(certificate), key.as_ref().map(|key| directory.join(key)))
                })
                .collect(),
            header_names: headers.iter().map(|header| header.name.clone()).collect(),
            headers: headers.clone(),
            asked_first,
            file,
        }
    }

    /// Every certificate and key that it names.
    pub fn certificate_files(&self) -> impl Iterator<Item = &Path> {
        let client = self.client.iter().flat_map(|(certificate, key)| std::iter::once(certificate).chain(key));
        self.ca.iter().chain(client).map(PathBuf::as_path)
    }
}
