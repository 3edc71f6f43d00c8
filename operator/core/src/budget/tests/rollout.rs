//! Whole roll-outs, decision by decision, over nodes that do what they were granted.

use std::collections::BTreeMap;

use super::*;

fn worker(name: &str, distribution: &str, zone: &str) -> NodeState {
    let cohort = Arc::new(Cohort::new("1.7.1", distribution));
    NodeState { cohort, zone: Some(zone.into()), ..pending(name) }
}

fn control_plane(name: &str) -> NodeState {
    NodeState { control_plane: true, ..pending(name) }
}

/// Nodes, and the clock by which they were granted.
struct Cluster {
    nodes: Vec<NodeState>,
    now: Timestamp,
}

impl Cluster {
    fn new(mut nodes: Vec<NodeState>) -> Self {
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Self { nodes, now: NOW }
    }

    /// Decides as a controller that has just started would: by nothing but the nodes. The nodes that were granted.
    fn decide(&mut self, rules: &Rules<'_>) -> Vec<String> {
        self.now += SignedDuration::from_secs(1);
        let Decisions { grant, withdraw, .. } = decide(&self.nodes, &Rules { now: self.now, ..rules.clone() });
        for (name, _) in withdraw {
            self.node(&name).approval = None;
        }
        let granted: Vec<String> = grant.iter().map(|grant| grant.node.clone()).collect();
        for Grant { node, plan } in grant {
            let approved_at = self.now;
            self.node(&node).approval = Some(Approval { plan, approved_at });
        }
        granted
    }

    fn node(&mut self, name: &str) -> &mut NodeState {
        let at = self.nodes.binary_search_by(|node| node.name.as_str().cmp(name)).expect("a node of this name");
        &mut self.nodes[at]
    }

    /// It has restarted as it was granted, and is well.
    fn succeeds(&mut self, name: &str) {
        let node = self.node(name);
        (node.restart, node.effective) = (Restart::NotNeeded, true);
        node.proved = node.change.take();
    }

    fn under_way(&self) -> impl Iterator<Item = &NodeState> {
        self.nodes.iter().filter(|node| node.approval.is_some())
    }

    fn is_done(&self) -> bool {
        self.nodes.iter().all(|node| node.restart == Restart::NotNeeded && node.approval.is_none())
    }
}

fn automatic(max: &str) -> Rules<'static> {
    rules(Policy::Automatic, max)
}

#[test]
fn the_first_of_each_kind_goes_alone_and_then_the_number_doubles() {
    let kubeadm = (0..30).map(|i| worker(&format!("n{i:02}"), "kubeadm", "z"));
    let mut cluster = Cluster::new(kubeadm.chain((0..3).map(|i| worker(&format!("r{i}"), "rke2", "z"))).collect());
    let mut rounds = Vec::new();
    while !cluster.is_done() {
        let granted = cluster.decide(&automatic("12"));
        rounds.push(["n", "r"].map(|kind| granted.iter().filter(|name| name.starts_with(kind)).count()));
        granted.iter().for_each(|name| cluster.succeeds(name));
        // What was used is taken back before the next round, so that each round has the whole budget.
        cluster.nodes.iter_mut().for_each(|node| node.approval = None);
    }
    assert_eq!(rounds, [[1, 1], [2, 2], [4, 0], [8, 0], [12, 0], [3, 0]]);
}

#[test]
fn a_first_node_that_failed_or_is_not_well_is_no_proof() {
    let nodes = || (1..9).map(|i| worker(&format!("n{i}"), "kubeadm", "z"));
    let with = |first: NodeState| Cluster::new(nodes().chain([first]).collect());
    let cohort = worker("n0", "kubeadm", "z").cohort;
    let restarted = |effective| NodeState { cohort: Arc::clone(&cohort), effective, ..proved("n0") };
    // it went well
    assert_eq!(with(restarted(true)).decide(&automatic("5")), ["n1", "n2"]);
    // it is away since, or does not read the directory: no other follows
    assert!(with(NodeState { ready: false, ..restarted(true) }).decide(&automatic("5")).is_empty());
    assert!(with(restarted(false)).decide(&automatic("5")).is_empty());
    // what failed there is tried once elsewhere, and not on many
    let known = failures_from_text("n0 p\n");
    let resumed = Rules { known_failures: &known, ..automatic("5") };
    let failed = NodeState { cohort: Arc::clone(&cohort), ..failed("n0", true) };
    assert_eq!(with(failed.clone()).decide(&resumed), ["n1"]);
    let unpaused = Rules { pause_on_failure: false, ..resumed };
    assert_eq!(with(failed).decide(&unpaused), ["n1"]);
}

/// A year ago all of them restarted for something else, one by one.
#[test]
fn restarts_of_before_prove_nothing_for_another_change() {
    let before = |i: usize| NodeState {
        proved: Some(change("last year's")),
        effective: true,
        ..worker(&format!("n{i}"), "kubeadm", "z")
    };
    let mut cluster = Cluster::new((0..9).map(before).collect());
    assert_eq!(cluster.decide(&automatic("100%")), ["n0"]);
    // But a node that joins later needs what the others have proved.
    let cohort = worker("n", "kubeadm", "z").cohort;
    let done = |i: usize| NodeState { cohort: Arc::clone(&cohort), ..proved(&format!("n{i}")) };
    let joined = (3..6).map(|i| worker(&format!("n{i}"), "kubeadm", "z"));
    assert_eq!(Cluster::new((0..3).map(done).chain(joined).collect()).decide(&automatic("100%")), ["n3", "n4", "n5"]);
}

#[test]
fn one_change_at_a_time_in_a_cohort() {
    let other = |name| NodeState { change: Some(change("other")), ..worker(name, "kubeadm", "z") };
    let mut cluster = Cluster::new(vec![worker("n0", "kubeadm", "z"), other("n1"), worker("n2", "kubeadm", "z")]);
    assert_eq!(cluster.decide(&automatic("100%")), ["n0"]);
    assert!(cluster.decide(&automatic("100%")).is_empty());
    cluster.succeeds("n0");
    cluster.decide(&automatic("100%"));
    assert_eq!(cluster.under_way().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["n1"]);
}

#[test]
fn zones_take_turns() {
    let done = |i: usize| NodeState { zone: Some("a".into()), ..proved(&format!("d{i}")) };
    let waits = |(i, zone): (usize, &str)| NodeState { zone: Some(zone.into()), ..pending(&format!("n{i}")) };
    let waiting = ["a", "a", "a", "b", "b", "c"].into_iter().enumerate().map(waits);
    // one of zone b is away already
    let away = NodeState { zone: Some("b".into()), ready: false, ..ready("x") };
    let mut cluster = Cluster::new((0..5).map(done).chain(waiting).chain([away]).collect());
    assert_eq!(cluster.decide(&automatic("5")), ["n0", "n5", "n1", "n3"]);
}

#[test]
fn control_plane_nodes_go_last_and_alone() {
    let mut cluster =
        Cluster::new(["cp-1", "cp-2", "cp-3"].map(control_plane).into_iter().chain([pending("w")]).collect());
    for name in ["w", "cp-1", "cp-2", "cp-3"] {
        assert_eq!(cluster.decide(&automatic("100%")), [name]);
        assert!(cluster.decide(&automatic("100%")).is_empty(), "{name} is under way");
        cluster.succeeds(name);
        // The approval that was used is taken back first.
        assert!(cluster.decide(&automatic("100%")).is_empty());
    }
    assert!(cluster.is_done());
}

#[test]
fn a_control_plane_node_that_is_away_or_fresh_changes_nothing_of_that() {
    let away = NodeState { ready: false, ..control_plane("cp-1") };
    assert!(Cluster::new(vec![away, control_plane("cp-2")]).decide(&automatic("100%")).is_empty());
    let fresh = |name| NodeState { fresh: true, ..control_plane(name) };
    assert_eq!(Cluster::new(vec![fresh("cp-1"), fresh("cp-2")]).decide(&automatic("1")), ["cp-1"]);
    // A worker that cannot be granted is not waited for.
    let silent = NodeState { agent_alive: false, ..pending("w") };
    assert_eq!(Cluster::new(vec![control_plane("cp-1"), silent]).decide(&automatic("1")), ["cp-1"]);
    // Nor one that a person has not asked for.
    let asked = requested(control_plane("cp-1"), "p");
    assert_eq!(Cluster::new(vec![asked, pending("w")]).decide(&rules(Policy::Manual, "1")), ["cp-1"]);
}

/// 5,000 nodes on the default budget: how long it takes, and how much is at stake at each moment.
#[test]
fn five_thousand_nodes() {
    let workers = (0..4_997).map(|i| worker(&format!("n{i:04}"), ["kubeadm", "rke2"][i % 2], ["a", "b", "c"][i % 3]));
    let mut cluster = Cluster::new(workers.chain((0..3).map(|i| control_plane(&format!("cp-{i}")))).collect());
    let mut rounds = Vec::new();
    while !cluster.is_done() {
        rounds.push(cluster.decide(&automatic("10%")));
        let mut zones: BTreeMap<_, usize> = BTreeMap::new();
        for node in cluster.under_way() {
            *zones.entry(node.zone.clone()).or_default() += 1;
        }
        assert!(zones.values().sum::<usize>() <= 500);
        assert!(zones.values().all(|count| *count <= 168), "{zones:?}");
        let under_way: Vec<_> = cluster.under_way().map(|node| node.name.clone()).collect();
        under_way.iter().for_each(|name| cluster.succeeds(name));
        assert!(rounds.len() < 100, "it ends");
    }
    let counts: Vec<_> = rounds.iter().map(Vec::len).filter(|count| *count > 0).collect();
    assert_eq!(counts[..8], [2, 4, 8, 16, 32, 64, 128, 256], "two cohorts");
    assert!(rounds.concat().ends_with(&["cp-0", "cp-1", "cp-2"].map(str::to_owned)));
}

prop_compose! {
    fn waiting(i: usize)(
        distribution in "[de]", change in "[cd]", zone in "[xyz]", control_plane in prop::bool::weighted(0.1),
        proved in prop::option::weighted(0.2, "[cd]"), effective: bool, ready in prop::bool::weighted(0.95),
    ) -> NodeState {
        NodeState {
            control_plane,
            change: Some(ChangeHash::new(change)),
            proved: proved.map(ChangeHash::new),
            effective,
            ready,
            ..worker(&format!("n{i:02}"), &distribution, &zone)
        }
    }
}

fn any_cluster() -> impl Strategy<Value = Vec<NodeState>> {
    (1..40_usize).prop_flat_map(|count| (0..count).map(waiting).collect::<Vec<_>>())
}

proptest! {
    /// Whoever finishes first: never more than the budget, of each cohort one first and then at most as many as have
    /// been proved and one more, control-plane nodes alone and after the workers; and it ends.
    #[test]
    fn whatever_order_they_finish_in(
        nodes in any_cluster(), max in 1..9_u32, order in prop::collection::vec(any::<prop::sample::Index>(), 100),
    ) {
        let rules = Rules { max_unavailable: MaxUnavailable::Nodes(max), ..rules(Policy::Automatic, "1") };
        let mut cluster = Cluster::new(nodes);
        for next in order {
            let granted = cluster.decide(&rules);
            let away = cluster.nodes.iter().filter(|node| node.is_away()).count();
            prop_assert!(granted.is_empty() || away <= max as usize);
            let is_control_plane = |name: &String| cluster.nodes.iter().any(|n| n.name == *name && n.control_plane);
            if granted.iter().any(is_control_plane) {
                prop_assert_eq!(granted.len(), 1);
                prop_assert_eq!(cluster.under_way().count(), 1);
                let worker = |node: &NodeState| !node.control_plane && node.ready && node.restart != Restart::NotNeeded;
                prop_assert!(!cluster.nodes.iter().any(worker));
            }
            let restarting = || cluster.under_way().filter(|node| node.restart != Restart::NotNeeded);
            let mut cohorts: BTreeMap<_, Vec<&NodeState>> = BTreeMap::new();
            for node in restarting() {
                cohorts.entry(&node.cohort).or_default().push(node);
            }
            for (cohort, under_way) in cohorts {
                let change = &under_way[0].change;
                prop_assert!(under_way.iter().all(|node| node.change == *change));
                let well = |node: &&NodeState| node.cohort == *cohort && node.restart == Restart::NotNeeded
                    && node.proved == *change && node.effective;
                prop_assert!(under_way.len() <= cluster.nodes.iter().filter(well).count() + 1);
            }
            let names: Vec<_> = restarting().map(|node| node.name.clone()).collect();
            if !names.is_empty() {
                cluster.succeeds(&names[next.index(names.len())]);
            }
        }
        // A control-plane node that is away holds the others up, and too many nodes away all of them.
        let away = |node: &&NodeState| !node.ready;
        let held_up = cluster.nodes.iter().filter(away).any(|node| node.control_plane);
        let left = |node: &NodeState| {
            node.restart != Restart::NotNeeded && node.ready && !(node.control_plane && held_up)
        };
        let too_many = cluster.nodes.iter().filter(away).count() >= max as usize;
        prop_assert!(too_many || !cluster.nodes.iter().any(left), "{:?}", cluster.nodes);
    }
}
