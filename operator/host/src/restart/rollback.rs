//! The way back: the old file, a restart, and CRI's own word that it works.

use std::time::Duration;

use super::{
    ConfigIs, Outcome, RestartError, Restarter,
    record::{FileRecord, Record},
};
use crate::{fault, guard::Owner};

/// The guard's own restart takes as long as the unit's; what it does besides takes no time.
const GUARD_LIMIT: Duration = Duration::from_secs(30);

impl Restarter<'_> {
    /// Puts the old file back and restarts. The guard stays armed until containerd answers again.
    pub(super) async fn roll_back(&self, record: &Record, why: String) -> Result<Outcome, RestartError> {
        tracing::warn!("putting {} back: {why}", record.names());
        self.advance_rolling_back(record, &why)?;
        let subject = record.subject();
        // What failed may be that the guard was faster: a process that was stopped for long wakes up here.
        match self.guard().renew(&subject).await {
            Ok(Owner::Guard) => return self.settle_guard(record, None).await,
            Ok(Owner::Us) => {}
            Err(error) => tracing::warn!("the guard of the restart may act too early: {error}"),
        }
        self.put_back(record)?;
        fault::point("restart:put-back");
        let working = self.while_guarded(&subject, async {
            match self.restart_recorded(record).await {
                Ok(_) => Ok(()),
                // `Restart=always` may succeed where the first try did not.
                Err(restart) => self.cri.wait_ready(record.ready_limit()).await.map_err(|_| restart),
            }
        });
        let still_down = working.await.err();
        fault::point("restart:rolled-back");
        match self.guard().disarm(&subject).await? {
            Owner::Us => {
                self.give_up(record, Outcome::RolledBack { plan: record.plan.clone(), why, by: Owner::Us, still_down })
            }
            Owner::Guard => self.settle_guard(record, Some(why)).await,
        }
    }

    /// Puts the old files back where the files are still those that we wrote.
    pub(super) fn put_back(&self, record: &Record) -> Result<(), RestartError> {
        record.files.iter().try_for_each(|file| self.put_file_back(file))
    }

    fn put_file_back(&self, record: &FileRecord) -> Result<(), RestartError> {
        let FileRecord { file, backup, .. } = record;
        let previous = self.guard().previous(&record.guarded());
        let stands_ready = self.writer.root().stat_link(&previous)?.is_some();
        match (self.file_is(record)?, backup) {
            (ConfigIs::After, Some(_)) if stands_ready => self.writer.rename(&previous, file)?,
            (ConfigIs::After, Some(backup)) => {
                let Some(content) = self.writer.root().read(backup)? else {
                    return Err(RestartError::Lost(format!("its backup {} is gone", backup.display())));
                };
                let attributes = self.attributes_of(file)?;
                self.writer.write(file, &content, attributes)?;
            }
            (ConfigIs::After, None) => {
                self.writer.remove(file)?;
            }
            (ConfigIs::Before | ConfigIs::Mixed | ConfigIs::Foreign, _) => {}
        }
        // Tells the guard that the file is back and a restart is due.
        self.writer.remove(&previous)?;
        Ok(())
    }

    /// Puts back what is ours of files that the daemon has not read: it needs no restart.
    pub(super) async fn take_back(&self, record: &Record) -> Result<Outcome, RestartError> {
        self.put_back(record)?;
        fault::point("restart:taken-back");
        if record.has_drop_in() {
            self.systemd.daemon_reload().await?;
        }
        match self.guard().disarm(&record.subject()).await? {
            Owner::Us => self.give_up(record, Outcome::Abandoned),
            Owner::Guard => self.settle_guard(record, None).await,
        }
    }

    /// The guard has taken the outcome: waits for its end, makes up for what it could not do, and reports.
    pub(super) async fn settle_guard(&self, record: &Record, reason: Option<String>) -> Result<Outcome, RestartError> {
        let guard = self.guard();
        let subject = record.subject();
        guard.wait_until_ended(record.restart_limit() + GUARD_LIMIT).await?;
        // Where the old files still stand ready, the guard had nothing to put back.
        let mut untouched = true;
        for guarded in &subject.files {
            untouched &= self.writer.root().stat_link(&guard.previous(guarded))?.is_some();
        }
        let (by, still_down) = match self.config_is(record)? {
            ConfigIs::After | ConfigIs::Mixed => {
                self.put_back(record)?;
                (Owner::Us, self.restart_recorded(record).await.err())
            }
            ConfigIs::Before if untouched => {
                guard.sweep(&subject).await?;
                return self.give_up(record, Outcome::Abandoned);
            }
            ConfigIs::Before | ConfigIs::Foreign => {
                (Owner::Guard, self.cri.wait_ready(record.ready_limit()).await.err().map(|error| error.to_string()))
            }
        };
        fault::point("restart:settled");
        guard.sweep(&subject).await?;
        let why = reason.unwrap_or_else(|| {
            "the restart was cut short (the agent was killed, or the node went down), and the guard put the old \
             configuration back"
                .to_owned()
        });
        self.give_up(record, Outcome::RolledBack { plan: record.plan.clone(), why, by, still_down })
    }
}
