//! The steps on the host.

use std::{fmt, path::Path};

use super::{Backup, Bytes, Original};

/// A file two levels below certs.d.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath {
    /// The registry's directory.
    pub directory: String,
    /// The file in it.
    pub name: String,
}

impl FilePath {
    pub(super) fn new(directory: &str, name: &str) -> Self {
        Self { directory: directory.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.directory, self.name)
    }
}

/// One step. Each leaves whole files behind, wherever the process ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Store a copy of what stands there in the state directory. It is read again and must be what was planned for.
    BackUp {
        /// The foreign file.
        path: FilePath,
        /// Under which name, and what it is.
        backup: Backup,
    },
    /// Make a directory (mode 0755).
    CreateDirectory {
        /// Its name.
        name: String,
    },
    /// Write a file, replacing whatever file or symlink stands there.
    Write {
        /// Where.
        path: FilePath,
        /// Every byte.
        content: Bytes,
        /// Permission bits.
        mode: u32,
    },
    /// Put a backup back, with its mode and owner.
    Restore {
        /// Where.
        path: FilePath,
        /// Which.
        backup: Backup,
    },
    /// Remove a file or symlink.
    Remove(FilePath),
    /// Give a directory another name, which is free.
    MoveDirectory {
        /// The name now.
        from: String,
        /// The name then.
        to: String,
    },
    /// Remove a directory if nothing is in it.
    RemoveDirectory {
        /// Its name.
        name: String,
    },
}

impl Op {
    /// The step in words, for `node plan` and logs; never a file's content.
    #[must_use]
    pub fn describe(&self, certs_d: &Path) -> String {
        let certs_d = certs_d.display();
        match self {
            Self::BackUp { path, .. } => format!("back up {certs_d}/{path}"),
            Self::CreateDirectory { name } => format!("create {certs_d}/{name}/"),
            Self::Write { path, content: Bytes(content), mode } => {
                format!("write {certs_d}/{path} ({} bytes, mode {mode:04o})", content.len())
            }
            Self::Restore { path, backup } => match &backup.original {
                Original::File { .. } => format!("restore {certs_d}/{path} from its backup"),
                Original::Symlink { target } => {
                    format!("restore {certs_d}/{path} from its backup (symbolic link to {target})")
                }
            },
            Self::Remove(path) => format!("remove {certs_d}/{path}"),
            Self::MoveDirectory { from, to } => format!("rename {certs_d}/{from}/ to {certs_d}/{to}/"),
            Self::RemoveDirectory { name } => format!("remove {certs_d}/{name}/ if it is empty"),
        }
    }
}
