//! The urls of mirrors and upstreams.

use std::fmt;

use url::{Host, Url};

/// `scheme://host[:port][/path]`: lower-case host, no default port, no trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostUrl {
    pub scheme: Scheme,
    /// IPv6 in brackets.
    pub host: String,
    /// Where it is not the scheme's own.
    pub port: Option<u16>,
    /// Empty or beginning with a slash.
    pub path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for HostUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port, path } = self;
        let scheme = match scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{host}")?;
        if let Some(port) = port {
            write!(f, ":{port}")?;
        }
        f.write_str(path)
    }
}

impl HostUrl {
    /// Parses what a user wrote; the error says what to write instead and shows no credentials.
    pub fn parse(text: &str) -> Result<Self, String> {
        let shown = shown(text);
        let refused = |why: &str| format!("`{shown}` {why}");
        if text.is_empty() {
            return Err("is empty: write https://HOST".to_owned());
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(refused("holds a space or control character: write it without"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(refused(&format!("has no scheme: write https://{shown}")));
        };
        let scheme = match scheme {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return Err(refused("has a scheme that containerd does not speak: write https:// or http://")),
        };
        if rest.contains('?') {
            return Err(refused(
                "has a query, which containerd would drop: write the url up to the `?`; the project of a proxy cache \
                 goes into repositoryPrefix",
            ));
        }
        if rest.contains('#') {
            return Err(refused("has a fragment: write the url up to the `#`"));
        }
        let authority = rest.split('/').next().unwrap_or_default();
        if authority.is_empty() || authority.starts_with(':') {
            // a url parser for browsers would take the next part of the path for the host
            return Err(refused("has no host: write https://HOST[:PORT]"));
        }
        if authority.contains('@') {
            return Err(refused(
                "holds a user name: write the url without it, put name and password into a Secret of type \
                 kubernetes.io/basic-auth and name it in auth.secretRef",
            ));
        }
        if let Some(odd) = rest.chars().find(|c| !c.is_ascii_graphic() || "\"'\\<>^`{|}".contains(*c)) {
            return Err(refused(&format!(
                "holds the character `{odd}`: percent-encode it, or write the host in ASCII"
            )));
        }
        let url =
            Url::parse(text).map_err(|error| refused(&format!("is no url ({error}): write https://HOST[:PORT]")))?;
        let host = match url.host() {
            Some(Host::Domain(host)) => host.to_owned(),
            Some(Host::Ipv4(host)) => host.to_string(),
            Some(Host::Ipv6(host)) => format!("[{host}]"),
            None => return Err(refused("has no host: write https://HOST[:PORT]")),
        };
        if url.port() == Some(0) {
            return Err(refused("has the port 0: write a port from 1 to 65535"));
        }
        if authority.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(refused("has upper-case letters in its host: write the host in lower case"));
        }
        let path = url.path().trim_end_matches('/');
        if path.contains("//") {
            return Err(refused("has an empty part in its path: write single slashes"));
        }
        Ok(Self { scheme, host, port: url.port(), path: path.to_owned() })
    }

    /// Whether this is Docker Hub's name rather than its address: containerd takes it literally here, and nothing
    /// serves images there.
    pub fn is_docker_hub_name(&self) -> bool {
        matches!(self.host.as_str(), "docker.io" | "index.docker.io")
    }

    /// What requests begin with once containerd has appended `/v2` where it does.
    pub fn api_root(&self, override_path: bool) -> String {
        if override_path || self.path.ends_with("/v2") { self.to_string() } else { format!("{self}/v2") }
    }
}

/// A url, good or bad, as it may stand in a message: without user and password, query and fragment.
#[must_use]
pub fn shown(text: &str) -> String {
    let text: String = text.chars().take(200).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    let end = text.find(['?', '#']).unwrap_or(text.len());
    let text = &text[..end];
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(s, r)| (s, r));
    // A password may hold any character, so all up to the last `@` is left out.
    match (rest.rfind('@'), scheme) {
        (Some(at), "") => format!("[redacted]{}", &rest[at..]),
        (Some(at), scheme) => format!("{scheme}://[redacted]{}", &rest[at..]),
        (None, _) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_out_without_what_does_not_matter() {
        for (text, expected) in [
            ("https://m.example.com/", "https://m.example.com"),
            ("https://m:443", "https://m"),
            ("http://m:80/", "http://m"),
            ("http://m:443", "http://m:443"),
            ("https://m/a/b//", "https://m/a/b"),
            ("https://[fd00:0::1]:5000", "https://[fd00::1]:5000"),
            ("http://10.0.0.1:5000/v2", "http://10.0.0.1:5000/v2"),
        ] {
            assert_eq!(HostUrl::parse(text).map(|u| u.to_string()).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn api_root_is_what_containerd_makes_of_it() {
        let root = |text: &str, override_path| HostUrl::parse(text).map(|url| url.api_root(override_path));
        assert_eq!(root("https://m", false).as_deref(), Ok("https://m/v2"));
        assert_eq!(root("https://m/v2/", false).as_deref(), Ok("https://m/v2"));
        assert_eq!(root("https://m/p", true).as_deref(), Ok("https://m/p"));
    }

    #[test]
    fn a_message_shows_no_password() {
        for text in
            ["https://u:p4ss@m", "https://u:p4ss@x@m/y", "u:p4ss@m", "https://m/?token=p4ss", "https://u:p4/ss@m"]
        {
            let message = HostUrl::parse(text).expect_err(text);
            assert!(!message.contains("p4"), "{message}");
        }
    }
}
