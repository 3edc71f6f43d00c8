//! The conditions of a RegistryMirror.

use registry_mirror_crds::{condition, reason};

use super::{
    Rollout,
    tally::{NamedNodes, Tally},
};
use crate::{
    budget::Policy,
    bundle::{Entry, Mode},
    compile::{Conflict, InForce, Verdict},
    status::condition::{Said, Status, sentence},
};

impl Said {
    /// Whether a person should look at it.
    pub(super) fn is_amiss(&self) -> bool {
        match self.kind {
            condition::CREDENTIALS_UNUSABLE => self.status == Status::True,
            // an object that wins some of its nodes only
            condition::ACCEPTED => self.status != Status::True || self.reason == reason::CONFLICT,
            // not probed is nothing to act on
            condition::HEALTHY => self.status == Status::False,
            _ => self.status != Status::True,
        }
    }
}

pub(super) fn accepted(verdict: &Verdict, conflict: Option<&Conflict>) -> Said {
    let said = |status, reason, message| Said::new(condition::ACCEPTED, status, reason, message);
    match (&verdict.accepted, conflict) {
        (Err(refusal), _) => {
            let consequence = match verdict.in_force {
                InForce::LastGood => " (nodes keep what they had from this object before)",
                InForce::Current | InForce::Nothing => "",
            };
            said(Status::False, refusal.reason, format!("{refusal}{consequence}"))
        }
        (Ok(()), Some(conflict)) => {
            let status = if conflict.is_total() { Status::False } else { Status::True };
            said(status, reason::CONFLICT, conflict.to_string())
        }
        (Ok(()), None) => said(Status::True, reason::ACCEPTED, "The spec is valid.".to_owned()),
    }
}

pub(super) fn resolved_refs(verdict: &Verdict) -> Said {
    let said = |status, reason, message| Said::new(condition::RESOLVED_REFS, status, reason, message);
    match &verdict.resolved_refs {
        Ok(()) => said(Status::True, reason::RESOLVED, "All references were found and read.".to_owned()),
        Err(refusal) => {
            let consequence = match verdict.in_force {
                InForce::LastGood => " (nodes keep the last good state)",
                InForce::Current | InForce::Nothing => " (nodes do not get this object until then)",
            };
            said(Status::False, refusal.reason, format!("{refusal}{consequence}"))
        }
    }
}

pub(super) fn programmed(
    verdict: &Verdict,
    conflict: Option<&Conflict>,
    entry: Option<&Entry>,
    tally: &Tally,
    rollout: &Rollout,
) -> Said {
    let (status, reason, message) = match asked_of_none(conflict, entry, tally, rollout.mode) {
        Some((status, reason, message)) => (status, reason, message.to_owned()),
        None => counted(verdict, tally, rollout),
    };
    Said::new(condition::PROGRAMMED, status, reason, message)
}

/// Why no node is asked to pull through the mirrors, where none is.
fn asked_of_none(
    conflict: Option<&Conflict>,
    entry: Option<&Entry>,
    tally: &Tally,
    mode: Mode,
) -> Option<(Status, &'static str, &'static str)> {
    let Some(entry) = entry else {
        let message = "Nodes do not know this object: see Accepted and ResolvedRefs.";
        return Some((Status::False, reason::NOT_IN_FORCE, message));
    };
    if conflict.is_some_and(Conflict::is_total) {
        return Some((Status::False, reason::NOT_IN_FORCE, "Older objects win on all nodes: see Accepted."));
    }
    match mode {
        Mode::Restore => Some((Status::False, reason::RESTORED, "Nodes are put back as they were before the install.")),
        Mode::DryRun => {
            let message = "Nothing is touched in mode DryRun: `kubectl get nodemirrors` shows each node's plan.";
            Some((Status::Unknown, reason::DRY_RUN, message))
        }
        Mode::Enforce if entry.suspend => {
            Some((Status::Unknown, reason::SUSPENDED, "suspend is true: nodes stay as they are."))
        }
        Mode::Enforce if tally.matched == 0 => {
            let message = "No node matches the nodeSelector, so no node pulls through the mirrors.";
            Some((Status::False, reason::NO_MATCHING_NODES, message))
        }
        Mode::Enforce => None,
    }
}

/// What the nodes come to; what a person can do about comes first.
fn counted(verdict: &Verdict, tally: &Tally, rollout: &Rollout) -> (Status, &'static str, String) {
    let Tally { matched, programmed, failed, silent, .. } = *tally;
    let of = format!("{programmed} of {} pull through the mirrors", nodes(matched));
    if verdict.in_force == InForce::LastGood {
        let message = format!("{of}, as the object was before its last change: see Accepted and ResolvedRefs.");
        return (Status::False, reason::NOT_IN_FORCE, message);
    }
    if let Some(first) = &tally.first_failed {
        let which = if failed == 1 {
            format!("{} cannot", first.node)
        } else {
            format!("{failed} cannot, among them {}", first.node)
        };
        let paused =
            rollout.paused.as_ref().map(|_| " Further restarts are paused: `registry-mirror resume` lifts it.");
        let message = format!("{of}; {which}: {}{}", sentence(&first.why), paused.unwrap_or_default());
        return (Status::False, reason::NODES_FAILED, message);
    }
    if tally.pending_restart > 0 {
        return waits(&format!("{of}; {}", wait(tally.pending_restart)), rollout);
    }
    if let Some(first) = &tally.first_silent {
        let which = if silent == 1 { first.clone() } else { format!("{silent} nodes, among them {first}") };
        let message = format!(
            "{programmed} of {} are known to pull through the mirrors; the agent is not running on {which}, where \
             containerd keeps what it has.",
            nodes(matched)
        );
        return (Status::False, reason::AGENTS_NOT_READY, message);
    }
    if programmed < matched {
        return (Status::False, reason::PROGRESSING, format!("{of}."));
    }
    (Status::True, reason::PROGRAMMED, format!("{of}."))
}

/// Who lets the nodes restart that wait for it.
fn waits(who: &str, Rollout { paused, policy, .. }: &Rollout) -> (Status, &'static str, String) {
    let wait = format!("{who} for the one restart of containerd");
    if let Some(why) = paused {
        let message = format!("{wait}, and restarts are paused: {} `registry-mirror resume` lifts it.", sentence(why));
        return (Status::False, reason::ROLLOUT_PAUSED, message);
    }
    let message = match policy {
        Policy::Automatic => format!("{wait}; they take turns."),
        Policy::Manual => format!("{wait}: `registry-mirror approve NODE...` lets them."),
        Policy::Never => format!(
            "{wait}, which the policy Never forbids: set the policy to Automatic or Manual, or run `registry-mirror node \
             apply` there."
        ),
    };
    (Status::False, reason::RESTART_PENDING, message)
}

pub(super) fn healthy(entry: Option<&Entry>, tally: &Tally) -> Said {
    let said = |status, reason, message| Said::new(condition::HEALTHY, status, reason, message);
    let mirrors = || entry.into_iter().flat_map(|entry| entry.mirrors.iter().zip(&tally.mirrors));
    let dead: Vec<String> = mirrors()
        .filter(|(_, (_, unhealthy))| *unhealthy > 0)
        .map(|(mirror, (healthy, unhealthy))| {
            format!("{} does not answer {} of {}", mirror.display_url, unhealthy, nodes(healthy + unhealthy))
        })
        .collect();
    if !dead.is_empty() {
        let message = format!("{}: `kubectl get nodemirrors -o yaml` says why.", dead.join("; "));
        return said(Status::False, reason::MIRRORS_UNHEALTHY, message);
    }
    if mirrors().any(|(_, (healthy, _))| *healthy > 0) {
        return said(Status::True, reason::HEALTHY, "Every mirror answers every node that probes it.".to_owned());
    }
    said(Status::Unknown, reason::NOT_PROBED, "No node has probed a mirror yet.".to_owned())
}

pub(super) fn credentials_unusable(tally: &Tally) -> Option<Said> {
    let NamedNodes { count, first } = &tally.credentials_unusable;
    (*count > 0).then(|| {
        let names = first.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = if usize::try_from(*count).is_ok_and(|count| count > first.len()) { ", …" } else { "" };
        let have = if *count == 1 { "has" } else { "have" };
        let message = format!(
            "{} ({names}{more}) {have} a containerd before 2.1, which does not forward credentials to a token server: \
             upgrade containerd there, or let the mirror take basic authentication.",
            nodes(*count)
        );
        Said::new(condition::CREDENTIALS_UNUSABLE, Status::True, "ContainerdTooOld", message)
    })
}

fn nodes(count: u32) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

fn wait(count: u32) -> String {
    if count == 1 { "1 waits".to_owned() } else { format!("{count} wait") }
}
