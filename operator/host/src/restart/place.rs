//! Files as they must stand before containerd's next start, without starting it.

use std::path::{Path, PathBuf};

use registry_mirror_core::{config_toml::Edit, digest::Digest};

use super::{DropIn, Edited, RestartError};
use crate::{
    files::{Attributes, HostWriter, Owner},
    root::FileError,
    state::StateDir,
    systemd::Systemd,
};

/// What became of a file that was to be put in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placed {
    /// It stands there and holds from containerd's next start.
    Done(Edited),
    /// The file is another one than the plan was made for. Nothing was touched: plan anew.
    Changed {
        /// The file.
        file: PathBuf,
    },
}

/// Backs the old file up and puts the new one in its place, for a host whose containerd does not run (an
/// image) or that somebody else restarts.
///
/// # Errors
/// A file cannot be read or written; the old one is whole then.
pub fn place(state: &StateDir, Edit { file, before, after, .. }: &Edit) -> Result<Placed, FileError> {
    let writer = state.writer();
    let root = writer.root();
    let file = root.resolve(file)?.unwrap_or_else(|| file.clone());
    if root.read(&file)? != *before {
        return Ok(Placed::Changed { file });
    }
    let backup = before.as_deref().map(|content| back_up(state, content)).transpose()?;
    if let Some(directory) = file.parent() {
        writer.create_dir(directory, 0o755)?;
    }
    writer.write(&file, after, attributes_of(writer, &file)?)?;
    Ok(Placed::Done(Edited { file, backup }))
}

/// Writes or removes a drop-in that the running daemon needs no restart for, and lets systemd read it. `false` where the
/// file is another one than the plan was made for: nothing was touched then.
///
/// # Errors
/// The file cannot be written, or systemd does not read it; doing it again goes on.
pub async fn place_drop_in(
    writer: &HostWriter,
    systemd: &Systemd,
    DropIn { file, before, after }: &DropIn,
) -> Result<bool, RestartError> {
    let now = writer.root().read(file)?;
    if now != *after {
        if now != *before {
            return Ok(false);
        }
        match after {
            Some(content) => {
                if let Some(directory) = file.parent() {
                    writer.create_dir(directory, 0o755)?;
                }
                writer.write(file, content, attributes_of(writer, file)?)?;
            }
            None => {
                writer.remove(file)?;
                remove_empty_parent(writer, file)?;
            }
        }
    }
    systemd.daemon_reload().await?;
    Ok(true)
}

/// A directory of drop-ins without any means nothing to systemd, and most of them are of our making.
pub(super) fn remove_empty_parent(writer: &HostWriter, file: &Path) -> Result<(), FileError> {
    match file.parent() {
        Some(directory) => writer.remove_dir_if_empty(directory).map(drop),
        None => Ok(()),
    }
}

/// Keeps a configuration file in the state directory under the digest of its content, readable by root alone: it may
/// hold credentials.
pub(super) fn back_up(state: &StateDir, content: &[u8]) -> Result<PathBuf, FileError> {
    let writer = state.writer();
    let directory = state.path().join("backups");
    writer.create_dir(&directory, 0o700)?;
    let path = directory.join(format!("config-{}.toml", Digest::of(content)));
    writer.write(&path, content, Attributes { mode: 0o600, owner: Owner::Root })?;
    Ok(path)
}

/// Mode and owner of a file, for the one that takes its place; those of a new file otherwise.
pub(super) fn attributes_of(writer: &HostWriter, file: &Path) -> Result<Attributes, FileError> {
    Ok(match writer.root().stat(file)? {
        Some(stat) => Attributes { mode: stat.mode, owner: Owner::Numbers { uid: stat.uid, gid: stat.gid } },
        None => Attributes { mode: 0o644, owner: Owner::Root },
    })
}
