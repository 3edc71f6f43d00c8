//! Counting nodes, for each entry of the bundle.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use registry_mirror_crds::LabelSelector;

use crate::{
    bundle::{Bundle, Entry},
    compile::Conflict,
    select::{Labels, matches},
    status::node::{Health, NodeReport, Readiness, RegistryReport},
};

/// One node.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels; those that [`selector_keys`] does not name may be left out.
    pub labels: Labels,
    /// Whether its agent runs.
    pub agent: Agent,
    /// Its agent's last word.
    pub report: Option<&'a NodeReport>,
}

/// Whether a node's agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    /// It does.
    Running,
    /// It has been away for so short a time that it may be replaced or started anew. What it said last still holds:
    /// containerd pulls through the mirrors without it.
    Away,
    /// It does not. A dead agent's last word does not count.
    Gone,
}

/// What the nodes say of one entry. Counts nodes that the entry wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Nodes that it is for.
    pub matched: u32,
    /// Its files are in force there.
    pub programmed: u32,
    /// They wait for a restart.
    pub pending_restart: u32,
    /// They said why they cannot.
    pub failed: u32,
    /// Nothing is touched there, in this mode.
    pub untouched: u32,
    /// Their agents do not run.
    pub silent: u32,
    /// The first failed node by name.
    pub first_failed: Option<FirstProblem>,
    /// The first silent node by name.
    pub first_silent: Option<String>,
    /// For each mirror: nodes that it answers, nodes that it makes wait.
    pub mirrors: Vec<(u32, u32)>,
    /// Nodes whose containerd does not forward the entry's credentials.
    pub credentials_unusable: NamedNodes,
}

/// Nodes, the first of them by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedNodes {
    /// All of them.
    pub count: u32,
    /// The first [`NamedNodes::NAMED`], in order.
    pub first: BTreeSet<String>,
}

impl NamedNodes {
    /// So many names are said; a status with hundreds is read by nobody.
    pub const NAMED: usize = 3;

    fn add(&mut self, node: &str) {
        self.count += 1;
        if self.first.len() < Self::NAMED || self.first.last().is_some_and(|last| node < last.as_str()) {
            self.first.insert(node.to_owned());
            if self.first.len() > Self::NAMED {
                self.first.pop_last();
            }
        }
    }
}

/// A node that failed, to be shown as an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstProblem {
    /// The node.
    pub node: String,
    /// Its agent's sentence.
    pub why: String,
}

/// The label keys that selectors look at: all that has to be known of a node's labels.
pub fn keys_of<'s>(selectors: impl IntoIterator<Item = &'s LabelSelector>) -> BTreeSet<&'s str> {
    let keys = |selector: &'s LabelSelector| {
        let expressions = selector.match_expressions.iter().map(|requirement| requirement.key.as_str());
        selector.match_labels.keys().map(String::as_str).chain(expressions)
    };
    selectors.into_iter().flat_map(keys).collect()
}

/// The label keys that the entries' selectors look at.
#[must_use]
pub fn selector_keys(bundle: &Bundle) -> BTreeSet<&str> {
    keys_of(bundle.entries.iter().filter_map(|entry| entry.node_selector.as_ref()))
}

/// A tally for each entry, and the conflicts between objects by the loser's name.
#[must_use]
pub fn tally(bundle: &Bundle, nodes: &[Node<'_>]) -> (Vec<Tally>, BTreeMap<String, Conflict>) {
    let hashes: Vec<String> = bundle.entries.iter().map(|entry| entry.hash().as_str().to_owned()).collect();
    let mut tallies: Vec<Tally> =
        bundle.entries.iter().map(|e| Tally { mirrors: vec![(0, 0); e.mirrors.len()], ..Tally::default() }).collect();

    // Nodes with the same labels get the same entries, and most of them say the same.
    let mut selections: HashMap<&Labels, Selection> = HashMap::new();
    let mut read: HashMap<(usize, *const Vec<RegistryReport>), Vec<Option<&RegistryReport>>> = HashMap::new();
    for node in nodes {
        let next = selections.len();
        let selection = selections.entry(&node.labels).or_insert_with(|| Selection::new(next, bundle, &node.labels));
        selection.nodes += 1;
        let reports = node.report.map(|report| {
            read.entry((selection.id, std::sync::Arc::as_ptr(&report.registries))).or_insert_with(|| {
                let by_object: HashMap<&str, &RegistryReport> =
                    report.registries.iter().map(|registry| (registry.object.as_str(), registry)).collect();
                selection.won.iter().map(|&i| by_object.get(bundle.entries.get(i)?.object.as_str()).copied()).collect()
            })
        });
        for (nth, &i) in selection.won.iter().enumerate() {
            let (Some(entry), Some(hash), Some(tally)) = (bundle.entries.get(i), hashes.get(i), tallies.get_mut(i))
            else {
                continue;
            };
            let registry = reports.as_ref().and_then(|reports| reports.get(nth).copied().flatten());
            tally.count(node, entry, hash, registry);
        }
    }
    let conflicts = conflicts(bundle, selections.values());
    (tallies, conflicts)
}

/// What nodes with the same labels get.
struct Selection {
    id: usize,
    nodes: u32,
    /// Indices of entries.
    won: Vec<usize>,
    /// Entry and the entry that it loses to.
    lost: Vec<(usize, usize)>,
}

impl Selection {
    fn new(id: usize, bundle: &Bundle, labels: &Labels) -> Self {
        let mut winners = HashMap::new();
        let (mut won, mut lost) = (Vec::new(), Vec::new());
        for (i, entry) in bundle.entries.iter().enumerate() {
            if !entry.node_selector.as_ref().is_none_or(|selector| matches(selector, labels)) {
                continue;
            }
            match winners.get(&entry.registry) {
                None => {
                    winners.insert(&entry.registry, i);
                    won.push(i);
                }
                Some(&winner) => lost.push((i, winner)),
            }
        }
        Self { id, nodes: 0, won, lost }
    }
}

fn conflicts<'s>(bundle: &Bundle, selections: impl Iterator<Item = &'s Selection>) -> BTreeMap<String, Conflict> {
    let mut conflicts: BTreeMap<String, Conflict> = BTreeMap::new();
    let mut won: HashMap<usize, u32> = HashMap::new();
    let name = |i: usize| bundle.entries.get(i).map(|entry| entry.object.clone()).unwrap_or_default();
    for selection in selections {
        for &i in &selection.won {
            *won.entry(i).or_default() += selection.nodes;
        }
        for &(loser, winner) in &selection.lost {
            let conflict = conflicts.entry(name(loser)).or_default();
            conflict.matched += selection.nodes;
            *conflict.lost_to.entry(name(winner)).or_default() += selection.nodes;
        }
    }
    for (i, entry) in bundle.entries.iter().enumerate() {
        if let Some(conflict) = conflicts.get_mut(&entry.object) {
            conflict.matched += won.get(&i).copied().unwrap_or_default();
        }
    }
    conflicts
}

impl Tally {
    /// Of an object that has no entry: the nodes that it would be for.
    #[must_use]
    pub fn without_entry(selector: Option<&LabelSelector>, nodes: &[Node<'_>]) -> Self {
        let is_for = |node: &&Node<'_>| selector.is_none_or(|selector| matches(selector, &node.labels));
        Self { matched: u32::try_from(nodes.iter().filter(is_for).count()).unwrap_or(u32::MAX), ..Self::default() }
    }

    fn count(&mut self, node: &Node<'_>, entry: &Entry, hash: &str, registry: Option<&RegistryReport>) {
        self.matched += 1;
        let report = node.report.filter(|_| node.agent != Agent::Gone);
        let Some(report) = report else {
            // Without a report the agent may be on its way; without an agent it is not.
            if node.agent == Agent::Gone {
                self.silent += 1;
                if self.first_silent.as_deref().is_none_or(|first| node.name < first) {
                    self.first_silent = Some(node.name.to_owned());
                }
            }
            return;
        };
        let current = registry.filter(|registry| registry.hash == hash);
        let error = current.and_then(|registry| registry.error.as_deref());
        match (report.readiness, error) {
            (Readiness::Ready, None) if current.is_some() => self.programmed += 1,
            (Readiness::Ready | Readiness::Unknown, None) => {}
            (Readiness::RestartPending, None) => self.pending_restart += 1,
            (Readiness::DryRun | Readiness::Restored, _) => self.untouched += 1,
            (Readiness::Failed(_), _) => self.fail(node.name, error.unwrap_or(&report.message)),
            (Readiness::Ready | Readiness::Unknown | Readiness::RestartPending, Some(why)) => {
                self.fail(node.name, why);
            }
        }
        for mirror in registry.iter().flat_map(|registry| &registry.mirrors) {
            let position = entry.mirrors.iter().position(|known| known.display_url == mirror.url);
            if let Some((healthy, unhealthy)) = position.and_then(|position| self.mirrors.get_mut(position)) {
                match mirror.health {
                    Health::Healthy => *healthy += 1,
                    Health::Unhealthy => *unhealthy += 1,
                    Health::NotProbed => {}
                }
            }
        }
        let has_credentials = entry.mirrors.iter().any(|mirror| mirror.has_credentials);
        if has_credentials && registry.is_some_and(|registry| registry.credentials_unusable) {
            self.credentials_unusable.add(node.name);
        }
    }

    fn fail(&mut self, node: &str, why: &str) {
        self.failed += 1;
        if self.first_failed.as_ref().is_none_or(|first| node < first.node.as_str()) {
            self.first_failed = Some(FirstProblem { node: node.to_owned(), why: why.to_owned() });
        }
    }
}
