//! What of the bundle is in force on a node for which another one writes the directory.
//!
//! The files tell: this node compares each with the one that it would have written. Only the writer takes dead mirrors
//! out: there is one file for all, and a node that stands by and sees a mirror dead would take it away from those that
//! reach it. It says so in its status.

use std::{collections::BTreeSet, slice};

use registry_mirror_crds::MirrorUse;

use super::{
    MirrorHealth, NodePlan, Observation,
    registries::{Reach, credentials_not_forwarded, in_use},
};
use crate::{
    bundle::{Bundle, Entry},
    containerd::Version,
    desired::{Desired, MissingBlob, Target, desired},
    health::Health,
    hosts_toml,
    plan::{
        files::{
            Entry as Listed,
            foreign::{Root, carry},
        },
        migrated,
    },
    provenance::{self, Provenance},
    registry::RegistryName,
    status::node::RegistryFacts,
};

pub(super) fn plan(plan: &mut NodePlan, observed: &Observation, bundle: &Bundle, writer: &str, health: &MirrorHealth) {
    let Some(root) = observed.directories.first() else { return };
    let directory = root.path.display();
    let files = Files { bundle, root, writer, version: observed.role.reader(observed.containerd.version) };
    for entry in &bundle.entries {
        let mut facts = RegistryFacts::of(entry);
        let standing = observed.role.obstacle(entry).map_or_else(|| files.standing(entry), Standing::Never);
        let is_drained = |url| matches!(&standing, Standing::InForce { drained } if drained.contains(url));
        for (mirror, facts) in entry.mirrors.iter().zip(&mut facts.mirrors) {
            let health = health.mirror(&entry.object, &mirror.url);
            (facts.state, facts.error) = decided_elsewhere(&health, is_drained(&mirror.url));
        }
        let own = Target { version: observed.containerd.version, certs_dir: &root.path };
        facts.notes = credentials_not_forwarded(bundle, entry, own, health);
        match standing {
            Standing::InForce { .. } => {}
            // A node never counts with another state than its own.
            Standing::NotYet => facts.hash.clear(),
            Standing::Never(why) => facts.error = Some(why),
        }
        plan.registries.push(facts);
    }
    plan.standing_by = Some(format!(
        "{directory} is shared with other nodes; {writer} writes it for all of them, and this node takes over when that \
         one goes away."
    ));
    plan.surplus = files.surplus();
}

/// Where an entry stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    InForce {
        /// The urls of mirrors that the writer has taken out.
        drained: BTreeSet<String>,
    },
    /// The writer has not got to it.
    NotYet,
    /// It does not get into force; why, in a sentence.
    Never(String),
}

/// The directory as another node has written it.
struct Files<'a> {
    bundle: &'a Bundle,
    root: &'a Root,
    /// That node, as people know it.
    writer: &'a str,
    /// The release that its files are rendered for.
    version: Version,
}

impl Files<'_> {
    fn standing(&self, entry: &Entry) -> Standing {
        let shared = || format!("{} is shared with {}, which writes it", self.root.path.display(), self.writer);
        let content = self.root.listing.hosts_toml(&entry.registry).unwrap_or_default();
        match provenance::of(content) {
            Provenance::Ours { object, .. } if object == entry.object && entry.suspend => {
                Standing::InForce { drained: BTreeSet::new() }
            }
            Provenance::Ours { object, .. } if object == entry.object => {
                self.compare(entry, content).unwrap_or_else(|error| Standing::Never(error.to_string()))
            }
            Provenance::Ours { object, .. } if object == migrated::OBJECT => Standing::NotYet,
            Provenance::Ours { object, .. } => Standing::Never(format!(
                "{} and for which RegistryMirror/{object} has this registry: let one object select all nodes that share \
                 the directory",
                shared()
            )),
            // Without a selector the object is for that node as well.
            Provenance::Foreign if entry.node_selector.is_none() => Standing::NotYet,
            Provenance::Foreign => Standing::Never(format!(
                "{} and has no file for RegistryMirror/{}: let that select all nodes that share the directory",
                shared(),
                entry.object
            )),
        }
    }

    /// Which mirrors are taken out is known to the writer alone; with that the rest must be the same, byte by byte.
    fn compare(&self, entry: &Entry, content: &[u8]) -> Result<Standing, MissingBlob> {
        let text = std::str::from_utf8(content).unwrap_or_default();
        let there = hosts_toml::parse(text, self.version).unwrap_or_default().hosts;
        let is_there = |url: &String| there.iter().any(|host| host.url == *url);
        let all = self.wanted(entry, &BTreeSet::new())?.hosts.hosts.into_iter().map(|host| host.url);
        let drained: BTreeSet<String> = all.filter(|url| !is_there(url)).collect();
        let is_as_wanted = self.wanted(entry, &drained)?.registry.file() == content;
        Ok(if is_as_wanted { Standing::InForce { drained } } else { Standing::NotYet })
    }

    fn wanted(&self, entry: &Entry, drained: &BTreeSet<String>) -> Result<Desired, MissingBlob> {
        let target = Target { version: self.version, certs_dir: &self.root.path };
        let found = desired(entry, &self.bundle.blobs, target, drained)?;
        Ok(carry(found, entry, slice::from_ref(self.root), 0, self.version).0)
    }

    /// What is in force although no object wants it on this node, a sentence each.
    fn surplus(&self) -> Vec<String> {
        let ours = self.root.listing.entries.iter().filter_map(|(name, entry)| match entry {
            Listed::Directory(directory) => RegistryName::of_directory(name).zip(directory.object()),
            Listed::File | Listed::Symlink { .. } | Listed::Other => None,
        });
        let is_surplus = |(registry, object): &(RegistryName, String)| {
            object != migrated::OBJECT && !self.bundle.entries.iter().any(|entry| entry.registry == *registry)
        };
        let said = |(registry, object): (RegistryName, String)| {
            format!(
                "{} is shared with {}, so that RegistryMirror/{object} holds for {registry} here too, although it does \
                 not select this node.",
                self.root.path.display(),
                self.writer
            )
        };
        ours.filter(is_surplus).map(said).collect()
    }
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
