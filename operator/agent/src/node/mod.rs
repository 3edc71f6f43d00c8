//! One node, with or without a cluster around it: the agent's loop and `registry-mirror node …` both drive this.
//!
//! A pass is observe, plan, apply, prove. It never fails as a whole: what went wrong is part of the facts.

mod daemon;
mod drift;
mod edits;
mod observe;
mod offline;
mod pass;
mod place;
mod proofs;
mod proxy;
mod records;
mod recover;
mod restart;
mod restore;
mod rewrites;

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use registry_mirror_core::{bundle::Bundle, containerd::Version, node_plan::MirrorHealth};
use registry_mirror_host::{
    file_error::FileError, observe::ObserveError, root::HostRoot, shared::Share, systemd::Systemd, watch::Watch,
};
use thiserror::Error;
use tokio::time::Instant;

use self::{
    daemon::Daemon,
    drift::DriftLog,
    observe::{Asking, SeenDaemon},
    records::Records,
};
pub use self::{
    offline::Offline,
    pass::{HostPlan, PlanError},
    restore::{Depth, RestoreError, Restored},
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

/// A host and what is known of it between passes.
#[derive(Debug)]
pub struct Node {
    root: HostRoot,
    ready_limit: Duration,
    daemon: Daemon,
    records: Records,
    /// Restarts that were begun and are not settled.
    unrecovered: bool,
    /// The mirrors as this node sees them; nothing is known of them on the command line.
    health: Arc<MirrorHealth>,
    drift: DriftLog,
    /// The part in a directory that other nodes have too.
    share: Option<Share>,
    /// containerd's forward proxy in its unit.
    drop_in: proxy::KeptDropIn,
    /// When the files want a pass although nothing changes.
    next_pass: Option<Timestamp>,
}

impl Node {
    /// Opens the host.
    ///
    /// # Errors
    /// Where its root is not there or cannot be read.
    pub fn open(settings: NodeSettings) -> Result<Self, NodeError> {
        let NodeSettings { host_root, pod_uid, ready_limit } = settings;
        let root = HostRoot::open(&host_root)?;
        Ok(Self {
            daemon: Daemon::new(root.clone(), Systemd::new(&host_root), pod_uid),
            records: Records::new(root.clone()),
            root,
            ready_limit,
            unrecovered: true,
            health: Arc::default(),
            drift: DriftLog::default(),
            share: None,
            drop_in: proxy::KeptDropIn::default(),
            next_pass: None,
        })
    }

    /// Tells when something may have changed on the host. Only a hint: the host is looked at regularly anyway.
    #[must_use]
    pub fn watch_for_drift(&self, period: Duration) -> Watch {
        Watch::new(self.root.clone(), self.watched_directories(), period)
    }

    /// The directories whose files a pass depends on, as far as they are known.
    #[must_use]
    pub fn watched_directories(&self) -> Vec<PathBuf> {
        self.daemon.watched_directories()
    }

    /// Resolves when the files want a pass although nothing changes: one that others changed goes back after a pause, a
    /// certificate goes away after its grace. Never, where nothing waits.
    pub async fn due(&self) {
        let Some(at) = self.next_pass else { return std::future::pending().await };
        tokio::time::sleep(at.duration_since(Timestamp::now()).try_into().unwrap_or_default()).await;
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

    /// The next pass looks at containerd anew.
    pub fn look_afresh(&mut self) {
        self.daemon.forget_seen();
    }

    /// When something that could not be found out is to be asked again, where the regular look would come too late.
    #[must_use]
    pub fn look_again_at(&self) -> Option<Instant> {
        self.daemon.try_again_at()
    }

    /// The bundle that was last in force, from memory or from the host's disk.
    pub fn remembered(&mut self) -> Option<Bundle> {
        self.records.remembered()
    }

    /// Keeps a bundle on the host's disk, for the time when the API server is away.
    pub fn remember(&mut self, bundle: &Bundle) {
        self.records.remember(bundle);
    }

    /// The release of the containerd that runs here.
    ///
    /// # Errors
    /// Where none answers or the host cannot be read.
    pub async fn version(&mut self) -> Result<Version, ObserveError> {
        let version = self.observe(Asking::Forbidden).await?.seen.version;
        self.look_afresh();
        Ok(version)
    }

    async fn observe(&mut self, asking: Asking) -> Result<&SeenDaemon, ObserveError> {
        let ours = self.records.last_edit();
        self.daemon.observe(asking, ours.as_ref()).await
    }
}
