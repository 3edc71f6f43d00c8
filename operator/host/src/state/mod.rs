//! The operator's memory on the host: what is ours, copies of what was there before, the last bundle.
//!
//! Losing it never loses the node: a broken file is set aside with a warning, and markers, hashed names and backups
//! that describe themselves tell most of it again.

mod backups;
mod document;
mod restarts;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use registry_mirror_core::{
    config_toml::{MigratedRegistry, Undo},
    digest::Digest,
    plan::{
        files::{Backup, OwnedDirectory, Ownership, Superseded},
        put_backs::PutBacks,
        shared,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    file_error::FileError,
    files::{HostWriter, Written},
};

pub use backups::StoredBackup;
pub use document::Loaded;
pub(crate) use document::{load, save};
pub use restarts::{BegunRestart, FailedBy, FailedPlan, ProvedRestart, Restarts};

/// Where it lies, beneath the host's root; mode 0700.
pub const STATE_DIR: &str = "/var/lib/registry-mirror-operator";

const OWNERSHIP_VERSION: u32 = 1;
const BUNDLE_VERSION: u32 = 1;
const EDITS_VERSION: u32 = 1;

/// The state directory of one host.
#[derive(Debug, Clone)]
pub struct StateDir {
    writer: HostWriter,
    path: PathBuf,
}

/// An edit of containerd's configuration that is in force, for the day on which it is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigEdit {
    /// The file, symlinks followed.
    pub config_file: PathBuf,
    /// Its content before; `None` where there was no file.
    pub before: Option<Digest>,
    /// Its content as we wrote it.
    pub after: Digest,
    /// The copy of its content before.
    pub backup: Option<PathBuf>,
    /// How to take the edit back, as the planner said. Where its form changes, so must the version of the file.
    pub undo: Undo,
    /// What it took out of the file and stands in hosts.toml files since: the old registry tables.
    #[serde(default)]
    pub migrated: Vec<MigratedRegistry>,
    /// When it was made.
    pub made_at: Timestamp,
    /// When our key was put back after somebody had taken it away, the last few times.
    #[serde(default)]
    pub reverts: Vec<Timestamp>,
}

impl StateDir {
    /// Makes the directory where it is missing and sees that only root can read it.
    ///
    /// # Errors
    /// Where it cannot be made or something else stands there.
    pub fn open(writer: &HostWriter) -> Result<Self, FileError> {
        Self::at(writer, Path::new(STATE_DIR))
    }

    /// The part of it that several nodes have in common, because they share `certs_d`: what is ours there and the
    /// copies of what was there before. Whoever writes next finds it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn of_shared(writer: &HostWriter, certs_d: &Path) -> Result<Self, FileError> {
        Self::at(writer, &certs_d.join(shared::DIRECTORY))
    }

    fn at(writer: &HostWriter, path: &Path) -> Result<Self, FileError> {
        writer.create_dir(path, 0o700)?;
        writer.set_dir_mode(path, 0o700)?;
        Ok(Self { writer: writer.clone(), path: path.to_owned() })
    }

    /// Its host path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What writes it.
    #[must_use]
    pub fn writer(&self) -> &HostWriter {
        &self.writer
    }

    /// What is ours in `certs_d`, and what could not be read of it.
    ///
    /// # Errors
    /// On what the kernel says. A broken record is no error.
    pub fn ownership(&self, certs_d: &Path) -> Result<(Ownership, Vec<String>), FileError> {
        let Loaded { value, warning } = self.ownerships()?;
        let mut warnings: Vec<String> = warning.into_iter().collect();
        let recorded = value.and_then(|mut all| all.remove(certs_d));
        let mut ownership = match recorded {
            Some(ownership) => ownership,
            None => self.rebuild(certs_d)?,
        };
        for (name, owned) in &mut ownership.directories {
            let Some(backup) = &owned.backup else { continue };
            if self.backup(&backup.id)?.is_none() {
                warnings.push(format!(
                    "backup {} of {}/{name}/hosts.toml is gone from {}/backups; what stood there before the operator \
                     cannot be put back",
                    backup.id,
                    certs_d.display(),
                    self.path.display()
                ));
                owned.backup = None;
            }
        }
        Ok((ownership, warnings))
    }

    /// Records what is ours in `certs_d`.
    ///
    /// # Errors
    /// On what the kernel says.
    pub fn save_ownership(&self, certs_d: &Path, ownership: &Ownership) -> Result<Written, FileError> {
        let mut all = self.ownerships()?.value.unwrap_or_default();
        if *ownership == Ownership::default() {
            all.remove(certs_d);
        } else {
            all.insert(certs_d.to_owned(), ownership.clone());
        }
        if all.is_empty() {
            return self.writer.remove(&self.file("ownership.json"));
        }
        save(&self.writer, &self.file("ownership.json"), OWNERSHIP_VERSION, &all)
    }

    /// Every certs.d in which something is ours: more than one after containerd was told to read another.
    ///
    /// # Errors
    /// On what the kernel says.
    pub fn owned_certs_d(&self) -> Result<Vec<PathBuf>, FileError> {
        Ok(self.ownerships()?.value.unwrap_or_default().into_keys().collect())
    }

    /// The node's last part of the bundle, with which it goes on while the API server is away.
    ///
    /// # Errors
    /// On what the kernel says. A broken file is no error.
    pub fn bundle<T: DeserializeOwned>(&self) -> Result<Loaded<T>, FileError> {
        load(&self.writer, &self.file("bundle.json"), BUNDLE_VERSION)
    }

    /// Keeps the node's part of the bundle; readable by root alone.
    ///
    /// # Errors
    /// On what the kernel says.
    pub fn save_bundle<T: Serialize>(&self, bundle: &T) -> Result<Written, FileError> {
        save(&self.writer, &self.file("bundle.json"), BUNDLE_VERSION, bundle)
    }

    /// Forgets the bundle, at uninstall.
    ///
    /// # Errors
    /// On what the kernel says.
    pub fn remove_bundle(&self) -> Result<Written, FileError> {
        self.writer.remove(&self.file("bundle.json"))
    }

    /// The edits of containerd's configuration that are in force.
    ///
    /// # Errors
    /// On what the kernel says. A broken file is no error.
    pub fn edits(&self) -> Result<Loaded<Vec<ConfigEdit>>, FileError> {
        load(&self.writer, &self.file("edits.json"), EDITS_VERSION)
    }

    /// Records the edits that are in force.
    ///
    /// # Errors
    /// On what the kernel says.
    pub fn save_edits(&self, edits: &[ConfigEdit]) -> Result<Written, FileError> {
        if edits.is_empty() {
            self.edits()?;
            return self.writer.remove(&self.file("edits.json"));
        }
        save(&self.writer, &self.file("edits.json"), EDITS_VERSION, &edits)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn ownerships(&self) -> Result<Loaded<BTreeMap<PathBuf, Ownership>>, FileError> {
        load(&self.writer, &self.file("ownership.json"), OWNERSHIP_VERSION)
    }

    /// The record as the backups tell it. The newest copy of a file is the one to put back.
    fn rebuild(&self, certs_d: &Path) -> Result<Ownership, FileError> {
        let mut ownership = Ownership::default();
        for (id, stored) in self.backups_beneath(certs_d)? {
            let Some(directory) = stored.path.parent().and_then(Path::file_name) else { continue };
            let name = directory.to_string_lossy().into_owned();
            let owned = OwnedDirectory {
                object: "unknown".to_owned(),
                created: false,
                written: None,
                certificates: BTreeMap::new(),
                backup: Some(Backup { id, original: stored.original }),
                reverts: PutBacks::default(),
            };
            if let Some(OwnedDirectory { backup: Some(backup), .. }) = ownership.directories.insert(name.clone(), owned)
            {
                ownership.superseded.push(Superseded { directory: name, backup });
            }
        }
        Ok(ownership)
    }
}

#[cfg(test)]
mod tests;
