//! The one restart: whether it is due, whether it is allowed, and what its outcome means.

use std::time::Duration;

use jiff::Timestamp;
use registry_mirror_core::{
    budget::ChangeHash,
    node_plan::NodePlan,
    plan::{PlanHash, ProxyPlan, proxy::DropInChange},
    status::node::{Effective, Facts, NodeFailure, PlanFacts, ProxyFacts, Verdict},
};
use registry_mirror_host::{
    files::HostWriter,
    journal,
    restart::{AlwaysApproved, Approval, Change, DropIn, Outcome, Request, RestartError, Restarter},
    state::{BegunRestart, FailedBy, FailedPlan, ProvedRestart, Restarts, StateDir},
};

use super::{Node, edits, pass::HostPlan, place};
use crate::{approval::RestartPermission, metrics::Metrics};

impl Node {
    /// Restarts containerd for a plan if there is permission.
    pub(super) async fn restart_if_allowed(
        &mut self,
        writer: &HostWriter,
        host: &HostPlan,
        permission: &RestartPermission,
        metrics: &Metrics,
    ) -> Verdict {
        let Some(request) = request(host, self.ready_limit) else {
            let why = "containerd must restart once, and no systemd unit runs it: restart it by hand";
            return Verdict::failed(NodeFailure::Unsupported, why);
        };
        let failed = self
            .records
            .restarts()
            .failed
            .filter(|failed| failed.plan.is_none() || failed.plan.as_deref() == Some(request.plan.as_str()));
        let (outcome, permission_given_at) = match permission {
            RestartPermission::FilesOnly => return self.place_files_only(writer, &host.plan),
            RestartPermission::Person => {
                (self.run_restart(writer, &request, host, &AlwaysApproved, metrics).await, Timestamp::now())
            }
            RestartPermission::Cluster(cluster) => {
                let used = failed.as_ref().map(|failed| failed.permission_given_at);
                let Some(approval) = cluster.for_plan(&request.plan, used) else {
                    return match failed {
                        Some(failed) => Verdict::failed(failure_by(failed.by), failed.why),
                        None => Verdict::RestartPending,
                    };
                };
                (self.run_restart(writer, &request, host, &approval, metrics).await, approval.given_at)
            }
        };
        // Whatever happened, what was seen before it is out of date.
        self.daemon.forget();
        let plan = Some(&request.plan);
        match outcome {
            Ok(outcome) => self.conclude(&outcome, plan, permission_given_at, metrics),
            Err(error) if journal::may_stand(&self.root) => {
                self.unrecovered = true;
                Verdict::failed(NodeFailure::Restart, error.to_string())
            }
            // Each effect stands in the journal before it begins, so without one there was none.
            Err(error) => {
                let outcome = Outcome::Refused { why: error.to_string() };
                self.conclude(&outcome, plan, permission_given_at, metrics)
            }
        }
    }

    /// The files as they must stand before the next start, which somebody else makes.
    fn place_files_only(&mut self, writer: &HostWriter, plan: &NodePlan) -> Verdict {
        self.daemon.forget_seen();
        match StateDir::open(writer) {
            Ok(state) => place::place_edit(&state, &plan.config, place::Daemon::Runs),
            Err(error) => Verdict::failed(NodeFailure::Apply, error.to_string()),
        }
    }

    async fn run_restart(
        &self,
        writer: &HostWriter,
        request: &Request,
        host: &HostPlan,
        approval: &impl Approval,
        metrics: &Metrics,
    ) -> Result<Outcome, RestartError> {
        let Some(daemon) = self.daemon.seen() else { return Ok(Outcome::Abandoned) };
        let migrated = host.plan.config.migrated();
        if let Change { config: Some(edit), .. } = &request.change
            && let Err(error) = self.records.state().and_then(|state| edits::note(&state, edit, migrated))
        {
            // An edit that is not written down could not be taken back later.
            return Ok(Outcome::Refused { why: error.to_string() });
        }
        let mut restarts = self.records.restarts();
        let PlanFacts { change, reason, .. } = host.plan.facts();
        restarts.begun = Some(BegunRestart { plan: request.plan.as_str().to_owned(), change });
        if let Err(error) = self.records.state().and_then(|state| state.save_restarts(&restarts)) {
            return Ok(Outcome::Refused { why: error.to_string() });
        }
        metrics.restarts.inc();
        tracing::info!(plan = %request.plan, "restarting containerd: {reason}");
        let state = match StateDir::open(writer) {
            Ok(state) => state,
            Err(error) => return Ok(Outcome::Refused { why: error.to_string() }),
        };
        Restarter::new(&state, &self.daemon.systemd, &daemon.cri).run(request, approval).await
    }

    /// Writes down how a restart ended, and what that means for the node.
    fn conclude(
        &self,
        outcome: &Outcome,
        plan: Option<&PlanHash>,
        permission_given_at: Timestamp,
        metrics: &Metrics,
    ) -> Verdict {
        self.record(outcome, plan, permission_given_at, metrics);
        match outcome {
            Outcome::Restarted { took, .. } => {
                let took_ms = took.map_or(0, |took| took.as_millis());
                tracing::info!(took_ms, "containerd has restarted and reads the directory");
                Verdict::Ready
            }
            Outcome::Changed { file } => {
                tracing::info!("{} changed meanwhile: planning anew", file.display());
                Verdict::RestartPending
            }
            Outcome::NotApproved { .. } | Outcome::Abandoned => Verdict::RestartPending,
            Outcome::Refused { why } => Verdict::failed(NodeFailure::RestartRefused, why.clone()),
            Outcome::NotEffective { why } => Verdict::failed(NodeFailure::Restart, why.clone()),
            Outcome::RolledBack { why, still_down, .. } => {
                Verdict::failed(NodeFailure::Restart, rolled_back(why, still_down.as_deref()))
            }
        }
    }

    /// Writes down how a restart ended.
    pub(super) fn record(
        &self,
        outcome: &Outcome,
        plan: Option<&PlanHash>,
        permission_given_at: Timestamp,
        metrics: &Metrics,
    ) {
        if !matches!(outcome, Outcome::Restarted { .. })
            && let Err(error) = self.records.state().and_then(|state| edits::forget_gone(&state))
        {
            tracing::warn!("an edit that did not come to be could not be struck out: {error}");
        }
        let mut restarts = self.records.restarts();
        // After a crash the journal knows it.
        let plan = plan.or(match outcome {
            Outcome::Restarted { plan, .. } | Outcome::RolledBack { plan, .. } => plan.as_ref(),
            _ => None,
        });
        let fail = |by, why: String| {
            Some(FailedPlan { plan: plan.map(|plan| plan.as_str().to_owned()), by, why, permission_given_at })
        };
        match outcome {
            Outcome::Restarted { edited, .. } => {
                restarts.made += 1;
                restarts.failed = None;
                if let Some(change) = change_of(&restarts, plan) {
                    // As the API keeps it.
                    let at = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
                    restarts.proved = Some(ProvedRestart { change, at });
                }
                let noted = edited
                    .as_ref()
                    .map(|edited| self.records.state().and_then(|state| edits::note_backup(&state, edited)));
                if let Some(Err(error)) = noted {
                    tracing::warn!("the backup of the edit could not be written down: {error}");
                }
            }
            Outcome::RolledBack { why, still_down, .. } => {
                metrics.rollbacks.inc();
                restarts.made += 1;
                restarts.failed = fail(FailedBy::Restart, rolled_back(why, still_down.as_deref()));
            }
            Outcome::NotEffective { why } => {
                restarts.made += 1;
                restarts.failed = fail(FailedBy::Restart, why.clone());
            }
            Outcome::Refused { why } => restarts.failed = fail(FailedBy::Refusal, why.clone()),
            Outcome::Changed { .. } | Outcome::NotApproved { .. } | Outcome::Abandoned => return,
        }
        if let Err(error) = self.records.state().and_then(|state| state.save_restarts(&restarts)) {
            tracing::warn!("the restart could not be written down: {error}");
        }
    }

    /// What a node says whose containerd cannot be looked at: a restart that failed is told as long as nothing says that
    /// it is over, for what it left behind may be why.
    pub(super) fn unobserved(&self, why: &str) -> Verdict {
        match self.records.restarts().failed {
            Some(failed) => Verdict::failed(NodeFailure::Restart, format!("{}; now {why}", failed.why)),
            None => Verdict::failed(NodeFailure::Observe, why),
        }
    }

    /// A restart that failed is over once the daemon reads the directory and nothing waits for another one.
    pub(super) fn forget_failure_once_in_force(&self, verdict: &Verdict, facts: &Facts) {
        let waits = facts.plan.as_ref().is_none_or(|plan| plan.restart)
            || !matches!(facts.proxy, None | Some(ProxyFacts::InForce(_)));
        if waits || *verdict != Verdict::Ready || facts.effective != Effective::Yes {
            return;
        }
        let restarts = self.records.restarts();
        if restarts.failed.is_none() {
            return;
        }
        let without = Restarts { failed: None, ..restarts };
        if let Err(error) = self.records.state().and_then(|state| state.save_restarts(&without)) {
            tracing::warn!("that the failed restart is over could not be written down: {error}");
        }
    }
}

const fn failure_by(by: FailedBy) -> NodeFailure {
    match by {
        FailedBy::Restart => NodeFailure::Restart,
        FailedBy::Refusal => NodeFailure::RestartRefused,
    }
}

/// What the restart of this plan changed, where it is the one that was begun last.
fn change_of(restarts: &Restarts, plan: Option<&PlanHash>) -> Option<ChangeHash> {
    let begun = restarts.begun.as_ref()?;
    (plan?.as_str() == begun.plan).then(|| begun.change.clone())
}

fn rolled_back(why: &str, still_down: Option<&str>) -> String {
    match still_down {
        None => format!("{why}; the old configuration is back and containerd runs with it"),
        Some(down) => format!("{why}; the old configuration is back, but containerd does not work: {down}"),
    }
}

/// What a plan restarts containerd for, as a request; `None` where no unit can be restarted. Its hash is the one that status
/// shows and an approval names.
fn request(host: &HostPlan, ready_limit: Duration) -> Option<Request> {
    let HostPlan { containerd, plan } = host;
    let (drop_in, variables) = match &plan.proxy {
        ProxyPlan::Change(DropInChange { file, before, after, variables, restart: true, .. }) => {
            let (file, before, after) = (file.clone(), before.clone(), after.clone());
            (Some(DropIn { file, before, after }), variables.clone())
        }
        ProxyPlan::Restart { variables, .. } => (None, variables.clone()),
        ProxyPlan::Change(_)
        | ProxyPlan::Nothing { .. }
        | ProxyPlan::Unsupported { .. }
        | ProxyPlan::HeldBack { .. } => (None, Vec::new()),
    };
    let edit = plan.config.edit().filter(|_| plan.restart.config);
    Some(Request {
        unit: containerd.unit.clone()?,
        version: containerd.version,
        main_config: containerd.config_file.clone(),
        change: Change { config: edit.cloned(), drop_in, variables },
        certs_d: plan.directory()?.to_owned(),
        plan: plan.facts().hash,
        ready_limit,
        known: containerd.known.clone(),
    })
}
