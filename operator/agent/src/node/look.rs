//! Looking at the host: which containerd, what its configuration needs, and whether it reads the directory.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use registry_mirror_core::{
    budget::ChangeHash,
    bundle::Bundle,
    containerd::Version,
    observed::{Observed, Proof, Supervisor, Unit},
    plan::{
        ConfigPlan, ProxyPlan,
        files::{NewlyRead, newly_read},
        plan_config,
        proxy::{ObservedProxy, restart_hash},
        rewrites::{self, OwnEdit, Rewrite, is_in_question},
        since_start::{ChangedSinceStart, KnownContents, unread},
    },
    registry::RegistryName,
};
use registry_mirror_crds::{PlanChange, PlanKind};
use registry_mirror_host::{
    certs_d,
    cri::Cri,
    file_error::FileError,
    files::HostWriter,
    observe::{self, Live, ObserveError},
    root::HostRoot,
    since_start,
    systemd::{Systemd, UnitState},
};

use super::{place::migrated_by, proofs::Proofs};
use registry_mirror_core::node_status::{ContainerdFacts, Effective, PlanFacts};

/// What a look found. It stays true until containerd restarts or a file changes.
#[derive(Debug)]
pub struct Look {
    /// The daemon, for status.
    pub containerd: ContainerdFacts,
    /// containerd's release.
    pub version: Version,
    /// What its configuration needs, whether a restart is safe or not.
    pub plan: ConfigPlan,
    /// Why a restart of ours is not safe.
    pub held: Option<ChangedSinceStart>,
    /// What is known of the files that it reads at a start alone.
    pub known: Option<KnownContents>,
    /// Whether its configuration can be read at all.
    pub config_readable: bool,
    /// Its unit, where systemd runs it and a restart is possible.
    pub unit: Option<Unit>,
    /// The main configuration file.
    pub config_file: PathBuf,
    /// To ask it.
    pub cri: Cri,
    /// Whether it reads the directory.
    pub proof: Proof,
    /// What there is of its forward proxy.
    pub proxy: ObservedProxy,
    /// Whether somebody has written over our edit of the configuration, and what to do about it.
    pub rewrite: Rewrite,
    /// The plan for the files as they stand, where that is another one because somebody has written over our edit.
    pub as_written: Option<ConfigPlan>,
}

/// Whether the daemon may be asked for a pull, which writes a file of a few bytes for some milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// It may.
    Allowed,
    /// Nothing is to be touched.
    Forbidden,
}

/// Looks at the host. `ours` is our last edit of its configuration. `proofs` are those that were had; another pull is
/// asked for where they leave it open.
///
/// # Errors
/// Where no containerd answers or the host cannot be read.
pub async fn look(
    root: &HostRoot,
    systemd: &Systemd,
    pod_uid: Option<&str>,
    asking: Asking,
    ours: Option<&OwnEdit>,
    proofs: &mut Proofs,
    writer_for: impl Fn(&Path, &Path) -> HostWriter,
) -> Result<Look, ObserveError> {
    let live = observe::live(root, systemd, pod_uid).await?;
    let proxy = observe::proxy::observe(root, &live)?;
    let Live { mut observed, cri, socket: _, unit: unit_state, process: _ } = live;
    let (mut held, known) = since(root, unit_state.as_ref(), &observed)?;
    if let (Asking::Allowed, Some(known)) = (asking, &known)
        && let Err(error) = since_start::remember(root, known)
    {
        tracing::warn!("what containerd has read of its files could not be remembered: {error}");
    }
    let date = today();
    let mut plan = plan_config(&observed, &date);
    proofs.of_start(unit_state.as_ref().and_then(|unit| unit.invocation.clone()));
    if let (Asking::Forbidden, Some(ours)) = (asking, ours)
        && is_in_question(&plan, ours)
    {
        // While the daemon reads the directory our key goes back without a restart, and only the proof could tell.
        held = None;
    }
    let (mut rewrite, mut as_written) = (Rewrite::None, None);
    if let (Asking::Allowed, Some(ours)) = (asking, ours)
        && is_in_question(&plan, ours)
    {
        let proof = proofs.ask(&writer_for(&observed.config_file, &ours.directory), &ours.directory, &cri).await;
        rewrite = rewrites::rewrite(&plan, ours, &proof, Timestamp::now());
        if let Some(instead) = rewrite.plan() {
            as_written = Some(std::mem::replace(&mut plan, instead));
            observed.proof = proof;
        }
    }
    if let (Asking::Allowed, None, ConfigPlan::Adopt { directory, .. }) = (asking, &as_written, &plan) {
        observed.proof = proofs.ask(&writer_for(&observed.config_file, directory), directory, &cri).await;
        plan = plan_config(&observed, &date);
    }
    let started_at = unit_state.as_ref().and_then(|unit| unit.started_at);
    let Observed {
        containerd,
        distribution,
        supervisor,
        config_file,
        config,
        config_writable: _,
        imports_writable: _,
        links: _,
        directory_writable: _,
        proof,
    } = observed;
    let declared = config.as_ref().ok().and_then(|config| config.analyze().declared_version);
    let facts = ContainerdFacts {
        version: containerd.to_string(),
        distribution: distribution.distribution.name().to_owned(),
        evidence: distribution.evidence,
        config_file: config_file.display().to_string(),
        config_version: declared,
        directory: plan.directory().map(|directory| directory.display().to_string()),
        started_at,
    };
    let unit = match supervisor {
        Supervisor::Unit(unit) => Some(unit),
        Supervisor::Embedded { .. } | Supervisor::Offline | Supervisor::Unknown(_) => None,
    };
    let config_readable = config.is_ok();
    Ok(Look {
        containerd: facts,
        version: containerd,
        plan,
        held,
        known,
        config_readable,
        unit,
        config_file,
        cri,
        proof,
        proxy,
        rewrite,
        as_written,
    })
}

/// What somebody else has changed since the daemon's start, and what is known of its files from now on; nothing where
/// the start or the configuration cannot be read.
fn since(
    root: &HostRoot,
    unit: Option<&UnitState>,
    observed: &Observed,
) -> Result<(Option<ChangedSinceStart>, Option<KnownContents>), ObserveError> {
    let start = unit.and_then(since_start::start);
    let (Some(unit), Some(start), Ok(config)) = (unit, start, &observed.config) else { return Ok((None, None)) };
    let files = since_start::files(root, unit, config)?;
    let (unread, known) = unread(&files, &start, since_start::remembered(root).as_ref());
    Ok((ChangedSinceStart::of(&start.unit, unread), Some(known)))
}

/// Who restarts containerd, where it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartBy {
    /// The operator.
    Us,
    /// Somebody else: the files are put in place alone.
    Others,
}

/// The date that a migration writes into its comments, in UTC.
pub fn today() -> String {
    Timestamp::now().strftime("%Y-%m-%d").to_string()
}

impl Look {
    /// For status: whether containerd was seen to read the directory.
    #[must_use]
    pub fn effective(&self) -> Effective {
        match (&self.proof, self.plan.needs_restart()) {
            (Proof::Effective, _) => Effective::Yes,
            (Proof::NotEffective(said), _) => Effective::No(format!("The proof pull did not arrive: {said}")),
            (Proof::Failed(why), _) => Effective::Unknown(why.clone()),
            (Proof::NotAsked, true) => Effective::No(format!("{}.", self.plan.reason())),
            (Proof::NotAsked, false) => Effective::Unknown("Not asked yet.".to_owned()),
        }
    }

    /// The plan as it can be carried out by whoever restarts containerd.
    #[must_use]
    pub fn plan_for(&self, restart: RestartBy) -> ConfigPlan {
        match (&self.held, restart) {
            (Some(held), RestartBy::Us) => held.hold_back(self.plan.clone()),
            (None, _) | (_, RestartBy::Others) => self.plan.clone(),
        }
    }

    /// For status: the plan.
    #[must_use]
    pub fn plan_facts(&self, restart: RestartBy, proxy: &ProxyPlan) -> PlanFacts {
        plan_facts(&self.plan_for(restart), proxy)
    }
}

/// Why containerd must restart, or why it need not, in a sentence.
pub fn restart_reason(plan: &ConfigPlan, proxy: &ProxyPlan) -> String {
    match (plan.needs_restart(), proxy.reason().filter(|_| proxy.needs_restart())) {
        (true, Some(proxy)) => format!("{}; {proxy}", plan.reason()),
        (false, Some(proxy)) => proxy.to_owned(),
        (_, None) => plan.reason().to_owned(),
    }
}

/// A plan as status shows it.
#[must_use]
pub fn plan_facts(plan: &ConfigPlan, proxy: &ProxyPlan) -> PlanFacts {
    let kind = match plan {
        ConfigPlan::Adopt { .. } => PlanKind::Adopt,
        ConfigPlan::Patch { .. } => PlanKind::Patch,
        ConfigPlan::Migrate { .. } => PlanKind::Migrate,
        ConfigPlan::Unsupported { .. } => PlanKind::Unsupported,
    };
    let of_config = plan.edit().map_or(&[][..], |edit| &edit.changes);
    let of_proxy = proxy.change().map_or(&[][..], |change| &change.changes);
    let changes = of_config.iter().chain(of_proxy).map(|change| PlanChange {
        file: change.file.display().to_string(),
        key: change.key.clone(),
        from: change.from.clone(),
        to: change.to.clone(),
    });
    let changes: Vec<PlanChange> = changes.collect();
    PlanFacts {
        hash: restart_hash(plan, proxy).as_str().to_owned(),
        change: ChangeHash::of(kind, &changes),
        kind,
        restart: plan.needs_restart() || proxy.needs_restart(),
        reason: restart_reason(plan, proxy),
        changes,
        newly_read: Vec::new(),
    }
}

/// What of others a plan brings into force beside the files for these objects; nothing where nothing is to restart.
///
/// # Errors
/// Where the directory cannot be read.
pub(super) fn turned_on(
    root: &HostRoot,
    plan: &ConfigPlan,
    version: Version,
    slice: Option<&Bundle>,
) -> Result<Vec<NewlyRead>, FileError> {
    let Some(directory) = plan.directory().filter(|_| plan.needs_restart()) else { return Ok(Vec::new()) };
    // Without a mirror there is no restart.
    if slice.is_some_and(|slice| slice.entries.is_empty()) {
        return Ok(Vec::new());
    }
    let mut found = newly_read(directory, &certs_d::observe(root, directory)?, version);
    // What gives way to a file of ours is told as that.
    let entries = slice.iter().flat_map(|slice| &slice.entries).filter(|entry| !entry.suspend);
    let ours: Vec<&RegistryName> =
        entries.map(|entry| &entry.registry).chain(migrated_by(plan).iter().map(|old| &old.registry)).collect();
    found.retain(|file| !ours.contains(&&file.registry));
    Ok(found)
}
