//! Copies of other people's files, each describing itself, so that they outlive a lost record.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use registry_mirror_core::{
    digest::Digest,
    plan::files::{Backup, BackupId, Original},
};
use serde::{Deserialize, Serialize};

use super::{StateDir, document};
use crate::{
    file_error::{Action, FileError, Kind, Reason},
    files::{Attributes, Owner, Written},
};

const VERSION: u32 = 1;

/// A stored copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredBackup {
    /// The host path of the original.
    pub path: PathBuf,
    /// What it was.
    pub original: Original,
    /// When the copy was made.
    pub taken_at: Timestamp,
    content: Content,
}

/// Text stays readable for the person who looks for their file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Content {
    Text(String),
    Base64(String),
    Link,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[content]")
    }
}

impl StateDir {
    /// Copies the file at `path` as it stands. The same file again gives the same copy.
    ///
    /// # Errors
    /// Where no file or symlink stands there, and on what the kernel says.
    pub fn back_up(&self, path: &Path) -> Result<Backup, FileError> {
        let fail = |reason| FileError::new(path, Action::Read, reason);
        let root = self.writer().root();
        let stat = root.stat_link(path)?.ok_or_else(|| fail(Reason::System(rustix::io::Errno::NOENT)))?;
        let (original, content) = match stat.kind {
            Kind::Symlink => {
                let target = root.read_link(path)?.unwrap_or_default().to_string_lossy().into_owned();
                (Original::Symlink { target }, Content::Link)
            }
            Kind::File => {
                let bytes = root.read(path)?.ok_or_else(|| fail(Reason::System(rustix::io::Errno::NOENT)))?;
                let digest = Digest::of(&bytes);
                let original = Original::File { digest, mode: stat.mode, uid: stat.uid, gid: stat.gid };
                let content = match String::from_utf8(bytes) {
                    Ok(text) => Content::Text(text),
                    Err(error) => Content::Base64(BASE64_STANDARD.encode(error.as_bytes())),
                };
                (original, content)
            }
            other => return Err(fail(Reason::NotAFile(other))),
        };
        let id = BackupId::of(&path.to_string_lossy(), &original);
        let stored = StoredBackup { path: path.to_owned(), original, taken_at: Timestamp::now(), content };
        let backup = Backup { id, original: stored.original.clone() };
        if self.backup(&backup.id)?.is_none() {
            self.writer().create_dir(&self.backups_dir(), 0o700)?;
            document::save(self.writer(), &self.backup_path(&backup.id), VERSION, &stored)?;
        }
        Ok(backup)
    }

    /// A stored copy; `None` where it is not there or broken (and then set aside).
    ///
    /// # Errors
    /// On what the kernel says.
    pub fn backup(&self, id: &BackupId) -> Result<Option<StoredBackup>, FileError> {
        let loaded = document::load::<StoredBackup>(self.writer(), &self.backup_path(id), VERSION)?;
        if let Some(warning) = loaded.warning {
            tracing::warn!("{warning}");
        }
        Ok(loaded.value)
    }

    /// Puts a copy back at `path`, with its mode and owner.
    ///
    /// # Errors
    /// Where the copy is gone or broken, and on what the kernel says. What stands at `path` is whole then.
    pub fn restore(&self, path: &Path, id: &BackupId) -> Result<Written, FileError> {
        let lost = || {
            let what = format!(
                "its backup {} is missing or broken; the file that stands there now is left as it is",
                self.backup_path(id).display()
            );
            FileError::new(path, Action::Write, Reason::Content { what })
        };
        let stored = self.backup(id)?.ok_or_else(lost)?;
        match &stored.original {
            Original::Symlink { target } => self.writer().symlink(path, Path::new(target)),
            Original::File { digest, mode, uid, gid } => {
                let bytes = stored.bytes().filter(|bytes| Digest::of(bytes) == *digest).ok_or_else(lost)?;
                let owner = Owner::Numbers { uid: *uid, gid: *gid };
                self.writer().replace(path, &bytes, Attributes { mode: *mode, owner })
            }
        }
    }

    /// The copies of files beneath a directory, oldest first.
    ///
    /// # Errors
    /// On what the kernel says.
    pub fn backups_beneath(&self, directory: &Path) -> Result<Vec<(BackupId, StoredBackup)>, FileError> {
        let mut found = Vec::new();
        for entry in self.writer().root().read_dir(&self.backups_dir())?.unwrap_or_default() {
            let name = entry.name.to_string_lossy();
            let Some(id) = name.strip_suffix(".json").and_then(BackupId::parse) else { continue };
            if let Some(stored) = self.backup(&id)?
                && stored.path.starts_with(directory)
            {
                found.push((id, stored));
            }
        }
        found.sort_by_key(|(_, stored)| stored.taken_at);
        Ok(found)
    }

    /// Removes the copies of files beneath a directory that nobody needs any more.
    pub(crate) fn prune_backups(&self, directory: &Path, needed: &BTreeSet<&BackupId>) -> Result<(), FileError> {
        for (id, _) in self.backups_beneath(directory)? {
            if !needed.contains(&id) {
                self.writer().remove(&self.backup_path(&id))?;
            }
        }
        Ok(())
    }

    fn backups_dir(&self) -> PathBuf {
        self.path().join("backups")
    }

    fn backup_path(&self, id: &BackupId) -> PathBuf {
        self.backups_dir().join(format!("{id}.json"))
    }
}

impl StoredBackup {
    /// The content of a file; `None` for a symlink and for a broken copy.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match &self.content {
            Content::Text(text) => Some(text.clone().into_bytes()),
            Content::Base64(text) => BASE64_STANDARD.decode(text).ok(),
            Content::Link => None,
        }
    }
}
