//! The chart's values `containerd.proxy`, checked once at the edge.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::{Host, Url};

/// What containerd never asks the proxy for, whatever else is listed. Go leaves loopback out by itself
/// (golang.org/x/net/http/httpproxy, `useProxy`); written out for people and for what containerd starts.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.0/8", "::1"];

/// A value that cannot be used; a sentence that shows no credentials.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct BadProxy(String);

/// A forward proxy: `http://host:port`, also `https` and `socks5`.
///
/// It holds no user name or password: systemd shows a unit's environment to every user of the host, and its manual
/// (systemd.exec(5), `Environment=`) warns against secrets there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProxyUrl(String);

impl ProxyUrl {
    /// As the variable holds it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProxyUrl {
    type Err = BadProxy;

    fn from_str(text: &str) -> Result<Self, BadProxy> {
        // What may be a password is not repeated.
        let shown = match text.rsplit_once('@') {
            Some((_, host)) => format!("…@{host}"),
            None => text.to_owned(),
        };
        let bad = |why: &str| Err(BadProxy(format!("the proxy `{shown}` {why}")));
        if text.contains('@') {
            return bad(
                "holds a user name: systemd shows the environment of a unit to every user of a node, so it is no place \
                 for a password; let the proxy know the nodes by their addresses, or run a local one that adds the \
                 password",
            );
        }
        if text.chars().any(|c| !c.is_ascii_graphic()) {
            return bad("holds a space or a character outside of ASCII: write http://HOST:PORT");
        }
        let Ok(url) = Url::parse(text) else { return bad("is no url: write http://HOST:PORT") };
        if !matches!(url.scheme(), "http" | "https" | "socks5") {
            return bad("has a scheme that containerd does not speak to proxies: write http://, https:// or socks5://");
        }
        if url.host().is_none_or(|host| host == Host::Domain("")) {
            return bad("has no host: write http://HOST:PORT");
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return bad("has more than a host and a port: write http://HOST:PORT");
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

/// One entry of `NO_PROXY` as Go reads it: a domain with all below it, `.domain` for those below alone, an address or a
/// range, with a port if only that one is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NoProxyEntry(String);

impl NoProxyEntry {
    /// As it stands in the variable.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NoProxyEntry {
    type Err = BadProxy;

    fn from_str(text: &str) -> Result<Self, BadProxy> {
        let bad = |why: &str| Err(BadProxy(format!("the entry `{text}` of noProxy {why}")));
        if text.contains("://") || text.contains('@') {
            // Not repeated: it may hold a password.
            return Err(BadProxy(
                "an entry of noProxy is a url: name hosts and ranges there, for example 10.0.0.0/8 or example.com, and \
                 mirrors by their url in directMirrors"
                    .to_owned(),
            ));
        }
        if text.is_empty() || text.chars().any(|c| !c.is_ascii_alphanumeric() && !".-_:*/[]".contains(c)) {
            return bad(
                "is no host, address or range: write one per entry, for example example.com, .example.com or 10.0.0.0/8",
            );
        }
        if text == "*" {
            return bad("switches the proxy off for everything: leave containerd.proxy empty instead");
        }
        if let Some((address, length)) = text.split_once('/') {
            let most = match address.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => 32,
                Ok(IpAddr::V6(_)) => 128,
                Err(_) => return bad("is no range: write an address before the slash, for example 10.0.0.0/8"),
            };
            if length.parse::<u8>().map_or(true, |length| length > most) {
                return bad("is no range: write the number of its fixed bits after the slash, for example 10.0.0.0/8");
            }
        }
        Ok(Self(text.to_owned()))
    }
}

/// A mirror that containerd reaches without the proxy, by its url or host.
///
/// It is named in the chart and not on the RegistryMirror: containerd reads its environment when it starts, and a change
/// of mirrors must never cost a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectMirror(NoProxyEntry);

impl FromStr for DirectMirror {
    type Err = BadProxy;

    fn from_str(text: &str) -> Result<Self, BadProxy> {
        if text.contains('@') {
            return Err(BadProxy("an entry of directMirrors holds a user name: write the url without it".to_owned()));
        }
        let bad = || BadProxy(format!("the entry `{text}` of directMirrors is no mirror: write https://HOST[:PORT]"));
        let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let url = Url::parse(&whole).map_err(|_| bad())?;
        let entry = match (url.host().filter(|_| matches!(url.scheme(), "http" | "https")), url.port()) {
            (None, _) => return Err(bad()),
            // Go takes an address with brackets only where a port follows.
            (Some(Host::Ipv6(address)), None) => address.to_string(),
            (Some(host), None) => host.to_string(),
            (Some(host), Some(port)) => format!("{host}:{port}"),
        };
        entry.parse().map(Self).map_err(|_| bad())
    }
}

/// What the cluster asks of containerd's environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxySettings {
    /// For `http://` registries and mirrors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<ProxyUrl>,
    /// For `https://` ones: nearly all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    https: Option<ProxyUrl>,
    /// What is reached without it, in order and without repetition; loopback is not among them, because it always is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    no_proxy: Vec<NoProxyEntry>,
}

impl ProxySettings {
    /// From the chart's values; `None` where no proxy is asked for.
    ///
    /// # Errors
    /// Where exceptions are named and no proxy is.
    pub fn new(
        http: Option<ProxyUrl>,
        https: Option<ProxyUrl>,
        no_proxy: Vec<NoProxyEntry>,
        direct: Vec<DirectMirror>,
    ) -> Result<Option<Self>, BadProxy> {
        let mut all: Vec<NoProxyEntry> = Vec::new();
        for entry in no_proxy.into_iter().chain(direct.into_iter().map(|DirectMirror(entry)| entry)) {
            if !LOOPBACK.contains(&entry.as_str()) && !all.contains(&entry) {
                all.push(entry);
            }
        }
        match (&http, &https) {
            (None, None) if all.is_empty() => Ok(None),
            (None, None) => Err(BadProxy(
                "containerd.proxy names what is reached without a proxy, but no proxy: set httpProxy or httpsProxy, or \
                 empty noProxy and directMirrors"
                    .to_owned(),
            )),
            (Some(_), _) | (_, Some(_)) => Ok(Some(Self { http, https, no_proxy: all })),
        }
    }

    /// The variables that containerd is to have, by name.
    ///
    /// In capitals alone: Go reads those first (httpproxy, `FromEnvironment`).
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        let Self { http, https, no_proxy } = self;
        let servers = [("HTTP_PROXY", http), ("HTTPS_PROXY", https)];
        let mut variables: Vec<(String, String)> = servers
            .into_iter()
            .filter_map(|(name, url)| Some((name.to_owned(), url.as_ref()?.as_str().to_owned())))
            .collect();
        let direct: Vec<&str> = LOOPBACK.into_iter().chain(no_proxy.iter().map(NoProxyEntry::as_str)).collect();
        variables.push(("NO_PROXY".to_owned(), direct.join(",")));
        variables
    }
}

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadProxy;

            fn try_from(text: String) -> Result<Self, BadProxy> {
                text.parse()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
as_text!(ProxyUrl, NoProxyEntry);

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(
        http: &str,
        https: &str,
        no_proxy: &[&str],
        direct: &[&str],
    ) -> Result<Option<ProxySettings>, BadProxy> {
        let url = |text: &str| if text.is_empty() { Ok(None) } else { text.parse().map(Some) };
        ProxySettings::new(
            url(http)?,
            url(https)?,
            no_proxy.iter().map(|entry| entry.parse()).collect::<Result<_, _>>()?,
            direct.iter().map(|entry| entry.parse()).collect::<Result<_, _>>()?,
        )
    }

    #[test]
    fn loopback_the_ranges_and_the_direct_mirrors_are_reached_without_it() {
        let settings = settings(
            "http://proxy.example.com:3128/",
            "http://proxy.example.com:3128",
            &["10.0.0.0/8", ".cluster.local", "localhost", "fd00::/8"],
            &["https://harbor.example.com", "http://mirror.lan:5000/v2", "10.1.2.3", "[fd00::1]:5000", "[fd00::1]"],
        )
        .expect("valid")
        .expect("asked for");
        let shown: Vec<String> =
            settings.variables().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        insta::assert_snapshot!(shown.join("\n"), @"
        HTTP_PROXY=http://proxy.example.com:3128
        HTTPS_PROXY=http://proxy.example.com:3128
        NO_PROXY=localhost,127.0.0.0/8,::1,10.0.0.0/8,.cluster.local,fd00::/8,harbor.example.com,mirror.lan:5000,10.1.2.3,[fd00::1]:5000,fd00::1
        ");
        let json = serde_json::to_string(&settings).expect("serialises");
        assert_eq!(serde_json::from_str::<ProxySettings>(&json).expect("reads its own"), settings);
    }

    #[test]
    fn nothing_asked_for_is_nothing() {
        assert_eq!(settings("", "", &[], &[]), Ok(None));
    }

    #[test]
    fn what_cannot_work_is_refused_with_a_sentence() {
        let mut said = Vec::new();
        for (http, no_proxy, direct) in [
            ("http://robot:s3cret@proxy:3128", "", ""),
            ("robot:s3cret@proxy:3128", "", ""),
            ("proxy:3128", "", ""),
            ("proxy", "", ""),
            ("ftp://proxy", "", ""),
            ("http://", "", ""),
            ("http://proxy:3128/path", "", ""),
            ("http://proxy 1", "", ""),
            ("http://proxy", "*", ""),
            ("http://proxy", "a,b", ""),
            ("http://proxy", "10.0.0.0/33", ""),
            ("http://proxy", "ten/8", ""),
            ("http://proxy", "https://u:s3cret@mirror", ""),
            ("http://proxy", "", "https://u:s3cret@mirror"),
            ("http://proxy", "", "ftp://mirror"),
            ("", "10.0.0.0/8", ""),
        ] {
            let no_proxy: Vec<&str> = Some(no_proxy).into_iter().filter(|entry| !entry.is_empty()).collect();
            let direct: Vec<&str> = Some(direct).into_iter().filter(|entry| !entry.is_empty()).collect();
            said.push(settings(http, "", &no_proxy, &direct).expect_err("refused").to_string());
        }
        let said = said.join("\n");
        assert!(!said.contains("s3cret"), "{said}");
        insta::assert_snapshot!(said);
    }
}
