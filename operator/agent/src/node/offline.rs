//! A host whose containerd does not run here: an image, a mounted disk. Its files are put as they must stand before the
//! first start.

use std::path::Path;

use registry_mirror_core::{
    bundle::Bundle,
    containerd::Version,
    node_plan::{Asked, MirrorHealth, RestartBy, plan_node},
    plan::shared::Role,
    status::node::{Facts, NodeFailure, Verdict},
};
use registry_mirror_host::{
    files::HostWriter,
    guard::Guard,
    lock::HostLock,
    restart::Arming,
    root::HostRoot,
    state::{STATE_DIR, StateDir},
    systemd::Systemd,
};

use super::{
    NodeError,
    observe::{look_offline, observe_untouched},
    pass::{HostPlan, PlanError, write_files},
    place::{Daemon, place_edit, writer_for},
};

/// Such a host, with the containerd that will run there.
#[derive(Debug)]
pub struct Offline {
    root: HostRoot,
    version: Version,
}

impl Offline {
    /// Opens the host. The files alone do not tell the version of its containerd.
    ///
    /// # Errors
    /// Where its root is not there or cannot be read.
    pub fn open(host_root: &Path, version: Version) -> Result<Self, NodeError> {
        Ok(Self { root: HostRoot::open(host_root)?, version })
    }

    /// What this bundle asks for here; without one, what containerd's configuration needs. Nothing is written.
    ///
    /// # Errors
    /// Where the host cannot be read.
    pub fn plan(&self, bundle: Option<&Bundle>) -> Result<HostPlan, PlanError> {
        let containerd = look_offline(&self.root, self.version)?;
        let observed = observe_untouched(&self.root, containerd, Role::Alone)?;
        let asked = Asked { bundle, proxy: None, restart: RestartBy::Others };
        let plan = plan_node(&observed, asked, &MirrorHealth::default());
        Ok(HostPlan { containerd: observed.containerd, plan })
    }

    /// Writes the files and the edit. Nothing is started, and nothing outside the root is touched.
    pub fn apply(&self, bundle: &Bundle) -> Facts {
        let mut facts = Facts::nothing_known("No containerd runs here.");
        facts.verdict = self.work(bundle, &mut facts).unwrap_or_else(|verdict| verdict);
        facts
    }

    fn work(&self, bundle: &Bundle, facts: &mut Facts) -> Result<Verdict, Verdict> {
        let failed = |error: String| Verdict::failed(NodeFailure::Apply, error);
        let planned = |facts: &mut Facts| {
            let host =
                self.plan(Some(bundle)).map_err(|error| Verdict::failed(NodeFailure::Observe, error.to_string()))?;
            facts.describe(&host.containerd, &host.plan);
            facts.registries.clone_from(&host.plan.registries);
            match &host.plan.stop {
                Some(stop) => Err(Verdict::failed(stop.failure, stop.why.clone())),
                None => Ok(host),
            }
        };
        // Nothing is written where nothing may be done, not even a lock.
        let HostPlan { containerd, .. } = planned(facts)?;
        let writer = writer_for(&self.root, &containerd.config_file, &containerd.plan);
        let state = StateDir::open(&writer).map_err(|error| failed(error.to_string()))?;
        let _lock = HostLock::acquire(&state, "node apply").map_err(|error| failed(error.to_string()))?;
        self.refuse_unrecovered(&writer).map_err(failed)?;
        let HostPlan { plan, .. } = planned(facts)?;
        write_files(&state, &plan).map_err(|error| failed(error.to_string()))?;
        facts.conflicts = plan.conflicts();
        let mut verdict = Verdict::Ready;
        if !bundle.entries.is_empty() {
            verdict = place_edit(&state, &plan.config, Daemon::NotRunning);
        }
        match (verdict, plan.away()) {
            (Verdict::Ready, Some(away)) => Err(Verdict::failed(NodeFailure::Contested, away)),
            (verdict, _) => Ok(verdict),
        }
    }

    /// A guard that is armed would put the old configuration back at the next boot.
    fn refuse_unrecovered(&self, writer: &HostWriter) -> Result<(), String> {
        let systemd = Systemd::new(self.root.path());
        match Guard::new(writer, &systemd, Path::new(STATE_DIR)).arming() {
            Ok(Arming::Disarmed) => Ok(()),
            Ok(Arming::Armed { .. } | Arming::Fired) => Err(format!(
                "this host went down while containerd was being restarted, and {STATE_DIR} holds what is still to be \
                 settled: boot it once, so that its own files settle it, then run this again"
            )),
            Err(error) => Err(error.to_string()),
        }
    }
}
