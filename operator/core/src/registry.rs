//! The registry whose pulls are redirected, as an image reference names it.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// `host[:port]`, or `_default` for every registry that has no entry of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RegistryName(String);

/// The text names no registry; the message says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("registry `{name}` {why}")]
pub struct RegistryNameError {
    name: String,
    why: &'static str,
}

impl RegistryName {
    /// The directory that containerd falls back on for a registry without a directory of its own.
    pub const DEFAULT: &'static str = "_default";

    /// As written in an image reference.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `_default`.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.0 == Self::DEFAULT
    }

    /// The directory below certs.d that containerd looks up first: `host_5000_` for `host:5000`, otherwise the name
    /// itself (containerd core/remotes/docker/config `hostDirectory`, 1.5 to 2.4).
    #[must_use]
    pub fn directory(&self) -> String {
        match split_port(&self.0) {
            (host, Some(port)) => format!("{host}_{port}_"),
            (host, None) => host.to_owned(),
        }
    }

    /// All directories that containerd looks up for this registry, in its order, before `_default`.
    #[must_use]
    pub fn directories(&self) -> Vec<String> {
        let first = self.directory();
        if first == self.0 { vec![first] } else { vec![first, self.0.clone()] }
    }

    /// The registry that a directory below certs.d is for, under either spelling; `None` for what no image can name.
    #[must_use]
    pub fn of_directory(name: &str) -> Option<Self> {
        let with_port = name.strip_suffix('_').and_then(|name| name.rsplit_once('_'));
        let with_port = with_port.and_then(|(host, port)| format!("{host}:{port}").parse().ok());
        with_port.or_else(|| name.parse().ok())
    }

    /// The url that containerd goes to when nothing is configured: `https://registry-1.docker.io` for docker.io, else as
    /// [`default_scheme`] says. `None` for `_default`, whose pulls go to each image's own registry.
    #[must_use]
    pub fn default_server(&self) -> Option<String> {
        if self.is_default() {
            return None;
        }
        if self.0 == "docker.io" {
            return Some("https://registry-1.docker.io".to_owned());
        }
        Some(format!("{}://{}", default_scheme(&self.0), self.0))
    }
}

/// Host and port; `[fd00::1]` has colons and no port.
#[must_use]
pub fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    }
}

/// Whether containerd takes a host, with or without its port, for the machine itself (`MatchLocalhost` of
/// remotes/docker/registry.go).
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let (name, _) = split_port(host);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The scheme of a host that names none: http for loopback on a port of its own, https for all others. So do containerd
/// where nothing is configured for a registry (`ConfigureHosts` of remotes/docker/config) and K3s for its endpoints
/// (`normalizeEndpointAddress` of pkg/agent/containerd).
#[must_use]
pub fn default_scheme(host: &str) -> &'static str {
    let has_own_port = !matches!(split_port(host).1, None | Some("443"));
    if is_loopback(host) && has_own_port { "http" } else { "https" }
}

/// Host and repository of an image's name; no host where its first part can only be a repository of Docker Hub: a host
/// has a dot, a port, or is localhost (distribution's reference package).
#[must_use]
pub fn split_image(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((host, repository)) if is_image_host(host) => (Some(host), repository),
        _ => (None, name),
    }
}

/// Whether the first part of an image's name can be a host.
#[must_use]
pub fn is_image_host(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost"
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RegistryName {
    type Err = RegistryNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = |why| RegistryNameError { name: text.chars().take(300).collect(), why };
        if text == Self::DEFAULT {
            return Ok(Self(text.to_owned()));
        }
        if text.contains("://") {
            return Err(refused("has a scheme: write the host alone, for example docker.io"));
        }
        if text.contains('/') {
            return Err(refused("has a path: write the host alone, for example docker.io"));
        }
        if matches!(text, "index.docker.io" | "registry-1.docker.io") {
            return Err(refused("is an address of Docker Hub: write docker.io, the name that images carry"));
        }
        let name = Self(text.to_owned());
        let (host, port) = split_port(&name.0);
        if port.is_some_and(|port| !matches!(port.parse::<u16>(), Ok(1..)) || port.starts_with('+')) {
            return Err(refused("has no valid port: write host:port with a port from 1 to 65535"));
        }
        let is_ipv6 = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
        if !is_ipv6 && !is_dns_name(host) {
            return Err(refused("is no host name: write host[:port] in lower case, or _default"));
        }
        Ok(name)
    }
}

fn is_dns_name(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 253
        && host.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

impl From<RegistryName> for String {
    fn from(name: RegistryName) -> Self {
        name.0
    }
}

impl TryFrom<String> for RegistryName {
    type Error = RegistryNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RegistryName {
        text.parse().expect(text)
    }

    #[test]
    fn directory_is_the_one_that_containerd_looks_up_first() {
        assert_eq!(name("docker.io").directory(), "docker.io");
        assert_eq!(name("host:5000").directory(), "host_5000_");
        assert_eq!(name("host:5000").directories(), ["host_5000_", "host:5000"]);
        assert_eq!(name("[fd00::1]:5000").directory(), "[fd00::1]_5000_");
        assert_eq!(name("_default").directory(), "_default");
    }

    #[test]
    fn a_directory_tells_its_registry_under_either_spelling() {
        for registry in ["docker.io", "host:5000", "[fd00::1]:5000", "_default"] {
            for directory in name(registry).directories() {
                assert_eq!(RegistryName::of_directory(&directory), Some(name(registry)), "{directory}");
            }
        }
        assert_eq!(RegistryName::of_directory("Upper.example"), None);
    }

    #[test]
    fn server_is_the_one_that_containerd_assumes() {
        assert_eq!(name("docker.io").default_server().as_deref(), Some("https://registry-1.docker.io"));
        assert_eq!(name("localhost:5000").default_server().as_deref(), Some("http://localhost:5000"));
        assert_eq!(name("localhost:443").default_server().as_deref(), Some("https://localhost:443"));
        assert_eq!(name("_default").default_server(), None);
    }

    /// `ConfigureHosts` of containerd 2.4.2 and `normalizeEndpointAddress` of K3s 1.35.0, read.
    #[test]
    fn a_host_without_a_scheme_is_asked_by_http_on_loopback_with_a_port_of_its_own() {
        for (host, scheme) in [
            ("localhost", "https"),
            ("localhost:443", "https"),
            ("localhost:5000", "http"),
            ("127.0.0.1", "https"),
            ("127.0.0.2:5000", "http"),
            ("[::1]", "https"),
            ("[::1]:5000", "http"),
            ("[fd00::1]:5000", "https"),
            ("127.example.com:5000", "https"),
            ("localhost.example.com:5000", "https"),
            ("mirror.lan:80", "https"),
        ] {
            assert_eq!(default_scheme(host), scheme, "{host}");
        }
    }

    #[test]
    fn refuses_what_no_image_can_name() {
        for text in [
            "",
            "https://docker.io",
            "docker.io/library",
            "index.docker.io",
            "Docker.io",
            "host:",
            "host:0",
            "host:70000",
            "-a.io",
            "a..b",
            "[fd00::1",
            "a_b",
        ] {
            assert!(text.parse::<RegistryName>().is_err(), "{text}");
        }
    }
}
