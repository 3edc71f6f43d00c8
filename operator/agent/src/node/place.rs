//! The edit without the restart: the files as they must stand before containerd's next start.

use std::path::Path;

use registry_mirror_core::{
    config_toml::{Edit, MigratedRegistry},
    plan::{ConfigPlan, config::DEFAULT_DIRECTORY},
    status::node::{NodeFailure, Verdict},
};
use registry_mirror_host::{
    file_error::FileError,
    files::{HostWriter, WriteScope},
    restart::{Placed, place},
    root::HostRoot,
    state::StateDir,
};

use super::edits;

/// Whether a daemon runs that has not read what was put in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Daemon {
    /// It reads the files at its next start.
    Runs,
    /// Its first start is still to come.
    NotRunning,
}

/// Puts the edit of a plan in place. The caller holds the lock and has written the hosts.toml files.
pub(super) fn place_edit(state: &StateDir, plan: &ConfigPlan, daemon: Daemon) -> Verdict {
    let placed = match plan.edit() {
        None => Ok(true),
        Some(edit) => write(state, edit, plan.migrated()),
    };
    match (placed, daemon) {
        (Ok(true), Daemon::Runs) => Verdict::RestartPending,
        (Ok(true), Daemon::NotRunning) => Verdict::Ready,
        (Ok(false), _) => Verdict::failed(
            NodeFailure::Apply,
            "containerd's configuration was changed by somebody else at the same moment: nothing was done to it, run \
             this again"
                .to_owned(),
        ),
        (Err(error), _) => Verdict::failed(NodeFailure::Apply, error.to_string()),
    }
}

/// `false` where the file is another one than the plan was made for.
fn write(state: &StateDir, edit: &Edit, migrated: &[MigratedRegistry]) -> Result<bool, FileError> {
    edits::note(state, edit, migrated)?;
    match place(state, edit)? {
        Placed::Done(edited) => {
            edits::note_backup(state, &edited)?;
            Ok(true)
        }
        Placed::Changed { file: _ } => {
            edits::forget_gone(state)?;
            Ok(false)
        }
    }
}

/// The right to write what a plan asks for: beside the main file and the one to edit, into each directory, the state.
pub(super) fn writer_for(root: &HostRoot, config_file: &Path, plan: &ConfigPlan) -> HostWriter {
    let files = std::iter::once(config_file).chain(plan.edit().map(|edit| edit.file.as_path()));
    let roots = plan.roots();
    let (first, then) = match roots.split_first() {
        Some((first, then)) => (first.as_path(), then),
        None => (Path::new(DEFAULT_DIRECTORY), &[][..]),
    };
    let scope = WriteScope::for_host(files, first);
    HostWriter::new(root.clone(), then.iter().fold(scope, |scope, root| scope.and(root)))
}
