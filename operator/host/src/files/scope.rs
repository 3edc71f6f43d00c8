//! Where the operator may write on a host.

use std::{
    fmt,
    path::{Path, PathBuf},
};

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
/// A symlinked directory counts with its target: an administrator who links certs.d to another disk means that disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteScope {
    directories: Vec<PathBuf>,
}

impl WriteScope {
    /// For a node: the directory of containerd's configuration file, certs.d, the operator's state, and systemd's
    /// units for the guard.
    #[must_use]
    pub fn for_host(config_file: &Path, certs_d: &Path) -> Self {
        let config_directory = config_file.parent().filter(|parent| *parent != Path::new("/"));
        let given = [config_directory, Some(certs_d)].into_iter().flatten();
        let fixed = [STATE_DIR, RUN_UNITS, ETC_UNITS].map(Path::new);
        Self::of(given.chain(fixed))
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
        Self { directories: directories.map(Path::to_owned).collect() }
    }

    /// Lets a resolved path pass that is one of the directories or lies beneath one.
    pub(super) fn allow(&self, root: &HostRoot, resolved: &Path) -> Result<(), Reason> {
        for directory in &self.directories {
            let real = match root.place(directory, Follow::Yes) {
                Ok(Place::Found { path, .. }) => path,
                Ok(Place::Absent { deepest, missing, .. }) => {
                    missing.iter().fold(deepest, |path, name| path.join(name))
                }
                // a broken link opens nothing
                Err(Reason::Dangling { .. } | Reason::System(Errno::LOOP | Errno::NOTDIR)) => continue,
                Err(reason) => return Err(reason),
            };
            if real != Path::new("/") && resolved.starts_with(real) {
                return Ok(());
            }
        }
        Err(Reason::OutOfScope { resolved: resolved.to_owned(), allowed: self.to_string() })
    }
}

impl fmt::Display for WriteScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directories: Vec<String> = self.directories.iter().map(|path| path.display().to_string()).collect();
        f.write_str(&directories.join(", "))
    }
}
