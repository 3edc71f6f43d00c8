//! One node, with or without a cluster around it: the agent's loop and `registry-mirror node …` both drive this.
//!
//! A pass is observe, plan, apply, prove. It never fails as a whole: what went wrong is part of the facts.

mod edits;
mod memory;
mod observe;
mod offline;
mod pass;
mod place;
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
    bundle::Bundle,
    containerd::Version,
    node_plan::MirrorHealth,
    node_status::{DRIFT_KEPT, DriftFacts},
    plan::{config::DEFAULT_DIRECTORY, rewrites::OwnEdit},
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
    observe::{Asking, Look, look},
    proofs::Proofs,
};
pub use self::{
    offline::Offline,
    pass::HostPlan,
    restore::{Depth, Restored},
};

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
    health: Arc<MirrorHealth>,
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
    pub fn set_health(&mut self, health: Arc<MirrorHealth>) {
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

    fn state(&self) -> Result<StateDir, FileError> {
        StateDir::open(&HostWriter::new(self.root.clone(), WriteScope::state_only()))
    }

    /// The release of the containerd that runs here.
    ///
    /// # Errors
    /// A sentence, where none answers or the host cannot be read.
    pub async fn version(&mut self) -> Result<Version, String> {
        let version = self.look_now(Asking::Forbidden).await?.version;
        self.look_afresh();
        Ok(version)
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
