//! This node's part where several nodes share one certs.d: it writes for all of them, or it stands by.
//!
//! Only the writer takes dead mirrors out: there is one file for all, and a node that stands by and sees a mirror dead
//! would take it away from those that reach it. It says so in its status.

use std::{collections::BTreeSet, path::Path};

use jiff::Timestamp;
use registry_mirror_core::{
    bundle::Bundle,
    containerd::Version,
    node_status::{MirrorUse, RegistryFacts},
    plan::shared::Role,
    plan::{
        ConfigPlan,
        shared::{InForce, OwnerRecord, census},
    },
};
use registry_mirror_host::{
    file_error::FileError,
    files::HostWriter,
    root::HostRoot,
    shared::{Share, may_be_shared, neighbours, node_name, written_by_another},
    state::StateDir,
};

use super::Node;

/// Where it is kept what of the directory is ours.
pub(super) fn records_of(role: &Role, writer: &HostWriter, directory: &Path) -> Result<StateDir, FileError> {
    match role {
        Role::Alone => StateDir::open(writer),
        Role::Writer(_) | Role::StandBy(_) => StateDir::of_shared(writer, directory),
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
        role: &Role,
        bundle: &Bundle,
        registries: &[RegistryFacts],
    ) -> Result<(), FileError> {
        let (Some(share), Role::Writer(readers)) = (&self.share, role) else { return Ok(()) };
        let registries = bundle.entries.iter().zip(registries);
        let registries = registries.map(|(entry, facts)| (entry.registry.clone(), in_force(facts))).collect();
        let (node, directory) = (share.node().to_owned(), share.certs_d().to_owned());
        share.tell(writer, &OwnerRecord::new(node, directory, readers.oldest, registries)).map(drop)
    }
}

fn in_force(facts: &RegistryFacts) -> InForce {
    let RegistryFacts { registry: _, object, hash, error, mirrors, notes: _ } = facts;
    let drained = mirrors.iter().filter(|mirror| mirror.state == MirrorUse::Drained);
    let drained: BTreeSet<String> = drained.map(|mirror| mirror.url.clone()).collect();
    InForce { object: object.clone(), hash: hash.clone(), error: error.clone(), drained }
}

/// Other nodes that use the directory into which old registry tables would be carried over.
pub(super) fn neighbours_of(root: &HostRoot, plan: &ConfigPlan) -> Result<Vec<String>, FileError> {
    let ConfigPlan::Migrate { directory, .. } = plan else { return Ok(Vec::new()) };
    if !may_be_shared(root, directory)? {
        return Ok(Vec::new());
    }
    let others = neighbours(root, directory, &node_name(root)?)?;
    Ok(others.into_iter().map(|other| other.node).collect())
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

#[cfg(test)]
mod tests;
