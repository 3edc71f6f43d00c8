//! Where the guard keeps its files on the host.

use std::path::{Path, PathBuf};

use super::script::BOOT_UNIT;

/// Everything that the guard puts on a host.
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
    /// A copy of the new configuration, to see whether the file is still ours.
    pub written: PathBuf,
    /// The script.
    pub script: PathBuf,
    /// The old configuration, beside the file that it may replace: putting it back is one rename, which needs no space
    /// and cannot be torn. Empty where there was no file.
    pub previous: PathBuf,
    /// The unit of the next boot.
    pub unit: PathBuf,
    /// The directory of what every start of containerd pulls in.
    pub wants_directory: PathBuf,
    /// The link there to that unit.
    pub wants: PathBuf,
}

impl GuardPaths {
    pub(super) fn new(state: &Path, unit: &str, config_file: &Path) -> Self {
        let directory = state.join("guard");
        let units = Path::new("/etc/systemd/system");
        let wants_directory = units.join(format!("{unit}.wants"));
        Self {
            armed: directory.join("armed"),
            fired: directory.join("fired"),
            disarmed: directory.join("disarmed"),
            subject: directory.join("subject.json"),
            written: directory.join("written"),
            script: directory.join("guard.sh"),
            previous: config_file.with_file_name(".registry-mirror-previous"),
            unit: units.join(BOOT_UNIT),
            wants: wants_directory.join(BOOT_UNIT),
            wants_directory,
            directory,
        }
    }
}
