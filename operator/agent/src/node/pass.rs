//! One pass over the node: observe, plan, execute, prove, report.

use std::path::Path;

use registry_mirror_core::{
    bundle::{Bundle, Mode},
    digest::Digest,
    node_plan::{Asked, ContainerdObservation, NodePlan, RestartBy, not_applied, plan_node},
    plan::{ProxyPlan, shared::Role},
    status::node::{Facts, NodeFailure, Verdict},
};
use registry_mirror_host::{
    certs_d::{self, ApplyError},
    file_error::FileError,
    files::HostWriter,
    observe::ObserveError,
    shared::{records_of, role_now, take_role},
    state::StateDir,
};
use thiserror::Error;

use super::{
    Asking, Node,
    observe::{observe_node, observe_untouched},
    place,
    proxy::{DropInError, Kept},
};
use crate::{approval::RestartPermission, metrics::Metrics};

/// What a host needs, and the daemon that it was seen with.
#[derive(Debug)]
pub struct HostPlan {
    /// The daemon.
    pub containerd: ContainerdObservation,
    /// What is to be done.
    pub plan: NodePlan,
}

/// What a host needs could not be found out.
#[derive(Debug, Error)]
pub enum PlanError {
    /// No containerd answers, or its configuration cannot be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// A file of the host cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A plan could not be carried out. What was done until then is whole, and the next pass goes on.
#[derive(Debug, Error)]
enum ExecuteError {
    /// The files.
    #[error(transparent)]
    Files(#[from] ApplyError),
    /// The drop-in of the forward proxy.
    #[error(transparent)]
    DropIn(#[from] DropInError),
}

/// A plan that may be carried out, with what its files are written by.
struct Prepared {
    host: HostPlan,
    writer: HostWriter,
    role: Role,
    /// What tells which files are ours; `None` where no file is to be written.
    records: Option<StateDir>,
}

impl Node {
    /// One pass with this bundle. It never fails as a whole: what went wrong is part of the facts.
    pub async fn pass(&mut self, bundle: &Bundle, permission: &RestartPermission, metrics: &Metrics) -> Facts {
        self.next_pass = None;
        let mut facts = Facts { bundle: Some(hash(bundle)), ..Facts::nothing_known("Not asked yet.") };
        match bundle.mode {
            Mode::DryRun => self.dry_run(bundle, &mut facts).await,
            Mode::Enforce => self.enforce(bundle, permission, metrics, &mut facts).await,
            Mode::Restore => self.restore_pass(metrics, &mut facts).await,
        }
        facts
    }

    /// What a pass would do with this bundle; without one, what containerd's configuration needs. Nothing is written:
    /// the daemon is not even asked for a proof pull.
    ///
    /// # Errors
    /// Where no containerd answers or the host cannot be read.
    pub async fn plan(&mut self, bundle: Option<&Bundle>, restart: RestartBy) -> Result<HostPlan, PlanError> {
        let cluster = self.records.remembered();
        let host = self.inspect(Asked { bundle, proxy: cluster.as_ref(), restart }).await;
        self.look_afresh();
        host
    }

    async fn inspect(&mut self, asked: Asked<'_>) -> Result<HostPlan, PlanError> {
        let containerd = self.observe(Asking::Forbidden).await?.seen.clone();
        let role = match containerd.directory() {
            None => Role::Alone,
            Some(directory) => role_now(&self.root, directory)?,
        };
        let observed = observe_untouched(&self.root, containerd, role)?;
        let plan = plan_node(&observed, asked, &self.health);
        Ok(HostPlan { containerd: observed.containerd, plan })
    }

    async fn dry_run(&mut self, bundle: &Bundle, facts: &mut Facts) {
        facts.verdict = Verdict::DryRun;
        self.share = None;
        let asked = Asked { bundle: Some(bundle), proxy: Some(bundle), restart: RestartBy::Operator };
        match self.inspect(asked).await {
            Ok(HostPlan { containerd, plan }) => {
                facts.describe(&containerd, &plan);
                facts.conflicts = plan.conflicts();
                facts.registries = plan.registries;
                for registry in &mut facts.registries {
                    registry.error.get_or_insert_with(|| "mode is DryRun".to_owned());
                }
            }
            Err(error) => facts.verdict = Verdict::failed(NodeFailure::Observe, error.to_string()),
        }
    }

    async fn enforce(&mut self, bundle: &Bundle, permission: &RestartPermission, metrics: &Metrics, facts: &mut Facts) {
        let _lock = match self.records.lock().await {
            Ok(lock) => lock,
            Err(error) => {
                facts.verdict = Verdict::failed(NodeFailure::Apply, error.to_string());
                return;
            }
        };
        if self.unrecovered
            && let Err(error) = self.recover(metrics).await
        {
            // Whoever does not get as far as the files lets another node write them, where there is one.
            self.share = None;
            facts.verdict = Verdict::failed(self.not_recovered(), error.to_string());
            return;
        }
        // What a dry run has seen holds no proof.
        if self.daemon.seen().is_none_or(|daemon| daemon.asking == Asking::Forbidden)
            && let Err(error) = self.observe(Asking::Allowed).await
        {
            self.share = None;
            facts.verdict = self.unobserved(&error.to_string());
            facts.registries = not_applied(bundle, "containerd could not be looked at");
            return;
        }
        let rewritten = self.mend(bundle).await;
        facts.verdict = self.work(bundle, permission, metrics, facts).await;
        facts.conflicts.extend(rewritten);
        facts.drift = self.drift.recent();
        let restarts = self.records.restarts();
        (facts.restarts, facts.proved_restart) = (restarts.made, restarts.proved);
    }

    /// With the daemon seen: the plan, its files, then the one restart where it is due.
    async fn work(
        &mut self,
        bundle: &Bundle,
        permission: &RestartPermission,
        metrics: &Metrics,
        facts: &mut Facts,
    ) -> Verdict {
        let asked = asked(bundle, permission);
        let Some(containerd) = self.daemon.seen().map(|daemon| daemon.seen.clone()) else {
            return self.unobserved("containerd was not looked at");
        };
        let prepared = match self.prepare(containerd, asked) {
            Ok(prepared) => prepared,
            Err(error) => {
                facts.registries = not_applied(bundle, "the files of this node could not be read");
                return Verdict::failed(NodeFailure::Apply, error.to_string());
            }
        };
        let plan = &prepared.host.plan;
        facts.describe(&prepared.host.containerd, plan);
        facts.registries.clone_from(&plan.registries);
        if let Some(stop) = &plan.stop {
            // Another node shall write that can. Where none waits the lock is kept: its end would wake this node again.
            if matches!(&prepared.role, Role::Writer { waiting } if !waiting.is_empty()) {
                self.share = None;
            }
            return Verdict::failed(stop.failure, stop.why.clone());
        }
        if let Err(error) = self.execute(&prepared, metrics, facts).await {
            return Verdict::failed(NodeFailure::Apply, error.to_string());
        }
        let mut verdict = Verdict::Ready;
        if plan.restarts() {
            verdict = self.restart_if_allowed(&prepared.writer, &prepared.host, permission, metrics).await;
            // The node has changed under the facts: they speak of what is now.
            if verdict == Verdict::Ready
                && let Ok(now) = self.observe(Asking::Allowed).await.map(|daemon| daemon.seen.clone())
                && let Ok(now) = self.prepare(now, asked)
            {
                facts.describe(&now.host.containerd, &now.host.plan);
            }
        }
        if let (Verdict::Ready, Some(away)) = (&verdict, plan.away()) {
            verdict = Verdict::failed(NodeFailure::Contested, away);
        }
        self.forget_failure_once_in_force(&verdict, facts);
        match (verdict, &plan.standing_by) {
            (Verdict::Ready, Some(sentence)) => Verdict::Shared(sentence.clone()),
            (verdict, _) => verdict,
        }
    }

    /// Takes this node's part in its directory, observes what stands there, and plans.
    fn prepare(&mut self, containerd: ContainerdObservation, asked: Asked<'_>) -> Result<Prepared, FileError> {
        let writer = place::writer_for(&self.root, &containerd.config_file, &containerd.plan);
        let (role, records) = match containerd.directory().map(Path::to_owned) {
            None => (Role::Alone, None),
            Some(directory) => {
                let role = take_role(&mut self.share, &writer, &directory)?;
                let records = records_of(&role, &writer, &directory)?;
                (role, Some(records))
            }
        };
        let observed = observe_node(&self.root, containerd, role, records.as_ref())?;
        let plan = plan_node(&observed, asked, &self.health);
        let host = HostPlan { containerd: observed.containerd, plan };
        Ok(Prepared { host, writer, role: observed.role, records })
    }

    /// Makes the host as the plan says, as far as that needs no restart.
    async fn execute(&mut self, prepared: &Prepared, metrics: &Metrics, facts: &mut Facts) -> Result<(), ExecuteError> {
        let Prepared { host: HostPlan { plan, .. }, writer, records, .. } = prepared;
        if let Some(records) = records {
            write_files(records, plan).inspect_err(|error| {
                facts.registries.iter_mut().for_each(|registry| {
                    registry.error.get_or_insert_with(|| error.to_string());
                });
            })?;
        }
        facts.conflicts = plan.conflicts();
        self.next_pass = plan.next_pass();
        for (path, what) in plan.drift() {
            self.drift.note(path, what);
        }
        metrics.file_changes.inc_by(plan.files.iter().map(|(_, files)| files.ops.len() as u64).sum());
        Ok(self.keep_drop_in(writer, &plan.proxy, facts).await?)
    }

    async fn keep_drop_in(
        &mut self,
        writer: &HostWriter,
        plan: &ProxyPlan,
        facts: &mut Facts,
    ) -> Result<(), DropInError> {
        let Self { daemon, drop_in, .. } = self;
        let systemd = daemon.systemd.clone();
        let Some(seen) = daemon.seen_mut() else { return Ok(()) };
        let Kept { drift, quarrel, again_at } = drop_in.keep(writer, &systemd, &mut seen.seen, plan).await?;
        if let Some((file, what)) = drift {
            self.drift.note(&file, what);
        }
        facts.conflicts.extend(quarrel);
        self.next_pass = self.next_pass.into_iter().chain(again_at).min();
        Ok(())
    }
}

/// What is asked of the node with this permission. A person at the host asks for mirrors; the proxy is the cluster's.
fn asked<'a>(bundle: &'a Bundle, permission: &RestartPermission) -> Asked<'a> {
    let (proxy, restart) = match permission {
        RestartPermission::Cluster(_) => (Some(bundle), RestartBy::Operator),
        RestartPermission::Person => (None, RestartBy::Operator),
        RestartPermission::FilesOnly => (None, RestartBy::Others),
    };
    Asked { bundle: Some(bundle), proxy, restart }
}

/// Puts the plan's files in place.
///
/// # Errors
/// On what the kernel says; each file is whole then, and the next pass goes on.
pub(super) fn write_files(records: &StateDir, plan: &NodePlan) -> Result<(), ApplyError> {
    // What moves from one directory to a later one is written there before it is removed here.
    for (root, files) in plan.files.iter().rev() {
        for op in &files.ops {
            tracing::info!("{}", op.describe(root));
        }
        certs_d::apply(records, root, files)?;
    }
    Ok(())
}

/// Names a bundle: the same hash says the same files.
fn hash(bundle: &Bundle) -> String {
    serde_json::to_vec(bundle).map_or_else(|_| String::new(), |json| Digest::of(&json).short().to_owned())
}
