//! After a crash: finishes or undoes what the journal says was begun.

use std::path::{Path, PathBuf};

use registry_mirror_core::digest::Digest;

use super::{
    Action, Arming, ConfigIs, Daemon, Outcome, RestartError, Restarter,
    record::{FileRecord, Page, Record},
    recovery::next,
};
use crate::{
    cri::Cri,
    fault,
    files::{HostWriter, WriteScope},
    guard::{Contents, Owner, boot_id},
    observe::beneath,
    proof,
    root::HostRoot,
    state::{STATE_DIR, StateDir},
    systemd::{ActiveState, Systemd},
};

/// Settles a restart that an earlier process began; `None` if there is none. To be called before the host is observed
/// or anything is planned: all that it needs is in the journal, so that it also works while containerd does not.
///
/// The caller holds the state directory's lock.
///
/// # Errors
/// It could not be settled; calling it again continues.
pub async fn recover(root: &HostRoot, systemd: &Systemd) -> Result<Option<Outcome>, RestartError> {
    // A host on which nothing was ever done is not touched by asking.
    if root.stat(Path::new(STATE_DIR))?.is_none() {
        return Ok(None);
    }
    let at = |socket: PathBuf| Cri::new(beneath(root.path(), &socket), socket);
    let usual = at(PathBuf::from("/run/containerd/containerd.sock"));
    let state = StateDir::open(&HostWriter::new(root.clone(), WriteScope::state_only()))?;
    let reader = Restarter::new(&state, systemd, &usual);
    let (files, certs_d, socket) = match reader.load()? {
        Some(Page { record: Record { files, certs_d, socket, .. }, .. }) => {
            (files.into_iter().map(|file| file.file).collect(), certs_d, Some(socket))
        }
        None => match reader.guard().subject()? {
            Some(subject) => (subject.files.into_iter().map(|guarded| guarded.file).collect(), PathBuf::new(), None),
            None => (Vec::new(), PathBuf::new(), None),
        },
    };
    let cri = match socket {
        Some(socket) => at(socket),
        None => usual,
    };
    let scope = WriteScope::for_host(files.iter().map(PathBuf::as_path), &certs_d);
    let state = StateDir::open(&HostWriter::new(root.clone(), scope))?;
    Restarter::new(&state, systemd, &cri).recover().await
}

impl Restarter<'_> {
    async fn recover(&self) -> Result<Option<Outcome>, RestartError> {
        let arming = self.guard().arming()?;
        let Some(Page { record, progress, reason }) = self.load()? else {
            return self.recover_without_journal(arming).await;
        };
        self.forget_check().await?;
        let config = self.config_is(&record)?;
        let daemon = self.daemon(&record).await?;
        let action = next(Some(progress), arming, config, daemon);
        tracing::info!(?progress, ?arming, ?config, ?daemon, ?action, "an earlier restart was cut short");
        let outcome = self.act(&record, action, reason).await?;
        proof::clean_up(self.writer, &record.certs_d, &self.cri).await;
        Ok(Some(outcome))
    }

    async fn act(&self, record: &Record, action: Action, reason: Option<String>) -> Result<Outcome, RestartError> {
        match action {
            Action::Nothing | Action::Abandon => self.abandon(record).await,
            Action::Continue => {
                self.rearm(record).await?;
                self.restart_and_prove(record).await
            }
            Action::Prove => {
                self.rearm(record).await?;
                match self.while_guarded(&record.subject(), self.cri.wait_ready(record.ready_limit())).await {
                    Ok(()) => self.prove_and_finish(record, None).await,
                    Err(error) => self.roll_back(record, error.to_string()).await,
                }
            }
            Action::Finish => self.finish(record, None).await,
            Action::TakeBack => self.take_back(record).await,
            Action::RollBack => {
                let why = reason.unwrap_or_else(|| "the restart was cut short".to_owned());
                self.rearm(record).await?;
                self.roll_back(record, why).await
            }
            Action::SettleGuard => self.settle_guard(record, reason).await,
        }
    }

    async fn abandon(&self, record: &Record) -> Result<Outcome, RestartError> {
        match self.guard().disarm(&record.subject()).await? {
            Owner::Us => self.give_up(record, Outcome::Abandoned),
            Owner::Guard => self.settle_guard(record, None).await,
        }
    }

    /// Gives the guard, armed by an earlier process, a new deadline, or puts it up anew where it is gone.
    async fn rearm(&self, record: &Record) -> Result<(), RestartError> {
        let guard = self.guard();
        let subject = record.subject();
        match guard.arming()? {
            // Taken meanwhile: `disarm` will say so.
            Arming::Fired => Ok(()),
            Arming::Armed { this_boot: true } => Ok(guard.renew(&subject).await.map(drop)?),
            Arming::Armed { this_boot: false } | Arming::Disarmed => {
                match self.config_is(record)? {
                    ConfigIs::After | ConfigIs::Mixed => self.arm_anew(record).await,
                    // The files are safe already; what is missing is at most a restart.
                    ConfigIs::Before | ConfigIs::Foreign => Ok(()),
                }
            }
        }
    }

    async fn arm_anew(&self, record: &Record) -> Result<(), RestartError> {
        let root = self.writer.root();
        let mut contents = Vec::new();
        for file in &record.files {
            let before = file.backup.as_ref().map(|backup| root.read(backup)).transpose()?.flatten();
            if before.is_none() && file.backup.is_some() {
                return Err(RestartError::Lost("its backup is gone from the state directory".to_owned()));
            }
            let after = match self.file_is(file)? {
                ConfigIs::After => root.read(&file.file)?,
                ConfigIs::Before | ConfigIs::Mixed | ConfigIs::Foreign => None,
            };
            contents.push((before, after, self.attributes_of(&file.file)?));
        }
        let contents: Vec<Contents<'_>> = contents
            .iter()
            .map(|(before, after, attributes)| Contents {
                before: before.as_deref(),
                after: after.as_deref(),
                attributes: *attributes,
            })
            .collect();
        Ok(self.guard().arm(&record.subject(), &contents).await?)
    }

    /// The journal is gone (set aside because it could not be read) but the guard is there: its own record helps.
    async fn recover_without_journal(&self, arming: Arming) -> Result<Option<Outcome>, RestartError> {
        let guard = self.guard();
        let Some(subject) = guard.subject()? else {
            return match arming {
                Arming::Disarmed => Ok(None),
                Arming::Armed { .. } | Arming::Fired => Err(RestartError::Lost(format!(
                    "{} holds a guard that does not say what it guards; compare containerd's configuration with its \
                     backups there, then remove that directory",
                    self.state.path().display()
                ))),
            };
        };
        let record = self.record_of_guard(&subject)?;
        let action = next(None, arming, self.config_is(&record)?, Daemon::StartedSince);
        tracing::warn!(?arming, ?action, "a guard without a journal was found");
        match action {
            // Between disarming and sweeping.
            Action::Nothing => {
                guard.sweep(&subject).await?;
                Ok(Some(Outcome::Abandoned))
            }
            other => {
                fault::point("restart:no-journal");
                self.act(&record, other, None).await.map(Some)
            }
        }
    }

    pub(super) fn config_is(&self, record: &Record) -> Result<ConfigIs, RestartError> {
        let mut all: Option<ConfigIs> = None;
        for file in &record.files {
            let is = self.file_is(file)?;
            all = Some(all.map_or(is, |all| all.and(is)));
        }
        Ok(all.unwrap_or(ConfigIs::Before))
    }

    pub(super) fn file_is(&self, record: &FileRecord) -> Result<ConfigIs, RestartError> {
        let FileRecord { file, before, after, .. } = record;
        let now = self.writer.root().read(file)?;
        let hash = now.as_deref().map(Digest::of);
        Ok(if hash == *before {
            ConfigIs::Before
        } else if hash == *after {
            ConfigIs::After
        } else {
            ConfigIs::Foreign
        })
    }

    async fn daemon(&self, record: &Record) -> Result<Daemon, RestartError> {
        if record.boot != boot_id(self.writer.root())? {
            return Ok(Daemon::StartedSince);
        }
        let unit = self.systemd.unit(&record.unit).await?;
        let same = unit.active == ActiveState::Active && unit.invocation == record.invocation;
        Ok(if same { Daemon::SameStart } else { Daemon::StartedSince })
    }
}
