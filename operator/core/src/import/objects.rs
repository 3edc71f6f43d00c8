//! Objects from what was gathered.

use std::{collections::BTreeMap, path::Path};

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use registry_mirror_crds::{
    self as crds, AuthRef, Capability, Fallback, KeyRef, RegistryMirror, RegistryMirrorSpec, SecretRef,
};

use super::{
    ImportError, Imported,
    gathered::{Credentials, Gathered, Host, Upstream},
};
use crate::{
    config_toml::ConfigSource,
    hosts_toml::{ClientPair, Fields, format_go_duration},
    sensitive::Sensitive,
};

/// Turns it into objects; certificates are read through `files`, Secrets come out in `namespace`.
pub(super) fn objects(
    gathered: Vec<Gathered>,
    left_out: Vec<String>,
    files: &dyn ConfigSource,
    namespace: &str,
) -> Result<Imported, ImportError> {
    let mut maker = Maker { files, namespace, secrets: BTreeMap::new() };
    let mut mirrors = Vec::with_capacity(gathered.len());
    for registry in gathered {
        mirrors.push(maker.object(registry)?);
    }
    mirrors.sort_by(|a, b| a.spec.registry.cmp(&b.spec.registry));
    Ok(Imported { mirrors, secrets: maker.secrets.into_values().collect(), left_out, remarks: Vec::new() })
}

struct Maker<'a> {
    files: &'a dyn ConfigSource,
    namespace: &'a str,
    secrets: BTreeMap<String, Secret>,
}

impl Maker<'_> {
    fn object(&mut self, gathered: Gathered) -> Result<RegistryMirror, ImportError> {
        let Gathered { registry, hosts, upstream, place } = gathered;
        let mut mirrors = Vec::with_capacity(hosts.len());
        for host in hosts {
            mirrors.push(self.mirror(&place, host)?);
        }
        let upstream = match upstream {
            Upstream::Own(tls) => {
                self.tls(&place, registry.as_str(), &tls)?.map(|tls| (None, Fallback::Allow, Some(tls)))
            }
            Upstream::Server(url, tls) => {
                let tls = self.tls(&place, &url, &tls)?;
                Some((Some(url), Fallback::Allow, tls))
            }
            Upstream::Denied => Some((None, Fallback::Deny, None)),
        };
        let name = if registry.is_default() { "default".to_owned() } else { label(registry.as_str()) };
        let spec = RegistryMirrorSpec {
            registry: registry.as_str().to_owned(),
            mirrors,
            upstream: upstream.map(|(server, fallback, tls)| crds::Upstream { server, fallback, tls }),
            node_selector: None,
            health_check: None,
            suspend: false,
        };
        Ok(RegistryMirror::new(&name, spec))
    }

    fn mirror(&mut self, place: &str, host: Host) -> Result<crds::Mirror, ImportError> {
        let Host { url, fields, repository_prefix, credentials } = host;
        let tls = self.tls(place, &url, &fields)?;
        let Fields { capabilities, ca: _, client: _, skip_verify: _, headers, override_path, dial_timeout } = fields;
        let capabilities = match capabilities.listed() {
            Some(listed) => listed.iter().copied().collect(),
            // `referrers` is in no list that an older release reads
            None => vec![Capability::Pull, Capability::Resolve, Capability::Push],
        };
        let auth = credentials.map(|Credentials { username, password }| {
            let data = [("username", Sensitive::new(username)), ("password", password)];
            AuthRef { secret_ref: SecretRef { name: self.secret(&url, "auth", "kubernetes.io/basic-auth", data) } }
        });
        let headers = headers
            .into_iter()
            .map(|header| {
                let crate::bundle::Header { name, values } = header;
                // What authorises is a secret, whatever scheme it has.
                if name.eq_ignore_ascii_case("authorization") || name.eq_ignore_ascii_case("proxy-authorization") {
                    let value = values.into_iter().next().unwrap_or_else(|| Sensitive::new(String::new()));
                    let secret = self.secret(&url, "header", "Opaque", [("value", value)]);
                    let value_from = Some(KeyRef { name: secret, key: "value".to_owned() });
                    return crds::Header { name, values: Vec::new(), value_from };
                }
                let values = values.iter().map(|value| value.reveal().to_owned()).collect();
                crds::Header { name, values, value_from: None }
            })
            .collect();
        let dial_timeout = dial_timeout.map(format_go_duration);
        Ok(crds::Mirror { url, repository_prefix, override_path, capabilities, tls, auth, headers, dial_timeout })
    }

    fn tls(&mut self, place: &str, url: &str, fields: &Fields) -> Result<Option<crds::Tls>, ImportError> {
        let tls = fields.tls();
        if tls == Fields::default() {
            return Ok(None);
        }
        let mut pem = String::new();
        for path in &tls.ca {
            pem.push_str(&blocks(&self.read(place, path)?, |label| label == "CERTIFICATE"));
        }
        let client_cert_ref = match tls.client.first() {
            Some(ClientPair { certificate, key }) => {
                let certificate = self.read(place, certificate)?;
                let key = match key {
                    Some(key) => self.read(place, key)?,
                    None => certificate.clone(),
                };
                let data = [
                    ("tls.crt", Sensitive::new(blocks(&certificate, |label| label == "CERTIFICATE"))),
                    ("tls.key", Sensitive::new(blocks(&key, |label| label.ends_with("PRIVATE KEY")))),
                ];
                Some(SecretRef { name: self.secret(url, "client", "kubernetes.io/tls", data) })
            }
            None => None,
        };
        Ok(Some(crds::Tls {
            insecure_skip_verify: tls.skip_verify.is_some(),
            ca: (!pem.is_empty()).then_some(pem),
            ca_ref: None,
            client_cert_ref,
        }))
    }

    fn read(&self, place: &str, path: &str) -> Result<String, ImportError> {
        let failed = |why: String| ImportError::File { place: place.to_owned(), path: path.to_owned(), why };
        match self.files.read(Path::new(path)) {
            Ok(Some(bytes)) => String::from_utf8(bytes).map_err(|_| failed("it is no PEM text".to_owned())),
            Ok(None) => Err(failed("it does not exist".to_owned())),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// The name of a Secret with this content, which several mirrors may share.
    fn secret<const N: usize>(
        &mut self,
        url: &str,
        purpose: &str,
        type_: &str,
        data: [(&str, Sensitive); N],
    ) -> String {
        let host = url.split_once("://").map_or(url, |(_, rest)| rest);
        let host = label(host.split('/').next().unwrap_or_default());
        let string_data: BTreeMap<String, String> =
            data.into_iter().map(|(key, value)| (key.to_owned(), value.reveal().to_owned())).collect();
        let mut number = 1;
        loop {
            let name = if number == 1 { format!("{host}-{purpose}") } else { format!("{host}-{purpose}-{number}") };
            let metadata = ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(self.namespace.to_owned()),
                ..ObjectMeta::default()
            };
            let secret = Secret {
                metadata,
                type_: Some(type_.to_owned()),
                string_data: Some(string_data.clone()),
                ..Secret::default()
            };
            let stored = self.secrets.entry(name.clone()).or_insert_with(|| secret.clone());
            if *stored == secret {
                return name;
            }
            number += 1;
        }
    }
}

/// A name of Kubernetes from a host: `harbor.example.com:5000` becomes `harbor-example-com-5000`.
fn label(host: &str) -> String {
    let text: String = host.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let text = text.trim_matches('-').to_owned();
    if text.is_empty() { "registry".to_owned() } else { text }
}

/// The PEM blocks of a text whose label is wanted.
fn blocks(text: &str, wanted: impl Fn(&str) -> bool) -> String {
    let mut kept = String::new();
    let mut keep = false;
    for line in text.lines().map(str::trim_end) {
        if let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) {
            keep = wanted(label);
        }
        if keep {
            kept.push_str(line);
            kept.push('\n');
        }
        if line.starts_with("-----END ") {
            keep = false;
        }
    }
    kept
}
