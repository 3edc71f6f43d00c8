//! This node's part where several nodes share one certs.d: it writes for all of them, or it stands by.
//!
//! Only the writer takes dead mirrors out: there is one file for all, and a node that stands by and sees a mirror dead
//! would take it away from those that reach it. It says so in its status.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use registry_mirror_core::{
    bundle::Bundle,
    containerd::Version,
    health::Health,
    plan::{
        ConfigPlan,
        shared::{InForce, OwnerRecord, Readers, Standing, census},
    },
};
use registry_mirror_host::{
    file_error::FileError,
    files::HostWriter,
    root::HostRoot,
    shared::{Share, may_be_shared, neighbours, node_name, written_by_another},
    state::StateDir,
};

use super::{
    Node,
    files::{self, Applied, Way},
};
use crate::health::HealthMap;
use registry_mirror_core::node_status::{MirrorUse, RegistryFacts};

/// Who writes the directory.
#[derive(Debug)]
pub(super) enum Role {
    /// This node, and nobody else has it: an ordinary node.
    Alone,
    /// This node, for all that read it.
    Writer(Readers),
    /// Another node, which has put this in force.
    StandBy(Option<OwnerRecord>),
}

impl Role {
    /// The releases that read the directory.
    pub(super) fn readers(&self, own: Version) -> Readers {
        match self {
            Self::Writer(readers) => *readers,
            Self::Alone | Self::StandBy(_) => Readers::only(own),
        }
    }

    /// The directories that this node plans together. Who shares its first one has agreed with others on that one.
    pub(super) fn roots(&self, plan: &ConfigPlan) -> Vec<PathBuf> {
        let mut roots = plan.roots();
        if !matches!(self, Self::Alone) {
            roots.truncate(1);
        }
        roots
    }

    /// Where it is kept what of the directory is ours.
    pub(super) fn records(&self, writer: &HostWriter, directory: &Path) -> Result<StateDir, FileError> {
        match self {
            Self::Alone => StateDir::open(writer),
            Self::Writer(_) | Self::StandBy(_) => StateDir::of_shared(writer, directory),
        }
    }
}

impl Node {
    /// Finds this node's part, and keeps it until the next pass. The caller holds the host's lock.
    pub(super) fn role(&mut self, writer: &HostWriter, directory: &Path, version: Version) -> Result<Role, FileError> {
        if !may_be_shared(&self.root, directory)? {
            self.share = None;
            return Ok(Role::Alone);
        }
        let mut share = match self.share.take().filter(|share| share.certs_d() == directory) {
            Some(share) => share,
            None => Share::join(writer, directory)?,
        };
        share.announce(writer, version)?;
        let role = match share.owns(writer)? {
            true => Role::Writer(share.count(writer, version)?.readers),
            false => Role::StandBy(share.in_force(&self.root)?),
        };
        self.share = Some(share);
        Ok(role)
    }

    /// Tells the others what is in force, where this node writes for them.
    pub(super) fn tell(
        &self,
        writer: &HostWriter,
        directory: &Path,
        role: &Role,
        slice: &Bundle,
        registries: &[RegistryFacts],
    ) -> Result<(), FileError> {
        let (Some(share), Role::Writer(readers)) = (&self.share, role) else { return Ok(()) };
        let registries = slice.entries.iter().zip(registries);
        let registries = registries.map(|(entry, facts)| (entry.registry.clone(), in_force(facts))).collect();
        let record = OwnerRecord::new(share.node().to_owned(), directory.to_owned(), readers.oldest, registries);
        share.tell(writer, &record).map(drop)
    }
}

fn in_force(facts: &RegistryFacts) -> InForce {
    let RegistryFacts { registry: _, object, hash, error, mirrors, notes: _ } = facts;
    let drained = mirrors.iter().filter(|mirror| mirror.state == MirrorUse::Drained);
    let drained: BTreeSet<String> = drained.map(|mirror| mirror.url.clone()).collect();
    InForce { object: object.clone(), hash: hash.clone(), error: error.clone(), drained }
}

/// Why old registry tables cannot be carried over into a directory that others share; `None` where they can.
pub(super) fn forbids_migration(root: &HostRoot, plan: &ConfigPlan) -> Result<Option<String>, FileError> {
    let ConfigPlan::Migrate { .. } = plan else { return Ok(None) };
    let (Some(directory), Some(edit)) = (plan.directory(), plan.edit()) else { return Ok(None) };
    if !may_be_shared(root, directory)? {
        return Ok(None);
    }
    let others = neighbours(root, directory, &node_name(root)?)?;
    let names: Vec<&str> = others.iter().map(|other| other.node.as_str()).collect();
    Ok((!names.is_empty()).then(|| {
        format!(
            "{} is shared with {}, so the old registry tables of {} cannot be carried over into it without changing \
             what those nodes pull from: write a RegistryMirror for each of these registries, then take the tables out \
             of the file",
            directory.display(),
            names.join(", "),
            edit.file.display()
        )
    }))
}

/// Which role this node would have, without taking it.
pub(super) fn role_now(root: &HostRoot, directory: &Path, version: Version) -> Result<Role, FileError> {
    if !may_be_shared(root, directory)? {
        return Ok(Role::Alone);
    }
    if let Some(record) = written_by_another(root, directory)? {
        return Ok(Role::StandBy(Some(record)));
    }
    let others = neighbours(root, directory, &node_name(root)?)?;
    Ok(Role::Writer(census(version, &others, Timestamp::now()).readers))
}

/// That another node writes the directory, for people.
pub(super) fn sentence(record: Option<&OwnerRecord>, directory: &Path) -> String {
    let who = record.map_or_else(|| "another node".to_owned(), |record| format!("node {}", record.node));
    format!(
        "{} is shared with other nodes; {who} writes it for all of them, and this node takes over when that one goes \
         away.",
        directory.display()
    )
}

/// What of the slice is in force on a node that stands by.
pub(super) fn stand_by(
    slice: &Bundle,
    record: Option<&OwnerRecord>,
    version: Version,
    directory: &Path,
    health: &HealthMap,
) -> Applied {
    let mut applied = Applied::default();
    for entry in &slice.entries {
        let mut facts = files::registry_facts(entry);
        let standing = record.map_or(Standing::NotYet(None), |record| record.standing(entry, version, directory));
        facts.hash = standing.hash(entry);
        let drained = match &standing {
            Standing::InForce(found) => found.drained.clone(),
            Standing::NotYet(_) => BTreeSet::new(),
            Standing::Never(why) => {
                facts.error = Some(why.clone());
                BTreeSet::new()
            }
        };
        for (mirror, facts) in entry.mirrors.iter().zip(&mut facts.mirrors) {
            let health = health.mirror(&entry.object, &mirror.url);
            (facts.state, facts.error) = in_use(&health, drained.contains(&mirror.display_url));
        }
        facts.notes = files::credentials_not_forwarded(slice, entry, version, directory, health);
        applied.registries.push(facts);
    }
    applied.conflicts = record.map(|record| record.surplus(slice, directory)).unwrap_or_default();
    applied
}

/// Whether a mirror is in use here, and what is wrong with it, where another node decides.
fn in_use(health: &Health, drained: bool) -> (MirrorUse, Option<String>) {
    match (health, drained) {
        (Health::Dead(why), true) => (MirrorUse::Drained, Some(why.clone())),
        (_, true) => {
            let why = "it makes the node wait that writes the shared directory, which has taken it out for all";
            (MirrorUse::Drained, Some(why.to_owned()))
        }
        (Health::Dead(why), false) => {
            let stays = "it stays in place because the node that writes the shared directory has not taken it out";
            (MirrorUse::Active, Some(format!("{why}; {stays}")))
        }
        (health, false) => files::in_use(health, Way::Straight),
    }
}

#[cfg(test)]
mod tests;
