//! A host that is being put back.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use registry_mirror_core::containerd::Version;
use registry_mirror_host::{
    file_error::FileError,
    files::{HostWriter, WriteScope},
    root::HostRoot,
    shared::{may_be_shared, neighbours},
    state::{ConfigEdit, StateDir},
    systemd::Systemd,
};

use super::outcome::Depth;
use crate::node::edits::TakeBack;

/// A host that is being put back. The caller holds the lock, and no restart is under way.
pub(super) struct Host {
    pub root: HostRoot,
    pub systemd: Systemd,
    pub depth: Depth,
    /// The containerd that reads what stays.
    pub version: Version,
    /// Where files of ours are looked for, besides the recorded places.
    pub directories: BTreeSet<PathBuf>,
}

impl Host {
    pub(super) fn others_who_stay(&self, directory: &Path) -> Result<Vec<String>, FileError> {
        match may_be_shared(&self.root, directory)? {
            true => neighbours(&self.root, directory),
            false => Ok(Vec::new()),
        }
    }

    pub(super) fn state(&self, and: &[&Path]) -> Result<StateDir, FileError> {
        let scope = and.iter().fold(WriteScope::state_only(), |scope, directory| scope.and(directory));
        StateDir::open(&HostWriter::new(self.root.clone(), scope))
    }

    /// Whether the old tables that an edit took out stay in hosts.toml files.
    pub(super) fn stays(&self, edit: &ConfigEdit, action: &TakeBack) -> bool {
        !edit.migrated.is_empty() && (self.depth == Depth::Safe || matches!(action, TakeBack::ByHand(_)))
    }
}

/// The directory that an edit set.
pub(super) fn directory_of(edit: &ConfigEdit) -> Option<PathBuf> {
    edit.undo.directory().map(Path::to_owned)
}

pub(super) fn still_shared(directory: &Path, others: &[String]) -> String {
    format!(
        "{} is shared with {}: the files in it stay until the last of the nodes is put back",
        directory.display(),
        others.join(", ")
    )
}
