//! What a restart changes, and for which nodes one that went well is an example.

use std::fmt;

use jiff::Timestamp;
use registry_mirror_crds::{PlanChange, PlanKind};
use serde::{Deserialize, Serialize};

use crate::{containerd::Version, digest::Digest};

/// Names what a restart changes, whatever else stands in a node's files: a plan's own hash differs where two nodes'
/// files differ in one unrelated byte, so it cannot say that a change went well elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChangeHash(String);

impl ChangeHash {
    /// As the agent wrote it.
    #[must_use]
    pub const fn new(hash: String) -> Self {
        Self(hash)
    }

    /// Of a plan of this kind that sets these keys. What stood there before makes no difference.
    #[must_use]
    pub fn of(kind: PlanKind, changes: &[PlanChange]) -> Self {
        let mut text = kind.name().to_owned();
        for PlanChange { file, key, from: _, to } in changes {
            for field in [Some(file), Some(key), to.as_ref()] {
                // NUL stands in no path and in no TOML key, so no two lists come out alike.
                text.push('\0');
                text.push_str(field.map_or("-", String::as_str));
            }
        }
        Self(Digest::of(text.as_bytes()).short().to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChangeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Nodes among which one is an example of the others: a minor release of containerd on one kind of host.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cohort {
    /// containerd's major and minor release; `None` where it is not known.
    pub release: Option<(u16, u16)>,
    /// The kind of host, for example `kubeadm`; empty where it is not known.
    pub distribution: Box<str>,
}

impl Cohort {
    /// From what an agent says of its containerd.
    #[must_use]
    pub fn new(version: &str, distribution: &str) -> Self {
        let release = version.parse::<Version>().ok().map(|version| (version.major, version.minor));
        Self { release, distribution: distribution.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_named_by_what_it_sets() {
        let set = |from: Option<&str>, to: &str| PlanChange {
            file: "/etc/containerd/config.toml".to_owned(),
            key: "config_path".to_owned(),
            from: from.map(str::to_owned),
            to: Some(to.to_owned()),
        };
        let named = |kind, change: PlanChange| ChangeHash::of(kind, &[change]);
        let patch = named(PlanKind::Patch, set(None, "/a"));
        assert_eq!(patch, named(PlanKind::Patch, set(Some("/old"), "/a")));
        assert_ne!(patch, named(PlanKind::Patch, set(None, "/b")));
        assert_ne!(patch, named(PlanKind::Migrate, set(None, "/a")));
        assert_ne!(patch, ChangeHash::of(PlanKind::Patch, &[]));
    }

    #[test]
    fn patch_releases_and_suffixes_make_no_cohort_of_their_own() {
        assert_eq!(Cohort::new("1.7.13", "kubeadm"), Cohort::new("v1.7.35-k3s1", "kubeadm"));
        assert_ne!(Cohort::new("1.7.13", "kubeadm"), Cohort::new("1.6.20", "kubeadm"));
        assert_ne!(Cohort::new("1.7.13", "kubeadm"), Cohort::new("1.7.13", "k3s"));
    }
}

/// A restart that went well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvedRestart {
    /// What it changed.
    pub change: ChangeHash,
    /// When.
    pub at: Timestamp,
}
