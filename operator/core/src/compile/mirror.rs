//! One mirror: where requests go and what they carry.

use std::collections::BTreeMap;

use registry_mirror_crds::{self as crds, Capability};

use super::{Compiler, duration, url::HostUrl};
use crate::bundle::MirrorHost;

/// As in the CRD's schema; each mirror can cost containerd a request per layer.
const MAX_MIRRORS: usize = 16;

impl Compiler<'_> {
    /// All mirrors, or `None` where one of them is refused.
    pub(super) fn mirrors(&mut self, mirrors: &[crds::Mirror]) -> Option<Vec<MirrorHost>> {
        if mirrors.is_empty() {
            self.refuse("spec.mirrors", "is empty: write at least one mirror with its url");
        }
        if mirrors.len() > MAX_MIRRORS {
            self.refuse("spec.mirrors", format!("has {} mirrors: write at most {MAX_MIRRORS}", mirrors.len()));
        }
        let mut api_roots: BTreeMap<String, usize> = BTreeMap::new();
        // The same url with and without `override_path` is another place, but the same table of hosts.toml, and a
        // table that stands there twice spoils the whole file.
        let mut tables: BTreeMap<String, usize> = BTreeMap::new();
        let compiled: Vec<_> = mirrors
            .iter()
            .enumerate()
            .map(|(i, mirror)| {
                let field = format!("spec.mirrors[{i}]");
                let (host, api_root) = self.mirror(&field, mirror)?;
                if let Some(first) = api_roots.get(&api_root).or_else(|| tables.get(&host.url)) {
                    self.refuse(
                        format!("{field}.url"),
                        format!("comes out as {api_root}, the same as mirrors[{first}]: leave one of them out"),
                    );
                    return None;
                }
                api_roots.insert(api_root, i);
                tables.insert(host.url.clone(), i);
                Some(host)
            })
            .collect();
        if mirrors.is_empty() || mirrors.len() > MAX_MIRRORS {
            return None;
        }
        compiled.into_iter().collect()
    }

    fn mirror(&mut self, field: &str, mirror: &crds::Mirror) -> Option<(MirrorHost, String)> {
        let crds::Mirror { url, repository_prefix, override_path, capabilities, tls, auth, headers, dial_timeout } =
            mirror;
        let display_url = url.clone();
        let url = self.take(&format!("{field}.url"), HostUrl::parse(url));
        if url.as_ref().is_some_and(HostUrl::is_docker_hub_name) {
            self.refuse(
                format!("{field}.url"),
                format!("`{display_url}` does not serve images: write https://registry-1.docker.io"),
            );
            return None;
        }
        let host = self.host(field, url.as_ref(), repository_prefix.as_deref(), *override_path);
        let capabilities = self.capabilities(&format!("{field}.capabilities"), capabilities);
        let tls = self.tls(&format!("{field}.tls"), tls.as_ref(), url.as_ref().map(|url| url.scheme));
        let mut headers = self.headers(field, headers, auth.is_some());
        let authorization = match (auth, &url) {
            (None, _) => Some(None),
            (Some(_), None) => None,
            (Some(auth), Some(url)) => {
                let field = format!("{field}.auth.secretRef");
                let prefix = repository_prefix.as_deref().unwrap_or_default();
                let header = self.authorization(&field, &auth.secret_ref.name, url, prefix);
                self.resolve(header).map(Some)
            }
        };
        let dial_timeout_ms = match dial_timeout {
            None => Some(None),
            Some(text) => self.take(&format!("{field}.dialTimeout"), duration::dial_timeout(text)).map(Some),
        };
        let authorization = authorization?;
        let has_credentials = authorization.is_some();
        if let (Some(headers), Some(authorization)) = (&mut headers, authorization) {
            headers.push(authorization);
        }
        let (host, override_path) = host?;
        let api_root = host.api_root(override_path);
        Some((
            MirrorHost {
                url: host.to_string(),
                display_url,
                override_path,
                capabilities: capabilities?,
                tls: tls?,
                headers: headers?,
                has_credentials,
                dial_timeout_ms: dial_timeout_ms?,
            },
            api_root,
        ))
    }

    /// The url that containerd is given, and whether it is to take it as it stands.
    fn host(
        &mut self,
        field: &str,
        url: Option<&HostUrl>,
        prefix: Option<&str>,
        override_path: bool,
    ) -> Option<(HostUrl, bool)> {
        let prefix_field = format!("{field}.repositoryPrefix");
        let Some(prefix) = prefix else { return Some((url?.clone(), override_path)) };
        if override_path {
            self.refuse(
                prefix_field,
                "stands beside overridePath: leave overridePath out, or write the whole path, with /v2, into url",
            );
            return None;
        }
        if let Err(sentence) = check_prefix(prefix) {
            self.refuse(prefix_field, sentence);
            return None;
        }
        let url = url?;
        if !url.path.is_empty() {
            let path = &url.path;
            self.refuse(
                prefix_field,
                format!(
                    "stands beside a url with the path `{path}`: write the url without a path and the proxy cache's \
                     project alone as repositoryPrefix, or the whole path into url with overridePath: true"
                ),
            );
            return None;
        }
        Some((HostUrl { path: format!("/v2/{prefix}"), ..url.clone() }, true))
    }

    fn capabilities(&mut self, field: &str, capabilities: &[Capability]) -> Option<Vec<Capability>> {
        if capabilities.is_empty() {
            // containerd takes an empty list for all of them
            self.refuse(field, "is empty, which would mean all of them: write [pull, resolve], or leave it out");
            return None;
        }
        let mut sorted = capabilities.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() < capabilities.len() {
            self.refuse(field, "names a capability twice: write each once");
            return None;
        }
        Some(sorted)
    }
}

/// A repository path as the distribution specification has it.
fn check_prefix(prefix: &str) -> Result<(), String> {
    let trimmed = prefix.trim_matches('/');
    if trimmed != prefix {
        return Err(format!("`{prefix}` has a slash at its end or beginning: write `{trimmed}`"));
    }
    if let Some(rest) = prefix.strip_prefix("v2/") {
        return Err(format!("`{prefix}` begins with v2, which is added to the url anyway: write `{rest}`"));
    }
    let component = |part: &str| {
        let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        part.bytes().all(|b| alphanumeric(b) || matches!(b, b'.' | b'_' | b'-'))
            && part.bytes().next().is_some_and(alphanumeric)
            && part.bytes().last().is_some_and(alphanumeric)
    };
    if prefix.split('/').all(component) {
        Ok(())
    } else {
        Err(format!(
            "`{}` is no repository path: write lower-case letters, digits, `.`, `_` and `-`, for example dockerhub",
            prefix.escape_default()
        ))
    }
}
