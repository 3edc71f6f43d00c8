//! Where containerd sends the requests for a host.

use std::fmt;

use thiserror::Error;

use crate::registry::RegistryName;

/// A host of hosts.toml as containerd takes it apart (`parseHostConfig`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// `http` or `https`.
    pub scheme: String,
    /// `host[:port]`, as written.
    pub host: String,
    /// Without trailing slash; `/v2`, or the url's path with `/v2` behind it, or the url's path alone.
    pub path: String,
}

/// A url that containerd cannot use.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{url}` is no url of a registry: {why}")]
pub struct EndpointError {
    url: String,
    why: &'static str,
}

impl Endpoint {
    /// Takes a url of hosts.toml apart.
    ///
    /// # Errors
    /// For a url without host or with another scheme than http and https.
    pub fn parse(url: &str, override_path: bool) -> Result<Self, EndpointError> {
        let refused = |why| EndpointError { url: url.chars().take(300).collect(), why };
        // no scheme means https
        let with_scheme = if url.starts_with("http") { url.to_owned() } else { format!("https://{url}") };
        let (scheme, rest) =
            with_scheme.split_once("://").ok_or_else(|| refused("write it as https://host[:port][/path]"))?;
        if scheme != "http" && scheme != "https" {
            return Err(refused("the scheme must be http or https"));
        }
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let host = authority.rsplit('@').next().unwrap_or_default();
        if host.is_empty() {
            return Err(refused("it names no host"));
        }
        let path = if path.is_empty() {
            if override_path { String::new() } else { "/v2".to_owned() }
        } else {
            let clean = clean_path(path);
            // Go appends to the cleaned path, and `/` cleans to `/`: `//v2` is joined to `/v2` by each request.
            if clean.ends_with("/v2") || override_path { clean } else { clean_path(&format!("{clean}/v2")) }
        };
        Ok(Self { scheme: scheme.to_owned(), host: host.to_owned(), path })
    }

    /// The url of a request below this host, `/<repository>/manifests/<reference>` and the like.
    ///
    /// `?ns=` tells a mirror which registry is meant; it is left out where the host is the registry itself.
    #[must_use]
    pub fn request(&self, registry: &RegistryName, parts: &[&str]) -> String {
        let path = clean_path(&format!("/{}/{}", self.path, parts.join("/")));
        let query = if self.is_registry_itself(registry) {
            String::new()
        } else {
            // Go's url.Values.Encode
            format!("?ns={}", registry.as_str().replace('[', "%5B").replace(']', "%5D").replace(':', "%3A"))
        };
        format!("{}://{}{path}{query}", self.scheme, self.host)
    }

    /// The url that answers every registry client, with or without an image: `<path>/`.
    #[must_use]
    pub fn base(&self) -> String {
        format!("{}://{}{}/", self.scheme, self.host, self.path.trim_end_matches('/'))
    }

    fn is_registry_itself(&self, registry: &RegistryName) -> bool {
        self.host == registry.as_str() || (registry.as_str() == "docker.io" && self.host == "registry-1.docker.io")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, path } = self;
        write!(f, "{scheme}://{host}{path}")
    }
}

/// Go's `path.Clean` for a path that begins with a slash.
fn clean_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str, override_path: bool) -> String {
        Endpoint::parse(url, override_path).expect(url).to_string()
    }

    #[test]
    fn v2_is_appended_once_and_never_to_an_overridden_path() {
        assert_eq!(endpoint("https://m.example", false), "https://m.example/v2");
        assert_eq!(endpoint("https://m.example/", false), "https://m.example/v2");
        assert_eq!(endpoint("m.example:5000//a/", false), "https://m.example:5000/a/v2");
        assert_eq!(endpoint("http://m.example/a/v2/", false), "http://m.example/a/v2");
        assert_eq!(endpoint("https://m.example/v2/dockerhub", true), "https://m.example/v2/dockerhub");
        assert_eq!(endpoint("https://m.example", true), "https://m.example");
        assert_eq!(endpoint("https://[fd00::1]:5000/x", false), "https://[fd00::1]:5000/x/v2");
    }

    #[test]
    fn ns_names_the_registry_unless_the_host_is_the_registry() {
        let docker: RegistryName = "docker.io".parse().expect("a registry");
        let parts = ["library/alpine", "manifests", "3.20"];
        let request = |url: &str| Endpoint::parse(url, false).expect(url).request(&docker, &parts);
        assert_eq!(request("https://m.example"), "https://m.example/v2/library/alpine/manifests/3.20?ns=docker.io");
        assert_eq!(
            request("https://registry-1.docker.io"),
            "https://registry-1.docker.io/v2/library/alpine/manifests/3.20"
        );
        let local: RegistryName = "127.0.0.1:1".parse().expect("a registry");
        let proof = Endpoint::parse("http://127.0.0.1:40000", false).expect("a url").request(&local, &["x"]);
        assert_eq!(proof, "http://127.0.0.1:40000/v2/x?ns=127.0.0.1%3A1");
    }

    #[test]
    fn refuses_what_names_no_host() {
        for url in ["", "https://", "http:/x", "https:///x"] {
            assert!(Endpoint::parse(url, false).is_err(), "{url}");
        }
    }
}
