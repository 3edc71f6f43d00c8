//! Where the guard keeps its files on the host.

use std::path::{Path, PathBuf};

use super::subject::GuardedFile;

/// The unit that the script runs in at boot.
pub(super) const BOOT_UNIT: &str = "registry-mirror-guard.service";

/// What the guard puts on a host whatever it guards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GuardPaths {
    /// Mode 0700, in the state directory.
    pub directory: PathBuf,
    /// Holds the boot's ID while armed. Whoever renames it owns the outcome.
    pub armed: PathBuf,
    /// Its name after the guard has taken it.
    pub fired: PathBuf,
    /// Its name after we have taken it.
    pub disarmed: PathBuf,
    /// What is guarded, for whoever finds the guard without a journal.
    pub subject: PathBuf,
    /// The script.
    pub script: PathBuf,
    /// The unit of the next boot.
    pub unit: PathBuf,
    /// The directory of what every start of containerd pulls in.
    pub wants_directory: PathBuf,
    /// The link there to that unit.
    pub wants: PathBuf,
}

/// What it puts on a host for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FilePaths {
    /// A copy of the new content, to see whether the file is still ours. None is there where the file goes.
    pub written: PathBuf,
    /// The old content, beside the file that it may replace: putting it back is one rename, which needs no space and
    /// cannot be torn. Empty where there was no file.
    pub previous: PathBuf,
}

impl GuardPaths {
    pub(super) fn new(state: &Path, unit: &str) -> Self {
        let directory = state.join("guard");
        let units = Path::new("/etc/systemd/system");
        let wants_directory = units.join(format!("{unit}.wants"));
        Self {
            armed: directory.join("armed"),
            fired: directory.join("fired"),
            disarmed: directory.join("disarmed"),
            subject: directory.join("subject.json"),
            script: directory.join("guard.sh"),
            unit: units.join(BOOT_UNIT),
            wants: wants_directory.join(BOOT_UNIT),
            wants_directory,
            directory,
        }
    }

    pub(super) fn of(&self, guarded: &GuardedFile) -> FilePaths {
        let written = if guarded.is_drop_in { "written-drop-in" } else { "written" };
        FilePaths {
            written: self.directory.join(written),
            // systemd reads `*.conf` alone, and containerd's imports name `*.toml`.
            previous: guarded.file.with_file_name(".registry-mirror-previous"),
        }
    }
}
