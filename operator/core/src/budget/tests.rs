use proptest::prelude::*;

use super::*;

mod rollout;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn plan(hash: &str) -> PlanHash {
    PlanHash::new(hash.to_owned())
}

fn ready(name: &str) -> NodeState {
    NodeState {
        name: name.to_owned(),
        ready: true,
        agent_alive: true,
        fresh: false,
        control_plane: false,
        zone: None,
        cohort: Arc::default(),
        change: None,
        proved: None,
        effective: false,
        restart: Restart::NotNeeded,
        approval: None,
        requested: None,
        withdrawn_at: None,
        rests_until: None,
    }
}

fn pending(name: &str) -> NodeState {
    NodeState { restart: Restart::Pending(plan("p")), change: Some(change("c")), ..ready(name) }
}

fn change(hash: &str) -> ChangeHash {
    ChangeHash::new(hash.to_owned())
}

/// It has restarted with the change that the others wait for, and is well.
fn proved(name: &str) -> NodeState {
    NodeState { proved: Some(change("c")), effective: true, ..ready(name) }
}

fn failed(name: &str, under_this_approval: bool) -> NodeState {
    NodeState {
        restart: Restart::Failed { plan: plan("p"), why: "It did not come back.".into(), under_this_approval },
        ..pending(name)
    }
}

fn approved(node: NodeState, seconds_ago: i64) -> NodeState {
    let approved_at = NOW - SignedDuration::from_secs(seconds_ago);
    NodeState { approval: Some(Approval { plan: plan("p"), approved_at }), ..node }
}

fn requested(node: NodeState, hash: &str) -> NodeState {
    NodeState { requested: Some(plan(hash)), ..node }
}

static NO_FAILURES: BTreeSet<Failure> = BTreeSet::new();

fn rules(policy: Policy, max: &str) -> Rules<'static> {
    Rules {
        policy,
        max_unavailable: max.parse().expect("a number or share"),
        pause_on_failure: true,
        paused: false,
        may_restart: true,
        known_failures: &NO_FAILURES,
        now: NOW,
    }
}

fn grants(nodes: &[NodeState], rules: &Rules<'_>) -> Vec<String> {
    decide(nodes, rules).grant.into_iter().map(|grant| grant.node).collect()
}

#[test]
fn one_at_a_time_in_the_order_of_names() {
    let nodes = [pending("b"), pending("a"), proved("c")];
    assert_eq!(grants(&nodes, &rules(Policy::Automatic, "1")), ["a"]);
    assert_eq!(grants(&nodes, &rules(Policy::Automatic, "2")), ["a", "b"]);
    assert_eq!(grants(&nodes, &rules(Policy::Automatic, "10%")), ["a"]);
}

#[test]
fn a_node_that_is_restarting_or_not_ready_takes_room() {
    let restarting = approved(pending("a"), 5);
    assert!(grants(&[restarting, pending("b")], &rules(Policy::Automatic, "1")).is_empty());
    let down = NodeState { ready: false, ..ready("a") };
    assert!(grants(&[down, pending("b")], &rules(Policy::Automatic, "1")).is_empty());
}

#[test]
fn only_a_node_that_can_use_it_is_granted() {
    let silent = NodeState { agent_alive: false, ..pending("a") };
    let down = NodeState { ready: false, ..pending("b") };
    assert_eq!(grants(&[silent, down, pending("c")], &rules(Policy::Automatic, "3")), ["c"]);
}

#[test]
fn a_fresh_node_is_outside_the_budget() {
    let fresh = |name| NodeState { fresh: true, ..pending(name) };
    let nodes = [approved(pending("a"), 1), fresh("x"), fresh("y"), pending("b")];
    assert_eq!(grants(&nodes, &rules(Policy::Automatic, "1")), ["x", "y"]);
}

#[test]
fn manual_waits_for_a_person_and_then_for_room() {
    let nodes = [pending("a"), requested(pending("b"), "p"), requested(pending("c"), "old")];
    let decisions = decide(&nodes, &rules(Policy::Manual, "1"));
    assert_eq!(decisions.grant, [Grant { node: "b".to_owned(), plan: plan("p") }]);
    assert_eq!(decisions.clear_requests, ["c", "b"]);
    // no room: the request stays
    let nodes = [approved(pending("a"), 1), requested(pending("b"), "p")];
    let decisions = decide(&nodes, &rules(Policy::Manual, "1"));
    assert!(decisions.grant.is_empty() && decisions.clear_requests.is_empty());
}

#[test]
fn never_grants_nothing_and_takes_back_what_stands() {
    let nodes = [requested(pending("a"), "p"), approved(pending("b"), 1)];
    let decisions = decide(&nodes, &rules(Policy::Never, "2"));
    assert!(decisions.grant.is_empty());
    assert_eq!(decisions.withdraw, [("b".to_owned(), Withdrawal::Stopped)]);
    assert_eq!(decisions.clear_requests, ["a"]);
}

#[test]
fn an_approval_ends_with_its_use_its_plan_or_its_time() {
    for (node, expected) in [
        (approved(ready("a"), 5), Some(Withdrawal::Used)),
        (approved(NodeState { restart: Restart::Pending(plan("q")), ..ready("a") }, 5), Some(Withdrawal::Superseded)),
        (approved(pending("a"), 599), None),
        (approved(pending("a"), 600), Some(Withdrawal::Unused)),
    ] {
        let decisions = decide(&[node], &rules(Policy::Automatic, "1"));
        assert_eq!(decisions.withdraw.first().map(|(_, why)| *why), expected);
        assert!(decisions.grant.is_empty(), "not in the same breath");
        assert_eq!(decisions.wake_at.is_some(), expected.is_none());
    }
}

#[test]
fn a_node_that_let_its_approval_lapse_comes_last() {
    let lapsed = NodeState { withdrawn_at: Some(NOW), ..pending("a") };
    assert_eq!(grants(&[lapsed, pending("b")], &rules(Policy::Automatic, "1")), ["b"]);
}

#[test]
fn a_failure_pauses_and_takes_back_all_that_stands() {
    let nodes = [approved(failed("a", true), 30), approved(pending("b"), 5), pending("c")];
    let decisions = decide(&nodes, &rules(Policy::Automatic, "3"));
    assert_eq!(decisions.pause.as_ref().map(|pause| pause.node.as_str()), Some("a"));
    assert!(decisions.grant.is_empty());
    assert_eq!(decisions.withdraw, [("a".to_owned(), Withdrawal::Failed), ("b".to_owned(), Withdrawal::Stopped)]);
}

#[test]
fn after_resume_the_failed_node_comes_last_and_pauses_again_only_by_failing_again() {
    let known = failures_from_text("a p\n");
    let resumed = Rules { known_failures: &known, ..rules(Policy::Automatic, "1") };
    assert_eq!(grants(&[failed("a", true), pending("b")], &resumed), ["b"]);
    assert_eq!(grants(&[failed("a", true), ready("b")], &resumed), ["a"]);
    // granted anew, not yet seen by the agent: the old failure still stands there
    let decisions = decide(&[approved(failed("a", false), 1)], &resumed);
    assert_eq!((decisions.pause, decisions.withdraw), (None, vec![]));
    let decisions = decide(&[approved(failed("a", true), 1)], &resumed);
    assert_eq!(decisions.withdraw, [("a".to_owned(), Withdrawal::Failed)]);
    assert!(decisions.pause.is_some());
}

#[test]
fn without_pausing_a_failed_node_waits_for_a_person() {
    let known = failures_from_text("a p\n");
    let rules = Rules { pause_on_failure: false, known_failures: &known, ..rules(Policy::Automatic, "2") };
    assert_eq!(grants(&[failed("a", true), pending("b")], &rules), ["b"]);
    assert_eq!(grants(&[requested(failed("a", true), "p"), ready("b")], &rules), ["a"]);
    let decisions = decide(&[approved(failed("a", true), 1), pending("b")], &rules);
    assert_eq!(decisions.pause, None);
    assert_eq!(decisions.withdraw, [("a".to_owned(), Withdrawal::Failed)]);
}

/// One full /var is that node's trouble.
#[test]
fn a_refusal_stops_no_other_node_and_is_tried_again_after_a_rest() {
    let refused =
        |name| NodeState { restart: Restart::Refused { plan: plan("p"), under_this_approval: true }, ..pending(name) };
    let one = rules(Policy::Automatic, "1");
    let decisions = decide(&[approved(refused("a"), 1), pending("b")], &one);
    assert_eq!(decisions.withdraw, [("a".to_owned(), Withdrawal::Refused)]);
    assert_eq!((decisions.pause, decisions.failures), (None, BTreeSet::new()));
    let resting = NodeState { rests_until: Some(NOW + SignedDuration::from_secs(1)), ..refused("a") };
    assert_eq!(grants(&[resting.clone(), pending("b")], &one), ["b"]);
    let decisions = decide(std::slice::from_ref(&resting), &one);
    assert_eq!((decisions.grant, decisions.wake_at), (vec![], resting.rests_until));
    let rested = NodeState { rests_until: Some(NOW), ..refused("a") };
    assert_eq!(grants(&[rested.clone(), pending("b")], &one), ["b"], "others come first");
    assert_eq!(grants(std::slice::from_ref(&rested), &one), ["a"]);
    assert_eq!(grants(&[requested(resting, "p")], &rules(Policy::Manual, "1")), ["a"], "a person need not wait");
    assert!(grants(&[rested], &rules(Policy::Manual, "1")).is_empty());
    let rests: Vec<_> = [1, 2, 3, 9, 40].map(|refusals| rest_after(refusals).as_mins()).into();
    assert_eq!(rests, [10, 20, 40, 24 * 60, 24 * 60]);
}

#[test]
fn failures_survive_their_text() {
    let failures = BTreeSet::from([
        Failure { node: "a".into(), plan: plan("p") },
        Failure { node: "b.example.com".into(), plan: plan("q") },
    ]);
    assert_eq!(failures_from_text(&failures_to_text(&failures)), failures);
}

prop_compose! {
    fn any_node()(
        name in "[a-z]{3}",
        ready in prop::bool::weighted(0.8),
        agent_alive in prop::bool::weighted(0.9),
        fresh in prop::bool::weighted(0.1),
        control_plane in prop::bool::weighted(0.2),
        (zone, distribution, change, proved, effective) in (prop::option::of("[xy]"), "[de]", "[cd]", prop::option::of("[cd]"), any::<bool>()),
        kind in 0..5_u8,
        under_this_approval: bool,
        approval in prop::option::of(0..900_i64),
        requested in prop::option::of("[pq]"),
    ) -> NodeState {
        let restart = match kind {
            0 => Restart::NotNeeded,
            1 | 2 => Restart::Pending(plan("p")),
            3 => Restart::Refused { plan: plan("p"), under_this_approval },
            _ => Restart::Failed { plan: plan("p"), why: "It failed.".to_owned(), under_this_approval },
        };
        let approval = approval
            .map(|seconds| Approval { plan: plan("p"), approved_at: NOW - SignedDuration::from_secs(seconds) });
        NodeState {
            name, ready, agent_alive, fresh, control_plane, restart, approval, effective,
            zone: zone.map(Arc::from),
            cohort: Arc::new(Cohort::new("1.7.1", &distribution)),
            change: Some(ChangeHash::new(change)),
            proved: proved.map(ChangeHash::new),
            requested: requested.map(PlanHash::new),
            withdrawn_at: None,
            rests_until: None,
        }
    }
}

fn any_nodes() -> impl Strategy<Value = Vec<NodeState>> {
    prop::collection::vec(any_node(), 0..30).prop_map(|mut nodes| {
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        nodes.dedup_by(|a, b| a.name == b.name);
        nodes
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    prop_oneof![Just(Policy::Automatic), Just(Policy::Manual), Just(Policy::Never)]
}

proptest! {
    /// Grants never make more nodes unavailable than the budget allows, whatever stands already.
    #[test]
    fn grants_stay_within_the_budget(
        nodes in any_nodes(), policy in any_policy(), max in prop_oneof![(1..6_u32).prop_map(MaxUnavailable::Nodes), (1..=100_u8).prop_map(MaxUnavailable::Percent)],
        paused: bool, pause_on_failure: bool,
    ) {
        let rules = Rules { max_unavailable: max, paused, pause_on_failure, ..rules(policy, "1") };
        let decisions = decide(&nodes, &rules);
        let granted: BTreeSet<&str> = decisions.grant.iter().map(|grant| grant.node.as_str()).collect();
        let settled: Vec<_> = nodes.iter().filter(|node| !node.fresh || node.control_plane).collect();
        let before = settled.iter().filter(|node| !node.ready || node.approval.is_some()).count();
        let after = settled.iter().filter(|node| !node.ready || node.approval.is_some() || granted.contains(node.name.as_str())).count();
        prop_assert!(after <= before.max(max.of(settled.len())));
        prop_assert_eq!(granted.len(), decisions.grant.len());
        for node in nodes.iter().filter(|node| granted.contains(node.name.as_str())) {
            prop_assert!(node.ready && node.agent_alive && node.approval.is_none() && node.restart.plan().is_some());
            prop_assert!(policy == Policy::Automatic || node.requested.as_ref() == node.restart.plan());
        }
        prop_assert!(granted.is_empty() || (!paused && policy != Policy::Never && decisions.pause.is_none()));
    }
}
