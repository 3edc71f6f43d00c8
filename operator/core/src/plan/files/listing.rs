//! What stands in certs.d.

use std::{collections::BTreeMap, fmt};

use crate::{
    digest::Digest,
    provenance::{self, Provenance},
    registry::RegistryName,
};

use super::HOSTS_TOML;

/// The entries of certs.d by name; empty where the directory does not exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// By name. A name that is no UTF-8 is shown with replacement characters; nothing of ours has such a name.
    pub entries: BTreeMap<String, Entry>,
}

/// One entry of certs.d.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A registry's directory, as it should be.
    Directory(Directory),
    /// A regular file.
    File,
    /// A symbolic link, wherever it leads.
    Symlink {
        /// What it says.
        target: String,
        /// What stands in the directory that it leads to; `None` where it leads to none.
        leads_to: Option<Directory>,
    },
    /// A socket, device or pipe.
    Other,
}

/// A registry's directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    /// By name.
    pub files: BTreeMap<String, FileEntry>,
}

/// One entry of a registry's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileEntry {
    /// A regular file.
    Regular {
        /// Permission bits.
        mode: u32,
        /// The owner's number.
        uid: u32,
        /// The group's number.
        gid: u32,
        /// Read only where the plan depends on it: hosts.toml, `.pem` files, and what containerd takes for certificates
        /// and keys. `None` for all others, and where the file is too large to be what its name says.
        content: Option<Bytes>,
    },
    /// A symbolic link.
    Symlink {
        /// What it says.
        target: String,
        /// What containerd reads through it, for certificates and keys; `None` for all others, and where nothing can be
        /// read.
        content: Option<Bytes>,
    },
    /// A directory.
    Directory,
    /// A socket, device or pipe.
    Other,
}

/// A file's content. `Debug` shows its length alone, because hosts.toml may hold credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

impl Listing {
    /// Whether the hosts.toml of a registry was written for this object.
    #[must_use]
    pub fn serves(&self, registry: &RegistryName, object: &str) -> bool {
        match self.entries.get(&registry.directory()) {
            Some(Entry::Directory(directory)) => directory.object().is_some_and(|ours| ours == object),
            _ => false,
        }
    }

    /// The content of a registry's hosts.toml.
    pub(crate) fn hosts_toml(&self, registry: &RegistryName) -> Option<&[u8]> {
        match self.entries.get(&registry.directory()) {
            Some(Entry::Directory(directory)) => directory.hosts_toml(),
            _ => None,
        }
    }
}

impl Entry {
    /// Whether something in it was written by the operator.
    pub(super) fn has_ours(&self) -> bool {
        match self {
            Self::Directory(directory) => {
                directory.hosts_are_ours() || directory.files.iter().any(|(name, file)| file.is_our_certificate(name))
            }
            Self::File | Self::Symlink { .. } | Self::Other => false,
        }
    }
}

impl Directory {
    /// Whether the marker of hosts.toml says that it is ours.
    pub(super) fn hosts_are_ours(&self) -> bool {
        self.object().is_some()
    }

    /// The object that hosts.toml was written for, where it is ours.
    pub(crate) fn object(&self) -> Option<String> {
        match provenance::of(self.hosts_toml()?) {
            Provenance::Ours { object, .. } => Some(object),
            Provenance::Foreign => None,
        }
    }

    fn hosts_toml(&self) -> Option<&[u8]> {
        match self.files.get(HOSTS_TOML) {
            Some(FileEntry::Regular { content: Some(Bytes(content)), .. }) => Some(content),
            _ => None,
        }
    }
}

/// Whether a file with this name is a certificate or key to containerd, where no hosts.toml stands beside it.
#[must_use]
pub fn is_docker_style(name: &str) -> bool {
    [".crt", ".cert", ".key"].iter().any(|suffix| name.ends_with(suffix))
}

impl FileEntry {
    /// Whether unlinking it removes it.
    pub(super) fn is_removable(&self) -> bool {
        matches!(self, Self::Regular { .. } | Self::Symlink { .. })
    }

    /// Whether its name ends in the hash of its content, as only ours do: `ca-0123456789abcdef.pem`.
    pub(super) fn is_our_certificate(&self, name: &str) -> bool {
        let Self::Regular { content: Some(Bytes(content)), .. } = self else { return false };
        name.strip_suffix(".pem")
            .and_then(|stem| stem.rsplit_once('-'))
            .is_some_and(|(_, hash)| hash == Digest::of(content).short())
    }
}
