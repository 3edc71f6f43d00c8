//! The containerd of this node as it was seen last, and what proofs have found of it.

use std::path::{Path, PathBuf};

use registry_mirror_core::plan::{config::DEFAULT_DIRECTORY, rewrites::OwnEdit};
use registry_mirror_host::{
    files::{HostWriter, WriteScope},
    observe::{ObserveError, daemon::DEFAULT_CONFIG},
    root::HostRoot,
    systemd::Systemd,
};
use tokio::time::Instant;

use super::{
    observe::{Asking, SeenDaemon, observe_daemon},
    proofs::Proofs,
    proxy,
};

/// What is known of the daemon between passes.
#[derive(Debug)]
pub(super) struct Daemon {
    root: HostRoot,
    pub systemd: Systemd,
    /// The pod that tells which containerd is meant, if there is one.
    pod_uid: Option<String>,
    /// As it was seen last, while nothing hints that this is out of date.
    seen: Option<SeenDaemon>,
    proofs: Proofs,
}

impl Daemon {
    pub fn new(root: HostRoot, systemd: Systemd, pod_uid: Option<String>) -> Self {
        Self { root, systemd, pod_uid, seen: None, proofs: Proofs::default() }
    }

    /// Looks at it now. `ours` is our last edit of its configuration.
    pub async fn observe(&mut self, asking: Asking, ours: Option<&OwnEdit>) -> Result<&SeenDaemon, ObserveError> {
        let root = &self.root;
        let writer_for =
            |config: &Path, directory: &Path| HostWriter::new(root.clone(), WriteScope::for_host([config], directory));
        let pod_uid = self.pod_uid.as_deref();
        let seen = observe_daemon(root, &self.systemd, pod_uid, asking, ours, &mut self.proofs, writer_for).await?;
        Ok(self.seen.insert(seen))
    }

    pub const fn seen(&self) -> Option<&SeenDaemon> {
        self.seen.as_ref()
    }

    pub const fn seen_mut(&mut self) -> Option<&mut SeenDaemon> {
        self.seen.as_mut()
    }

    /// What was seen is out of date.
    pub fn forget_seen(&mut self) {
        self.seen = None;
    }

    /// What was seen and what was proved is out of date.
    pub fn forget(&mut self) {
        self.seen = None;
        self.proofs.forget();
    }

    /// When a proof that told nothing is to be tried again, where the regular pass would come too late.
    pub fn try_again_at(&self) -> Option<Instant> {
        self.proofs.try_again_at(Instant::now())
    }

    /// The directory of hosts.toml files, or where it usually is.
    pub fn directory(&self) -> PathBuf {
        let seen = self.seen.as_ref().and_then(|daemon| daemon.seen.directory());
        seen.map_or_else(|| PathBuf::from(DEFAULT_DIRECTORY), Path::to_owned)
    }

    /// The directories whose files a pass depends on, as far as they are known.
    pub fn watched_directories(&self) -> Vec<PathBuf> {
        let seen = self.seen.as_ref().map(|daemon| &daemon.seen);
        let config_file = seen.map_or(Path::new(DEFAULT_CONFIG), |seen| &seen.config_file);
        // Where it is a link, the file that it names is edited elsewhere.
        let real = self.root.resolve(config_file).ok().flatten();
        let files = std::iter::once(config_file).chain(real.as_deref());
        let mut directories: Vec<PathBuf> = files.filter_map(Path::parent).map(Path::to_owned).collect();
        directories.dedup();
        directories.push(self.directory());
        directories.extend(seen.iter().flat_map(|seen| seen.plan.roots().into_iter().skip(1)));
        directories.extend(seen.and_then(proxy::watched_directory));
        directories
    }
}
