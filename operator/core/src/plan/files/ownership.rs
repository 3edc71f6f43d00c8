//! What of certs.d is ours, as the node remembers it between two looks.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{digest::Digest, plan::put_backs::PutBacks};

/// The record of one certs.d. It may be lost: markers and hashed names say most of it again, and backups describe
/// themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ownership {
    /// By directory name.
    #[serde(default)]
    pub directories: BTreeMap<String, OwnedDirectory>,
    /// Backups that were not put back, because somebody had replaced our file meanwhile. Kept for that person.
    #[serde(default)]
    pub superseded: Vec<Superseded>,
}

/// A directory in which files are ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnedDirectory {
    /// The RegistryMirror's name.
    pub object: String,
    /// Whether the directory itself is ours to remove.
    pub created: bool,
    /// What hosts.toml was last written as; `None` before the first time.
    #[serde(default)]
    pub written: Option<Digest>,
    /// Our certificates by name, with the time since when no file names them.
    #[serde(default)]
    pub certificates: BTreeMap<String, Option<Timestamp>>,
    /// What stood there before us.
    #[serde(default)]
    pub backup: Option<Backup>,
    /// When a file of ours was put back after somebody had changed it.
    #[serde(default)]
    pub reverts: PutBacks,
}

/// A copy of somebody's file in the state directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// The name of the copy.
    pub id: BackupId,
    /// What it is a copy of.
    pub original: Original,
}

/// What a backup is a copy of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Original {
    /// A regular file.
    File {
        /// Of its content.
        digest: Digest,
        /// Permission bits.
        mode: u32,
        /// The owner's number.
        uid: u32,
        /// The group's number.
        gid: u32,
    },
    /// A symbolic link.
    Symlink {
        /// What it says.
        target: String,
    },
}

/// Names a backup by the path and content of the original: 32 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackupId(String);

impl BackupId {
    /// The name for a copy of `original` at `path`.
    #[must_use]
    pub fn of(path: &str, original: &Original) -> Self {
        let text = match original {
            Original::File { digest, mode, uid, gid } => format!("{path}\0file\0{digest}\0{mode}\0{uid}\0{gid}"),
            Original::Symlink { target } => format!("{path}\0symlink\0{target}"),
        };
        Self(Digest::of(text.as_bytes()).as_str().chars().take(32).collect())
    }

    /// A name as it was read from a directory listing; `None` for what no backup is called.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex =
            text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        is_hex.then(|| Self(text.to_owned()))
    }

    /// The 32 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A backup that is no longer anybody's to put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Superseded {
    /// The directory that it comes from.
    pub directory: String,
    /// The copy.
    pub backup: Backup,
}

impl Ownership {
    /// The copies that must not be thrown away.
    pub fn backups(&self) -> impl Iterator<Item = &BackupId> {
        let held = self.directories.values().filter_map(|owned| owned.backup.as_ref());
        held.chain(self.superseded.iter().map(|superseded| &superseded.backup)).map(|backup| &backup.id)
    }

    /// Keeps a backup for the person who will ask for it; the oldest go first when there are many.
    pub(super) fn supersede(&mut self, directory: &str, backup: Backup) {
        const KEPT: usize = 64;
        let superseded = Superseded { directory: directory.to_owned(), backup };
        if !self.superseded.contains(&superseded) {
            self.superseded.push(superseded);
        }
        let surplus = self.superseded.len().saturating_sub(KEPT);
        self.superseded.drain(..surplus);
    }
}
