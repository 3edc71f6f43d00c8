//! The containerd version of a node, and what differs between versions.
//!
//! Each fact names the releases that it was read from; the matrix test asks the daemons themselves.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A containerd release, without build or distribution suffixes.
///
/// `1.6.20~ds1`, `v2.1.4-k3s1` and `2.4.2` are all read; what follows the third number is dropped, because the
/// distributions' suffixes do not change how registry configuration is read. One does: K3s's and RKE2's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Version {
    /// 1 or 2.
    pub major: u16,
    /// 0 to 7 so far.
    pub minor: u16,
    /// The patch release.
    pub patch: u16,
    /// The build of K3s's fork, which RKE2 has too: 1 of `2.1.5-k3s1`.
    pub k3s: Option<u16>,
}

/// The text is not a containerd version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a containerd version: write it as MAJOR.MINOR.PATCH, for example 2.1.4")]
pub struct VersionError(String);

impl Version {
    /// A release by its three numbers.
    #[must_use]
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch, k3s: None }
    }

    /// `true` for the 1.x line, which merges imported plugin tables by replacing them whole.
    #[must_use]
    pub const fn is_v1(self) -> bool {
        self.major == 1
    }

    const fn at_least(self, major: u16, minor: u16, patch: u16) -> bool {
        self.major > major
            || (self.major == major && (self.minor > minor || (self.minor == minor && self.patch >= patch)))
    }

    /// CRI pulls go through the transfer service, which takes a colon list in `config_path` for one directory (2.1+).
    #[must_use]
    pub const fn pulls_through_transfer_service(self) -> bool {
        self.at_least(2, 1, 0)
    }

    /// An unset `config_path` becomes `/etc/containerd/certs.d:/etc/docker/certs.d` (2.2+).
    #[must_use]
    pub const fn defaults_to_colon_list(self) -> bool {
        self.at_least(2, 2, 0)
    }

    /// The default colon list applies only where `mirrors` is empty too (2.2.2+); 2.2.0 and 2.2.1 set it in any case.
    #[must_use]
    pub const fn defaults_only_without_mirrors(self) -> bool {
        self.at_least(2, 2, 2)
    }

    /// `capabilities` may hold `referrers` (2.2+); an older daemon refuses the whole file.
    #[must_use]
    pub const fn knows_referrers(self) -> bool {
        self.at_least(2, 2, 0)
    }

    /// `dial_timeout` is obeyed (2.0.7+, 2.1.0+); older daemons ignore the unknown field.
    #[must_use]
    pub const fn knows_dial_timeout(self) -> bool {
        self.at_least(2, 0, 7)
    }

    /// A hosts.toml `Authorization` header is forwarded to the token server of a registry (2.1+).
    #[must_use]
    pub const fn forwards_authorization_to_token_server(self) -> bool {
        self.at_least(2, 1, 0)
    }

    /// A hosts.toml with a host and without the key `server` has no upstream: the last host is the last that is asked.
    /// K3s's fork alone (`parseHostsFile` of github.com/k3s-io/containerd, read at 2.1.5-k3s1 and seen on it); `server =
    /// ""` is the registry itself there and everywhere.
    #[must_use]
    pub const fn needs_server_for_upstream(self) -> bool {
        self.k3s.is_some()
    }

    /// `registry.configs.<host>.tls` is read (1.x); 2.0 removed it and only warns.
    #[must_use]
    pub const fn reads_configs_tls(self) -> bool {
        self.is_v1()
    }

    /// The `_default` directory is looked up (1.6.17+, 1.7+).
    #[must_use]
    pub const fn knows_default_directory(self) -> bool {
        self.at_least(1, 6, 17)
    }

    /// An `http://` host with TLS settings is asked by https first, and by http where it speaks no TLS (1.6.25, 1.7.7 and
    /// later: `docker.HTTPFallback` in remotes/docker/config/hosts.go). Before, it is asked by http.
    #[must_use]
    pub const fn prefers_https_where_tls_is_configured(self) -> bool {
        match (self.major, self.minor) {
            (1, 6) => self.patch >= 25,
            _ => self.at_least(1, 7, 7),
        }
    }

    /// A table header with an IPv6 literal in it is read (2.x); on 1.x it spoils the whole file, which must hold
    /// dotted keys at the root instead.
    #[must_use]
    pub const fn reads_ipv6_host_headers(self) -> bool {
        !self.is_v1()
    }

    /// The newest `version` of config.toml that the daemon accepts; a newer one is a start-up error.
    #[must_use]
    pub const fn newest_config_version(self) -> u32 {
        if self.is_v1() {
            2
        } else if self.at_least(2, 3, 0) {
            4
        } else {
            3
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { major, minor, patch, k3s } = self;
        write!(f, "{major}.{minor}.{patch}")?;
        k3s.map_or(Ok(()), |build| write!(f, "-k3s{build}"))
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || VersionError(text.chars().take(64).collect());
        let trimmed = text.trim();
        let numbers = trimmed.strip_prefix('v').unwrap_or(trimmed);
        let mut parts = numbers.splitn(3, '.');
        let mut number = |suffix_allowed: bool| {
            let part = parts.next().ok_or_else(refused)?;
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 || (digits < part.len() && !suffix_allowed) {
                return Err(refused());
            }
            part[..digits].parse::<u16>().map_err(|_| refused())
        };
        let release = Self::new(number(false)?, number(false)?, number(true)?);
        let build = numbers.split_once("-k3s").and_then(|(_, rest)| {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            rest[..digits].parse().ok()
        });
        Ok(Self { k3s: build, ..release })
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_spellings_of_distributions() {
        for (text, expected) in [
            ("1.6.20~ds1", Version::new(1, 6, 20)),
            ("v2.1.4-k3s1", Version { k3s: Some(1), ..Version::new(2, 1, 4) }),
            ("1.7.23-k3s2.27", Version { k3s: Some(2), ..Version::new(1, 7, 23) }),
            ("2.4.2", Version::new(2, 4, 2)),
            ("2.2.0-rc.1", Version::new(2, 2, 0)),
            ("1.7.24+unknown\n", Version::new(1, 7, 24)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    /// The state directory and NodeMirror keep it as text.
    #[test]
    fn a_build_of_the_fork_is_kept() {
        let version: Version = "v2.1.5-k3s1".parse().expect("a version");
        assert_eq!(version.to_string().parse(), Ok(version));
        assert!(version.needs_server_for_upstream() && !Version::new(2, 1, 5).needs_server_for_upstream());
    }

    #[test]
    fn refuses_what_is_no_version() {
        for text in ["", "2", "2.1", "two.one.zero", "2.x.1", "2.1.", "70000.0.0"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    #[test]
    fn facts_change_at_the_release_that_changed_them() {
        assert!(!Version::new(2, 0, 6).knows_dial_timeout() && Version::new(2, 0, 7).knows_dial_timeout());
        assert!(!Version::new(2, 0, 14).pulls_through_transfer_service());
        assert!(Version::new(2, 1, 0).pulls_through_transfer_service());
        assert!(!Version::new(2, 1, 9).defaults_to_colon_list() && Version::new(2, 2, 0).defaults_to_colon_list());
        assert!(!Version::new(1, 6, 16).knows_default_directory() && Version::new(1, 7, 0).knows_default_directory());
        for (last, first) in [((1, 6, 24), (1, 6, 25)), ((1, 7, 6), (1, 7, 7))] {
            let prefers =
                |(major, minor, patch)| Version::new(major, minor, patch).prefers_https_where_tls_is_configured();
            assert!(!prefers(last) && prefers(first));
        }
        assert_eq!(Version::new(2, 2, 9).newest_config_version(), 3);
        assert_eq!(Version::new(2, 3, 0).newest_config_version(), 4);
    }
}
