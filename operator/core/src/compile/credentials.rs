//! Credentials: a Secret becomes the `Authorization` header that containerd sends.

use std::collections::BTreeMap;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use serde::Deserialize;

use super::{
    Compiler,
    references::{Lookup, RefKind},
    url::HostUrl,
    verdict::Unresolved,
};
use crate::{bundle::Header, sensitive::Sensitive};

const DOCKER_CONFIG_KEY: &str = ".dockerconfigjson";
/// Where `docker login` without a server stores Docker Hub's credentials.
const DOCKER_HUB_HOSTS: [&str; 3] = ["index.docker.io", "docker.io", "registry-1.docker.io"];

#[derive(Deserialize)]
struct DockerConfig {
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DockerAuth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl Compiler<'_> {
    /// The header for a mirror at `url`, whose repositories begin with `prefix`.
    pub(super) fn authorization(
        &self,
        field: &str,
        secret: &str,
        url: &HostUrl,
        prefix: &str,
    ) -> Result<Header, Unresolved> {
        let lookup = Lookup::new(self.references, self.namespace, field, RefKind::Secret, secret)?;
        // The keys decide, not the Secret's type: tools that sync Secrets from elsewhere write type Opaque.
        let value = if lookup.has(DOCKER_CONFIG_KEY) {
            from_docker_config(&lookup, url, prefix)?
        } else if lookup.has("username") || lookup.has("password") {
            let username = lookup.text("username")?;
            basic(&lookup, username, lookup.text("password")?)?
        } else {
            return Err(lookup.malformed(
                "holds no credentials: write a Secret of type kubernetes.io/basic-auth with the keys `username` and \
                 `password`, or one of type kubernetes.io/dockerconfigjson",
            ));
        };
        Ok(Header { name: super::headers::AUTHORIZATION.to_owned(), values: vec![Sensitive::new(value)] })
    }
}

fn basic(lookup: &Lookup<'_>, username: &str, password: &str) -> Result<String, Unresolved> {
    // RFC 7617: the first colon ends the user name.
    if username.is_empty() || username.contains(':') {
        return Err(lookup.malformed("holds a user name that is empty or has a colon in it: correct `username`"));
    }
    if username.chars().chain(password.chars()).any(char::is_control) {
        return Err(lookup.malformed(
            "holds a line break or control character in `username` or `password`: write it without, for example with \
             `printf %s` instead of `echo`",
        ));
    }
    Ok(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

fn from_docker_config(lookup: &Lookup<'_>, url: &HostUrl, prefix: &str) -> Result<String, Unresolved> {
    // The parser's own message could quote the content.
    let config: DockerConfig = serde_json::from_str(lookup.text(DOCKER_CONFIG_KEY)?).map_err(|error| {
        lookup.malformed(format_args!(
            "is no docker configuration (line {} of its key `{DOCKER_CONFIG_KEY}`): write JSON with `auths`, as \
             `kubectl create secret docker-registry` does",
            error.line()
        ))
    })?;
    let best = config
        .auths
        .iter()
        .filter_map(|(key, auth)| fit(key, url, prefix).map(|fit| (fit, auth)))
        .max_by_key(|(fit, _)| *fit);
    let Some((_, auth)) = best else {
        let host = authority(url);
        return Err(lookup.malformed(format_args!(
            "has no entry for the mirror's host `{host}` under `auths`: add one, as `docker login {host}` does"
        )));
    };
    let DockerAuth { auth, username, password, identitytoken, registrytoken } = auth;
    if !registrytoken.is_empty() {
        return Ok(format!("Bearer {registrytoken}"));
    }
    if !identitytoken.is_empty() {
        return Err(lookup.malformed(
            "holds an identity token, which containerd cannot send: use a robot account or access token with user \
             name and password",
        ));
    }
    if !username.is_empty() {
        return basic(lookup, username, password);
    }
    // docker writes padding, some tools leave it out
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decoded = GeneralPurpose::new(&alphabet::STANDARD, lenient).decode(auth.trim()).ok();
    // docker pads with NUL bytes
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    match text.as_deref().map(|text| text.trim_end_matches('\0')).and_then(|text| text.split_once(':')) {
        Some((username, password)) => basic(lookup, username, password),
        None => Err(lookup.malformed(format_args!(
            "has an entry for the mirror's host `{}` without user name and password: write `username` and `password`, \
             or `auth` as base64 of user:password",
            authority(url)
        ))),
    }
}

/// How well a key of `auths` fits: exact hosts before patterns, longer paths before shorter ones.
fn fit(key: &str, url: &HostUrl, prefix: &str) -> Option<(bool, usize)> {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    // `https://index.docker.io/v1/` is how docker login names a host; any other path is a repository prefix
    let path = match path.trim_end_matches('/') {
        "v1" | "v2" => "",
        path => path,
    };
    let covers = path.is_empty() || prefix == path || prefix.strip_prefix(path).is_some_and(|r| r.starts_with('/'));
    if !covers {
        return None;
    }
    let host = host.to_ascii_lowercase();
    let is_hub = |host: &str| DOCKER_HUB_HOSTS.contains(&host);
    let exact = same_host(&host, url) || (is_hub(&host) && is_hub(&url.host) && url.port.is_none());
    (exact || matches_pattern(&host, url)).then_some((exact, path.len()))
}

fn authority(url: &HostUrl) -> String {
    url.port.map_or_else(|| url.host.clone(), |port| format!("{}:{port}", url.host))
}

fn same_host(host: &str, url: &HostUrl) -> bool {
    host == authority(url) || (url.port.is_none() && host == format!("{}:{}", url.host, url.scheme.default_port()))
}

/// `*.example.com`: a star stands for part of one label, as the kubelet reads it.
pub(super) fn matches_pattern(pattern: &str, url: &HostUrl) -> bool {
    let authority = authority(url);
    let split = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (pattern, host) = (split(pattern), split(&authority));
    pattern.len() == host.len() && pattern.iter().zip(&host).all(|(pattern, label)| glob(pattern, label))
}

fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            rest.char_indices().map(|(i, _)| i).chain([rest.len()]).any(|i| glob(tail, &rest[i..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_entry_in_every_form_that_docker_writes() {
        let url = |text: &str| HostUrl::parse(text).expect(text);
        for (key, mirror, prefix, expected) in [
            ("harbor.example.com", "https://harbor.example.com", "", true),
            ("https://harbor.example.com", "https://harbor.example.com", "", true),
            ("https://harbor.example.com/v2/", "https://harbor.example.com", "", true),
            ("harbor.example.com:443", "https://harbor.example.com", "", true),
            ("harbor.example.com:5000", "https://harbor.example.com", "", false),
            ("harbor.example.com/dockerhub", "https://harbor.example.com", "dockerhub", true),
            ("harbor.example.com/docker", "https://harbor.example.com", "dockerhub", false),
            ("https://index.docker.io/v1/", "https://registry-1.docker.io", "", true),
            ("*.example.com", "https://harbor.example.com", "", true),
            ("*.example.com", "https://a.b.example.com", "", false),
            ("har*", "https://harbor", "", true),
            ("10.0.0.1:5000", "http://10.0.0.1:5000", "", true),
        ] {
            assert_eq!(fit(key, &url(mirror), prefix).is_some(), expected, "{key} for {mirror}");
        }
    }

    #[test]
    fn the_closest_entry_wins() {
        let url = HostUrl::parse("https://h.example.com").expect("url");
        assert!(fit("h.example.com", &url, "p") > fit("*.example.com/p", &url, "p"));
        assert!(fit("h.example.com/p", &url, "p/q") > fit("h.example.com", &url, "p/q"));
    }
}
