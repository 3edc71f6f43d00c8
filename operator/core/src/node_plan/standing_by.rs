//! What of the bundle is in force on a node for which another one writes the directory.
//!
//! Only the writer takes dead mirrors out: there is one file for all, and a node that stands by and sees a mirror dead
//! would take it away from those that reach it. It says so in its status.

use std::{collections::BTreeSet, path::Path};

use registry_mirror_crds::MirrorUse;

use super::{
    MirrorHealth, NodePlan,
    registries::{Reach, credentials_not_forwarded, in_use},
};
use crate::{
    bundle::Bundle,
    containerd::Version,
    desired::Target,
    health::Health,
    node_status::RegistryFacts,
    plan::shared::{OwnerRecord, Standing},
};

pub(super) fn plan(
    plan: &mut NodePlan,
    bundle: &Bundle,
    record: Option<&OwnerRecord>,
    version: Version,
    directory: &Path,
    health: &MirrorHealth,
) {
    for entry in &bundle.entries {
        let mut facts = RegistryFacts::of(entry);
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
            (facts.state, facts.error) = decided_elsewhere(&health, drained.contains(&mirror.display_url));
        }
        let target = Target { version, certs_dir: directory };
        facts.notes = credentials_not_forwarded(bundle, entry, target, health);
        plan.registries.push(facts);
    }
    plan.standing_by = Some(sentence(record, directory));
    plan.surplus = record.map(|record| record.surplus(bundle, directory)).unwrap_or_default();
}

/// That another node writes the directory, for people.
fn sentence(record: Option<&OwnerRecord>, directory: &Path) -> String {
    let who = record.map_or_else(|| "another node".to_owned(), |record| format!("node {}", record.node));
    format!(
        "{} is shared with other nodes; {who} writes it for all of them, and this node takes over when that one goes \
         away.",
        directory.display()
    )
}

/// Whether a mirror is in use here, and what is wrong with it, where another node decides.
fn decided_elsewhere(health: &Health, drained: bool) -> (MirrorUse, Option<String>) {
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
        (health, false) => in_use(health, Reach::Direct),
    }
}

#[cfg(test)]
mod tests;
