//! What the agent writes, the controller reads back.

use jiff::Timestamp;
use proptest::{collection::vec, option, prelude::*};
use registry_mirror_crds::{NodeMirrorStatus, PlanKind};

use super::*;
use crate::{
    budget::{ChangeHash, Cohort, ProvedRestart, Restart},
    desired::{Note, Shortfall},
    plan::PlanHash,
};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

#[test]
fn an_agent_report_is_read_from_its_status() {
    let status = serde_json::json!({
        "registries": [{"registry": "docker.io", "object": "hub", "hash": "h", "notes": [
            {"mirror": "https://a", "reason": "DialTimeoutIgnored", "message": "The dialTimeout has no effect."},
            {"mirror": "https://b", "reason": "CredentialsNotForwarded", "message": "They do not arrive."}], "mirrors": [
            {"url": "https://a", "state": "Active"}, {"url": "https://b", "state": "Active", "error": "timeout"},
            {"url": "https://c", "state": "Drained"}, {"url": "https://d", "state": "Unusable"}]}],
        "conditions": [{"type": "Ready", "status": "False", "reason": "FromTheFuture", "message": "Why.",
                        "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    });
    let status: NodeMirrorStatus = serde_json::from_value(status).expect("a status");
    let report = NodeReport::from(status);
    assert_eq!((report.readiness, &*report.message), (Readiness::Failed(NodeFailure::Other), "Why."));
    let health: Vec<_> = report.registries[0].mirrors.iter().map(|mirror| mirror.health).collect();
    assert_eq!(
        health,
        [Health::Healthy, Health::Unhealthy, Health::Unhealthy, Health::NotProbed],
        "a note is no fault"
    );
    assert!(report.registries[0].credentials_unusable);
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Ready),
        Just(Verdict::RestartPending),
        Just(Verdict::DryRun),
        "[a-z]{1,9}".prop_map(Verdict::Shared),
        "[a-z]{1,9}".prop_map(Verdict::Restored),
        (prop::sample::select(&NodeFailure::ALL[..]), "[a-z]{1,9}").prop_map(|(what, why)| Verdict::Failed(what, why)),
    ]
}

fn mirrors() -> impl Strategy<Value = MirrorFacts> {
    let uses = [MirrorUse::Unknown, MirrorUse::Active, MirrorUse::Drained, MirrorUse::Unusable];
    ("https://[a-z]{1,5}", prop::sample::select(uses.to_vec()), option::of("[a-z]{1,9}"))
        .prop_map(|(url, state, error)| MirrorFacts { url, state, error })
}

fn registries() -> impl Strategy<Value = RegistryFacts> {
    let note = prop_oneof![
        Just(Shortfall::CredentialsNotForwarded {
            url: "https://m".to_owned(),
            version: crate::containerd::Version::new(1, 7, 2)
        }),
        Just(Shortfall::DefaultDirectoryUnknown { version: crate::containerd::Version::new(1, 6, 4) }),
    ]
    .prop_map(|what| Note { mirror: None, what });
    let texts = ("[a-z]{1,5}", "[a-z]{1,5}", "[0-9a-f]{1,8}", option::of("[a-z]{1,9}"));
    (texts, vec(mirrors(), 0..4), vec(note, 0..3)).prop_map(|((registry, object, hash, error), mirrors, notes)| {
        RegistryFacts { registry, object, hash, error, mirrors, notes }
    })
}

fn facts() -> impl Strategy<Value = Facts> {
    let plan = ("[0-9a-f]{1,16}", any::<bool>()).prop_map(|(hash, restart)| PlanFacts {
        hash: PlanHash::new(hash),
        change: ChangeHash::of(PlanKind::Patch, &[]),
        kind: PlanKind::Patch,
        restart,
        reason: "config_path is not set".to_owned(),
        changes: Vec::new(),
        newly_read: Vec::new(),
    });
    let containerd = Just(ContainerdFacts {
        version: "1.7.2".to_owned(),
        distribution: "kubeadm".to_owned(),
        evidence: String::new(),
        config_file: String::new(),
        config_version: None,
        directory: None,
        started_at: None,
    });
    let effective = prop_oneof![
        Just(Effective::Yes),
        Just(Effective::No("no".to_owned())),
        Just(Effective::Unknown("not asked".to_owned()))
    ];
    let proved = Just(ProvedRestart { change: ChangeHash::of(PlanKind::Migrate, &[]), at: NOW });
    let of_node = (option::of(plan), option::of(containerd), option::of(proved));
    (1_i64..4, verdicts(), effective, of_node, vec(registries(), 0..4)).prop_map(
        |(generation, verdict, effective, (plan, containerd, proved_restart), registries)| Facts {
            generation: Some(generation),
            containerd,
            plan,
            verdict,
            effective,
            registries,
            proved_restart,
            ..Facts::nothing_known("")
        },
    )
}

fn readiness(verdict: &Verdict) -> Readiness {
    match verdict {
        Verdict::Ready | Verdict::Shared(_) => Readiness::Ready,
        Verdict::RestartPending => Readiness::RestartPending,
        Verdict::DryRun => Readiness::DryRun,
        Verdict::Restored(_) => Readiness::Restored,
        Verdict::Failed(failure, _) => Readiness::Failed(*failure),
    }
}

fn restart_of(facts: &Facts, under_this_approval: bool) -> Restart {
    let Some(PlanFacts { hash: plan, restart, .. }) = facts.plan.clone() else { return Restart::NotNeeded };
    match &facts.verdict {
        Verdict::RestartPending if restart => Restart::Pending(plan),
        Verdict::Failed(NodeFailure::Restart, why) => {
            Restart::Failed { plan, why: format!("{why}."), under_this_approval }
        }
        Verdict::Failed(NodeFailure::RestartRefused, _) => Restart::Refused { plan, under_this_approval },
        _ => Restart::NotNeeded,
    }
}

fn registry(facts: &RegistryFacts) -> RegistryReport {
    let health = |mirror: &MirrorFacts| match mirror.state {
        MirrorUse::Active if mirror.error.is_none() => Health::Healthy,
        MirrorUse::Active | MirrorUse::Drained => Health::Unhealthy,
        MirrorUse::Unknown | MirrorUse::Unusable => Health::NotProbed,
    };
    let mirrors = facts.mirrors.iter().map(|mirror| MirrorReport { url: mirror.url.clone(), health: health(mirror) });
    RegistryReport {
        object: facts.object.clone(),
        hash: facts.hash.clone(),
        error: facts.error.clone(),
        mirrors: mirrors.collect(),
        credentials_unusable: facts.credentials_unusable().next().is_some(),
    }
}

proptest! {
    #[test]
    fn what_the_agent_writes_the_controller_reads_back(facts in facts(), generation in 1_i64..4) {
        let written = status(&facts, None, NOW);
        prop_assert_eq!(&status(&facts, Some(&written), NOW), &written);
        let text = serde_json::to_string(&written).expect("JSON");
        let read = AgentStatus::of(serde_json::from_str(&text).expect("a status"), generation);
        let seen = facts.generation.is_some_and(|seen| seen >= generation);
        prop_assert_eq!(&read.restart, &restart_of(&facts, seen));
        prop_assert_eq!(read.effective, facts.effective == Effective::Yes);
        let change = facts.plan.as_ref().filter(|plan| plan.restart).map(|plan| plan.change.clone());
        prop_assert_eq!(read.change, change);
        prop_assert_eq!(read.proved, facts.proved_restart.as_ref().map(|proved| proved.change.clone()));
        let cohort = facts.containerd.as_ref().map(|found| Cohort::new(&found.version, &found.distribution));
        prop_assert_eq!(&*read.cohort, &cohort.unwrap_or_default());
        let report = read.report.expect("it has said something");
        prop_assert_eq!(report.readiness, readiness(&facts.verdict));
        prop_assert_eq!(report.message.is_empty(), report.readiness == Readiness::Ready);
        prop_assert_eq!(&*report.registries, &facts.registries.iter().map(registry).collect::<Vec<_>>());
    }
}
