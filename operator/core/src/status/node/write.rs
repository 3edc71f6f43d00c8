//! NodeMirror status from the facts of a pass. Pure: the same facts over the same previous status change nothing, so
//! that an idle node writes nothing.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use registry_mirror_crds::{
    ContainerdStatus, DriftStatus, MirrorState, NewlyReadStatus, NodeMirrorStatus, NodeMirrorSummary,
    NodeRegistryStatus, NoteStatus, PlanStatus, ProvedRestart, bounds::bounded, condition, reason,
};

use super::facts::{
    ContainerdFacts, DRIFT_KEPT, DriftFacts, Effective, Facts, MirrorFacts, MirrorUse, PlanFacts, ProxyFacts,
    RegistryFacts, Verdict,
};
use crate::{
    desired::Note,
    plan::files::NewlyRead,
    status::condition::{Said, Status, sentence, whole_seconds},
};

/// So many files of others are named as newly read; the bound of the API.
const NEWLY_READ_KEPT: usize = 32;

/// The status that says these facts.
#[must_use]
pub fn status(facts: &Facts, previous: Option<&NodeMirrorStatus>, now: Timestamp) -> NodeMirrorStatus {
    let Facts {
        generation,
        bundle,
        containerd,
        plan,
        verdict,
        effective,
        registries,
        conflicts,
        proxy,
        drift,
        restarts,
        proved_restart,
    } = facts;
    let old = previous.map_or(&[][..], |status| &status.conditions);
    let mut conditions = vec![ready(verdict), effective_condition(effective), restart_pending(verdict, plan.as_ref())];
    conditions.push(mirrors_healthy(registries));
    if !conflicts.is_empty() {
        conditions.push(Said::new(condition::CONFLICTS, Status::True, "FilesOfOthers", conflicts.join(" ")));
    }
    if let Some(proxy) = proxy {
        conditions.push(proxy_in_force(proxy));
    }
    let unusable = |registry: &RegistryFacts| -> Vec<String> {
        registry.credentials_unusable().map(|note| format!("RegistryMirror/{}: {note}.", registry.object)).collect()
    };
    let credentials_unusable: Vec<String> = registries.iter().flat_map(unusable).collect();
    if !credentials_unusable.is_empty() {
        let message = credentials_unusable.join(" ");
        conditions.push(Said::new(condition::CREDENTIALS_UNUSABLE, Status::True, "ContainerdTooOld", message));
    }
    let summary_reason = match verdict {
        Verdict::Ready => None,
        other => Some(reason_of(other).to_owned()),
    };
    bounded(NodeMirrorStatus {
        observed_generation: *generation,
        bundle: bundle.clone(),
        containerd: containerd.as_ref().map(containerd_status),
        plan: plan.as_ref().map(plan_status),
        registries: registries.iter().map(|registry| registry_status(registry, previous, now)).collect(),
        restarts: *restarts,
        proved_restart: proved_restart
            .as_ref()
            .map(|proved| ProvedRestart { change: proved.change.to_string(), at: Time(proved.at) }),
        drift: drift_status(drift, previous),
        conditions: conditions.into_iter().map(|said| said.condition(old, *generation, now)).collect(),
        summary: Some(NodeMirrorSummary { mirrors: mirrors_in_use(registries), reason: summary_reason }),
    })
}

fn reason_of(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Ready => reason::READY,
        Verdict::Shared(_) => reason::SHARED,
        Verdict::RestartPending => reason::RESTART_PENDING,
        Verdict::DryRun => reason::DRY_RUN,
        Verdict::Restored(_) => reason::RESTORED,
        Verdict::Failed(failure, _) => failure.reason(),
    }
}

fn ready(verdict: &Verdict) -> Said {
    let message = match verdict {
        Verdict::Ready => "containerd pulls through the mirrors.",
        Verdict::RestartPending => "The files are in place; containerd reads them after its one restart.",
        Verdict::DryRun => "The plan is shown and nothing is touched: mode is DryRun.",
        Verdict::Shared(why) | Verdict::Failed(_, why) | Verdict::Restored(why) => why,
    };
    let status = if verdict.is_ready() { Status::True } else { Status::False };
    Said::new(condition::READY, status, reason_of(verdict), message)
}

fn effective_condition(effective: &Effective) -> Said {
    let (status, reason, message) = match effective {
        Effective::Yes => (Status::True, "Proved", "A pull that containerd was asked for came through the directory."),
        Effective::No(why) => (Status::False, "NotRead", why.as_str()),
        Effective::Unknown(why) => (Status::Unknown, "NotAsked", why.as_str()),
    };
    Said::new(condition::EFFECTIVE, status, reason, message)
}

fn restart_pending(verdict: &Verdict, plan: Option<&PlanFacts>) -> Said {
    match (verdict, plan) {
        (Verdict::RestartPending, Some(plan)) => Said::new(
            condition::RESTART_PENDING,
            Status::True,
            "WaitsForApproval",
            format!("{}. Plan {} waits for its turn.{}", plan.reason, plan.hash, turned_on(&plan.newly_read)),
        ),
        _ => Said::new(condition::RESTART_PENDING, Status::False, "NoRestartNeeded", String::new()),
    }
}

/// What somebody who approves the restart must know; how many in all, and the first few.
fn turned_on(newly_read: &[NewlyRead]) -> String {
    const SHOWN: usize = 3;
    if newly_read.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = newly_read.iter().take(SHOWN).map(|file| file.path.display().to_string()).collect();
    let more = match newly_read.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        " With it containerd also begins to read what others left: {}{more}. Remove what is not wanted before.",
        shown.join(", ")
    )
}

fn proxy_in_force(facts: &ProxyFacts) -> Said {
    let (status, reason, message) = match facts {
        ProxyFacts::InForce(notes) => (Status::True, "InForce", notes.join(" ")),
        ProxyFacts::Waits(why) => (Status::False, reason::RESTART_PENDING, why.clone()),
        ProxyFacts::Unsupported(why) => (Status::False, reason::UNSUPPORTED, why.clone()),
        ProxyFacts::HeldBack(why) => (Status::False, reason::CHANGED_SINCE_START, why.clone()),
    };
    Said::new(condition::PROXY_IN_FORCE, status, reason, message)
}

fn mirrors_healthy(registries: &[RegistryFacts]) -> Said {
    let mirrors =
        || registries.iter().flat_map(|registry| registry.mirrors.iter().map(move |mirror| (registry, mirror)));
    let failing: Vec<String> = mirrors()
        .filter_map(|(registry, mirror)| {
            let why = mirror.error.as_deref();
            let how = match mirror.state {
                MirrorUse::Drained => format!("is taken out: {}", why.unwrap_or("it does not answer")),
                MirrorUse::Active => format!("fails: {}", why?),
                MirrorUse::Unknown | MirrorUse::Unusable => return None,
            };
            Some(format!("{} of {} {how}.", mirror.url, registry.registry))
        })
        .collect();
    if !failing.is_empty() {
        let drained = mirrors().any(|(_, mirror)| mirror.state == MirrorUse::Drained);
        let reason = if drained { "MirrorDrained" } else { "MirrorFailing" };
        return Said::new(condition::MIRRORS_HEALTHY, Status::False, reason, failing.join(" "));
    }
    if mirrors().any(|(_, mirror)| mirror.state == MirrorUse::Active) {
        return Said::new(condition::MIRRORS_HEALTHY, Status::True, "AllAnswer", String::new());
    }
    Said::new(condition::MIRRORS_HEALTHY, Status::Unknown, "NotProbed", String::new())
}

/// Of all mirrors those that containerd uses and that do not fail.
fn mirrors_in_use(registries: &[RegistryFacts]) -> String {
    let mirrors = || registries.iter().flat_map(|registry| &registry.mirrors);
    let works = |mirror: &&MirrorFacts| match mirror.state {
        MirrorUse::Active => mirror.error.is_none(),
        MirrorUse::Unknown => true,
        MirrorUse::Drained | MirrorUse::Unusable => false,
    };
    format!("{}/{}", mirrors().filter(works).count(), mirrors().count())
}

/// What was told before stays until newer changes take its place: an agent that starts anew forgets none, and the same
/// change is not told twice.
fn drift_status(facts: &[DriftFacts], previous: Option<&NodeMirrorStatus>) -> Vec<DriftStatus> {
    let mut drift = previous.map(|status| status.drift.clone()).unwrap_or_default();
    for DriftFacts { path, at, what } in facts {
        let told = DriftStatus { path: path.clone(), at: Time(whole_seconds(*at)), what: format!("{what}.") };
        if !drift.contains(&told) {
            drift.push(told);
        }
    }
    drift.sort_by_key(|told| told.at.0);
    let surplus = drift.len().saturating_sub(DRIFT_KEPT);
    drift.drain(..surplus);
    drift
}

fn containerd_status(facts: &ContainerdFacts) -> ContainerdStatus {
    let ContainerdFacts { version, distribution, evidence, config_file, config_version, directory, started_at } = facts;
    ContainerdStatus {
        version: version.clone(),
        distribution: distribution.clone(),
        evidence: Some(evidence.clone()),
        config_file: Some(config_file.clone()),
        config_version: *config_version,
        config_path: directory.clone(),
        started_at: started_at.map(Time),
    }
}

fn plan_status(facts: &PlanFacts) -> PlanStatus {
    let PlanFacts { hash, change, kind, restart, reason, changes, newly_read } = facts;
    let newly_read = newly_read.iter().take(NEWLY_READ_KEPT).map(|NewlyRead { registry, path }| NewlyReadStatus {
        registry: registry.to_string(),
        path: path.display().to_string(),
    });
    PlanStatus {
        hash: hash.to_string(),
        change: Some(change.to_string()),
        kind: *kind,
        restart: *restart,
        reason: reason.clone(),
        changes: changes.clone(),
        newly_read: newly_read.collect(),
    }
}

fn registry_status(facts: &RegistryFacts, previous: Option<&NodeMirrorStatus>, now: Timestamp) -> NodeRegistryStatus {
    let RegistryFacts { registry, object, hash, error, mirrors, notes } = facts;
    let before = previous
        .into_iter()
        .flat_map(|status| &status.registries)
        .find(|status| status.registry == *registry)
        .map_or(&[][..], |status| &status.mirrors);
    NodeRegistryStatus {
        registry: registry.clone(),
        object: object.clone(),
        hash: hash.clone(),
        error: error.clone(),
        mirrors: mirrors.iter().map(|mirror| mirror_state(mirror, before, now)).collect(),
        notes: notes.iter().map(|note| note_status(note, mirrors)).collect(),
    }
}

fn note_status(note: &Note, mirrors: &[MirrorFacts]) -> NoteStatus {
    let mirror = note.mirror.and_then(|place| mirrors.get(place)).map(|mirror| mirror.url.clone());
    NoteStatus { mirror, reason: note.what.reason(), message: sentence(&note.to_string()) }
}

fn mirror_state(facts: &MirrorFacts, before: &[MirrorState], now: Timestamp) -> MirrorState {
    let MirrorFacts { url, state, error } = facts;
    let since = before
        .iter()
        .find(|mirror| mirror.url == *url && mirror.state == *state)
        .and_then(|mirror| mirror.since.clone())
        .unwrap_or(Time(now));
    MirrorState { url: url.clone(), state: *state, since: Some(since), error: error.clone() }
}

#[cfg(test)]
mod tests {
    use crate::budget::ChangeHash;
    use registry_mirror_crds::PlanKind;

    use super::super::failure::NodeFailure;
    use super::*;
    use crate::plan::PlanHash;

    fn facts(verdict: Verdict) -> Facts {
        Facts {
            generation: Some(1),
            bundle: Some("b1".to_owned()),
            containerd: None,
            plan: Some(PlanFacts {
                hash: PlanHash::new("p1".to_owned()),
                change: ChangeHash::of(PlanKind::Patch, &[]),
                kind: PlanKind::Patch,
                restart: true,
                reason: "no config_path is set".to_owned(),
                changes: Vec::new(),
                newly_read: Vec::new(),
            }),
            verdict,
            effective: Effective::Unknown("not asked yet".to_owned()),
            registries: vec![RegistryFacts {
                registry: "docker.io".to_owned(),
                object: "docker-hub".to_owned(),
                hash: "e1".to_owned(),
                error: None,
                mirrors: vec![MirrorFacts { url: "https://m1".to_owned(), state: MirrorUse::Unknown, error: None }],
                notes: Vec::new(),
            }],
            conflicts: Vec::new(),
            proxy: None,
            drift: Vec::new(),
            restarts: 0,
            proved_restart: None,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn the_same_facts_later_are_the_same_status() {
        let first = status(&facts(Verdict::Ready), None, at(1_000));
        let second = status(&facts(Verdict::Ready), Some(&first), at(2_000));
        assert_eq!(first, second);
    }

    #[test]
    fn a_condition_that_turns_has_a_new_transition_time_and_the_others_keep_theirs() {
        let pending = status(&facts(Verdict::RestartPending), None, at(1_000));
        let ready = status(&facts(Verdict::Ready), Some(&pending), at(2_000));
        let since = |status: &NodeMirrorStatus, kind: &str| {
            let found = status.conditions.iter().find(|condition| condition.type_ == kind).expect(kind);
            found.last_transition_time.0.as_second()
        };
        assert_eq!(since(&ready, condition::READY), 2_000);
        assert_eq!(since(&ready, condition::RESTART_PENDING), 2_000);
        assert_eq!(since(&ready, condition::EFFECTIVE), 1_000);
    }

    #[test]
    fn a_pending_restart_names_the_plan_to_approve() {
        let status = status(&facts(Verdict::RestartPending), None, at(1_000));
        let pending = status.conditions.iter().find(|c| c.type_ == condition::RESTART_PENDING).expect("set");
        assert_eq!(pending.message, "no config_path is set. Plan p1 waits for its turn.");
        assert_eq!(status.summary.and_then(|summary| summary.reason).as_deref(), Some("RestartPending"));
    }

    #[test]
    fn a_node_that_stands_by_is_ready_and_says_why_it_writes_nothing() {
        let status = status(&facts(Verdict::Shared("node a writes it".to_owned())), None, at(1_000));
        let ready = status.conditions.iter().find(|c| c.type_ == condition::READY).expect("set");
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", reason::SHARED));
        assert_eq!(status.summary.and_then(|summary| summary.reason).as_deref(), Some(reason::SHARED));
    }

    #[test]
    fn a_proxy_that_cannot_be_set_leaves_the_node_ready() {
        let why = "containerd is a child of k3s.service";
        let mut ready = facts(Verdict::Ready);
        assert!(status(&ready, None, at(1)).conditions.iter().all(|c| c.type_ != condition::PROXY_IN_FORCE));
        ready.proxy = Some(ProxyFacts::Unsupported(why.to_owned()));
        let said = status(&ready, None, at(1));
        let find = |kind: &str| said.conditions.iter().find(|c| c.type_ == kind).expect("said").clone();
        assert_eq!(find(condition::READY).status, "True");
        let proxy = find(condition::PROXY_IN_FORCE);
        assert_eq!((&*proxy.status, &*proxy.reason, &*proxy.message), ("False", "Unsupported", &*format!("{why}.")));
    }

    #[test]
    fn mirrors_that_fail_are_not_said_to_answer() {
        let said = |mirrors: &[(MirrorUse, Option<&str>)]| {
            let mut facts = facts(Verdict::Ready);
            facts.registries[0].mirrors = (1..)
                .zip(mirrors)
                .map(|(number, (state, error))| MirrorFacts {
                    url: format!("https://m{number}"),
                    state: *state,
                    error: error.map(str::to_owned),
                })
                .collect();
            let status = status(&facts, None, at(1));
            let healthy = status.conditions.iter().find(|c| c.type_ == condition::MIRRORS_HEALTHY).expect("said");
            let column = status.summary.map(|summary| summary.mirrors).unwrap_or_default();
            format!("{column} {} {} {}", healthy.status, healthy.reason, healthy.message)
        };
        let (well, refused) = ((MirrorUse::Active, None), (MirrorUse::Active, Some("connection refused")));
        assert_eq!(said(&[well, well]), "2/2 True AllAnswer ");
        assert_eq!(
            said(&[well, refused]),
            "1/2 False MirrorFailing https://m2 of docker.io fails: connection refused."
        );
        assert_eq!(
            said(&[(MirrorUse::Drained, None), refused, (MirrorUse::Unknown, None)]),
            "1/3 False MirrorDrained https://m1 of docker.io is taken out: it does not answer. https://m2 of docker.io \
             fails: connection refused."
        );
    }

    #[test]
    fn drift_is_told_once_and_outlives_the_agent() {
        let mut drifted = facts(Verdict::Ready);
        let change = |second: i64| DriftFacts {
            path: "/etc/containerd/certs.d/docker.io/hosts.toml".to_owned(),
            at: Timestamp::from_millisecond(second * 1000 + 250).expect("in range"),
            what: format!("change {second}"),
        };
        drifted.drift = (1..=3).map(change).collect();
        let first = status(&drifted, None, at(10));
        assert_eq!(first.drift.len(), 3);
        assert_eq!(status(&drifted, Some(&first), at(20)), first, "the same facts write nothing");
        // An agent that has just started knows of none.
        let after = status(&facts(Verdict::Ready), Some(&first), at(30));
        assert_eq!(after.drift, first.drift);
        drifted.drift = (4..=7).map(change).collect();
        let last = status(&drifted, Some(&after), at(40));
        let told: Vec<_> = last.drift.iter().map(|told| told.what.as_str()).collect();
        assert_eq!(told, ["change 3.", "change 4.", "change 5.", "change 6.", "change 7."]);
    }

    #[test]
    fn a_message_of_any_length_fits_the_api() {
        let long = status(&facts(Verdict::failed(NodeFailure::Unsupported, "é".repeat(40_000))), None, at(1));
        assert!(
            long.conditions
                .iter()
                .all(|condition| condition.message.len() <= registry_mirror_crds::bounds::LONGEST_MESSAGE)
        );
    }

    /// Stamped with a later generation, an old failure looked like one of the approval that came with it.
    #[test]
    fn a_failure_carries_the_generation_that_its_pass_saw() {
        let failed = Facts { generation: Some(3), ..facts(Verdict::failed(NodeFailure::Restart, "no")) };
        let said = status(&failed, None, at(1_000));
        assert!(said.conditions.iter().all(|condition| condition.observed_generation == Some(3)));
        assert_eq!(said.observed_generation, Some(3));
    }

    #[test]
    fn what_a_restart_turns_on_is_named_before_it() {
        let mut facts = facts(Verdict::RestartPending);
        let file = |number: usize| NewlyRead {
            registry: format!("r{number}.example").parse().expect("a registry"),
            path: format!("/etc/containerd/certs.d/r{number}.example/hosts.toml").into(),
        };
        facts.plan.as_mut().expect("a plan").newly_read = (0..40).map(file).collect();
        let status = status(&facts, None, at(0));
        let named = &status.plan.as_ref().expect("a plan").newly_read;
        assert_eq!((named.len(), named[0].registry.as_str()), (32, "r0.example"));
        let pending = status.conditions.iter().find(|found| found.type_ == condition::RESTART_PENDING);
        let named = "/etc/containerd/certs.d/r0.example/hosts.toml, /etc/containerd/certs.d/r1.example/hosts.toml, \
                     /etc/containerd/certs.d/r2.example/hosts.toml";
        let expected = format!(
            "no config_path is set. Plan p1 waits for its turn. With it containerd also begins to read what others left: \
             {named} and 37 more. Remove what is not wanted before."
        );
        assert_eq!(pending.expect("the condition").message, expected);
    }
}
