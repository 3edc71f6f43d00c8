//! One certs.d under several nodes (KinD with `extraMounts`): one of them writes it so that all can read it, the others
//! stand by.
//!
//! The nodes are containers of one machine, so they share its kernel: a file lock in the directory says who writes, and
//! it is free again the moment its holder dies. Each node also leaves a record with its containerd's release and holds
//! a lock on it while its agent runs; the writer renders for the oldest release, and says in a record of its own what it
//! has put in force. No heartbeat is written: an idle node writes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::ConfigPlan;
use crate::{
    bundle::{Bundle, Entry, Upstream},
    containerd::Version,
    registry::RegistryName,
};

/// Holds what the nodes tell each other, beneath the shared directory. No registry can be called so, and containerd
/// reads no directory of certs.d but those named after registries.
pub const DIRECTORY: &str = ".registry-mirror-shared";
/// Locked by the node that writes.
pub const OWNER_LOCK: &str = "owner.lock";
/// What that node has put in force: an [`OwnerRecord`].
pub const OWNER_RECORD: &str = "owner.json";
/// Begins the name of each node's own file, a [`NodeRecord`].
pub const NODE_PREFIX: &str = "node-";

/// A node whose agent has not run for so long does not count any more. Until then its containerd may still read the
/// directory; what waiting costs is that nodes with a newer one do without `referrers` and `dial_timeout`.
pub const ABSENCE: SignedDuration = SignedDuration::from_hours(24);

const LAYOUT: u32 = 1;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRecord {
    layout: u32,
    /// The release of the containerd that reads the directory there.
    pub containerd: Version,
    /// Since when its agent does not run, as the writer noticed; its agent takes it out when it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent_since: Option<Timestamp>,
}

impl NodeRecord {
    /// The record of a node whose agent runs.
    #[must_use]
    pub const fn new(containerd: Version) -> Self {
        Self { layout: LAYOUT, containerd, absent_since: None }
    }

    /// As it stands in the file.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Reads it; `None` for one of another layout or a broken one.
    #[must_use]
    pub fn parse(json: &[u8]) -> Option<Self> {
        parse(json).filter(|record: &Self| record.layout == LAYOUT)
    }
}

/// Another node that has left a record in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its name.
    pub node: String,
    /// What it says; `None` where that cannot be understood.
    pub record: Option<NodeRecord>,
    /// Whether its agent runs: it holds the lock on its record.
    pub running: bool,
}

/// The releases that read one directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readers {
    /// Files are rendered for it: what it understands the newer ones understand too, but see [`Readers::obstacle`].
    pub oldest: Version,
    /// The newest one.
    pub newest: Version,
}

impl Readers {
    /// One release alone.
    #[must_use]
    pub const fn only(version: Version) -> Self {
        Self { oldest: version, newest: version }
    }

    fn add(&mut self, version: Version) {
        self.oldest = self.oldest.min(version);
        self.newest = self.newest.max(version);
    }

    /// Why no file for an entry is read alike by all of them, in a sentence; `None` where one is.
    ///
    /// containerd 1.x refuses a file with brackets in a table header, 2.x asks only hosts that have a header.
    #[must_use]
    pub fn obstacle(&self, entry: &Entry) -> Option<String> {
        let Self { oldest, newest } = self;
        let upstream = match &entry.upstream {
            Upstream::Server { url, .. } => url.as_deref(),
            Upstream::Registry | Upstream::Denied => None,
        };
        let named =
            |url: &&str| url.contains('[') && oldest.reads_ipv6_host_headers() != newest.reads_ipv6_host_headers();
        let url = entry.mirrors.iter().map(|mirror| mirror.display_url.as_str()).chain(upstream).find(named)?;
        Some(format!(
            "the directory is shared by nodes with containerd {oldest} and {newest}, and both cannot read one file with \
             the IPv6 address of {url} in it: give that host a name"
        ))
    }
}

/// A node's part in its directory: what it knows, without the locks that it holds for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Nobody else has the directory: an ordinary node.
    Alone,
    /// It writes, for all that read it.
    Writer(Readers),
    /// Another node writes, and has put this in force.
    StandBy(Option<OwnerRecord>),
}

impl Role {
    /// The releases that read the directory.
    #[must_use]
    pub fn readers(&self, own: Version) -> Readers {
        match self {
            Self::Writer(readers) => *readers,
            Self::Alone | Self::StandBy(_) => Readers::only(own),
        }
    }

    /// The directories that the node plans together. Who shares its first one has agreed with others on that one.
    #[must_use]
    pub fn roots(&self, plan: &ConfigPlan) -> Vec<PathBuf> {
        let mut roots = plan.roots();
        if *self != Self::Alone {
            roots.truncate(1);
        }
        roots
    }
}

/// What the writer makes of its neighbours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// The releases that read the directory.
    pub readers: Readers,
    /// Nodes whose agent has ended: their records get this time, once.
    pub absent: BTreeMap<String, NodeRecord>,
    /// Nodes that are gone for good: their records are removed.
    pub gone: BTreeSet<String>,
    /// Whether any other node counts.
    pub has_neighbours: bool,
}

/// Counts the nodes that share a directory. `own` is the release of the node that writes.
#[must_use]
pub fn census(own: Version, neighbours: &[Neighbour], now: Timestamp) -> Census {
    let mut census =
        Census { readers: Readers::only(own), absent: BTreeMap::new(), gone: BTreeSet::new(), has_neighbours: false };
    for Neighbour { node, record, running } in neighbours {
        match (record, running) {
            // It has just been made, or it is of a later release of ours; what it says is not known.
            (None, true) => {}
            (None, false) => {
                census.gone.insert(node.clone());
                continue;
            }
            (Some(record), true) => census.readers.add(record.containerd),
            (Some(record), false) => {
                // A clock that was set back must not keep it for years.
                let since = record.absent_since.map_or(now, |since| since.min(now));
                if now.duration_since(since) >= ABSENCE {
                    census.gone.insert(node.clone());
                    continue;
                }
                if record.absent_since != Some(since) {
                    census.absent.insert(node.clone(), NodeRecord { absent_since: Some(since), ..record.clone() });
                }
                census.readers.add(record.containerd);
            }
        }
        census.has_neighbours = true;
    }
    census
}

/// Which other nodes keep the files from being removed when a node leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staying {
    /// Those whose agents run: all nodes of the cluster are put back, and an agent that is away does not come back.
    Running,
    /// All that have a record: one node is put back by hand, and others may have been set up by hand too.
    Recorded,
}

/// The names of the nodes that still need the files.
#[must_use]
pub fn who_stays(neighbours: &[Neighbour], staying: Staying) -> Vec<String> {
    let counts = |neighbour: &&Neighbour| neighbour.running || staying == Staying::Recorded;
    neighbours.iter().filter(counts).map(|neighbour| neighbour.node.clone()).collect()
}

/// What the node that writes a shared directory has put in force there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerRecord {
    layout: u32,
    /// Its name.
    pub node: String,
    /// The directory as its containerd names it: paths of certificates begin with it.
    pub directory: PathBuf,
    /// The containerd that the files are rendered for.
    pub containerd: Version,
    /// What stands there, by registry.
    pub registries: BTreeMap<RegistryName, InForce>,
}

/// One registry in a shared directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InForce {
    /// The RegistryMirror.
    pub object: String,
    /// The hash of its entry.
    pub hash: String,
    /// Why its files are not in place, where they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Mirrors that are taken out, as the user wrote them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub drained: BTreeSet<String>,
}

/// Where an entry stands on a node that does not write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing<'a> {
    /// It is in force.
    InForce(&'a InForce),
    /// The writer has not got to it; what is in force has this hash, or nothing is.
    NotYet(Option<&'a str>),
    /// It does not get into force; why, in a sentence.
    Never(String),
}

impl Standing<'_> {
    /// The hash to report for the entry: that of what is in force, so that a node never counts with another one's.
    #[must_use]
    pub fn hash(&self, entry: &Entry) -> String {
        match self {
            Self::NotYet(hash) => hash.unwrap_or_default().to_owned(),
            Self::InForce(_) | Self::Never(_) => entry.hash().as_str().to_owned(),
        }
    }
}

impl OwnerRecord {
    /// The record of a node.
    #[must_use]
    pub const fn new(
        node: String,
        directory: PathBuf,
        containerd: Version,
        registries: BTreeMap<RegistryName, InForce>,
    ) -> Self {
        Self { layout: LAYOUT, node, directory, containerd, registries }
    }

    /// As it stands in the file.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Reads it; `None` for one of another layout or a broken one, which the writer replaces.
    #[must_use]
    pub fn parse(json: &[u8]) -> Option<Self> {
        parse(json).filter(|record: &Self| record.layout == LAYOUT)
    }

    /// Where an entry stands on a node with this containerd that names the directory so.
    #[must_use]
    pub fn standing(&self, entry: &Entry, own: Version, directory: &Path) -> Standing<'_> {
        let Self { layout: _, node, directory: theirs, containerd, registries } = self;
        let shared = format!("{} is shared with node {node}, which writes it", directory.display());
        let Some(found) = registries.get(&entry.registry) else {
            // Without a selector the object is for that node as well.
            return match entry.node_selector {
                None => Standing::NotYet(None),
                Some(_) => Standing::Never(format!(
                    "{shared} and which RegistryMirror/{} does not select: let it select all nodes that share the \
                     directory",
                    entry.object
                )),
            };
        };
        if found.object != entry.object {
            return Standing::Never(format!(
                "{shared} and for which RegistryMirror/{} has this registry: let one object select all nodes that \
                 share the directory",
                found.object
            ));
        }
        if found.hash != entry.hash().as_str() || *containerd > own {
            // A file for a newer containerd may be one that this one refuses: nothing is in force then.
            return Standing::NotYet((*containerd <= own).then_some(found.hash.as_str()));
        }
        if let Some(why) = &found.error {
            return Standing::Never(format!("{shared}: {why}"));
        }
        if directory != theirs && entry.digests().next().is_some() {
            return Standing::Never(format!(
                "{shared} and names it {}, so that the paths of certificates do not fit here: mount it at the same \
                 path on both",
                theirs.display()
            ));
        }
        Standing::InForce(found)
    }

    /// What is in force although no object wants it on a node with this slice, a sentence each.
    #[must_use]
    pub fn surplus(&self, slice: &Bundle, directory: &Path) -> Vec<String> {
        let Self { layout: _, node, directory: _, containerd: _, registries } = self;
        let wanted: BTreeSet<&RegistryName> = slice.entries.iter().map(|entry| &entry.registry).collect();
        let surplus = registries.iter().filter(|(registry, found)| found.error.is_none() && !wanted.contains(registry));
        surplus
            .map(|(registry, found)| {
                format!(
                    "{} is shared with node {node}, so that RegistryMirror/{} holds for {registry} here too, although \
                     it does not select this node.",
                    directory.display(),
                    found.object
                )
            })
            .collect()
    }
}

fn to_json(record: &impl Serialize) -> Vec<u8> {
    // Serialising a plain struct with string keys cannot fail.
    let mut json = serde_json::to_vec_pretty(record).unwrap_or_default();
    json.push(b'\n');
    json
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests;
