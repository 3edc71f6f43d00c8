//! What a given containerd cannot express, for people.

use std::fmt;

use crate::containerd::Version;

/// Something that this containerd cannot express and that was left out of the file.
///
/// What is left narrows what a host is asked for, or leaves the host out: it is never widened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Omitted {
    /// The host.
    pub url: String,
    /// What was left out.
    pub what: Omission,
    /// The daemon's release.
    pub version: Version,
}

/// What was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Omission {
    /// `referrers` is unknown before 2.2 and would spoil the whole file.
    Referrers,
    /// The host, which was for referrers alone.
    Host,
    /// `dial_timeout` is ignored before 2.0.7.
    DialTimeout,
    /// `dial_timeout` makes this release try HTTPS on a host that is meant for plain HTTP.
    DialTimeoutOnHttp,
    /// A second entry for the same url, which TOML does not allow.
    Duplicate,
}

impl fmt::Display for Omitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, what, version } = self;
        match what {
            Omission::Referrers => write!(
                f,
                "{url} is not asked for referrers: containerd {version} does not know this capability, 2.2.0 is the \
                 first that does"
            ),
            Omission::Host => write!(
                f,
                "{url} is left out: it is for referrers alone, and containerd {version} does not know this capability, \
                 2.2.0 is the first that does"
            ),
            Omission::DialTimeout => write!(
                f,
                "the dialTimeout of {url} has no effect: containerd {version} waits 30 seconds for a connection \
                 whatever the file says, 2.0.7 is the first that obeys"
            ),
            Omission::DialTimeoutOnHttp => write!(
                f,
                "the dialTimeout of {url} is left out: with it containerd {version} would try HTTPS first on this \
                 plain http host; leave it out, or upgrade containerd to 2.1.9 or later"
            ),
            Omission::Duplicate => write!(f, "{url} is listed twice: the first entry counts"),
        }
    }
}
