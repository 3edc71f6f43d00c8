//! What the guard guards, and how it stands.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What is guarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// containerd's unit.
    pub unit: String,
    /// The files that the restart brings into force.
    pub files: Vec<GuardedFile>,
}

/// One file that comes back if the restart is not finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardedFile {
    /// The file, symlinks followed.
    pub file: PathBuf,
    /// Whether systemd must read it anew when it comes back.
    pub is_drop_in: bool,
    /// Whether it existed before.
    pub existed: bool,
    /// Whether there is none afterwards.
    pub removed: bool,
}

/// The guard's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arming {
    /// Nothing of it is there that could act.
    Disarmed,
    /// It acts at its deadline or at the next boot.
    Armed {
        /// Whether that was in this boot. If not, its boot unit has not run, and no timer runs either.
        this_boot: bool,
    },
    /// It has taken the outcome and has put the old file back, is about to, or tried to.
    Fired,
}
