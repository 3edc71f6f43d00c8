//! What the journal holds about a restart: enough to finish or undo it without anything else.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use registry_mirror_core::{digest::Digest, observed::Unit, plan::PlanHash};
use serde::{Deserialize, Serialize};

use super::{
    Edited, Progress, Request, RestartError, Restarter,
    place::{attributes_of, back_up},
    prove::PulledBefore,
    restart_limit,
};
use crate::{
    files::Attributes,
    guard::{GuardedFile, Subject, boot_id},
    journal::Journal,
    root::FileError,
    state::Loaded,
    systemd::InvocationId,
};

/// One file on its way from one content to another.
pub(super) struct FileChange {
    /// Symlinks followed.
    pub file: PathBuf,
    pub is_drop_in: bool,
    pub before: Option<Vec<u8>>,
    /// `None` where the file goes.
    pub after: Option<Vec<u8>>,
}

/// One restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Names the plan.
    pub plan: Option<PlanHash>,
    /// containerd's unit.
    pub unit: String,
    /// containerd's socket on the host.
    pub socket: PathBuf,
    /// The start of containerd before all this.
    pub invocation: Option<InvocationId>,
    /// The boot in which it began.
    pub boot: String,
    /// How long a stop and a start may take.
    pub restart_limit_seconds: u64,
    /// How long a start may take to be ready, and to be proved once it is.
    #[serde(default = "usual_ready_limit")]
    pub ready_limit_seconds: u64,
    /// Whether containerd could pull before all this.
    #[serde(default)]
    pub pulled_before: PulledBefore,
    /// The files that change, in this order: one at least, and at most one that is no drop-in.
    pub files: Vec<FileRecord>,
    /// What must be in force afterwards.
    pub certs_d: PathBuf,
    /// Variables that the daemon must have afterwards.
    pub variables: Vec<(String, String)>,
}

/// Of a journal that an earlier release began.
fn usual_ready_limit() -> u64 {
    super::READY_LIMIT.as_secs()
}

/// One file that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileRecord {
    /// The file, symlinks followed.
    pub file: PathBuf,
    /// Whether it is a drop-in of the unit and not containerd's configuration.
    pub is_drop_in: bool,
    /// The candidate beside it.
    pub candidate: PathBuf,
    /// Its old content; `None` if there was no file.
    pub before: Option<Digest>,
    /// Its new content; `None` if it goes.
    pub after: Option<Digest>,
    /// The old content in the state directory; `None` if there was no file.
    pub backup: Option<PathBuf>,
}

impl FileRecord {
    pub(super) fn guarded(&self) -> GuardedFile {
        GuardedFile {
            file: self.file.clone(),
            is_drop_in: self.is_drop_in,
            existed: self.before.is_some(),
            removed: self.after.is_none(),
        }
    }
}

impl Record {
    /// Whether systemd must read the unit anew.
    pub(super) fn has_drop_in(&self) -> bool {
        self.files.iter().any(|file| file.is_drop_in)
    }

    /// The names of the files, for people.
    pub(super) fn names(&self) -> String {
        let names: Vec<String> = self.files.iter().map(|file| file.file.display().to_string()).collect();
        names.join(" and ")
    }

    pub(super) fn restart_limit(&self) -> Duration {
        Duration::from_secs(self.restart_limit_seconds)
    }

    pub(super) fn ready_limit(&self) -> Duration {
        Duration::from_secs(self.ready_limit_seconds)
    }

    /// What the caller notes once the edit is in force.
    pub(super) fn edited(&self) -> Option<Edited> {
        let config = self.files.iter().find(|file| !file.is_drop_in)?;
        Some(Edited { file: config.file.clone(), backup: config.backup.clone() })
    }

    pub(super) fn subject(&self) -> Subject {
        Subject { unit: self.unit.clone(), files: self.files.iter().map(FileRecord::guarded).collect() }
    }
}

/// What stands in the journal: a restart that is under way.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Page {
    pub progress: Progress,
    /// Why the old file comes back.
    pub reason: Option<String>,
    pub record: Record,
}

impl Restarter<'_> {
    fn journal(&self) -> Journal {
        Journal::of(self.state)
    }

    /// Begins the journal of a restart.
    pub(super) fn begin(&self, request: &Request, changes: &[FileChange]) -> Result<Record, RestartError> {
        let Request { unit, change, certs_d, plan, ready_limit, .. } = request;
        if self.load()?.is_some() {
            return Err(RestartError::Unsettled);
        }
        let mut files = Vec::new();
        for FileChange { file, is_drop_in, before, after } in changes {
            let backup = before.as_deref().map(|content| back_up(self.state, content)).transpose()?;
            files.push(FileRecord {
                file: file.clone(),
                is_drop_in: *is_drop_in,
                candidate: super::candidate_beside(file),
                before: before.as_deref().map(Digest::of),
                after: after.as_deref().map(Digest::of),
                backup,
            });
        }
        let Unit { name, invocation_id, .. } = unit;
        let record = Record {
            plan: Some(plan.clone()),
            unit: name.clone(),
            socket: on_host(self.writer.root().path(), self.cri.socket()),
            invocation: (!invocation_id.is_empty()).then(|| InvocationId::from(invocation_id.clone())),
            boot: boot_id(self.writer.root())?,
            restart_limit_seconds: restart_limit(unit).as_secs(),
            ready_limit_seconds: ready_limit.as_secs(),
            pulled_before: PulledBefore::Unknown,
            files,
            certs_d: certs_d.clone(),
            variables: change.variables.clone(),
        };
        self.advance(&record, Progress::Prepared)?;
        Ok(record)
    }

    /// Writes down that the next step is about to be taken.
    pub(super) fn advance(&self, record: &Record, progress: Progress) -> Result<(), RestartError> {
        self.write_page(record, progress, None)
    }

    /// Writes down that the old file comes back, and why.
    pub(super) fn advance_rolling_back(&self, record: &Record, why: &str) -> Result<(), RestartError> {
        self.write_page(record, Progress::RollingBack, Some(why.to_owned()))
    }

    fn write_page(&self, record: &Record, progress: Progress, reason: Option<String>) -> Result<(), RestartError> {
        Ok(self.journal().advance(&Page { progress, reason, record: record.clone() })?)
    }

    /// The journal; `None` if no restart is under way. One that cannot be read is set aside, and the guard, if there is
    /// one, decides alone.
    pub(super) fn load(&self) -> Result<Option<Page>, RestartError> {
        let Loaded { value, warning } = self.journal().load()?;
        if let Some(warning) = warning {
            tracing::warn!("{warning}");
        }
        Ok(value)
    }

    /// Ends the journal: nothing is under way any more.
    pub(super) fn end(&self) -> Result<(), RestartError> {
        Ok(self.journal().clear()?)
    }

    /// What the guard's own copies tell, where the journal is lost.
    pub(super) fn record_of_guard(&self, subject: &Subject) -> Result<Record, RestartError> {
        let Subject { unit, files } = subject;
        let files = files.iter().map(|guarded| self.file_of_guard(guarded)).collect::<Result<_, _>>()?;
        Ok(Record {
            plan: None,
            unit: unit.clone(),
            socket: on_host(self.writer.root().path(), self.cri.socket()),
            invocation: None,
            boot: String::new(),
            restart_limit_seconds: super::LONGEST_UNIT_TIMEOUT.as_secs(),
            ready_limit_seconds: usual_ready_limit(),
            pulled_before: PulledBefore::Unknown,
            files,
            certs_d: PathBuf::new(),
            variables: Vec::new(),
        })
    }

    fn file_of_guard(&self, guarded: &GuardedFile) -> Result<FileRecord, RestartError> {
        let root = self.writer.root();
        let guard = self.guard();
        let GuardedFile { file, is_drop_in, existed, removed } = guarded;
        let read = |path: PathBuf| Ok::<_, RestartError>(root.read(&path)?);
        let after = match removed {
            true => None,
            false => Some(read(guard.written(guarded))?.ok_or_else(|| lost(&guard.written(guarded)))?),
        };
        let backup = match (existed, read(guard.previous(guarded))?) {
            (true, Some(content)) => Some(back_up(self.state, &content)?),
            // The old file is back in its place.
            (true, None) => match root.read(file)? {
                Some(content) => Some(back_up(self.state, &content)?),
                None => return Err(lost(file)),
            },
            (false, _) => None,
        };
        let before = match &backup {
            Some(path) => root.read(path)?.as_deref().map(Digest::of),
            None => None,
        };
        Ok(FileRecord {
            file: file.clone(),
            is_drop_in: *is_drop_in,
            candidate: super::candidate_beside(file),
            before,
            after: after.as_deref().map(Digest::of),
            backup,
        })
    }

    pub(super) fn attributes_of(&self, file: &Path) -> Result<Attributes, FileError> {
        attributes_of(self.writer, file)
    }
}

/// A path as this process opens it, as the host names it.
fn on_host(root: &Path, opened_as: &Path) -> PathBuf {
    Path::new("/").join(opened_as.strip_prefix(root).unwrap_or(opened_as))
}

fn lost(path: &Path) -> RestartError {
    RestartError::Lost(format!("{} is gone", path.display()))
}
