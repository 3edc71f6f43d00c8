//! certs.d on the host: what stands there, and the steps of a plan.

use std::{collections::BTreeSet, path::Path};

use registry_mirror_core::plan::files::{
    Bytes, Directory, Entry, FileEntry, FilePath, FilesPlan, HOSTS_TOML, Listing, Op, is_docker_style,
};
use thiserror::Error;

use crate::{
    fault,
    file_error::FileError,
    files::{Attributes, HostWriter, Owner, Written},
    root::{HostRoot, Kind},
    state::StateDir,
};

/// A hosts.toml or certificate is far smaller; what is larger is not read.
const CONTENT_LIMIT: u64 = 1 << 20;

/// The steps could not all be carried out. What was done is whole, and the next look goes on from there.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A foreign file changed between the look and the copy.
    #[error("{path} changed while it was being backed up; nothing was done to it, and the next look starts over")]
    Changed {
        /// The host path.
        path: String,
    },
}

/// The user whose files count as ours: root on every real node.
#[must_use]
pub fn writer_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// What stands in `certs_d`. Empty where the directory does not exist.
///
/// # Errors
/// Where something else stands there, and on what the kernel says.
pub fn observe(root: &HostRoot, certs_d: &Path) -> Result<Listing, FileError> {
    let mut listing = Listing::default();
    for found in root.read_dir(certs_d)?.unwrap_or_default() {
        let path = certs_d.join(&found.name);
        let entry = match found.kind {
            Kind::Directory => match directory(root, &path)? {
                Some(directory) => Entry::Directory(directory),
                // removed meanwhile
                None => continue,
            },
            Kind::Symlink => match root.read_link(&path)? {
                Some(target) => {
                    let target = target.to_string_lossy().into_owned();
                    // What does not lead to a directory is what it says it is, and no reason to stop.
                    let leads_to = directory(root, &path).ok().flatten();
                    Entry::Symlink { target, leads_to }
                }
                None => continue,
            },
            Kind::File => Entry::File,
            Kind::Other => Entry::Other,
        };
        listing.entries.insert(found.name.to_string_lossy().into_owned(), entry);
    }
    Ok(listing)
}

fn directory(root: &HostRoot, path: &Path) -> Result<Option<Directory>, FileError> {
    let Some(entries) = root.read_dir(path)? else { return Ok(None) };
    let mut directory = Directory::default();
    for found in entries {
        let path = path.join(&found.name);
        let name = found.name.to_string_lossy().into_owned();
        let entry = match found.kind {
            Kind::File => match regular(root, &path, &name)? {
                Some(entry) => entry,
                None => continue,
            },
            Kind::Symlink => match root.read_link(&path)? {
                Some(target) => {
                    let target = target.to_string_lossy().into_owned();
                    let content = if is_docker_style(&name) { through(root, &path) } else { None };
                    FileEntry::Symlink { target, content }
                }
                None => continue,
            },
            Kind::Directory => FileEntry::Directory,
            Kind::Other => FileEntry::Other,
        };
        directory.files.insert(name, entry);
    }
    Ok(Some(directory))
}

fn regular(root: &HostRoot, path: &Path, name: &str) -> Result<Option<FileEntry>, FileError> {
    let Some(stat) = root.stat_link(path)? else { return Ok(None) };
    let matters = name == HOSTS_TOML || name.ends_with(".pem") || is_docker_style(name);
    let content = if matters && stat.len <= CONTENT_LIMIT { root.read(path)?.map(Bytes) } else { None };
    Ok(Some(FileEntry::Regular { mode: stat.mode, uid: stat.uid, gid: stat.gid, content }))
}

/// What containerd reads through a link; `None` where it cannot.
fn through(root: &HostRoot, path: &Path) -> Option<Bytes> {
    let stat = root.stat(path).ok().flatten()?;
    if stat.len > CONTENT_LIMIT { None } else { root.read(path).ok().flatten().map(Bytes) }
}

/// Carries out a plan: copies first, then the record of what is about to be ours, then each step, then the record of
/// what is. The caller holds the lock.
///
/// # Errors
/// At the first step that fails. All before it are done, each file is whole, and the record says what is ours.
pub fn apply(state: &StateDir, certs_d: &Path, plan: &FilesPlan) -> Result<Written, ApplyError> {
    let writer = state.writer();
    for op in &plan.ops {
        if let Op::BackUp { path, backup } = op {
            let path = certs_d.join(&path.directory).join(&path.name);
            if state.back_up(&path)? != *backup {
                return Err(ApplyError::Changed { path: path.display().to_string() });
            }
        }
    }
    fault::point("apply:backed-up");
    state.save_ownership(certs_d, &plan.before)?;
    fault::point("apply:recorded-before");
    if !plan.ops.is_empty() {
        writer.create_dir(certs_d, 0o755)?;
    }
    for op in &plan.ops {
        carry_out(state, certs_d, op)?;
    }
    fault::point("apply:done");
    let recorded = state.save_ownership(certs_d, &plan.after)?;
    fault::point("apply:recorded-after");
    if plan.ops.is_empty() && recorded == Written::Unchanged {
        return Ok(Written::Unchanged);
    }
    let needed: BTreeSet<_> = plan.after.backups().collect();
    state.prune_backups(certs_d, &needed)?;
    Ok(Written::Written)
}

fn carry_out(state: &StateDir, certs_d: &Path, op: &Op) -> Result<(), FileError> {
    let writer: &HostWriter = state.writer();
    let at = |path: &FilePath| certs_d.join(&path.directory).join(&path.name);
    match op {
        // done before the record was written
        Op::BackUp { .. } => {}
        Op::CreateDirectory { name } => {
            writer.create_dir(&certs_d.join(name), 0o755)?;
        }
        Op::Write { path, content: Bytes(content), mode } => {
            writer.replace(&at(path), content, Attributes { mode: *mode, owner: Owner::Root })?;
        }
        Op::Restore { path, backup } => {
            state.restore(&at(path), &backup.id)?;
        }
        Op::Remove(path) => {
            writer.remove(&at(path))?;
        }
        Op::MoveDirectory { from, to } => writer.rename(&certs_d.join(from), &certs_d.join(to))?,
        Op::RemoveDirectory { name } => {
            writer.remove_dir_if_empty(&certs_d.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[cfg(feature = "fault-injection")]
mod crash_tests;
#[cfg(test)]
mod tests;
