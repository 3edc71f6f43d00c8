//! What containerd asks after the mirrors.

use registry_mirror_crds::{self as crds, Capability, Fallback};

use super::{
    Compiler,
    url::{HostUrl, Scheme},
};
use crate::bundle::{MirrorHost, Upstream};

impl Compiler<'_> {
    /// `mirrors` is `None` where one of them is refused.
    pub(super) fn upstream(
        &mut self,
        upstream: Option<&crds::Upstream>,
        mirrors: Option<&[MirrorHost]>,
        is_default: bool,
    ) -> Option<Upstream> {
        let Some(upstream) = upstream else { return Some(Upstream::Registry) };
        let crds::Upstream { server, fallback, tls } = upstream;
        if *fallback == Fallback::Deny {
            return self.denied(server.is_some(), tls.is_some(), mirrors);
        }
        if is_default && server.is_some() {
            self.refuse(
                "spec.upstream.server",
                "does not fit _default, whose registries have an upstream each: leave it out, or write that server as \
                 the last mirror and fallback: Deny",
            );
            return None;
        }
        if is_default && tls.as_ref().is_some_and(|tls| tls.client_cert_ref.is_some()) {
            self.refuse(
                "spec.upstream.tls.clientCertRef",
                "does not fit _default, for every registry would be shown the same certificate: leave it out, and \
                 write a RegistryMirror for the registry that wants it",
            );
            return None;
        }
        let url = match server {
            None => Some(None),
            Some(text) => self.server(text).map(Some),
        };
        let scheme = url.as_ref().map(|url| url.as_ref().map_or(Scheme::Https, |url| url.scheme));
        let compiled = self.tls("spec.upstream.tls", tls.as_ref(), scheme);
        let (url, compiled) = (url?, compiled?);
        if url.is_none() && tls.is_none() {
            return Some(Upstream::Registry);
        }
        Some(Upstream::Server { url: url.map(|url| url.to_string()), tls: compiled })
    }

    fn denied(&mut self, has_server: bool, has_tls: bool, mirrors: Option<&[MirrorHost]>) -> Option<Upstream> {
        let problems_before = self.problems.len();
        if has_server {
            self.refuse(
                "spec.upstream.server",
                "stands beside fallback: Deny, which never reaches it: leave server out, or write fallback: Allow",
            );
        }
        if has_tls {
            self.refuse(
                "spec.upstream.tls",
                "stands beside fallback: Deny, which never uses it: leave it out; a mirror has its own tls",
            );
        }
        // The root of hosts.toml repeats such a mirror; a tag is asked of no other (`Capabilities::resolve_tags`).
        let resolves = |mirror: &MirrorHost| {
            [Capability::Pull, Capability::Resolve].iter().all(|needed| mirror.capabilities.contains(needed))
        };
        if mirrors.is_some_and(|mirrors| !mirrors.iter().any(resolves)) {
            self.refuse(
                "spec.upstream.fallback",
                "is Deny, and no mirror can both pull and resolve, which containerd asks for a tag: give one mirror \
                 both capabilities",
            );
        }
        (self.problems.len() == problems_before).then_some(Upstream::Denied)
    }

    fn server(&mut self, text: &str) -> Option<HostUrl> {
        let field = "spec.upstream.server";
        let url = self.take(field, HostUrl::parse(text))?;
        if url.is_docker_hub_name() {
            self.refuse(
                field,
                format!("`{url}` does not serve images: write https://registry-1.docker.io, or leave server out"),
            );
            return None;
        }
        Some(url)
    }
}
