//! One certs.d under several nodes (KinD with `extraMounts`): one of them writes it so that all can read it, the others
//! stand by.
//!
//! The nodes are containers of one machine, so they share its kernel: a file lock in the directory says who writes, and
//! it is free again the moment its holder dies. A node counts while it holds that lock or waits for it. What is in force
//! is told by the files themselves: whoever stands by compares them with what it would have written.

use std::path::{Path, PathBuf};

use super::ConfigPlan;
use crate::{
    bundle::{Entry, Upstream},
    containerd::Version,
};

/// Holds the locks and, because whoever writes next needs it, what is recorded of the directory. No registry can be
/// called so, and containerd reads no directory of certs.d but those named after registries.
pub const DIRECTORY: &str = ".registry-mirror-shared";
/// Locked by the node that writes.
pub const WRITER_LOCK: &str = "writer.lock";
/// Begins the name of the file that a node locks while it writes or waits; its machine id comes after it.
pub const NODE_PREFIX: &str = "node-";

/// What all nodes of a shared directory are taken for, because nobody asks which containerd the others have: the oldest
/// release that the matrix runs. What it understands the later ones understand too, but see [`Role::obstacle`].
const OLDEST_SUPPORTED: Version = Version::new(1, 6, 20);

/// A node's part in its directory: what it knows, without the locks that it holds for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Nobody else has the directory: an ordinary node.
    Alone,
    /// It writes, for all that read it.
    Writer {
        /// The other nodes, as people know them (`node kind-worker`).
        waiting: Vec<String>,
    },
    /// Another node writes.
    StandBy {
        /// That node, as people know it.
        writer: String,
    },
}

impl Role {
    /// The release that files are rendered for.
    #[must_use]
    pub const fn reader(&self, own: Version) -> Version {
        match self {
            Self::Alone => own,
            Self::Writer { .. } | Self::StandBy { .. } => OLDEST_SUPPORTED,
        }
    }

    /// The directories that the node plans together. Who shares its first one has agreed with others on that one.
    #[must_use]
    pub fn roots(&self, plan: &ConfigPlan) -> Vec<PathBuf> {
        let mut roots = plan.roots();
        if *self != Self::Alone {
            roots.truncate(1);
        }
        roots
    }

    /// Why no file for an entry is read alike by all that read the directory, in a sentence; `None` where one is.
    ///
    /// containerd 1.x refuses a file with brackets in a table header, 2.x asks only hosts that have a header.
    #[must_use]
    pub fn obstacle(&self, entry: &Entry) -> Option<String> {
        let upstream = match (self, &entry.upstream) {
            (Self::Alone, _) => return None,
            (_, Upstream::Server { url, .. }) => url.as_deref(),
            (_, Upstream::Registry | Upstream::Denied) => None,
        };
        let mut urls = entry.mirrors.iter().map(|mirror| mirror.display_url.as_str()).chain(upstream);
        let url = urls.find(|url| url.contains('['))?;
        Some(format!(
            "the directory is shared by several nodes, and containerd 1.x and 2.x cannot both read one file with the \
             IPv6 address of {url} in it: give that host a name"
        ))
    }

    /// Why old registry tables cannot be carried over into the directory, in a sentence; `None` where they can.
    #[must_use]
    pub fn forbids_migration(&self, plan: &ConfigPlan) -> Option<String> {
        let (ConfigPlan::Migrate { .. }, Some(directory), Some(edit)) = (plan, plan.directory(), plan.edit()) else {
            return None;
        };
        let others = match self {
            Self::Alone => return None,
            Self::Writer { waiting } => waiting.join(", "),
            Self::StandBy { writer } => writer.clone(),
        };
        (!others.is_empty()).then(|| {
            format!(
                "{} is shared with {others}, so the old registry tables of {} cannot be carried over into it without \
                 changing what is pulled from there: write a RegistryMirror for each of these registries, then take the \
                 tables out of the file",
                directory.display(),
                edit.file.display()
            )
        })
    }
}

/// Whether other nodes may have a directory too: it is a mount of its own, or lies on one below `/etc`, as KinD's
/// `extraMounts` make it.
///
/// `/etc` as a whole may be an overlay or a bind mount on any node, and the data of K3s often has a disk of its own; such
/// mounts say nothing of other nodes. A file system of which all is mounted there is a disk or a tmpfs of this node.
///
/// `certs_d` has its symlinks resolved and is seen below `host_root`, `mount` is the number of the mount that it lies on
/// and `mountinfo` the kernel's list (proc_pid_mountinfo(5)).
#[must_use]
pub fn may_be_shared(mountinfo: &str, host_root: &Path, mount: u64, certs_d: &Path) -> bool {
    let is_it = |line: &&str| line.split(' ').next().is_some_and(|id| id.parse() == Ok(mount));
    let mut fields = mountinfo.lines().find(is_it).unwrap_or_default().split(' ').skip(3);
    let (Some(part), Some(point)) = (fields.next(), fields.next()) else { return false };
    // A mount that the host's root itself lies on begins above that.
    let Ok(point) = Path::new(point).strip_prefix(host_root) else { return false };
    let point = Path::new("/").join(point);
    let etc = Path::new("/etc");
    part != "/" && (point == certs_d || (point != etc && point.starts_with(etc) && certs_d.starts_with(&point)))
}

#[cfg(test)]
mod tests;
