//! What the journal holds about a restart: enough to finish or undo it without anything else.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use registry_mirror_core::{digest::Digest, observed::Unit, plan::PlanHash};
use serde::{Deserialize, Serialize};

use super::{
    Edited, Progress, Replacement, Request, RestartError, Restarter,
    place::{attributes_of, back_up},
    restart_limit,
};
use crate::{
    files::Attributes,
    guard::{Subject, boot_id},
    journal::Journal,
    root::FileError,
    state::Loaded,
    systemd::InvocationId,
};

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
    /// The configuration file, symlinks followed.
    pub file: PathBuf,
    /// The candidate beside it.
    pub candidate: PathBuf,
    /// Its old content; `None` if there was no file.
    pub before: Option<Digest>,
    /// Its new content.
    pub after: Digest,
    /// The old content in the state directory; `None` if there was no file.
    pub backup: Option<PathBuf>,
    /// What must be in force afterwards.
    pub certs_d: PathBuf,
    /// How to take the edit back.
    pub undo: serde_json::Value,
}

impl Record {
    pub(super) fn restart_limit(&self) -> Duration {
        Duration::from_secs(self.restart_limit_seconds)
    }

    /// What the caller notes once the edit is in force.
    pub(super) fn edited(&self) -> Edited {
        let Self { file, before, after, backup, undo, .. } = self;
        Edited {
            file: file.clone(),
            before: before.clone(),
            after: after.clone(),
            backup: backup.clone(),
            undo: undo.clone(),
        }
    }

    pub(super) fn subject(&self) -> Subject {
        Subject { unit: self.unit.clone(), config_file: self.file.clone(), had_config: self.before.is_some() }
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
    pub(super) fn begin(
        &self,
        request: &Request,
        replacement: &Replacement,
        file: &Path,
        candidate: PathBuf,
    ) -> Result<Record, RestartError> {
        let Request { unit, version: _, main_config: _, change: _, certs_d, plan } = request;
        if self.load()?.is_some() {
            return Err(RestartError::Unsettled);
        }
        let Replacement { file: _, before, after, undo } = replacement;
        let backup = match before {
            Some(content) => Some(back_up(self.state, content)?),
            None => None,
        };
        let Unit { name, invocation_id, .. } = unit;
        let record = Record {
            plan: Some(plan.clone()),
            unit: name.clone(),
            socket: on_host(self.writer.root().path(), self.cri.socket()),
            invocation: (!invocation_id.is_empty()).then(|| InvocationId::from(invocation_id.clone())),
            boot: boot_id(self.writer.root())?,
            restart_limit_seconds: restart_limit(unit).as_secs(),
            file: file.to_owned(),
            candidate,
            before: before.as_deref().map(Digest::of),
            after: Digest::of(after),
            backup,
            certs_d: certs_d.clone(),
            undo: undo.clone(),
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
        let root = self.writer.root();
        let guard = self.guard();
        let Subject { unit, config_file, had_config } = subject;
        let read = |path: PathBuf| Ok::<_, RestartError>(root.read(&path)?);
        let after = read(guard.written())?.ok_or_else(|| lost(&guard.written()))?;
        let backup = match (had_config, read(guard.previous(subject))?) {
            (true, Some(content)) => Some(back_up(self.state, &content)?),
            // The old file is back in its place.
            (true, None) => match root.read(config_file)? {
                Some(content) => Some(back_up(self.state, &content)?),
                None => return Err(lost(config_file)),
            },
            (false, _) => None,
        };
        let before = match &backup {
            Some(path) => root.read(path)?.as_deref().map(Digest::of),
            None => None,
        };
        Ok(Record {
            plan: None,
            unit: unit.clone(),
            socket: on_host(root.path(), self.cri.socket()),
            invocation: None,
            boot: String::new(),
            restart_limit_seconds: super::LONGEST_UNIT_TIMEOUT.as_secs(),
            file: config_file.clone(),
            candidate: super::candidate_beside(config_file),
            before,
            after: Digest::of(&after),
            backup,
            certs_d: PathBuf::new(),
            undo: serde_json::Value::Null,
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
