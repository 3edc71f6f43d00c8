//! Where the operator may write on a host.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::{
    file_error::Reason,
    root::{Follow, HostRoot, Place},
    state::STATE_DIR,
};

/// Where systemd looks for units that last until the next boot.
const RUN_UNITS: &str = "/run/systemd/system";
/// Where systemd looks for units that last.
const ETC_UNITS: &str = "/etc/systemd/system";

/// The directories beneath which anything may be written, and nothing elsewhere.
///
/// A symlink counts with its target: an administrator who links certs.d to another disk, or config.toml to a file that
/// is kept elsewhere, means that place. The directories above one of these that are missing may be made, for nothing
/// else is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteScope {
    directories: Vec<PathBuf>,
    /// The directories that hold these files are meant.
    beside: Vec<PathBuf>,
}

impl WriteScope {
    /// For a node: beside the files of containerd's configuration (the main one and the one to edit), certs.d, the
    /// operator's state, and systemd's units for the guard. Whoever plans and whoever writes ask this one.
    pub fn for_host<'a>(config_files: impl IntoIterator<Item = &'a Path>, certs_d: &Path) -> Self {
        let scope = Self::of([certs_d, Path::new(STATE_DIR), Path::new(RUN_UNITS), Path::new(ETC_UNITS)]);
        Self { beside: config_files.into_iter().map(Path::to_owned).collect(), ..scope }
    }

    /// For what only keeps state: nothing but the state directory.
    #[must_use]
    pub fn state_only() -> Self {
        Self::of([Path::new(STATE_DIR)])
    }

    /// The same and one more: a certs.d that containerd read earlier and in which something is still ours.
    #[must_use]
    pub fn and(mut self, directory: &Path) -> Self {
        self.directories.extend(Self::of([directory]).directories);
        self
    }

    /// These directories. A relative one and the root itself are left out.
    pub fn of<'a>(directories: impl IntoIterator<Item = &'a Path>) -> Self {
        let directories = directories.into_iter().filter(|path| path.is_absolute() && *path != Path::new("/"));
        Self { directories: directories.map(Path::to_owned).collect(), beside: Vec::new() }
    }

    /// Lets a resolved path pass that is one of the directories or lies beneath one.
    pub(super) fn allow(&self, root: &HostRoot, resolved: &Path) -> Result<(), Reason> {
        let mut allowed = Vec::new();
        let given = self.beside.iter().map(|file| (file, true));
        for (path, is_file) in given.chain(self.directories.iter().map(|directory| (directory, false))) {
            let Some(mut real) = real(root, path)? else { continue };
            if is_file {
                real.pop();
            }
            if real == Path::new("/") {
                continue;
            }
            if resolved.starts_with(&real) {
                return Ok(());
            }
            allowed.push(real.display().to_string());
        }
        Err(Reason::OutOfScope { resolved: resolved.to_owned(), allowed: allowed.join(", ") })
    }
}

/// Where a path leads, whether all of it exists or not; `None` where a broken link does not say.
fn real(root: &HostRoot, path: &Path) -> Result<Option<PathBuf>, Reason> {
    match root.place(path, Follow::Yes) {
        Ok(Place::Found { path, .. }) => Ok(Some(path)),
        Ok(Place::Absent { deepest, missing, .. }) => {
            Ok(Some(missing.iter().fold(deepest, |path, name| path.join(name))))
        }
        Err(Reason::Dangling { .. } | Reason::Relative | Reason::System(Errno::LOOP | Errno::NOTDIR)) => Ok(None),
        Err(reason) => Err(reason),
    }
}
