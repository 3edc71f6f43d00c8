//! A host whose containerd does not run here: an image, a mounted disk. Its files are put as they must stand before the
//! first start.

use std::path::Path;

use registry_mirror_core::{
    bundle::Bundle,
    containerd::Version,
    observed::Observed,
    plan::{ConfigPlan, ProxyPlan, plan_config, shared::Readers},
};
use registry_mirror_host::{
    files::HostWriter,
    guard::Guard,
    lock::HostLock,
    observe,
    restart::Arming,
    root::HostRoot,
    state::{STATE_DIR, StateDir},
    systemd::Systemd,
};

use super::{
    NodeError,
    files::{self, Applied, Target, Ways, apply_files},
    look::{plan_facts, today},
    migrate::carried,
    place::{Daemon, place_edit, writer_for},
};
use registry_mirror_core::node_status::{ContainerdFacts, Effective, Facts, NodeFailure, Verdict};

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

    pub(super) fn root(&self) -> &HostRoot {
        &self.root
    }

    pub(super) const fn version(&self) -> Version {
        self.version
    }

    pub(super) fn look(&self) -> Result<(ContainerdFacts, ConfigPlan), String> {
        let observed = observe::offline(&self.root, self.version, None).map_err(|error| error.to_string())?;
        let plan = plan_config(&observed, &today());
        let Observed { containerd, distribution, config_file, config, .. } = observed;
        let facts = ContainerdFacts {
            version: containerd.to_string(),
            distribution: distribution.distribution.name().to_owned(),
            evidence: distribution.evidence,
            config_file: config_file.display().to_string(),
            config_version: config.as_ref().ok().and_then(|config| config.analyze().declared_version),
            directory: plan.directory().map(|directory| directory.display().to_string()),
            started_at: None,
        };
        Ok((facts, plan))
    }

    /// Writes the files and the edit. Nothing is started, and nothing outside the root is touched.
    pub fn apply(&self, slice: &Bundle) -> Facts {
        let mut facts = Facts {
            generation: None,
            bundle: None,
            containerd: None,
            plan: None,
            verdict: Verdict::Ready,
            effective: Effective::Unknown("No containerd runs here.".to_owned()),
            registries: Vec::new(),
            conflicts: Vec::new(),
            proxy: None,
            drift: Vec::new(),
            restarts: 0,
            proved_restart: None,
        };
        if let Err(verdict) = self.work(slice, &mut facts) {
            facts.verdict = verdict;
        }
        facts
    }

    fn work(&self, slice: &Bundle, facts: &mut Facts) -> Result<(), Verdict> {
        let failed = |error: String| Verdict::failed(NodeFailure::Apply, error);
        let (containerd, plan) = self.look().map_err(|why| Verdict::failed(NodeFailure::Observe, why))?;
        let config_file = containerd.config_file.clone();
        facts.containerd = Some(containerd);
        facts.plan = Some(plan_facts(&plan, &ProxyPlan::Nothing { notes: Vec::new() }));
        if plan.directory().is_none() {
            facts.registries = files::not_applied(slice, plan.reason());
            return Err(Verdict::failed(NodeFailure::Unsupported, plan.reason().to_owned()));
        }
        let writer = writer_for(&self.root, Path::new(&config_file), &plan);
        let state = StateDir::open(&writer).map_err(|error| failed(error.to_string()))?;
        let _lock = HostLock::acquire(&state, "node apply").map_err(|error| failed(error.to_string()))?;
        self.refuse_unsettled(&writer).map_err(failed)?;
        let carried = carried(&self.root, &plan).map_err(|error| failed(error.to_string()))?;
        let roots = plan.roots();
        let target = Target { own: self.version, readers: Readers::only(self.version), roots: &roots };
        let Applied { registries, conflicts, notes: _, changes: _, error, drift: _, away, next_look: _ } =
            apply_files(&state, slice, target, &Ways::unknown(), &carried);
        facts.registries = registries;
        facts.conflicts = conflicts;
        if let Some(error) = error {
            return Err(failed(error));
        }
        if !slice.entries.is_empty() {
            facts.verdict = place_edit(&state, &plan, Daemon::NotRunning);
        }
        if facts.verdict == Verdict::Ready && !away.is_empty() {
            facts.verdict = Verdict::failed(NodeFailure::Contested, away.join("; "));
        }
        Ok(())
    }

    /// A guard that is armed would put the old configuration back at the next boot.
    fn refuse_unsettled(&self, writer: &HostWriter) -> Result<(), String> {
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
