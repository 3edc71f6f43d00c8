//! The way forward: from a plan to a proved restart.

use std::time::Duration;

use tokio::{
    select,
    time::{Instant, sleep},
};

use super::{
    Approval, Change, Outcome, Progress, READY_LIMIT, Replacement, Request, RestartError, Restarter, candidate_beside,
    ledger::Record, restart_limit,
};
use crate::{
    fault,
    guard::{Owner, RENEW_EVERY, Subject, unfinished},
    proof::{ProofResult, prove},
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
        match &request.change {
            Change::Replace(replacement) => self.replace(request, replacement, approval).await,
            Change::RestartOnly => self.restart_only(request, approval).await,
        }
    }

    async fn replace(
        &self,
        request: &Request,
        replacement: &Replacement,
        approval: &impl Approval,
    ) -> Result<Outcome, RestartError> {
        let root = self.writer.root();
        let Replacement { before, after, .. } = replacement;
        // The file that a link names is replaced, not the link.
        let file = root.resolve(&replacement.file)?.unwrap_or_else(|| replacement.file.clone());
        if root.read(&file)? != *before {
            return Ok(Outcome::Changed { file });
        }
        let candidate = candidate_beside(&file);
        let record = self.begin(request, replacement, &file, candidate.clone())?;
        fault::point("restart:begun");

        let attributes = self.attributes_of(&file)?;
        if let Some(directory) = candidate.parent() {
            self.writer.create_dir(directory, 0o755)?;
        }
        self.writer.write(&candidate, after, attributes)?;
        fault::point("restart:candidate-written");
        let checked = self.check(request, &candidate).await;
        if let Err(why) = checked.unwrap_or_else(|error| Err(error.to_string())) {
            return self.give_up(&record, Outcome::Refused { why });
        }
        self.advance(&record, Progress::Prepared)?;

        match approval.granted().await {
            Ok(true) => {}
            Ok(false) => return self.give_up(&record, Outcome::NotApproved { why: None }),
            Err(error) => return self.give_up(&record, Outcome::NotApproved { why: Some(error.to_string()) }),
        }

        self.advance(&record, Progress::Guarded)?;
        let subject = record.subject();
        if let Err(error) = self.guard().arm(&subject, before.as_deref(), after, attributes).await {
            return self.give_up(&record, Outcome::Refused { why: error.to_string() });
        }
        // The last moment at which somebody else's edit can still be respected.
        if root.read(&file)? != *before {
            return match self.guard().disarm(&subject).await? {
                Owner::Us => self.give_up(&record, Outcome::Changed { file }),
                Owner::Guard => self.settle_guard(&record, None).await,
            };
        }
        fault::point("restart:guarded");
        self.writer.rename(&candidate, &file)?;
        fault::point("restart:renamed");
        self.advance(&record, Progress::Renamed)?;
        self.restart_and_prove(&record).await
    }

    /// Restarts with the new file in place, under the guard, and finishes or rolls back.
    pub(super) async fn restart_and_prove(&self, record: &Record) -> Result<Outcome, RestartError> {
        self.advance(record, Progress::RestartCalled)?;
        let subject = record.subject();
        if self.guard().renew(&subject).await? == Owner::Guard {
            return self.settle_guard(record, None).await;
        }
        let working =
            self.while_guarded(&subject, self.restart_until_ready(&record.unit, record.restart_limit())).await;
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
        let proof = self.while_guarded(&subject, prove(self.writer, &record.certs_d, &self.cri)).await;
        match proof {
            ProofResult::Effective { .. } => {}
            ProofResult::NotEffective { cri_said } => {
                let why = format!(
                    "containerd restarted with the new configuration, but does not read {} ({cri_said})",
                    record.certs_d.display()
                );
                return self.roll_back(record, why).await;
            }
            ProofResult::Failed { why } => {
                let why = format!("whether the restarted containerd reads the directory could not be proved: {why}");
                return self.roll_back(record, why).await;
            }
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
            Outcome::Restarted { plan: record.plan.clone(), took, invocation, edited: Some(record.edited()) },
        )
    }

    /// Removes what an unfinished or finished restart leaves in the file system, then the journal.
    pub(super) fn give_up(&self, record: &Record, outcome: Outcome) -> Result<Outcome, RestartError> {
        for path in [&unfinished(&record.candidate), &record.candidate, &unfinished(&record.file)] {
            self.writer.remove(path)?;
        }
        self.end()?;
        fault::point("restart:ended");
        Ok(outcome)
    }

    /// Restarts the unit and waits for CRI; the error is a sentence.
    pub(super) async fn restart_until_ready(&self, unit: &str, limit: Duration) -> Result<Working, String> {
        let asked = Instant::now();
        let state = self.systemd.restart_unit(unit, limit).await.map_err(|error| error.to_string())?;
        fault::point("restart:active");
        self.cri.wait_ready(READY_LIMIT).await.map_err(|error| error.to_string())?;
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
        let Request { unit, version: _, main_config, change: _, certs_d, plan } = request;
        let checked = self.check(request, main_config).await;
        if let Err(why) = checked.unwrap_or_else(|error| Err(error.to_string())) {
            return Ok(Outcome::Refused { why });
        }
        match approval.granted().await {
            Ok(true) => {}
            Ok(false) => return Ok(Outcome::NotApproved { why: None }),
            Err(error) => return Ok(Outcome::NotApproved { why: Some(error.to_string()) }),
        }
        let working = match self.restart_until_ready(&unit.name, restart_limit(unit)).await {
            Ok(working) => working,
            Err(why) => return Ok(Outcome::NotEffective { why }),
        };
        Ok(match prove(self.writer, certs_d, &self.cri).await {
            ProofResult::Effective { .. } => {
                let Working { took, invocation } = working;
                Outcome::Restarted { plan: Some(plan.clone()), took: Some(took), invocation, edited: None }
            }
            ProofResult::NotEffective { cri_said } => Outcome::NotEffective {
                why: format!("containerd restarted, but does not read {} ({cri_said})", certs_d.display()),
            },
            ProofResult::Failed { why } => Outcome::NotEffective { why },
        })
    }
}
