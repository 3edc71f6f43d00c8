//! What a node should do, and what there is to say about it: one value, made by one function.
//!
//! The agent's pass, its dry run, `node plan` and `node apply` all observe, call [`plan_node`] and do with the plan what
//! each is for. Whatever two of them say of a node is therefore the same.

mod mirror_health;
mod observation;
mod proxy;
mod registries;
mod standing_by;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use registry_mirror_crds::{PlanChange, PlanKind};

use crate::{
    budget::ChangeHash,
    bundle::Bundle,
    plan::{
        ConfigPlan, ProxyPlan,
        files::{FilesPlan, Finding, NewlyRead, Step, newly_read, steps},
        proxy::restart_hash,
        shared::Role,
    },
    status::node::{NodeFailure, PlanFacts, ProxyFacts, RegistryFacts},
};

pub use mirror_health::{Credentials, Destination, MirrorHealth, is_probed};
pub use observation::{ContainerdObservation, Observation, RestartBy};

/// What is asked of a node.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The node's bundle; `None` where only containerd's configuration is in question.
    pub bundle: Option<&'a Bundle>,
    /// The bundle that says what the cluster wants of containerd's forward proxy; `None` leaves the proxy alone: a person
    /// at the host asks for mirrors.
    pub proxy: Option<&'a Bundle>,
    /// Who restarts containerd, where it must.
    pub restart: RestartBy,
}

/// What a node should do, and what there is to say about it.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// What containerd's configuration needs, as whoever restarts it can carry it out.
    pub config: ConfigPlan,
    /// containerd's forward proxy.
    pub proxy: ProxyPlan,
    /// For status: where that proxy stands.
    pub proxy_facts: Option<ProxyFacts>,
    /// Files of others that the restart brings into force.
    pub newly_read: Vec<NewlyRead>,
    /// What becomes of each entry of the bundle, in its order.
    pub registries: Vec<RegistryFacts>,
    /// What changes in each directory that containerd searches, in its order; none where another node writes. What there
    /// is to say of it stands in `findings`.
    pub files: Vec<(PathBuf, FilesPlan)>,
    /// What people should know of files.
    pub findings: Vec<Finding>,
    /// What holds here although no object of this node asks for it, a sentence each.
    pub surplus: Vec<String>,
    /// That another node writes the directory for this one, in a sentence.
    pub standing_by: Option<String>,
    /// What the one restart is needed for.
    pub restart: RestartNeed,
    /// Why nothing may be done to this host.
    pub stop: Option<Stop>,
}

/// What the one restart is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartNeed {
    /// The configuration: it has an edit, or the daemon has not read the last one.
    pub config: bool,
    /// The forward proxy.
    pub proxy: bool,
}

/// Nothing may be done to this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// What kind of trouble it is.
    pub failure: NodeFailure,
    /// Why, in a sentence.
    pub why: String,
}

/// Decides. Total.
#[must_use]
pub fn plan_node(observed: &Observation, asked: Asked<'_>, health: &MirrorHealth) -> NodePlan {
    let containerd = &observed.containerd;
    let proxy =
        asked.proxy.map_or(ProxyPlan::Nothing { notes: Vec::new() }, |cluster| proxy::plan(containerd, cluster));
    let is_wanted = asked.bundle.is_none_or(|bundle| !bundle.entries.is_empty());
    // Without a mirror there is no edit, and no restart.
    let restart = RestartNeed { config: containerd.plan.needs_restart() && is_wanted, proxy: proxy.needs_restart() };
    let mut plan = NodePlan {
        config: containerd.config_for(asked.restart),
        proxy_facts: proxy::facts(&proxy, asked.proxy.and_then(|cluster| cluster.proxy.as_ref())),
        proxy,
        newly_read: turned_on(observed, asked.bundle),
        registries: Vec::new(),
        files: Vec::new(),
        findings: Vec::new(),
        surplus: Vec::new(),
        standing_by: None,
        restart,
        stop: None,
    };
    plan.stop = stop(observed, &plan);
    let Some(bundle) = asked.bundle else { return plan };
    match (&plan.stop, &observed.role) {
        (Some(stop), _) => plan.registries = not_applied(bundle, &stop.why),
        (None, Role::StandBy { writer }) => standing_by::plan(&mut plan, observed, bundle, writer, health),
        (None, Role::Alone | Role::Writer { .. }) => registries::plan(&mut plan, observed, bundle, health),
    }
    plan
}

impl NodePlan {
    /// The directory in which hosts.toml files are put; `None` where the host is left alone.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        self.config.directory()
    }

    /// Whether containerd is to be restarted for it: not where that is needed and held back.
    #[must_use]
    pub const fn restarts(&self) -> bool {
        (self.restart.config && self.config.needs_restart()) || self.restart.proxy
    }

    /// For status, and as the controller approves it.
    #[must_use]
    pub fn facts(&self) -> PlanFacts {
        let Self { config, proxy, newly_read, .. } = self;
        let kind = match config {
            ConfigPlan::Adopt { .. } => PlanKind::Adopt,
            ConfigPlan::Patch { .. } => PlanKind::Patch,
            ConfigPlan::Migrate { .. } => PlanKind::Migrate,
            ConfigPlan::Unsupported { .. } => PlanKind::Unsupported,
        };
        let of_config = config.edit().map_or(&[][..], |edit| &edit.changes);
        let of_proxy = proxy.change().map_or(&[][..], |change| &change.changes);
        let changes = of_config.iter().chain(of_proxy).map(|change| PlanChange {
            file: change.file.display().to_string(),
            key: change.key.clone(),
            from: change.from.clone(),
            to: change.to.clone(),
        });
        let changes: Vec<PlanChange> = changes.collect();
        PlanFacts {
            hash: restart_hash(config, proxy),
            change: ChangeHash::of(kind, &changes),
            kind,
            restart: self.restarts(),
            reason: restart_reason(config, proxy),
            changes,
            newly_read: newly_read.clone(),
        }
    }

    /// Files of others in the way, and what holds here unasked, a sentence each.
    #[must_use]
    pub fn conflicts(&self) -> Vec<String> {
        let findings = self.findings.iter().filter(|finding| finding.is_conflict());
        findings.map(|finding| format!("{finding}.")).chain(self.surplus.iter().cloned()).collect()
    }

    /// Files of others that nothing stands in the way of, and what the objects ask for and this containerd does not do,
    /// a sentence each.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let findings = self.findings.iter().filter(|finding| finding.is_note()).map(ToString::to_string);
        let notes = self.registries.iter().flat_map(|registry| {
            registry.notes.iter().map(|note| format!("RegistryMirror/{}: {note}.", registry.object))
        });
        let standing_by = self.standing_by.iter().cloned();
        standing_by.chain(self.conflicts()).chain(findings).chain(notes).collect()
    }

    /// Files of ours that others changed, and what is done about it in a sentence.
    pub fn drift(&self) -> impl Iterator<Item = (&Path, String)> {
        let drift = self.findings.iter().filter(|finding| finding.is_drift());
        drift.map(|finding| (finding.path.as_path(), finding.to_string()))
    }

    /// Files that are away until they are put back, in one sentence without its full stop; `None` where none is.
    #[must_use]
    pub fn away(&self) -> Option<String> {
        let away: Vec<String> =
            self.findings.iter().filter(|finding| finding.is_away()).map(ToString::to_string).collect();
        (!away.is_empty()).then(|| away.join("; "))
    }

    /// When there is something to do again although nothing changes: a file goes back, a certificate goes away.
    #[must_use]
    pub fn next_pass(&self) -> Option<Timestamp> {
        self.files.iter().filter_map(|(_, plan)| plan.next_look).min()
    }

    /// What changes in the directories, in order, as people read it.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        self.files.iter().flat_map(|(root, plan)| steps(root, &plan.ops)).collect()
    }
}

/// Why nothing may be done to this host.
fn stop(observed: &Observation, plan: &NodePlan) -> Option<Stop> {
    let containerd = &observed.containerd;
    if let ConfigPlan::Unsupported { reason } = &containerd.plan {
        let failure = if containerd.config_readable { NodeFailure::Unsupported } else { NodeFailure::ConfigBroken };
        return Some(Stop { failure, why: reason.clone() });
    }
    if let ConfigPlan::Unsupported { reason } = &plan.config
        && plan.restart.config
    {
        return Some(Stop { failure: NodeFailure::ChangedSinceStart, why: reason.clone() });
    }
    let why = observed.role.forbids_migration(&containerd.plan)?;
    Some(Stop { failure: NodeFailure::Unsupported, why })
}

/// What of others the plan brings into force beside the files for these objects; nothing where nothing is to restart.
fn turned_on(observed: &Observation, bundle: Option<&Bundle>) -> Vec<NewlyRead> {
    let containerd = &observed.containerd;
    let Some(first) = observed.directories.first().filter(|_| containerd.plan.needs_restart()) else {
        return Vec::new();
    };
    // Without a mirror there is no restart.
    if bundle.is_some_and(|bundle| bundle.entries.is_empty()) {
        return Vec::new();
    }
    let entries = bundle.into_iter().flat_map(|bundle| &bundle.entries).filter(|entry| !entry.suspend);
    let migrated = containerd.migrated_now().iter().map(|old| &old.registry);
    let ours: Vec<_> = entries.map(|entry| &entry.registry).chain(migrated).collect();
    let mut found = newly_read(&first.path, &first.listing, containerd.version);
    // What gives way to a file of ours is told as that.
    found.retain(|file| !ours.contains(&&file.registry));
    found
}

/// Why containerd must restart, or why it need not, in a sentence.
fn restart_reason(config: &ConfigPlan, proxy: &ProxyPlan) -> String {
    match (config.needs_restart(), proxy.reason().filter(|_| proxy.needs_restart())) {
        (true, Some(proxy)) => format!("{}; {proxy}", config.reason()),
        (false, Some(proxy)) => proxy.to_owned(),
        (_, None) => config.reason().to_owned(),
    }
}

/// The bundle's registries where nothing is applied, with the reason.
#[must_use]
pub fn not_applied(bundle: &Bundle, why: &str) -> Vec<RegistryFacts> {
    let with_reason = |entry| RegistryFacts { error: Some(why.to_owned()), ..RegistryFacts::of(entry) };
    bundle.entries.iter().map(with_reason).collect()
}

#[cfg(test)]
mod tests;
