//! Whose turn it is, of the nodes that pods run on.
//!
//! - Of each cohort one node goes first. While no more are under way than have been proved, plus one, the number doubles
//!   with each round that goes well. What was proved is read from the nodes themselves, so it outlives the controller.
//! - In a cohort one change is under way at a time, so that a failure says which one failed.
//! - Zones take turns. Control-plane nodes go last, alone.

use std::collections::{BTreeMap, VecDeque};

use super::{ChangeHash, Cohort, NodeState, Restart, Rules, may_be_granted};

/// Who is granted now: at most `room` nodes.
pub(super) fn next<'n>(nodes: &[&'n NodeState], rules: &Rules<'_>, room: usize) -> Vec<&'n NodeState> {
    let mut pace = Pace::of(nodes);
    let mut zones = Zones::of(nodes);
    let mut control_plane = ControlPlane::of(nodes);
    let mut granted = Vec::new();
    for (standing, mut waiting) in standings(nodes, rules) {
        if standing.control_plane && !control_plane.may_start() {
            continue;
        }
        control_plane.workers_first |= !standing.control_plane;
        while granted.len() < room
            && let Some(node) = zones.pick(&mut waiting, |node| pace.allows(node))
        {
            pace.starts(node);
            granted.push(node);
            if standing.control_plane {
                control_plane.busy = true;
                break;
            }
        }
    }
    granted
}

/// Those with a lower standing come first: nodes that let an approval lapse come after others, and those that refused or
/// failed come last, so that one bad node does not hold up the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    failed: bool,
    lapsed: Option<jiff::Timestamp>,
    control_plane: bool,
}

/// Nodes of one standing, zone by zone, by name.
type Waiting<'n> = BTreeMap<Option<&'n str>, VecDeque<&'n NodeState>>;

fn standings<'n>(nodes: &[&'n NodeState], rules: &Rules<'_>) -> BTreeMap<Standing, Waiting<'n>> {
    let mut nodes: Vec<&NodeState> = nodes.iter().copied().filter(|node| may_be_granted(node, rules)).collect();
    nodes.sort_by_key(|node| node.name.as_str());
    let mut standings: BTreeMap<Standing, Waiting<'n>> = BTreeMap::new();
    for node in nodes {
        let standing = Standing {
            failed: matches!(node.restart, Restart::Failed { .. } | Restart::Refused { .. }),
            lapsed: node.withdrawn_at,
            control_plane: node.control_plane,
        };
        standings.entry(standing).or_default().entry(node.zone.as_deref()).or_default().push_back(node);
    }
    standings
}

/// How far each cohort has come.
struct Pace<'n> {
    cohorts: BTreeMap<&'n Cohort, Progress<'n>>,
}

#[derive(Default)]
struct Progress<'n> {
    /// The nodes that have leave, by what they change.
    under_way: BTreeMap<Option<&'n ChangeHash>, usize>,
    /// What has come of each change.
    changes: BTreeMap<&'n ChangeHash, Results>,
}

#[derive(Clone, Copy, Default)]
struct Results {
    /// Nodes where it went well.
    proved: usize,
    /// Nodes that have restarted with it and are not well, or not yet.
    unwell: usize,
}

impl<'n> Pace<'n> {
    fn of(nodes: &[&'n NodeState]) -> Self {
        let mut cohorts: BTreeMap<&Cohort, Progress<'_>> = BTreeMap::new();
        for node in nodes {
            let progress = cohorts.entry(&node.cohort).or_default();
            match &node.proved {
                Some(change) if node.restart == Restart::NotNeeded => {
                    let results = progress.changes.entry(change).or_default();
                    let well = node.ready && node.effective;
                    *(if well { &mut results.proved } else { &mut results.unwell }) += 1;
                }
                _ if node.approval.is_some() => *progress.under_way.entry(node.change.as_ref()).or_default() += 1,
                _ => {}
            }
        }
        Self { cohorts }
    }

    fn allows(&self, node: &NodeState) -> bool {
        let Some(Progress { under_way, changes }) = self.cohorts.get(&*node.cohort) else { return true };
        let change = node.change.as_ref();
        let Results { proved, unwell } = change.and_then(|change| changes.get(change)).copied().unwrap_or_default();
        under_way.keys().all(|other| *other == change) && under_way.values().sum::<usize>() + unwell <= proved
    }

    fn starts(&mut self, node: &'n NodeState) {
        let progress = self.cohorts.entry(&node.cohort).or_default();
        *progress.under_way.entry(node.change.as_ref()).or_default() += 1;
    }
}

/// How many nodes of each zone are away.
struct Zones<'n>(BTreeMap<Option<&'n str>, usize>);

impl<'n> Zones<'n> {
    fn of(nodes: &[&'n NodeState]) -> Self {
        let mut away = BTreeMap::new();
        for node in nodes {
            *away.entry(node.zone.as_deref()).or_default() += usize::from(node.is_away());
        }
        Self(away)
    }

    /// Takes the next node that is allowed out of the zone with the fewest nodes away.
    fn pick(&mut self, waiting: &mut Waiting<'n>, allowed: impl Fn(&NodeState) -> bool) -> Option<&'n NodeState> {
        loop {
            waiting.retain(|_, nodes| !nodes.is_empty());
            let away = |zone: &Option<&str>| self.0.get(zone).copied().unwrap_or_default();
            let (zone, nodes) = waiting.iter_mut().min_by_key(|(zone, _)| away(zone))?;
            // Who is not allowed now is not allowed in this round: what is under way only becomes more.
            let node = nodes.pop_front().filter(|node| allowed(node));
            if let Some(node) = node {
                *self.0.entry(*zone).or_default() += 1;
                return Some(node);
            }
        }
    }
}

/// Whether a control-plane node may go.
struct ControlPlane {
    /// Others wait or are under way.
    workers_first: bool,
    /// One of them is away already.
    busy: bool,
}

impl ControlPlane {
    fn of(nodes: &[&NodeState]) -> Self {
        let (control_plane, workers): (Vec<&NodeState>, Vec<&NodeState>) =
            nodes.iter().partition(|node| node.control_plane);
        Self {
            workers_first: workers.iter().any(|node| node.approval.is_some()),
            busy: control_plane.iter().any(|node| node.is_away()),
        }
    }

    const fn may_start(&self) -> bool {
        !self.workers_first && !self.busy
    }
}
