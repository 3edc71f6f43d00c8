//! The rules of RegistryMirror that the API server checks at `kubectl apply` (CEL), each with a sentence that says what
//! to write instead.
//!
//! One fault, one sentence: a rule that looks at the whole of a value holds its peace where a rule for a part of it
//! has spoken already. The API server prices every rule by the longest value that the schema allows, so each string,
//! list and map of the schema has a bound. A value that may be secret is reported as `Forbidden`, which, unlike
//! `Invalid value`, does not repeat it.

use kube::core::{Reason, Rule};

/// One or more labels of a DNS name, lower case.
const DNS_NAME: &str = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\\\\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*";
/// An IPv6 address as it stands in a url; the address itself is parsed by the controller.
const IPV6: &str = "\\\\[[0-9a-f:.]+\\\\]";
/// From 1 to 65535.
const PORT: &str = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";

fn rule(rule: impl Into<String>, message: &str) -> Rule {
    Rule::new(rule).message(message)
}

/// A rule whose failure does not repeat the value.
fn secret_rule(expression: impl Into<String>, message: &str) -> Rule {
    rule(expression, message).reason(Reason::FieldValueForbidden)
}

/// Rules of `spec.registry`.
pub(crate) mod registry {
    use super::{DNS_NAME, IPV6, PORT, Rule, rule};

    pub(crate) fn immutable() -> Rule {
        rule(
            "self == oldSelf",
            "registry cannot be changed: create a RegistryMirror for the other registry and delete this one",
        )
    }

    pub(crate) fn no_scheme() -> Rule {
        rule("!self.contains('://')", "registry has a scheme: write the host alone, for example docker.io")
    }

    pub(crate) fn no_path() -> Rule {
        rule(
            "self.contains('://') || !self.contains('/')",
            "registry has a path: write the host alone, for example docker.io",
        )
    }

    pub(crate) fn docker_hub() -> Rule {
        rule(
            "!(self.lowerAscii() in ['index.docker.io', 'registry-1.docker.io', 'registry.hub.docker.com', 'hub.docker.com'])",
            "registry is an address of Docker Hub: write docker.io, the name that images carry",
        )
    }

    pub(crate) fn lower_case() -> Rule {
        rule(
            "self.contains('/') || self == self.lowerAscii()",
            "registry has upper-case letters: write it in lower case, as images carry it",
        )
    }

    pub(crate) fn port() -> Rule {
        rule(
            format!("self.contains('/') || !self.matches(':[^\\\\]]*$') || self.matches(':{PORT}$')"),
            "registry has no valid port: write host:port with a port from 1 to 65535",
        )
    }

    pub(crate) fn host() -> Rule {
        rule(
            format!(
                "self.contains('/') || self != self.lowerAscii() || self.matches('^(_default|({DNS_NAME}|{IPV6})(:[^\\\\]]*)?)$')"
            ),
            "registry is no host name: write host[:port], for example docker.io or registry.example.com:5000, or _default",
        )
    }

    /// Only a first part with a dot or a port, or `localhost`, makes an image reference name a registry
    /// (distribution/reference `splitDockerDomain`); `harbor/x` means `docker.io/harbor/x`.
    pub(crate) fn nameable() -> Rule {
        rule(
            "self.matches('[^a-z0-9-]') || self == 'localhost' || self == ''",
            "registry has neither a dot nor a port, so no image can name it: write the host as images carry it, for example docker.io",
        )
    }
}

/// Rules of a url, for the field that is named.
pub(crate) mod url {
    use super::{DNS_NAME, IPV6, PORT, Rule, rule, secret_rule};

    /// What a url may hold (RFC 3986), without the apostrophe, which would end a CEL string.
    const CHARACTERS: &str = "[-A-Za-z0-9:/.~_%?#@!$&()*+,;=\\\\[\\\\]]";

    pub(crate) fn scheme(field: &str) -> Rule {
        rule(
            "self.matches('^https?://')",
            &format!("{field} has no scheme: begin with https:// or http://, for example https://mirror.example.com"),
        )
    }

    pub(crate) fn no_user(field: &str, instead: &str) -> Rule {
        secret_rule("!self.matches('^[a-z]*://[^/?#]*@')", &format!("{field} carries a user or a password: {instead}"))
    }

    pub(crate) fn no_query(field: &str) -> Rule {
        secret_rule(
            "!self.contains('?')",
            &format!(
                "{field} has a query: leave out the question mark and what follows; containerd adds ?ns= by itself"
            ),
        )
    }

    pub(crate) fn no_fragment(field: &str) -> Rule {
        rule("!self.contains('#')", &format!("{field} has a fragment: leave out the # and what follows"))
    }

    pub(crate) fn characters(field: &str) -> Rule {
        rule(
            format!("self.matches('^{CHARACTERS}*$')"),
            &format!("{field} has a space or another character that no url holds: take it out"),
        )
    }

    pub(crate) fn host(field: &str) -> Rule {
        rule(
            format!(
                "!self.matches('^https?://{CHARACTERS}*$') || self.matches('[@?#]') || self.matches('^https?://({DNS_NAME}|{IPV6})(:{PORT})?(/.*)?$')"
            ),
            &format!(
                "{field} has no valid host: write https://host[:port][/path], the host in lower case, the port from 1 to 65535"
            ),
        )
    }

    pub(crate) fn path(field: &str) -> Rule {
        rule(
            "!self.matches('^https?://.*//')",
            &format!("{field} has an empty step in its path (//): write single slashes"),
        )
    }

    /// `server = "https://docker.io"` is taken literally (containerd core/remotes/docker/config/hosts.go) and serves
    /// no images.
    pub(crate) fn docker_hub(field: &str) -> Rule {
        rule(
            "!self.matches('^https?://(index[.])?docker[.]io(:443)?(/|$)')",
            &format!(
                "{field} names Docker Hub but not the host that serves its images: write https://registry-1.docker.io"
            ),
        )
    }
}

/// Rules of `spec.mirrors` and of each mirror.
pub(crate) mod mirror {
    use super::{Rule, rule};

    pub(crate) fn some() -> Rule {
        rule(
            "self.size() > 0",
            "mirrors is empty: name at least one mirror, for example - url: https://mirror.example.com",
        )
    }

    /// What a mirror comes out as: without a trailing slash, with its prefix, and without the `/v2` that containerd
    /// appends where it is missing.
    fn effective(name: &str) -> String {
        let url = format!("({name}.url.endsWith('/') ? {name}.url.substring(0, {name}.url.size() - 1) : {name}.url)");
        format!(
            "(has({name}.repositoryPrefix) ? {url} + '/v2/' + {name}.repositoryPrefix : {name}.url.matches('/v2/?$') ? \
             {name}.url.substring(0, {name}.url.lastIndexOf('/v2')) : {url})"
        )
    }

    pub(crate) fn unique() -> Rule {
        let (a, b) = (effective("a"), effective("b"));
        rule(
            format!("self.all(a, self.exists_one(b, {a} == {b}))"),
            "two mirrors come out as the same url: keep the first and take the other out",
        )
        .reason(super::Reason::FieldValueInvalid)
    }

    pub(crate) fn prefix_slashes() -> Rule {
        rule(
            "!self.startsWith('/') && !self.endsWith('/')",
            "repositoryPrefix begins or ends with a slash: leave it out, for example dockerhub",
        )
    }

    /// The grammar of a repository's path (distribution/reference): what stands in a request is prefix and repository.
    pub(crate) fn prefix_characters() -> Rule {
        rule(
            "self.startsWith('/') || self.endsWith('/') || \
             self.matches('^[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)*$')",
            "repositoryPrefix is no repository path: write lower-case letters and digits, joined by single . _ - or /, for example dockerhub",
        )
    }

    pub(crate) fn prefix_or_override() -> Rule {
        rule(
            "!(has(self.repositoryPrefix) && has(self.overridePath) && self.overridePath)",
            "repositoryPrefix and overridePath exclude each other: keep repositoryPrefix, or write the whole path into url and keep overridePath",
        )
    }

    pub(crate) fn prefix_without_path() -> Rule {
        rule(
            "!has(self.repositoryPrefix) || (has(self.overridePath) && self.overridePath) || \
             !self.url.matches('^https?://[^/]+/+[^/]')",
            "repositoryPrefix needs a url without a path: write url: https://host[:port], or leave repositoryPrefix out, \
             write the whole path into url (…/v2/project) and set overridePath: true",
        )
    }

    pub(crate) fn some_capability() -> Rule {
        rule(
            "self.size() > 0",
            "capabilities is empty: name pull, resolve, push or referrers, or leave capabilities out for pull and resolve",
        )
    }

    pub(crate) fn unique_capabilities() -> Rule {
        rule("self.all(a, self.exists_one(b, a == b))", "capabilities names one twice: name each of them once")
    }

    pub(crate) fn auth_or_header() -> Rule {
        rule(
            "!has(self.auth) || !has(self.headers) || self.headers.all(h, h.name.lowerAscii() != 'authorization')",
            "auth and a header Authorization exclude each other: keep auth and take the header out, or the other way round",
        )
    }
}

/// Rules of `tls`.
pub(crate) mod tls {
    use super::{Rule, rule, secret_rule};

    pub(crate) fn ca_or_ref() -> Rule {
        rule(
            "!(has(self.ca) && has(self.caRef))",
            "ca and caRef exclude each other: write the certificates into ca, or name the object that holds them in caRef",
        )
    }

    pub(crate) fn ca_is_pem() -> Rule {
        secret_rule(
            "self.contains('-----BEGIN CERTIFICATE-----') && self.contains('-----END CERTIFICATE-----')",
            "ca holds no certificate: write PEM, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----",
        )
    }

    pub(crate) fn ca_is_public() -> Rule {
        secret_rule(
            "!self.contains('PRIVATE KEY-----')",
            "ca holds a private key: write certificates alone, and replace that key, which others may have seen by now",
        )
    }

    /// `url` is the field beside `tls`; `insecureSkipVerify` on plain http is legal: containerd then tries HTTPS first.
    pub(crate) fn needs_https(url: &str) -> Rule {
        rule(
            format!(
                "!has(self.{url}) || !self.{url}.startsWith('http://') || !has(self.tls) || \
                 !(has(self.tls.ca) || has(self.tls.caRef) || has(self.tls.clientCertRef))"
            ),
            &format!(
                "{url} is plain http, which knows no certificates: write https://, or leave ca, caRef and clientCertRef out"
            ),
        )
    }
}

/// Rules of `headers`.
pub(crate) mod header {
    use super::{Rule, rule, secret_rule};

    /// Go's HTTP client joins names that differ in case alone, and TOML refuses the same key twice.
    pub(crate) fn unique() -> Rule {
        rule(
            "self.all(a, self.exists_one(b, a.name.lowerAscii() == b.name.lowerAscii()))",
            "headers names one header twice: write all of its values into one entry",
        )
    }

    /// RFC 9110, section 5.6.2 (token).
    pub(crate) fn name() -> Rule {
        rule(
            "self.matches('^[-!#$%&*+.^_`|~0-9A-Za-z]+$')",
            "name is no header name: write letters, digits and hyphens, for example X-Tenant",
        )
    }

    /// containerd looks for credentials under this name and no other.
    pub(crate) fn authorization() -> Rule {
        rule(
            "self == 'Authorization' || self.lowerAscii() != 'authorization'",
            "name is not how containerd looks for credentials: write Authorization, with a capital A and the rest in lower case",
        )
    }

    pub(crate) fn one_source() -> Rule {
        secret_rule(
            "!(has(self.values) && self.values.size() > 0 && has(self.valueFrom))",
            "values and valueFrom exclude each other: keep one of them",
        )
    }

    pub(crate) fn some_source() -> Rule {
        rule(
            "(has(self.values) && self.values.size() > 0) || has(self.valueFrom)",
            "the header has no value: write values, or valueFrom to take it from a Secret",
        )
    }

    pub(crate) fn one_line() -> Rule {
        secret_rule(
            "!self.exists(v, v.matches('[[:cntrl:]]'))",
            "a header's value has a line break, a tab or another control character: write it on one line",
        )
    }
}

/// Rules of `upstream`, and of the spec where they join it with the rest.
pub(crate) mod upstream {
    use super::{Rule, rule};

    pub(crate) fn deny_or_server() -> Rule {
        rule(
            "!(has(self.server) && has(self.fallback) && self.fallback == 'Deny')",
            "fallback: Deny keeps nodes away from the upstream: leave server out, or write fallback: Allow",
        )
    }

    pub(crate) fn deny_or_tls() -> Rule {
        rule(
            "!(has(self.tls) && has(self.fallback) && self.fallback == 'Deny')",
            "fallback: Deny never reaches the upstream: leave upstream.tls out; each mirror has its own tls",
        )
    }

    /// A tag is asked of hosts with `pull` and `resolve` alone (`dockerResolver.Resolve`, all releases), so no other mirror
    /// can stand in for the upstream.
    pub(crate) fn deny_needs_pull_and_resolve() -> Rule {
        rule(
            "!(has(self.upstream) && has(self.upstream.fallback) && self.upstream.fallback == 'Deny') || \
             self.mirrors.exists(m, !has(m.capabilities) || m.capabilities.size() == 0 || ('pull' in m.capabilities && 'resolve' in m.capabilities))",
            "fallback: Deny needs a mirror that can both pull and resolve, for it takes the upstream's place: give one mirror both capabilities",
        )
    }

    pub(crate) fn default_has_no_server() -> Rule {
        rule(
            "self.registry != '_default' || !has(self.upstream) || !has(self.upstream.server)",
            "upstream.server does not fit _default, whose registries have an upstream each: leave it out, or list that server as the last mirror with fallback: Deny",
        )
    }

    pub(crate) fn default_has_no_client_certificate() -> Rule {
        rule(
            "self.registry != '_default' || !has(self.upstream) || !has(self.upstream.tls) || !has(self.upstream.tls.clientCertRef)",
            "upstream.tls.clientCertRef does not fit _default, for every registry would be shown the same certificate: leave it out, or write a RegistryMirror for the registry that wants it",
        )
    }
}

/// Rules of references by name.
pub(crate) mod reference {
    use super::{Rule, rule};

    pub(crate) fn name() -> Rule {
        rule(
            "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
            "name is no object's name: write the name alone, in lower case; it is looked up in the operator's own namespace",
        )
    }

    pub(crate) fn key() -> Rule {
        rule(
            "self.matches('^[-._a-zA-Z0-9]+$')",
            "key is no key of a Secret or ConfigMap: write letters, digits, dots, hyphens and underscores, for example ca.crt",
        )
    }
}

/// Rules of a time that is written like `30s`.
pub(crate) mod duration {
    use super::{Rule, rule};

    /// Go's duration, without a sign, without units that nobody means here, and too short to overflow.
    const FORM: &str = "^([0-9]{1,5}([.][0-9]{1,3})?(ms|s|m|h))+$";

    pub(crate) fn form(field: &str) -> Rule {
        rule(
            format!("self.matches('{FORM}')"),
            &format!("{field} is no duration: write a number and a unit (ms, s, m, h), for example 3s or 1m30s"),
        )
    }

    pub(crate) fn range(field: &str, from: &str, to: &str) -> Rule {
        rule(
            format!(
                "!self.matches('{FORM}') || (duration(self) >= duration('{from}') && duration(self) <= duration('{to}'))"
            ),
            &format!("{field} is out of range: write a duration from {from} to {to}"),
        )
    }
}

/// Rules of label selectors.
pub(crate) mod selector {
    use super::{Rule, rule};

    const LABEL_KEY: &str = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
    const LABEL_VALUE: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$";

    pub(crate) fn needs_values() -> Rule {
        rule(
            "!(self.operator in ['In', 'NotIn']) || (has(self.values) && self.values.size() > 0)",
            "operator In and NotIn compare with values: write at least one, or use Exists or DoesNotExist",
        )
    }

    pub(crate) fn needs_no_values() -> Rule {
        rule(
            "!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || self.values.size() == 0",
            "operator Exists and DoesNotExist take no values: leave values out, or use In or NotIn",
        )
    }

    pub(crate) fn key() -> Rule {
        rule(
            format!("self.matches('{LABEL_KEY}')"),
            "key is no label key: write [prefix/]name, for example topology.kubernetes.io/region",
        )
    }

    pub(crate) fn values() -> Rule {
        rule(
            format!("self.all(v, v.matches('{LABEL_VALUE}'))"),
            "a value is no label value: write at most 63 letters, digits, dots, hyphens and underscores, without one of these signs at either end",
        )
    }

    /// The keys are checked by the controller: a map's keys have no bound in a schema, so no rule may look at them.
    pub(crate) fn labels() -> Rule {
        rule(
            format!("self.all(k, self[k].matches('{LABEL_VALUE}'))"),
            "matchLabels holds a value that is no label value: write at most 63 letters, digits, dots, hyphens and underscores, without one of these signs at either end",
        )
    }
}
