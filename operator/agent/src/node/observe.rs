//! Looking at the host: which containerd, what its configuration needs, and whether it reads the directory.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use registry_mirror_core::{
    config_toml::MigratedRegistry,
    containerd::Version,
    node_plan::{ContainerdObservation, Observation},
    observed::{Observed, Supervisor, Writable},
    plan::{
        ConfigPlan,
        files::{Ownership, foreign::Root},
        migrated::add_missing,
        plan_config,
        proxy::ObservedProxy,
        rewrites::{self, OwnEdit, Rewrite, is_in_question},
        shared::{DIRECTORY, Role},
        since_start::{ChangedSinceStart, KnownContents, unread},
    },
    status::node::ContainerdFacts,
};
use registry_mirror_host::{
    certs_d,
    cri::Cri,
    file_error::FileError,
    files::{HostWriter, WriteScope},
    observe::{self, Live, ObserveError, managed_elsewhere::managed_elsewhere},
    root::HostRoot,
    shared::records_of,
    since_start,
    state::{STATE_DIR, StateDir},
    systemd::{Systemd, UnitState},
};

use super::{edits, proofs::Proofs};

/// The daemon as it was seen last, and the way to ask it.
#[derive(Debug)]
pub struct SeenDaemon {
    /// What was seen.
    pub seen: ContainerdObservation,
    /// To ask it.
    pub cri: Cri,
    /// Whether it was asked.
    pub asking: Asking,
}

/// Whether the daemon may be asked for a pull, which writes a file of a few bytes for some milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// It may.
    Allowed,
    /// Nothing is to be touched.
    Forbidden,
}

/// Looks at the daemon that runs here. `ours` is our last edit of its configuration. `proofs` are those that were had;
/// another pull is asked for where they leave it open.
///
/// # Errors
/// Where no containerd answers or the host cannot be read.
pub async fn observe_daemon(
    root: &HostRoot,
    systemd: &Systemd,
    pod_uid: Option<&str>,
    asking: Asking,
    ours: Option<&OwnEdit>,
    proofs: &mut Proofs,
    writer_for: impl Fn(&Path, &Path) -> HostWriter,
) -> Result<SeenDaemon, ObserveError> {
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
    let found = described(observed, plan, proxy, started_at);
    Ok(SeenDaemon { seen: ContainerdObservation { held, known, rewrite, as_written, ..found }, cri, asking })
}

/// The daemon that will run on a host of which there are only the files.
///
/// # Errors
/// Where they cannot be read.
pub fn look_offline(root: &HostRoot, version: Version) -> Result<ContainerdObservation, ObserveError> {
    let observed = observe::offline(root, version, None)?;
    let plan = plan_config(&observed, &today());
    let proxy = ObservedProxy {
        distribution: observed.distribution.distribution,
        supervisor: observed.supervisor.clone(),
        drop_in: None,
        writable: Writable::Yes,
        running: None,
        elsewhere: Vec::new(),
    };
    Ok(described(observed, plan, proxy, None))
}

/// What was observed with the plan for it, of a daemon that nobody has changed anything of.
fn described(
    observed: Observed,
    plan: ConfigPlan,
    proxy: ObservedProxy,
    started_at: Option<Timestamp>,
) -> ContainerdObservation {
    let Observed { containerd: version, distribution, supervisor, config_file, config, proof, .. } = observed;
    let facts = ContainerdFacts {
        version: version.to_string(),
        distribution: distribution.distribution.name().to_owned(),
        evidence: distribution.evidence,
        config_file: config_file.display().to_string(),
        config_version: config.as_ref().ok().and_then(|config| config.analyze().declared_version),
        directory: plan.directory().map(|directory| directory.display().to_string()),
        started_at,
    };
    let unit = match supervisor {
        Supervisor::Unit(unit) => Some(unit),
        Supervisor::Embedded { .. } | Supervisor::Offline | Supervisor::Unknown(_) => None,
    };
    ContainerdObservation {
        facts,
        version,
        plan,
        held: None,
        known: None,
        config_readable: config.is_ok(),
        unit,
        config_file,
        proof,
        proxy,
        rewrite: Rewrite::None,
        as_written: None,
    }
}

/// Adds what stands in the directories to what was seen of the daemon. `records` tells what there is ours.
///
/// # Errors
/// Where something cannot be read.
pub fn observe_node(
    root: &HostRoot,
    containerd: ContainerdObservation,
    role: Role,
    records: Option<&StateDir>,
) -> Result<Observation, FileError> {
    let mut directories = Vec::new();
    for path in role.roots(&containerd.plan) {
        let listing = certs_d::observe(root, &path)?;
        let ownership = match records {
            None => Ownership::default(),
            Some(records) => {
                let (ownership, warnings) = records.ownership(&path)?;
                warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                ownership
            }
        };
        directories.push(Root { path, listing, ownership });
    }
    let managed_elsewhere =
        directories.first().map(|first| managed_elsewhere(root, &first.path, &first.listing)).unwrap_or_default();
    Ok(Observation {
        migrated_before: migrated_before(root)?,
        containerd,
        role,
        directories,
        managed_elsewhere,
        writer: certs_d::writer_uid(),
        now: Timestamp::now(),
    })
}

/// What earlier edits have taken out of the configuration: the record of them tells.
fn migrated_before(root: &HostRoot) -> Result<Vec<MigratedRegistry>, FileError> {
    let mut registries = Vec::new();
    // Opening the state directory would make it.
    if root.stat(Path::new(STATE_DIR))?.is_some() {
        let state = StateDir::open(&HostWriter::new(root.clone(), WriteScope::state_only()))?;
        for edit in edits::recorded(&state)?.iter().rev() {
            add_missing(&mut registries, &edit.migrated);
        }
    }
    Ok(registries)
}

/// The same with the records as far as there are any: opening them would make them, and nothing is to be touched.
///
/// # Errors
/// Where something cannot be read.
pub fn observe_untouched(
    root: &HostRoot,
    containerd: ContainerdObservation,
    role: Role,
) -> Result<Observation, FileError> {
    let directory = containerd.directory().map(Path::to_owned);
    let records = directory.map(|directory| existing_records(root, &role, &directory)).transpose()?.flatten();
    observe_node(root, containerd, role, records.as_ref())
}

fn existing_records(root: &HostRoot, role: &Role, directory: &Path) -> Result<Option<StateDir>, FileError> {
    let place = match role {
        Role::Alone => PathBuf::from(STATE_DIR),
        Role::Writer { .. } | Role::StandBy { .. } => directory.join(DIRECTORY),
    };
    if root.stat(&place)?.is_none() {
        return Ok(None);
    }
    let writer = HostWriter::new(root.clone(), WriteScope::of([place.as_path()]));
    records_of(role, &writer, directory).map(Some)
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

/// The date that a migration writes into its comments, in UTC.
pub fn today() -> String {
    Timestamp::now().strftime("%Y-%m-%d").to_string()
}
