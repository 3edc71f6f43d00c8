//! What a process makes of the proxy variables in its environment, as Go's `net/http` does
//! (golang.org/x/net/http/httpproxy, the same since Go 1.16, which is older than every supported containerd).

use std::{collections::BTreeMap, net::IpAddr};

use url::{Host, Url};

/// The variables that count, each also in small letters.
pub const VARIABLES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];

/// The proxy variables of one process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// Of `NAME=value` pairs with zero bytes between them, as `/proc/PID/environ` has them.
    #[must_use]
    pub fn of_process(environ: &[u8]) -> Self {
        let pair = |pair: &[u8]| {
            let pair = String::from_utf8_lossy(pair);
            let (name, value) = pair.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        environ.split(|byte| *byte == 0).filter_map(pair).collect()
    }

    /// The value of a variable, by its name in capitals; one in small letters counts where that is empty or absent.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = |name: &str| self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty());
        value(name).or_else(|| value(&name.to_ascii_lowercase()))
    }

    /// Whether the process has these variables.
    #[must_use]
    pub fn has(&self, wanted: &[(String, String)]) -> bool {
        wanted.iter().all(|(name, value)| self.get(name) == Some(value.as_str()))
    }

    /// Whether a request to this url goes through a proxy. A url that cannot be read does not.
    #[must_use]
    pub fn proxies(&self, url: &str) -> bool {
        self.proxy_for(url).is_some()
    }

    /// The url of the proxy that a request to this url goes through. A proxy named without a scheme is asked by http.
    #[must_use]
    pub fn proxy_for(&self, url: &str) -> Option<String> {
        let url = Url::parse(url).ok()?;
        let proxy = match url.scheme() {
            "https" => self.get("HTTPS_PROXY"),
            _ => self.get("HTTP_PROXY"),
        }?;
        let (host, port) = (url.host()?, url.port_or_known_default()?);
        let direct = self.get("NO_PROXY").unwrap_or_default();
        if is_loopback(&host) || direct.split(',').any(|entry| excepts(entry.trim(), &host, port)) {
            return None;
        }
        Some(if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") })
    }
}

impl FromIterator<(String, String)> for Environment {
    /// Of all variables of a process; those that count are kept.
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        let counts = |name: &str| VARIABLES.contains(&name.to_ascii_uppercase().as_str());
        Self { variables: variables.into_iter().filter(|(name, _)| counts(name)).collect() }
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// Whether an entry of `NO_PROXY` holds for a host.
fn excepts(entry: &str, host: &Host<&str>, port: u16) -> bool {
    let entry = entry.to_ascii_lowercase();
    if entry == "*" {
        return true;
    }
    let address = match host {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some(IpAddr::V4(*address)),
        Host::Ipv6(address) => Some(IpAddr::V6(*address)),
    };
    if let Some((range, length)) = entry.split_once('/') {
        let (Ok(range), Ok(length), Some(address)) = (range.parse(), length.parse(), address) else { return false };
        return contains(range, length, address);
    }
    let (name, only) = match entry.parse::<IpAddr>() {
        Ok(_) => (entry.as_str(), None),
        Err(_) => match entry.rsplit_once(':') {
            Some((name, port)) => (name.trim_start_matches('[').trim_end_matches(']'), Some(port)),
            None => (entry.as_str(), None),
        },
    };
    if only.is_some_and(|only| only.parse() != Ok(port)) {
        return false;
    }
    match (host, address) {
        (Host::Domain(host), _) => {
            let below = name.trim_start_matches('*');
            match below.strip_prefix('.') {
                Some(_) => host.ends_with(below),
                None => *host == below || (!below.is_empty() && host.ends_with(&format!(".{below}"))),
            }
        }
        (_, Some(address)) => name.parse() == Ok(address),
        (_, None) => false,
    }
}

fn contains(range: IpAddr, length: u32, address: IpAddr) -> bool {
    match (range, address) {
        (IpAddr::V4(range), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(length)).unwrap_or(0);
            range.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(range), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(length)).unwrap_or(0);
            range.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// A value for people: what stands before an `@`, which may be a password, is left out.
#[must_use]
pub fn without_userinfo(value: &str) -> String {
    match (value.rsplit_once('@'), value.split_once("://")) {
        (Some((_, host)), Some((scheme, _))) => format!("{scheme}://…@{host}"),
        (Some((_, host)), None) => format!("…@{host}"),
        (None, _) => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[&str]) -> Environment {
        Environment::of_process(pairs.join("\0").as_bytes())
    }

    #[test]
    fn requests_go_where_go_sends_them() {
        let all = "NO_PROXY=localhost,127.0.0.0/8,::1, 10.0.0.0/8,example.com,.below.org,*.star.net,port.com:5000,\
                   192.0.2.7,fd00::/8,[fc01::1]:5000,[fc01::2],fc01::3";
        let through = of(&["HTTP_PROXY=http://p", "HTTPS_PROXY=http://p", all]);
        for (url, expected) in [
            ("https://docker.io", true),
            ("http://mirror.lan:5000/v2/", true),
            ("https://example.com", false),
            ("https://EXAMPLE.com:8443", false),
            ("https://a.example.com", false),
            ("https://anexample.com", true),
            ("https://below.org", true),
            ("https://a.below.org", false),
            ("https://star.net", true),
            ("https://a.star.net", false),
            ("http://port.com:5000", false),
            ("http://port.com", true),
            ("http://10.1.2.3:5000", false),
            ("http://11.1.2.3", true),
            ("http://192.0.2.7", false),
            ("http://[fd00::1]:5000", false),
            ("http://[fc01::1]:5000", false),
            ("http://[fc01::1]", true),
            ("http://[fc01::3]", false),
            ("http://localhost:1", false),
            ("http://127.0.0.1:1", false),
            ("http://[::1]:1", false),
        ] {
            assert_eq!(through.proxies(url), expected, "{url}");
        }
    }

    #[test]
    fn each_scheme_has_its_own_and_capitals_come_first() {
        let https = of(&["PATH=/bin", "https_proxy=http://small", "no_proxy=a"]);
        assert!(https.proxies("https://b") && !https.proxies("https://a") && !https.proxies("http://b"));
        let both = of(&["HTTPS_PROXY=http://large", "https_proxy=http://small"]);
        assert_eq!(both.get("HTTPS_PROXY"), Some("http://large"));
        assert_eq!(of(&["HTTPS_PROXY=", "https_proxy=http://small"]).get("HTTPS_PROXY"), Some("http://small"));
        assert!(!Environment::default().proxies("https://b"));
        for (value, url) in
            [("p:3128", "http://p:3128"), ("http://p", "http://p"), ("socks5://u:x@p", "socks5://u:x@p")]
        {
            let environment = of(&[&format!("HTTPS_PROXY={value}")]);
            assert_eq!(environment.proxy_for("https://b").as_deref(), Some(url));
        }
        assert!(!of(&["HTTPS_PROXY=http://p", "NO_PROXY=*"]).proxies("https://b"));
    }

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(without_userinfo("http://u:p@host:1"), "http://…@host:1");
        assert_eq!(without_userinfo("u:p@host:1"), "…@host:1");
        assert_eq!(without_userinfo("http://host:1"), "http://host:1");
    }
}
