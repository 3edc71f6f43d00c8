//! Everything that a node's plan depends on, as plain values: no handle, no path that would still have to be read.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::{
    config_toml::MigratedRegistry,
    containerd::Version,
    observed::{Proof, Unit},
    plan::{
        ConfigPlan,
        files::foreign::Root,
        managed_elsewhere::ManagedElsewhere,
        proxy::ObservedProxy,
        rewrites::Rewrite,
        shared::Role,
        since_start::{ChangedSinceStart, KnownContents},
    },
    status::node::{ContainerdFacts, Effective},
};

/// One node at one moment.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The daemon and its configuration.
    pub containerd: ContainerdObservation,
    /// Who writes its directory.
    pub role: Role,
    /// The directories that it searches, in its order; the first alone where it is shared.
    pub directories: Vec<Root>,
    /// What another program keeps for itself in the first of them.
    pub managed_elsewhere: ManagedElsewhere,
    /// Old registry tables that earlier edits have taken out of the configuration.
    pub migrated_before: Vec<MigratedRegistry>,
    /// The number of the user who writes, 0 on every real node.
    pub writer: u32,
    /// The time of the decision.
    pub now: Timestamp,
}

/// The daemon and its configuration. It stays true until containerd restarts or a file changes.
#[derive(Debug, Clone)]
pub struct ContainerdObservation {
    /// For status.
    pub facts: ContainerdFacts,
    /// Its release.
    pub version: Version,
    /// What its configuration needs, whether a restart is safe or not: which directories there are to be observed
    /// depends on it, so it is decided here.
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
    /// Whether it reads the directory.
    pub proof: Proof,
    /// What there is of its forward proxy.
    pub proxy: ObservedProxy,
    /// Whether somebody has written over our edit of the configuration, and what to do about it.
    pub rewrite: Rewrite,
    /// The plan for the files as they stand, where that is another one because somebody has written over our edit.
    pub as_written: Option<ConfigPlan>,
}

/// Who restarts containerd, where it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartBy {
    /// The operator.
    Operator,
    /// Somebody else: the files are put in place alone.
    Others,
}

impl ContainerdObservation {
    /// Whether containerd was seen to read the directory.
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

    /// The plan of the configuration as it can be carried out by whoever restarts containerd.
    #[must_use]
    pub fn config_for(&self, restart: RestartBy) -> ConfigPlan {
        match (&self.held, restart) {
            (Some(held), RestartBy::Operator) => held.hold_back(self.plan.clone()),
            (None, _) | (_, RestartBy::Others) => self.plan.clone(),
        }
    }

    /// The old registry tables that the plan of the configuration takes out of it.
    #[must_use]
    pub fn migrated_now(&self) -> &[MigratedRegistry] {
        self.plan.migrated()
    }

    /// The directory of hosts.toml files; `None` where the host is left alone.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        self.plan.directory()
    }
}
