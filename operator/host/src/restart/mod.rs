//! The one restart of containerd: a new configuration file, a drop-in of its unit, or both, proved or taken back.
//!
//! ```text
//! backup -> candidate -> the host's own containerd reads it -> a pull -> approval -> guard -> rename -> restart -> CRI -> proof
//! ```
//!
//! Every step is in the journal before its effect. After a crash at any point [`recover`] finishes or
//! undoes what was begun, as [`decide`] says. If this process does not come back, the [`guard`](crate::guard) undoes it.

mod check;
mod execute;
mod place;
mod prove;
mod record;
mod recover;
mod recovery;
mod rollback;
mod unread;
mod validate;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub use place::{Placed, place, place_drop_in};
pub use recover::recover;
pub use recovery::{Action, ConfigIs, Daemon, Progress, next};

pub use crate::guard::Arming;

use registry_mirror_core::{
    config_toml::Edit,
    containerd::Version,
    observed::Unit,
    plan::{PlanHash, since_start::KnownContents},
};
use thiserror::Error;

use crate::{
    cri::Cri,
    files::HostWriter,
    guard::{Guard, GuardError, Owner},
    journal::JournalError,
    root::FileError,
    state::StateDir,
    systemd::{InvocationId, Systemd, SystemdError},
};

/// CRI answers once its plugin has loaded and the node's containers are read in: seconds on a full node.
pub const READY_LIMIT: Duration = Duration::from_secs(60);
/// Units with no limit of their own, or a very long one, are not waited for longer than this.
const LONGEST_UNIT_TIMEOUT: Duration = Duration::from_secs(300);

/// Asked last before the file is renamed: whether this restart may happen now.
pub trait Approval {
    /// Reads the approval live, not from a cache.
    fn granted(&self) -> impl Future<Output = Result<bool, ApprovalError>> + Send;
}

/// The approval could not be read; the sentence says why. It counts as not granted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ApprovalError(pub String);

/// For a person at the host, who approves by asking.
#[derive(Debug, Clone, Copy, Default)]
pub struct AlwaysApproved;

impl Approval for AlwaysApproved {
    async fn granted(&self) -> Result<bool, ApprovalError> {
        Ok(true)
    }
}

/// A restart that a plan asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// containerd's unit, as observed.
    pub unit: Unit,
    /// The running containerd's release, which the change was made for.
    pub version: Version,
    /// The main configuration file, for the host's containerd to check.
    pub main_config: PathBuf,
    /// What changes.
    pub change: Change,
    /// The directory that must be in force afterwards.
    pub certs_d: PathBuf,
    /// Names the plan, for the journal and the approval.
    pub plan: PlanHash,
    /// How long a start may take to be ready, and to be proved once it is; [`READY_LIMIT`] unless somebody has set it.
    pub ready_limit: Duration,
    /// What was known, when the plan was made, of the files that containerd reads at a start.
    pub known: Option<KnownContents>,
}

/// What a restart brings into force. Neither: the files are right already, and the daemon has not read them.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// A file of containerd's configuration.
    pub config: Option<Edit>,
    /// The drop-in of its unit.
    pub drop_in: Option<DropIn>,
    /// Variables that the daemon must have afterwards.
    pub variables: Vec<(String, String)>,
}

/// A drop-in of containerd's unit that is written, replaced or removed.
#[derive(Debug, Clone)]
pub struct DropIn {
    /// The file.
    pub file: PathBuf,
    /// What stood there when the plan was made; `None` if nothing did.
    pub before: Option<Vec<u8>>,
    /// What shall stand there; `None` if nothing shall.
    pub after: Option<Vec<u8>>,
}

/// How a restart ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The new configuration is in force and proved.
    Restarted {
        /// The plan; `None` where an earlier process began and its journal is lost.
        plan: Option<PlanHash>,
        /// From asking systemd to CRI's being ready; `None` where an earlier process asked.
        took: Option<Duration>,
        /// The new start.
        invocation: Option<InvocationId>,
        /// What happened to the configuration, so that the caller can note that the edit is ours; `None` where it stayed
        /// as it was.
        edited: Option<Edited>,
    },
    /// A file is another one than the plan was made for, or somebody else has changed one that containerd has not read.
    /// Nothing was touched: plan anew.
    Changed {
        /// The file.
        file: PathBuf,
    },
    /// The approval was not (or no longer) there. Nothing was touched.
    NotApproved {
        /// Why it could not be read, if that is the reason.
        why: Option<String>,
    },
    /// It cannot be done here. Nothing was touched.
    Refused {
        /// Why, in a sentence.
        why: String,
    },
    /// Something failed, and the old configuration is back.
    RolledBack {
        /// The plan; `None` where an earlier process began and its journal is lost.
        plan: Option<PlanHash>,
        /// What failed, in a sentence.
        why: String,
        /// Who put the old file back.
        by: Owner,
        /// Why containerd does not work although it runs with the old file; `None` if it works.
        still_down: Option<String>,
    },
    /// containerd was restarted with the files as they are, and does not read the directory or does not work.
    NotEffective {
        /// Why, in a sentence.
        why: String,
    },
    /// A restart that was cut short had changed nothing yet; its traces are removed.
    Abandoned,
}

/// An edit that is in force; how it is taken back was written down before it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The file, symlinks followed.
    pub file: PathBuf,
    /// The old content in the state directory; `None` if there was no file.
    pub backup: Option<PathBuf>,
}

/// The restart could not go on, or its end could not be written down. The journal stands: the next
/// [`recover`] continues.
#[derive(Debug, Error)]
pub enum RestartError {
    /// A file of the host.
    #[error(transparent)]
    File(#[from] FileError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The guard.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// systemd.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// Another restart is under way.
    #[error("an earlier restart of containerd is not settled yet: recover it first")]
    Unsettled,
    /// The journal is of another version or names something that is not there.
    #[error("the journal of an earlier restart cannot be followed: {0}")]
    Lost(String),
}

/// Restarts containerd on one host. The caller holds the state directory's lock.
#[derive(Debug)]
pub struct Restarter<'a> {
    state: &'a StateDir,
    writer: &'a HostWriter,
    systemd: &'a Systemd,
    cri: Cri,
}

impl<'a> Restarter<'a> {
    /// Works on the host of this state directory, whose writer may write beside containerd's configuration, into its
    /// certs.d and into systemd's units.
    #[must_use]
    pub fn new(state: &'a StateDir, systemd: &'a Systemd, cri: &Cri) -> Self {
        Self { state, writer: state.writer(), systemd, cri: cri.clone() }
    }

    fn guard(&self) -> Guard<'a> {
        Guard::new(self.writer, self.systemd, self.state.path())
    }
}

/// A candidate must not be imported by a glob such as `/etc/containerd/*.toml`: it has another ending.
fn candidate_beside(file: &Path) -> PathBuf {
    file.with_file_name(".registry-mirror-candidate")
}

/// The longest that systemd may take for a stop and a start of the unit.
fn restart_limit(unit: &Unit) -> Duration {
    let limit = |seconds: Option<u64>| {
        seconds.map_or(LONGEST_UNIT_TIMEOUT, |seconds| Duration::from_secs(seconds).min(LONGEST_UNIT_TIMEOUT))
    };
    limit(unit.stop_timeout_seconds) + limit(unit.start_timeout_seconds) + Duration::from_secs(5)
}
