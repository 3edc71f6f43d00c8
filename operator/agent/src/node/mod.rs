//! One node, with or without a cluster around it: the agent's loop and `registry-mirror node …` both drive this.
//!
//! A pass is observe, plan, apply, prove. It never fails as a whole: what went wrong is part of the facts.

mod edits;
mod files;
mod look;
mod migrate;
mod offline;
mod place;
mod preview;
mod proofs;
mod proxy;
mod restart;
mod restore;
mod rewrites;
mod settle;
mod shared;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use registry_mirror_core::{
    bundle::{Bundle, Mode},
    containerd::Version,
    digest::Digest,
    plan::{ConfigPlan, ProxyPlan, config::DEFAULT_DIRECTORY, rewrites::OwnEdit},
};
use registry_mirror_host::{
    file_error::FileError,
    files::{HostWriter, WriteScope},
    lock::HostLock,
    observe::daemon::DEFAULT_CONFIG,
    root::HostRoot,
    shared::Share,
    state::{STATE_DIR, StateDir},
    systemd::Systemd,
    watch::Watch,
};
use thiserror::Error;
use tokio::time::Instant;

use self::{
    files::{Applied, Target, Ways, apply_files},
    look::{Asking, Look, look, turned_on},
    migrate::{Carried, carried},
    proofs::Proofs,
    restart::Due,
    shared::{Role, forbids_migration, stand_by},
};
pub use self::{
    look::{RestartBy, plan_facts},
    offline::Offline,
    preview::{Preview, Step, What},
    restore::{Depth, Restored},
};
use crate::{approval::Leave, health::HealthMap, metrics::Metrics};
use registry_mirror_core::node_status::{DRIFT_KEPT, DriftFacts, Effective, Facts, NodeFailure, PlanFacts, Verdict};

/// Which host.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Where its `/` is.
    pub host_root: PathBuf,
    /// The pod that tells which containerd is meant, if there is one.
    pub pod_uid: Option<String>,
    /// How long containerd may take after our restart to be ready, and to be proved once it is.
    pub ready_limit: Duration,
}

/// The host cannot be worked on.
#[derive(Debug, Error)]
pub enum NodeError {
    /// Its root cannot be opened.
    #[error(transparent)]
    Root(#[from] FileError),
}

/// How long a pass waits for another program of ours that holds the host.
const LOCK_LIMIT: Duration = Duration::from_secs(30);

/// A host and what is known of it between passes.
#[derive(Debug)]
pub struct Node {
    root: HostRoot,
    systemd: Systemd,
    pod_uid: Option<String>,
    ready_limit: Duration,
    /// The last look, while nothing hints that it is out of date.
    look: Option<Look>,
    proofs: Proofs,
    /// The slice on the host's disk, once it was read or written.
    slice: Option<Bundle>,
    /// Restarts that were begun and are not settled.
    unsettled: bool,
    /// The mirrors as this node sees them; nothing is known of them on the command line.
    health: Arc<HealthMap>,
    /// Files of ours that others changed since this process has started, the last few.
    drift: Vec<DriftFacts>,
    /// The part in a directory that other nodes have too.
    share: Option<Share>,
    /// containerd's forward proxy in its unit.
    drop_in: proxy::KeptDropIn,
    /// When the files want a pass although nothing changes.
    next_look: Option<Timestamp>,
}

impl Node {
    /// Opens the host.
    ///
    /// # Errors
    /// Where its root is not there or cannot be read.
    pub fn open(settings: NodeSettings) -> Result<Self, NodeError> {
        let NodeSettings { host_root, pod_uid, ready_limit } = settings;
        let root = HostRoot::open(&host_root)?;
        let systemd = Systemd::new(&host_root);
        Ok(Self {
            root,
            systemd,
            pod_uid,
            ready_limit,
            look: None,
            proofs: Proofs::default(),
            slice: None,
            unsettled: true,
            health: Arc::default(),
            drift: Vec::new(),
            share: None,
            drop_in: proxy::KeptDropIn::default(),
            next_look: None,
        })
    }

    /// Tells when something may have changed on the host. Only a hint: the host is looked at regularly anyway.
    #[must_use]
    pub fn watch_for_drift(&self, period: Duration) -> Watch {
        Watch::new(self.root.clone(), self.watched_directories(), period)
    }

    /// Resolves when the files want a pass although nothing changes: one that others changed goes back after a pause, a
    /// certificate goes away after its grace. Never, where nothing waits.
    pub async fn due(&self) {
        let Some(at) = self.next_look else { return std::future::pending().await };
        tokio::time::sleep(at.duration_since(Timestamp::now()).try_into().unwrap_or_default()).await;
    }

    fn look_at(&mut self, time: Timestamp) {
        self.next_look = Some(self.next_look.map_or(time, |earlier| earlier.min(time)));
    }

    /// The directories whose files a pass depends on, as far as they are known.
    #[must_use]
    pub fn watched_directories(&self) -> Vec<PathBuf> {
        let (config_file, directory) = self.places();
        // Where it is a link, the file that it names is edited elsewhere.
        let real = self.root.resolve(&config_file).ok().flatten();
        let files = std::iter::once(&config_file).chain(&real);
        let mut directories: Vec<PathBuf> = files.filter_map(|file| file.parent()).map(Path::to_owned).collect();
        directories.dedup();
        directories.push(directory);
        directories.extend(self.look.iter().flat_map(|look| look.plan.roots().into_iter().skip(1)));
        directories.extend(self.look.as_ref().and_then(proxy::watched_directory));
        directories
    }

    /// The configuration file and the directory of hosts.toml files, or where they usually are.
    fn places(&self) -> (PathBuf, PathBuf) {
        let usual = || (PathBuf::from(DEFAULT_CONFIG), PathBuf::from(DEFAULT_DIRECTORY));
        self.look.as_ref().map_or_else(usual, |look| {
            let directory = look.plan.directory().map_or_else(|| PathBuf::from(DEFAULT_DIRECTORY), Path::to_owned);
            (look.config_file.clone(), directory)
        })
    }

    /// The host's files, for what runs beside the passes.
    #[must_use]
    pub fn root(&self) -> &HostRoot {
        &self.root
    }

    /// What the next pass shall know of the mirrors.
    pub fn set_health(&mut self, health: Arc<HealthMap>) {
        self.health = health;
    }

    /// The next pass knows nothing of this node.
    fn forget(&mut self) {
        self.look = None;
        self.proofs.forget();
        self.slice = None;
    }

    /// The next pass looks at containerd anew.
    pub fn look_afresh(&mut self) {
        self.look = None;
    }

    /// When something that could not be found out is to be asked again, where the regular look would come too late.
    #[must_use]
    pub fn look_again_at(&self) -> Option<Instant> {
        self.proofs.try_again_at(Instant::now())
    }

    /// The slice that was last in force, from memory or from the host's disk.
    pub fn remembered(&mut self) -> Option<Bundle> {
        if self.slice.is_none() && matches!(self.root.stat(Path::new(STATE_DIR)), Ok(Some(_))) {
            match self.state().and_then(|state| state.slice::<Bundle>()) {
                Ok(loaded) => {
                    if let Some(warning) = loaded.warning {
                        tracing::warn!("{warning}");
                    }
                    self.slice = loaded.value;
                }
                Err(error) => tracing::warn!("the last state could not be read: {error}"),
            }
        }
        self.slice.clone()
    }

    /// Keeps a slice on the host's disk, for the time when the API server is away.
    ///
    /// A dry run writes nothing on a host where nothing was ever in force. Where something is remembered, it is
    /// remembered that a dry run was asked for: otherwise an agent that starts while the API server is away would work
    /// as before. That is one write in the operator's own directory. A node that is put back forgets all.
    pub fn remember(&mut self, slice: &Bundle) {
        let kept = match slice.mode {
            Mode::Enforce => slice.clone(),
            Mode::DryRun => match self.remembered() {
                Some(remembered) => Bundle { mode: Mode::DryRun, ..remembered },
                None => return,
            },
            Mode::Restore => return,
        };
        if self.slice.as_ref() == Some(&kept) {
            return;
        }
        match self.state().and_then(|state| state.save_slice(&kept)) {
            Ok(_) => self.slice = Some(kept),
            Err(error) => tracing::warn!("the state could not be kept for a time without the API server: {error}"),
        }
    }

    fn state(&self) -> Result<StateDir, FileError> {
        StateDir::open(&HostWriter::new(self.root.clone(), WriteScope::state_only()))
    }

    /// One pass with this slice.
    pub async fn pass(&mut self, slice: &Bundle, leave: &Leave, metrics: &Metrics) -> Facts {
        self.next_look = None;
        let mut facts = Facts {
            generation: None,
            bundle: Some(hash(slice)),
            containerd: None,
            plan: None,
            verdict: Verdict::Ready,
            effective: Effective::Unknown("Not asked yet.".to_owned()),
            registries: Vec::new(),
            conflicts: Vec::new(),
            proxy: None,
            drift: Vec::new(),
            restarts: 0,
            proved_restart: None,
        };
        match slice.mode {
            Mode::DryRun => self.dry_run(slice, &mut facts).await,
            Mode::Enforce => self.enforce(slice, leave, metrics, &mut facts).await,
            Mode::Restore => self.restore_pass(metrics, &mut facts).await,
        }
        facts
    }

    async fn dry_run(&mut self, slice: &Bundle, facts: &mut Facts) {
        facts.verdict = Verdict::DryRun;
        let root = self.root.clone();
        self.look = None;
        self.share = None;
        match self.look_now(Asking::Forbidden).await {
            Ok(look) => {
                facts.containerd = Some(look.containerd.clone());
                let proxy = proxy::plan(look, slice);
                match turned_on(&root, &look.plan, look.version, Some(slice)) {
                    Ok(newly_read) => {
                        facts.plan = Some(PlanFacts { newly_read, ..look.plan_facts(RestartBy::Us, &proxy) });
                    }
                    Err(error) => facts.verdict = Verdict::failed(NodeFailure::Observe, error.to_string()),
                }
                facts.proxy = proxy::facts(&proxy, slice.proxy.as_ref());
                facts.effective = look.effective();
                facts.registries = files::not_applied(slice, "mode is DryRun");
            }
            Err(why) => facts.verdict = Verdict::failed(NodeFailure::Observe, why),
        }
    }

    async fn enforce(&mut self, slice: &Bundle, leave: &Leave, metrics: &Metrics, facts: &mut Facts) {
        let _lock = match self.lock().await {
            Ok(lock) => lock,
            Err(why) => {
                facts.verdict = Verdict::failed(NodeFailure::Apply, why);
                return;
            }
        };
        if self.unsettled
            && let Err(why) = self.settle(metrics).await
        {
            // Whoever does not get as far as the files lets another node write them, where there is one.
            self.share = None;
            facts.verdict = Verdict::failed(self.not_settled(), why);
            return;
        }
        if self.look.is_none()
            && let Err(why) = self.look_now(Asking::Allowed).await
        {
            self.share = None;
            facts.verdict = self.unobserved(why);
            facts.registries = files::not_applied(slice, "containerd could not be looked at");
            return;
        }
        let rewritten = self.mend(slice).await;
        self.apply(slice, leave, metrics, facts).await;
        facts.conflicts.extend(rewritten);
        facts.drift.clone_from(&self.drift);
        let restarts = self.restarts();
        (facts.restarts, facts.proved_restart) = (restarts.made, restarts.proved);
    }

    /// With a look at hand: files, then the one restart where it is due.
    async fn apply(&mut self, slice: &Bundle, leave: &Leave, metrics: &Metrics, facts: &mut Facts) {
        let Some(look) = &self.look else { return };
        // A person at the host asks for mirrors; the proxy is the cluster's.
        let proxy = match leave {
            Leave::Cluster(_) => proxy::plan(look, slice),
            Leave::Person | Leave::FilesOnly => ProxyPlan::Nothing { notes: Vec::new() },
        };
        facts.containerd = Some(look.containerd.clone());
        let restart_by = restart_by(leave);
        // A directory that cannot be read is told where it is written.
        let newly_read = turned_on(&self.root, &look.plan, look.version, Some(slice)).unwrap_or_default();
        facts.plan = Some(PlanFacts { newly_read, ..look.plan_facts(restart_by, &proxy) });
        facts.proxy = proxy::facts(&proxy, slice.proxy.as_ref().filter(|_| matches!(leave, Leave::Cluster(_))));
        facts.effective = look.effective();
        let config_is_due = look.plan.needs_restart() && !slice.entries.is_empty();
        if let Some((failure, why)) = self.forbidden(look, config_is_due, restart_by) {
            facts.registries = files::not_applied(slice, &why);
            facts.verdict = Verdict::failed(failure, why);
            self.share = None;
            return;
        }
        let version = look.version;
        let (config_file, directory) = self.places();
        let writer = place::writer_for(&self.root, &config_file, &look.plan);
        let environment = look.proxy.running.clone().unwrap_or_default();
        let role = match self.role(&writer, &directory, version) {
            Ok(role) => role,
            Err(error) => {
                facts.verdict = Verdict::failed(NodeFailure::Apply, error.to_string());
                facts.registries = files::not_applied(slice, "who writes the directory could not be found out");
                return;
            }
        };
        let applied = match &role {
            Role::StandBy(record) => Ok(stand_by(slice, record.as_ref(), version, &directory, &self.health)),
            Role::Alone | Role::Writer(_) => {
                let ways = Ways { health: &self.health, environment: &environment };
                self.write_files(&writer, slice, &directory, version, &role, &ways)
            }
        };
        let applied = match applied {
            Ok(applied) => applied,
            Err(error) => {
                facts.verdict = Verdict::failed(NodeFailure::Apply, error.to_string());
                facts.registries = files::not_applied(slice, "the records of earlier work could not be read");
                return;
            }
        };
        let Applied { registries, conflicts, notes: _, drift, changes, error, away, next_look } = applied;
        self.next_look = next_look;
        for (path, what) in drift {
            tracing::warn!("{what}");
            self.note_drift(&path, what);
        }
        metrics.file_changes.inc_by(changes);
        facts.registries = registries;
        facts.conflicts = conflicts;
        let told = self.tell(&writer, &directory, &role, slice, &facts.registries).map_err(|error| error.to_string());
        if let Some(error) = error.or(told.err()) {
            facts.verdict = Verdict::failed(NodeFailure::Apply, error);
            return;
        }
        match self.keep_drop_in(&writer, &proxy).await {
            Ok(quarrel) => facts.conflicts.extend(quarrel),
            Err(why) => {
                facts.verdict = Verdict::failed(NodeFailure::Apply, why);
                return;
            }
        }
        if config_is_due || proxy.needs_restart() {
            let due = Due { config: config_is_due, proxy, wanted: slice.proxy.clone() };
            self.restart_if_allowed(&writer, &due, leave, metrics, facts).await;
        }
        if facts.verdict == Verdict::Ready && !away.is_empty() {
            facts.verdict = Verdict::failed(NodeFailure::Contested, away.join("; "));
        }
        self.forget_failure_once_in_force(facts);
        if let (Verdict::Ready, Role::StandBy(record)) = (&facts.verdict, &role) {
            facts.verdict = Verdict::Shared(shared::sentence(record.as_ref(), &directory));
        }
    }

    /// Why nothing may be done to this host.
    fn forbidden(&self, look: &Look, config_is_due: bool, restart_by: RestartBy) -> Option<(NodeFailure, String)> {
        match (&look.plan, look.plan_for(restart_by)) {
            (ConfigPlan::Unsupported { reason }, _) => {
                let failure = if look.config_readable { NodeFailure::Unsupported } else { NodeFailure::ConfigBroken };
                Some((failure, reason.clone()))
            }
            (_, ConfigPlan::Unsupported { reason }) if config_is_due => Some((NodeFailure::ChangedSinceStart, reason)),
            (plan @ (ConfigPlan::Adopt { .. } | ConfigPlan::Patch { .. } | ConfigPlan::Migrate { .. }), _) => {
                match forbids_migration(&self.root, plan) {
                    Ok(why) => why.map(|why| (NodeFailure::Unsupported, why)),
                    Err(error) => Some((NodeFailure::Observe, error.to_string())),
                }
            }
        }
    }

    fn write_files(
        &self,
        writer: &HostWriter,
        slice: &Bundle,
        directory: &Path,
        own: Version,
        role: &Role,
        ways: &Ways<'_>,
    ) -> Result<Applied, FileError> {
        let (carried, roots) = match &self.look {
            Some(look) => (carried(&self.root, &look.plan)?, role.roots(&look.plan)),
            None => (Carried::default(), vec![directory.to_owned()]),
        };
        let records = role.records(writer, directory)?;
        let target = Target { own, readers: role.readers(own), roots: &roots };
        Ok(apply_files(&records, slice, target, ways, &carried))
    }

    async fn look_now(&mut self, asking: Asking) -> Result<&Look, String> {
        let (root, pod_uid) = (self.root.clone(), self.pod_uid.clone());
        let writer_for =
            |config: &Path, directory: &Path| HostWriter::new(root.clone(), WriteScope::for_host([config], directory));
        let ours = self.last_edit();
        let found = look(&root, &self.systemd, pod_uid.as_deref(), asking, ours.as_ref(), &mut self.proofs, writer_for)
            .await
            .map_err(|error| error.to_string())?;
        Ok(self.look.insert(found))
    }

    async fn lock(&self) -> Result<HostLock, String> {
        let state = self.state().map_err(|error| error.to_string())?;
        HostLock::acquire_within(&state, "the agent", LOCK_LIMIT).await.map_err(|error| error.to_string())
    }

    /// Our last edit of containerd's configuration. A host that was never worked on stays without a state directory.
    fn last_edit(&self) -> Option<OwnEdit> {
        self.root.stat(Path::new(STATE_DIR)).ok().flatten()?;
        let last = self.state().and_then(|state| edits::last(&state));
        last.unwrap_or_else(|error| {
            tracing::warn!("the record of earlier edits could not be read: {error}");
            None
        })
    }

    /// Remembers a file of ours that somebody changed, for status and Events.
    fn note_drift(&mut self, path: &Path, what: String) {
        let at = Timestamp::now();
        self.drift.push(DriftFacts { path: path.display().to_string(), at, what });
        let surplus = self.drift.len().saturating_sub(DRIFT_KEPT);
        self.drift.drain(..surplus);
    }
}

/// Who restarts containerd with this leave.
const fn restart_by(leave: &Leave) -> RestartBy {
    match leave {
        Leave::FilesOnly => RestartBy::Others,
        Leave::Person | Leave::Cluster(_) => RestartBy::Us,
    }
}

/// Names a slice: the same hash says the same files.
fn hash(slice: &Bundle) -> String {
    serde_json::to_vec(slice).map_or_else(|_| String::new(), |json| Digest::of(&json).short().to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use registry_mirror_core::bundle::SCHEMA;
    use registry_mirror_host::restart::READY_LIMIT;

    use super::*;

    fn node(host: &Path) -> Node {
        Node::open(NodeSettings { host_root: host.to_owned(), pod_uid: None, ready_limit: READY_LIMIT })
            .expect("a host")
    }

    fn slice(mode: Mode) -> Bundle {
        Bundle { schema: SCHEMA, mode, entries: Vec::new(), blobs: BTreeMap::new(), proxy: None }
    }

    #[test]
    fn a_dry_run_writes_nothing_where_nothing_was_in_force_and_is_remembered_where_something_was() {
        let host = tempfile::tempdir().expect("a directory");
        let remembered = || node(host.path()).remembered().map(|kept| kept.mode);
        node(host.path()).remember(&slice(Mode::DryRun));
        assert_eq!(std::fs::read_dir(host.path()).expect("a list").count(), 0);

        for mode in [Mode::Enforce, Mode::DryRun, Mode::Enforce] {
            node(host.path()).remember(&slice(mode));
            assert_eq!(remembered(), Some(mode), "by an agent that starts");
        }
    }
}
