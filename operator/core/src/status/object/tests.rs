use std::{collections::BTreeMap, sync::Arc};

use registry_mirror_crds::{LabelSelector, reason};

use super::*;
use crate::{
    bundle::Bundle,
    compile::{CompileOptions, Compiled, InForce, Problem, References, Refusal, compile},
    select::Labels,
    status::node::{Health, MirrorReport, NodeFailure, NodeReport, Readiness, RegistryReport},
};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn object(name: &str, urls: &[&str]) -> RegistryMirror {
    let mirrors: Vec<_> = urls.iter().map(|url| serde_json::json!({"url": url})).collect();
    let mut object: RegistryMirror = serde_json::from_value(serde_json::json!({
        "apiVersion": "registry-mirror.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": name, "generation": 3},
        "spec": {"registry": "docker.io", "mirrors": mirrors},
    }))
    .expect("an object");
    object.metadata.creation_timestamp = None;
    object
}

fn compiled(objects: &[RegistryMirror]) -> Compiled {
    compile(objects, &References::default(), &CompileOptions::default())
}

fn report(entry: &Entry, readiness: Readiness, health: Health) -> NodeReport {
    let mirrors = entry.mirrors.iter().map(|m| MirrorReport { url: m.display_url.clone(), health }).collect();
    let registry = RegistryReport {
        object: entry.object.clone(),
        hash: entry.hash().as_str().to_owned(),
        error: None,
        mirrors,
        credentials_unusable: false,
    };
    let message = if readiness == Readiness::Ready { "" } else { "The candidate was refused by containerd" };
    NodeReport { readiness, message: message.into(), registries: Arc::new(vec![registry]) }
}

fn nodes<'a>(reports: &'a [(bool, Option<NodeReport>)], names: &'a [String]) -> Vec<Node<'a>> {
    reports
        .iter()
        .zip(names)
        .map(|((agent_alive, report), name)| Node {
            name,
            labels: Labels::new(),
            agent: if *agent_alive { Agent::Running } else { Agent::Gone },
            report: report.as_ref(),
        })
        .collect()
}

fn rollout() -> Rollout {
    Rollout { mode: Mode::Enforce, policy: Policy::Automatic, paused: None }
}

fn names(count: usize) -> Vec<String> {
    (1..=count).map(|i| format!("node{i}")).collect()
}

/// The status of the one object with these nodes, as lines.
fn told(reports: &[(bool, Option<NodeReport>)], rollout: &Rollout) -> String {
    let object = object("hub", &["https://a.example.com", "https://b.example.com/"]);
    let compiled = compiled(std::slice::from_ref(&object));
    told_of(&object, &compiled, reports, rollout)
}

fn told_of(
    object: &RegistryMirror,
    compiled: &Compiled,
    reports: &[(bool, Option<NodeReport>)],
    rollout: &Rollout,
) -> String {
    let names = names(reports.len());
    let (tallies, conflicts) = tally(&compiled.bundle, &nodes(reports, &names));
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let at = compiled.bundle.entries.iter().position(|entry| entry.object == name);
    let known = Known {
        object,
        verdict: &compiled.verdicts[name],
        conflict: conflicts.get(name),
        entry: at.map(|at| &compiled.bundle.entries[at]),
        tally: at.map(|at| &tallies[at]),
        unpublished: None,
    };
    let status = status(known, None, rollout, NOW);
    let mut lines = format!(
        "{} | {} | {}\n",
        status.mirror_summary.unwrap_or_default(),
        status.nodes.map(|nodes| nodes.summary).unwrap_or_default(),
        status.reason.unwrap_or_else(|| "-".to_owned()),
    );
    for condition in status.conditions {
        lines.push_str(&format!(
            "{}={} {}: {}\n",
            condition.type_, condition.status, condition.reason, condition.message
        ));
    }
    lines
}

#[test]
fn each_state_tells_what_to_do() {
    let object = object("hub", &["https://a.example.com", "https://b.example.com/"]);
    let entry = compiled(std::slice::from_ref(&object)).bundle.entries[0].clone();
    let node = |readiness, health| (true, Some(report(&entry, readiness, health)));
    let ready = || node(Readiness::Ready, Health::Healthy);
    let stale = || {
        let mut other = entry.clone();
        other.suspend = true;
        (true, Some(report(&other, Readiness::Ready, Health::Healthy)))
    };
    let paused = Rollout { paused: Some("node2: containerd did not come back".to_owned()), ..rollout() };
    let manual = Rollout { policy: Policy::Manual, ..rollout() };
    let never = Rollout { policy: Policy::Never, ..rollout() };
    let pending = || node(Readiness::RestartPending, Health::NotProbed);
    let failed = |reason| node(Readiness::Failed(reason), Health::NotProbed);
    let mut text = String::new();
    for (title, reports, rollout) in [
        ("all are programmed", vec![ready(), ready()], rollout()),
        ("one still has the old hash", vec![ready(), stale()], rollout()),
        ("one has said nothing yet", vec![ready(), (true, None)], rollout()),
        ("one agent is dead: its last word does not count", vec![ready(), (false, ready().1)], rollout()),
        ("one waits for its turn", vec![ready(), pending()], rollout()),
        ("two wait for a person", vec![pending(), pending()], manual),
        ("one waits in vain", vec![pending()], never),
        ("paused", vec![ready(), pending(), pending()], paused.clone()),
        ("failed and paused", vec![ready(), failed(NodeFailure::Restart), pending()], paused),
        (
            "two are unsupported",
            vec![failed(NodeFailure::Unsupported), failed(NodeFailure::Unsupported), ready()],
            rollout(),
        ),
        ("a mirror is down for one node", vec![ready(), node(Readiness::Ready, Health::Unhealthy)], rollout()),
        ("not probed", vec![node(Readiness::Ready, Health::NotProbed)], rollout()),
        ("DryRun", vec![node(Readiness::DryRun, Health::NotProbed)], Rollout { mode: Mode::DryRun, ..rollout() }),
        ("Restore", vec![node(Readiness::Restored, Health::NotProbed)], Rollout { mode: Mode::Restore, ..rollout() }),
        ("no node matches", vec![], rollout()),
    ] {
        text.push_str(&format!("# {title}\n{}\n", told(&reports, &rollout)));
    }
    insta::assert_snapshot!(text);
}

/// An uninstall leaves the objects and their statuses; a new install is a first one, which nothing holds back.
#[test]
fn an_object_leaves_no_trace_of_being_in_force_where_nodes_are_put_back() {
    let object = object("hub", &["https://a.example.com"]);
    let compiled = compiled(std::slice::from_ref(&object));
    let in_force = |mode| {
        let known = Known {
            object: &object,
            verdict: &compiled.verdicts["hub"],
            conflict: None,
            entry: compiled.bundle.entries.first(),
            tally: None,
            unpublished: None,
        };
        has_entry(&status(known, None, &Rollout { mode, ..rollout() }, NOW))
    };
    assert_eq!([Mode::Enforce, Mode::DryRun, Mode::Restore].map(in_force), [true, true, false]);
}

#[test]
fn a_refused_object_and_one_that_keeps_its_last_state_say_so() {
    let object = object("hub", &["https://u:p4ss@a.example.com"]);
    let refused = compiled(std::slice::from_ref(&object));
    let mut text = format!("# refused\n{}\n", told_of(&object, &refused, &[], &rollout()));

    let good = self::object("hub", &["https://a.example.com"]);
    let mut kept = compiled(std::slice::from_ref(&good));
    let verdict = kept.verdicts.get_mut("hub").expect("a verdict");
    verdict.in_force = InForce::LastGood;
    verdict.resolved_refs = Err(Refusal {
        reason: reason::REF_NOT_FOUND,
        problems: vec![Problem { field: "spec.x".to_owned(), sentence: "is gone".to_owned() }],
    });
    let report = report(&kept.bundle.entries[0], Readiness::Ready, Health::Healthy);
    text.push_str(&format!("# kept\n{}", told_of(&good, &kept, &[(true, Some(report))], &rollout())));
    assert!(!text.contains("p4ss"));
    insta::assert_snapshot!(text);
}

#[test]
fn a_younger_object_counts_the_nodes_that_it_wins() {
    let selector = |region: &str| {
        Some(LabelSelector {
            match_labels: BTreeMap::from([("region".to_owned(), region.to_owned())]),
            ..LabelSelector::default()
        })
    };
    let mut north = object("a", &["https://a.example.com"]);
    north.spec.node_selector = selector("north");
    let bundle: Bundle = compiled(&[north, object("b", &["https://b.example.com"])]).bundle;
    assert_eq!(selector_keys(&bundle).into_iter().collect::<Vec<_>>(), ["region"]);
    let node = |name, region: &str| Node {
        name,
        labels: Labels::from([("region".to_owned(), region.to_owned())]),
        agent: Agent::Running,
        report: None,
    };
    let (tallies, conflicts) = tally(&bundle, &[node("x", "north"), node("y", "south"), node("z", "north")]);
    assert_eq!(tallies.iter().map(|tally| tally.matched).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(conflicts.keys().collect::<Vec<_>>(), ["b"]);
    let conflict = &conflicts["b"];
    assert_eq!((conflict.matched, conflict.lost(), conflict.is_total()), (3, 2, false));
}

#[test]
fn the_time_of_a_condition_stays_while_its_status_does() {
    let mut object = object("hub", &["https://a.example.com"]);
    let compiled = compiled(std::slice::from_ref(&object));
    let entry = &compiled.bundle.entries[0];
    let at = |object: &RegistryMirror, programmed: bool, now: i64| {
        let tally = Tally { matched: 1, programmed: programmed.into(), mirrors: vec![(0, 0)], ..Tally::default() };
        let verdict = &compiled.verdicts["hub"];
        let known =
            Known { object, verdict, conflict: None, entry: Some(entry), tally: Some(&tally), unpublished: None };
        status(known, object.status.as_ref(), &rollout(), Timestamp::from_second(now).expect("a time"))
    };
    let first = at(&object, false, 100);
    object.status = Some(first.clone());
    assert_eq!(at(&object, false, 200), first, "nothing to write");
    let then = at(&object, true, 300);
    let since = |status: &RegistryMirrorStatus| -> Vec<i64> {
        status.conditions.iter().map(|condition| condition.last_transition_time.0.as_second()).collect()
    };
    assert_eq!(since(&then), [100, 100, 300, 100]);
}

/// `hub` is part of `docker-hub`: what is said of the one is said of its registry and of none other.
#[test]
fn nodes_where_credentials_do_not_arrive_are_named() {
    let mut compiled = compiled(&[object("hub", &["https://m"])]);
    compiled.bundle.entries[0].mirrors[0].has_credentials = true;
    let entry = &compiled.bundle.entries[0];
    let says = |object: &str, unusable: bool| {
        let mut report = report(entry, Readiness::Ready, Health::Healthy);
        let of = |name: &str| RegistryReport {
            object: name.to_owned(),
            credentials_unusable: unusable && name == object,
            ..report.registries[0].clone()
        };
        report.registries = Arc::new(vec![of("docker-hub"), of("hub")]);
        (true, Some(report))
    };
    let mut reports = vec![says("docker-hub", true), says("hub", false)];
    reports.extend((2..6).map(|_| says("hub", true)));
    let names = names(reports.len());
    let (tallies, _) = tally(&compiled.bundle, &nodes(&reports, &names));
    assert_eq!(tallies[0].credentials_unusable.count, 4);
    let said = conditions::credentials_unusable(&tallies[0]).expect("a condition");
    assert_eq!(
        said.message,
        format!(
            "4 nodes ({}, {}, {}, …) have a containerd before 2.1, which does not forward credentials to a token \
             server: upgrade containerd there, or let the mirror take basic authentication.",
            names[2], names[3], names[4]
        )
    );
}

/// Whoever waits for Programmed with the newest generation must not be told of an older one, and nothing that was said of
/// the object in force is lost while the newer one is not.
#[test]
fn an_object_that_is_not_published_claims_nothing() {
    let old = object("hub", &["https://a.example.com"]);
    let compiled = compiled(std::slice::from_ref(&old));
    let tally = Tally { matched: 1, programmed: 1, mirrors: vec![(1, 0)], ..Tally::default() };
    let verdict = &compiled.verdicts["hub"];
    let known = Known {
        object: &old,
        verdict,
        conflict: None,
        entry: compiled.bundle.entries.first(),
        tally: Some(&tally),
        unpublished: None,
    };
    let before = status(known, None, &rollout(), NOW);
    assert_eq!(before.observed_generation, Some(3));
    // What a lost bundle is told by later.
    let without = status(Known { entry: None, tally: None, ..known }, Some(&before), &rollout(), NOW);
    assert_eq!((has_entry(&before), has_entry(&without)), (true, false));

    let mut object = object("hub", &["https://b.example.com"]);
    object.metadata.generation = Some(4);
    let changed = self::compiled(std::slice::from_ref(&object));
    let said = |failure: &PublishFailure, previous| {
        let verdict = &changed.verdicts["hub"];
        let known = Known { object: &object, verdict, unpublished: Some(failure), ..known };
        status(known, previous, &rollout(), NOW)
    };
    let refused = PublishFailure::Refused("exceeded quota: secrets".to_owned());
    let after = said(&refused, Some(&before));
    assert_eq!(after.observed_generation, Some(3));
    assert_eq!((&after.nodes, &after.mirrors), (&before.nodes, &before.mirrors));
    let lines: Vec<_> = after
        .conditions
        .iter()
        .map(|c| {
            let generation = c.observed_generation.unwrap_or_default();
            format!("{}={} {} of {generation}: {}", c.type_, c.status, c.reason, c.message)
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
    let lost = PublishFailure::WouldVanish(["a", "b", "c", "d"].map(str::to_owned).into());
    let lost = said(&lost, Some(&after));
    insta::assert_snapshot!(lost.conditions[2].message);
    assert_eq!(lost.reason.as_deref(), Some(reason::BUNDLE_LOST));
    assert_eq!(said(&refused, Some(&after)), after, "nothing to write");
    // and one that was never published
    let first = said(&PublishFailure::NoAnswer, None);
    assert_eq!((first.observed_generation, first.reason.as_deref()), (None, Some(reason::PUBLISH_FAILED)));
}

#[test]
fn only_what_the_bundle_in_force_does_not_say_is_unpublished() {
    let named = |name: &str, registry: &str, url: &str| {
        let mut object = object(name, &[url]);
        registry.clone_into(&mut object.spec.registry);
        object
    };
    let same = named("same", "docker.io", "https://a.example.com");
    let refused = named("refused", "ghcr.io", "https://u:p@a.example.com");
    let old = compiled(&[same.clone(), named("changed", "quay.io", "https://a.example.com")]);
    let new = compiled(&[
        same,
        refused,
        named("changed", "quay.io", "https://b.example.com"),
        named("new", "gcr.io", "https://a.example.com"),
    ]);
    let names = |in_force| unpublished(&new.verdicts, &new.bundle, in_force).into_iter().collect::<Vec<_>>();
    assert_eq!(names(Some(&old.bundle)), ["changed", "new"]);
    assert_eq!(names(Some(&new.bundle)), [""; 0]);
    assert_eq!(names(None), ["changed", "new", "refused", "same"]);
}
