//! registries.yaml of K3s and RKE2.
//!
//! Read as K3s reads it (pkg/agent/containerd, 1.28 to 1.34): endpoints with a path are used as they stand, `configs`
//! hold TLS settings and credentials by host, for endpoints and for the registry itself, and fields that it does not
//! know are passed over.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{
    ImportError, Imported,
    gathered::{Credentials, Gathered, Host, Upstream},
    objects::objects,
};
use crate::{
    config_toml::ConfigSource,
    hosts_toml::{ClientPair, Fields},
    registry::{RegistryName, default_scheme},
    sensitive::Sensitive,
};

#[derive(Deserialize, Default)]
#[serde(default)]
struct Registries {
    mirrors: BTreeMap<String, Option<Mirror>>,
    configs: BTreeMap<String, Option<Config>>,
    /// Deprecated: credentials by url.
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct Mirror {
    endpoint: Option<Vec<String>>,
    rewrite: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct Config {
    auth: Option<Auth>,
    tls: Option<TlsConfig>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct Auth {
    username: String,
    password: String,
    auth: String,
    identity_token: String,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct TlsConfig {
    ca_file: String,
    cert_file: String,
    key_file: String,
    insecure_skip_verify: bool,
}

/// The objects that do what a registries.yaml does.
///
/// # Errors
/// For a text that K3s would not read, and for a certificate that cannot be read.
pub fn import(text: &str, files: &dyn ConfigSource, namespace: &str) -> Result<Imported, ImportError> {
    // The lines around an error may hold a password.
    let options = serde_saphyr::options! { with_snippet: false };
    let registries: Option<Registries> = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| ImportError::Syntax { what: "registries.yaml", why: error.to_string() })?;
    let Registries { mirrors, configs, auths } = registries.unwrap_or_default();
    let mut reader = Reader { configs, left_out: unknown_fields(text) };
    for url in auths.keys() {
        reader.left_out.push(format!(
            "auths.\"{url}\": K3s no longer reads `auths`; write the credentials into configs.<host>.auth and import again"
        ));
    }

    let mut gathered = Vec::new();
    for (host, mirror) in &mirrors {
        gathered.extend(reader.registry(host, &mirror.clone().unwrap_or_default()));
    }
    // Settings of a registry that is reached directly.
    for host in reader.configs.keys().cloned().collect::<Vec<_>>() {
        let name = if host == "registry-1.docker.io" { "docker.io" } else { &host };
        if !mirrors.contains_key(name) && !gathered.iter().any(|known: &Gathered| known.registry.as_str() == name) {
            gathered.extend(reader.registry(name, &Mirror::default()));
        }
    }
    objects(gathered, reader.left_out, files, namespace)
}

/// What K3s passes over without a word, often a mistyped name.
fn unknown_fields(text: &str) -> Vec<String> {
    let Ok(document) = serde_saphyr::from_str::<Value>(text) else { return Vec::new() };
    let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let mut found = Vec::new();
    let mut check = |place: &str, value: &Value, known: &[&str]| {
        for (key, _) in fields(value).iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            found.push(format!("{place}{key}: K3s does not know this field and passes over it"));
        }
    };
    check("", &document, &["mirrors", "configs", "auths"]);
    for (host, mirror) in fields(&document["mirrors"]) {
        check(&format!("mirrors.\"{host}\"."), &mirror, &["endpoint", "rewrite"]);
    }
    for (host, config) in fields(&document["configs"]) {
        let place = format!("configs.\"{host}\".");
        check(&place, &config, &["auth", "tls"]);
        check(&format!("{place}auth."), &config["auth"], &["username", "password", "auth", "identity_token"]);
        check(&format!("{place}tls."), &config["tls"], &["ca_file", "cert_file", "key_file", "insecure_skip_verify"]);
    }
    found
}

struct Reader {
    configs: BTreeMap<String, Option<Config>>,
    left_out: Vec<String>,
}

impl Reader {
    fn registry(&mut self, name: &str, mirror: &Mirror) -> Option<Gathered> {
        let place = format!("\"{name}\"");
        let registry = match if name == "*" { RegistryName::DEFAULT } else { name }.parse::<RegistryName>() {
            Ok(registry) => registry,
            Err(error) => {
                self.left_out.push(format!("{place}: {error}"));
                return None;
            }
        };
        let prefix = self.prefix(&place, mirror.rewrite.as_ref());
        let mut hosts: Vec<Host> = Vec::new();
        for endpoint in mirror.endpoint.iter().flatten() {
            let host = self.endpoint(&place, endpoint, prefix.as_deref());
            if hosts.iter().all(|earlier| earlier.url != host.url) {
                hosts.push(host);
            }
        }
        let own = self.config(registry.as_str());
        let tls = own.tls.as_ref().map(tls).unwrap_or_default();
        if let Some(credentials) = own.auth.as_ref().and_then(|auth| self.credentials(&place, auth)) {
            // An upstream has no credentials of its own: it is asked as the last mirror.
            match registry.default_server() {
                Some(url) => hosts.push(Host { credentials: Some(credentials), ..Host::new(url, tls.clone()) }),
                None => {
                    self.left_out.push("configs.\"*\".auth: one user for every registry has no counterpart".to_owned());
                }
            }
        } else if hosts.is_empty() && tls != Fields::default() {
            match registry.default_server() {
                Some(url) => hosts.push(Host::new(url, tls.clone())),
                None => self.left_out.push("configs.\"*\".tls: it needs mirrors.\"*\" with an endpoint".to_owned()),
            }
        }
        (!hosts.is_empty()).then_some(Gathered { registry, hosts, upstream: Upstream::Own(tls), place })
    }

    fn endpoint(&mut self, place: &str, endpoint: &str, prefix: Option<&str>) -> Host {
        let (scheme, rest) = match endpoint.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None => {
                let host = endpoint.split('/').next().unwrap_or_default();
                (default_scheme(host), endpoint)
            }
        };
        let (host, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let has_path = !matches!(path.trim_end_matches('/'), "" | "/v2");
        let url = format!("{scheme}://{host}{}", if has_path { path.trim_end_matches('/') } else { "" });
        if has_path && prefix.is_some() {
            self.left_out.push(format!("{place}.rewrite: it does not fit beside the path of the endpoint {url}"));
        }
        let config = self.config(host);
        let credentials = config.auth.as_ref().and_then(|auth| self.credentials(place, auth));
        let tls = config.tls.as_ref().map(tls).unwrap_or_default();
        Host {
            repository_prefix: prefix.filter(|_| !has_path).map(str::to_owned),
            credentials,
            ..Host::new(url, Fields { override_path: has_path, ..tls })
        }
    }

    /// The settings of a host; Docker Hub's go by both of its names.
    fn config(&self, host: &str) -> Config {
        let hub = ["registry-1.docker.io", "docker.io"];
        let name = if host == RegistryName::DEFAULT { "*" } else { host };
        let names = if hub.contains(&name) { &hub[..] } else { &[name][..] };
        names.iter().find_map(|name| self.configs.get(*name)).cloned().flatten().unwrap_or_default()
    }

    fn credentials(&mut self, place: &str, auth: &Auth) -> Option<Credentials> {
        let Auth { username, password, auth, identity_token } = auth;
        if !identity_token.is_empty() {
            self.left_out.push(format!("{place}: an identity_token has no counterpart; use a robot account"));
        }
        if !username.is_empty() {
            return Some(Credentials { username: username.clone(), password: Sensitive::new(password.clone()) });
        }
        if auth.is_empty() {
            return None;
        }
        let credentials = Credentials::from_base64(auth);
        if credentials.is_none() {
            self.left_out.push(format!("{place}: `auth` is no base64 of user:password"));
        }
        credentials
    }

    /// Upstream containerd has no rewrites; one that puts a prefix before every repository is a repositoryPrefix.
    fn prefix(&mut self, place: &str, rewrite: Option<&BTreeMap<String, String>>) -> Option<String> {
        let rewrite = rewrite.filter(|rewrite| !rewrite.is_empty())?;
        let mut rules = rewrite.iter();
        if let (Some((pattern, replacement)), None) = (rules.next(), rules.next())
            && matches!(pattern.as_str(), "(.*)" | "^(.*)" | "(.*)$" | "^(.*)$" | "^(.+)$" | "(.+)")
            && let Some(prefix) = replacement.strip_suffix("/$1").or_else(|| replacement.strip_suffix("/${1}"))
        {
            return Some(prefix.to_owned());
        }
        self.left_out.push(format!(
            "{place}.rewrite: containerd cannot rewrite repositories, only put one prefix before all of them"
        ));
        None
    }
}

fn tls(config: &TlsConfig) -> Fields {
    let TlsConfig { ca_file, cert_file, key_file, insecure_skip_verify } = config;
    let path = |text: &String| (!text.is_empty()).then(|| text.clone());
    Fields {
        skip_verify: insecure_skip_verify.then_some(true),
        ca: path(ca_file).into_iter().collect(),
        client: path(cert_file)
            .map(|certificate| ClientPair { certificate, key: path(key_file) })
            .into_iter()
            .collect(),
        ..Fields::default()
    }
}
