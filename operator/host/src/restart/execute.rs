//! The way forward: from a plan to a proved restart.

use std::{path::PathBuf, time::Duration};

use registry_mirror_core::config_toml::Edit;
use tokio::{
    select,
    time::{Instant, sleep},
};

use super::{
    Approval, Change, DropIn, Outcome, Progress, Request, RestartError, Restarter,
    place::remove_empty_parent,
    record::{FileChange, FileRecord, Record},
    restart_limit,
};
use crate::{
    fault,
    guard::{Contents, Owner, RENEW_EVERY, Subject, unfinished},
    observe::proxy::environment_of,
    systemd::InvocationId,
};

/// A start that works.
pub(super) struct Working {
    pub took: Duration,
    pub invocation: Option<InvocationId>,
}

impl Restarter<'_> {
    /// Brings a change into force, or takes it back.
    ///
    /// An earlier restart must have been settled by [`recover`](super::recover) before.
    ///
    /// # Errors
    /// The end could not be reached; the journal stands and [`recover`](super::recover) goes on from there.
    pub async fn run(&self, request: &Request, approval: &impl Approval) -> Result<Outcome, RestartError> {
        let changes = self.changes(&request.change)?;
        // Before the check, which would otherwise ask the binary of an earlier start.
        match self.changed_since_start(request).await {
            Ok(None) => {}
            Ok(Some(file)) => return Ok(Outcome::Changed { file }),
            Err(error) => return Ok(Outcome::Refused { why: error.to_string() }),
        }
        match changes.is_empty() {
            false => self.replace(request, &changes, approval).await,
            true => self.restart_only(request, approval).await,
        }
    }

    /// The files that change, symlinks followed: the file that a link names is replaced, not the link. The drop-in
    /// comes last: while it stands alone, a restart by somebody else reads the old configuration.
    fn changes(&self, change: &Change) -> Result<Vec<FileChange>, RestartError> {
        let root = self.writer.root();
        let mut changes = Vec::new();
        if let Some(Edit { file, before, after, .. }) = &change.config {
            let file = root.resolve(file)?.unwrap_or_else(|| file.clone());
            changes.push(FileChange { file, is_drop_in: false, before: before.clone(), after: Some(after.clone()) });
        }
        if let Some(DropIn { file, before, after }) = &change.drop_in {
            let file = root.resolve(file)?.unwrap_or_else(|| file.clone());
            changes.push(FileChange { file, is_drop_in: true, before: before.clone(), after: after.clone() });
        }
        Ok(changes)
    }

    /// The first file that is another one than the plan was made for.
    fn changed_meanwhile(&self, changes: &[FileChange]) -> Result<Option<PathBuf>, RestartError> {
        for FileChange { file, before, .. } in changes {
            if self.writer.root().read(file)? != *before {
                return Ok(Some(file.clone()));
            }
        }
        Ok(None)
    }

    async fn replace(
        &self,
        request: &Request,
        changes: &[FileChange],
        approval: &impl Approval,
    ) -> Result<Outcome, RestartError> {
        fault::point("restart:begin");
        match self.changed_meanwhile(changes) {
            Ok(None) => {}
            Ok(Some(file)) => return Ok(Outcome::Changed { file }),
            Err(error) => return Ok(Outcome::Refused { why: error.to_string() }),
        }
        let mut record = match self.begin(request, changes) {
            Ok(record) => record,
            // What is under way is no affair of this one.
            Err(RestartError::Unsettled) => return Err(RestartError::Unsettled),
            Err(error) => return Ok(Outcome::Refused { why: error.to_string() }),
        };
        fault::point("restart:begun");
        // Whatever goes wrong before the restart: the node is as it was or is made so, and a second try would find
        // nothing else.
        let stop = match self.up_to_the_first_rename(request, changes, &mut record, approval).await {
            Ok(None) => self.rename_the_rest(&record).map(|()| None),
            stop => stop,
        };
        match stop {
            Ok(None) => self.restart_and_prove(&record).await,
            Ok(Some(outcome)) => self.withdraw(&record, outcome).await,
            Err(error) => self.take_back_and_refuse(&record, &error).await,
        }
    }

    /// Candidates, check, approval, guard, and the first file in its place. Whatever speaks against it is an outcome.
    async fn up_to_the_first_rename(
        &self,
        request: &Request,
        changes: &[FileChange],
        record: &mut Record,
        approval: &impl Approval,
    ) -> Result<Option<Outcome>, RestartError> {
        let mut to_check = &request.main_config;
        let mut contents = Vec::new();
        for (FileRecord { candidate, .. }, FileChange { file, is_drop_in, before, after }) in
            record.files.iter().zip(changes)
        {
            let attributes = self.attributes_of(file)?;
            contents.push(Contents { before: before.as_deref(), after: after.as_deref(), attributes });
            let Some(after) = after else { continue };
            if let Some(directory) = candidate.parent() {
                self.writer.create_dir(directory, 0o755)?;
            }
            self.writer.write(candidate, after, attributes)?;
            if !is_drop_in {
                to_check = candidate;
            }
        }
        fault::point("restart:candidate-written");
        let checked = self.check(request, to_check).await;
        if let Err(why) = checked.unwrap_or_else(|error| Err(error.to_string())) {
            return Ok(Some(Outcome::Refused { why }));
        }
        record.pulled_before = self.pulled_before(&record.certs_d).await;
        self.advance(record, Progress::Prepared)?;

        match approval.granted().await {
            Ok(true) => {}
            Ok(false) => return Ok(Some(Outcome::NotApproved { why: None })),
            Err(error) => return Ok(Some(Outcome::NotApproved { why: Some(error.to_string()) })),
        }

        self.advance(record, Progress::Guarded)?;
        self.guard().arm(&record.subject(), &contents).await?;
        // The last moment at which somebody else's edit can still be respected.
        let changed = match self.changed_meanwhile(changes)? {
            Some(file) => Some(file),
            None => self.changed_since_start(request).await?,
        };
        if let Some(file) = changed {
            return Ok(Some(Outcome::Changed { file }));
        }
        fault::point("restart:guarded");
        record.files.first().map(|first| self.put_in_place(first)).transpose()?;
        Ok(None)
    }

    fn rename_the_rest(&self, record: &Record) -> Result<(), RestartError> {
        record.files.iter().skip(1).try_for_each(|file| self.put_in_place(file))?;
        self.advance(record, Progress::Renamed)
    }

    fn put_in_place(&self, FileRecord { file, candidate, after, .. }: &FileRecord) -> Result<(), RestartError> {
        match after {
            Some(_) => self.writer.rename(candidate, file)?,
            None => self.writer.remove(file).map(drop)?,
        }
        fault::point("restart:renamed");
        Ok(())
    }

    /// Nothing has changed, and nothing of ours stays.
    async fn withdraw(&self, record: &Record, outcome: Outcome) -> Result<Outcome, RestartError> {
        match self.guard().disarm(&record.subject()).await? {
            Owner::Us => self.give_up(record, outcome),
            Owner::Guard => self.settle_guard(record, None).await,
        }
    }

    /// The daemon has read nothing of what may be in place: with that taken back, the node is as it was.
    async fn take_back_and_refuse(&self, record: &Record, error: &RestartError) -> Result<Outcome, RestartError> {
        Ok(match self.take_back(record).await? {
            Outcome::Abandoned => Outcome::Refused { why: error.to_string() },
            by_the_guard => by_the_guard,
        })
    }

    /// Restarts with the new file in place, under the guard, and finishes or rolls back.
    pub(super) async fn restart_and_prove(&self, record: &Record) -> Result<Outcome, RestartError> {
        let subject = record.subject();
        let owner = match self.advance(record, Progress::RestartCalled) {
            Ok(()) => self.guard().renew(&subject).await.map_err(RestartError::from),
            Err(error) => Err(error),
        };
        match owner {
            Ok(Owner::Us) => {}
            Ok(Owner::Guard) => return self.settle_guard(record, None).await,
            Err(error) => return self.take_back_and_refuse(record, &error).await,
        }
        let working = self.while_guarded(&subject, self.restart_recorded(record)).await;
        match working {
            Ok(working) => self.prove_and_finish(record, Some(working)).await,
            Err(why) => self.roll_back(record, why).await,
        }
    }

    /// With a daemon that has started with the new file: proof, then the end.
    pub(super) async fn prove_and_finish(
        &self,
        record: &Record,
        working: Option<Working>,
    ) -> Result<Outcome, RestartError> {
        let subject = record.subject();
        let proved = self.prove_start(&record.certs_d, record.pulled_before, record.ready_limit());
        if let Err(shortcoming) = self.while_guarded(&subject, proved).await {
            return self.roll_back(record, shortcoming.to_string()).await;
        }
        if let Err(why) = self.has_variables(&record.unit, &record.variables).await {
            return self.roll_back(record, why).await;
        }
        fault::point("restart:proved");
        self.advance(record, Progress::Proved)?;
        self.finish(record, working).await
    }

    /// Everything is proved: takes the outcome from the guard and removes the traces.
    pub(super) async fn finish(&self, record: &Record, working: Option<Working>) -> Result<Outcome, RestartError> {
        match self.guard().disarm(&record.subject()).await? {
            Owner::Us => {}
            Owner::Guard => return self.settle_guard(record, None).await,
        }
        let (took, invocation) = match working {
            Some(Working { took, invocation }) => (Some(took), invocation),
            None => (None, self.systemd.unit(&record.unit).await?.invocation),
        };
        self.give_up(
            record,
            Outcome::Restarted { plan: record.plan.clone(), took, invocation, edited: record.edited() },
        )
    }

    /// Removes what an unfinished or finished restart leaves in the file system, then the journal.
    pub(super) fn give_up(&self, record: &Record, outcome: Outcome) -> Result<Outcome, RestartError> {
        for FileRecord { file, candidate, is_drop_in, .. } in &record.files {
            for path in [&unfinished(candidate), candidate, &unfinished(file)] {
                self.writer.remove(path)?;
            }
            if *is_drop_in {
                remove_empty_parent(self.writer, file)?;
            }
        }
        self.end()?;
        fault::point("restart:ended");
        Ok(outcome)
    }

    /// The restart of a record: systemd reads a changed drop-in first. The error is a sentence.
    pub(super) async fn restart_recorded(&self, record: &Record) -> Result<Working, String> {
        if record.has_drop_in() {
            self.systemd.daemon_reload().await.map_err(|error| error.to_string())?;
            fault::point("restart:reloaded");
        }
        self.restart_until_ready(&record.unit, record.restart_limit(), record.ready_limit()).await
    }

    /// Whether the daemon has these variables, by its own environment as the kernel shows it: another drop-in or a file
    /// of variables may have the last word. The error is a sentence.
    async fn has_variables(&self, unit: &str, variables: &[(String, String)]) -> Result<(), String> {
        if variables.is_empty() {
            return Ok(());
        }
        let pid = self.systemd.unit(unit).await.map_err(|error| error.to_string())?.main_pid;
        let environment = match pid {
            Some(pid) => environment_of(self.writer.root(), pid).map_err(|error| error.to_string())?,
            None => None,
        };
        let Some(environment) = environment else {
            return Err(format!("the environment of {unit} cannot be read, so that its proxy is not proved"));
        };
        match variables.iter().find(|(name, value)| environment.get(name) != Some(value.as_str())) {
            None => Ok(()),
            Some((name, _)) => Err(format!(
                "containerd restarted with the drop-in, but its environment has another {name}: another drop-in of \
                 {unit} or a file of variables has the last word; `systemctl cat {unit}` on the host shows which"
            )),
        }
    }

    /// Restarts the unit and waits for CRI; the error is a sentence.
    pub(super) async fn restart_until_ready(
        &self,
        unit: &str,
        limit: Duration,
        ready_limit: Duration,
    ) -> Result<Working, String> {
        let asked = Instant::now();
        let state = self.systemd.restart_unit(unit, limit).await.map_err(|error| error.to_string())?;
        fault::point("restart:active");
        self.cri.wait_ready(ready_limit).await.map_err(|error| error.to_string())?;
        fault::point("restart:ready");
        Ok(Working { took: asked.elapsed(), invocation: state.invocation })
    }

    /// Puts the guard off again and again while `work` goes on.
    pub(super) async fn while_guarded<T>(&self, subject: &Subject, work: impl Future<Output = T>) -> T {
        let guard = self.guard();
        let renewing = async {
            loop {
                sleep(RENEW_EVERY).await;
                // That the guard has acted is noticed by `disarm` at the end.
                if let Err(error) = guard.renew(subject).await {
                    tracing::warn!("the guard of the restart may act too early: {error}");
                }
            }
        };
        select! {
            done = work => done,
            never = renewing => never,
        }
    }

    async fn restart_only(&self, request: &Request, approval: &impl Approval) -> Result<Outcome, RestartError> {
        let Request { unit, main_config, change, certs_d, plan, ready_limit, .. } = request;
        let checked = self.check(request, main_config).await;
        if let Err(why) = checked.unwrap_or_else(|error| Err(error.to_string())) {
            return Ok(Outcome::Refused { why });
        }
        match approval.granted().await {
            Ok(true) => {}
            Ok(false) => return Ok(Outcome::NotApproved { why: None }),
            Err(error) => return Ok(Outcome::NotApproved { why: Some(error.to_string()) }),
        }
        match self.changed_since_start(request).await {
            Ok(None) => {}
            Ok(Some(file)) => return Ok(Outcome::Changed { file }),
            Err(error) => return Ok(Outcome::Refused { why: error.to_string() }),
        }
        let before = self.pulled_before(certs_d).await;
        // Our own drop-in may not have been read by systemd either.
        if !change.variables.is_empty()
            && let Err(error) = self.systemd.daemon_reload().await
        {
            return Ok(Outcome::Refused { why: error.to_string() });
        }
        let working = match self.restart_until_ready(&unit.name, restart_limit(unit), *ready_limit).await {
            Ok(working) => working,
            Err(why) => return Ok(Outcome::NotEffective { why }),
        };
        if let Err(why) = self.has_variables(&unit.name, &change.variables).await {
            return Ok(Outcome::NotEffective { why });
        }
        Ok(match self.prove_start(certs_d, before, *ready_limit).await {
            Ok(()) => {
                let Working { took, invocation } = working;
                Outcome::Restarted { plan: Some(plan.clone()), took: Some(took), invocation, edited: None }
            }
            Err(shortcoming) => Outcome::NotEffective { why: shortcoming.to_string() },
        })
    }
}
