//! RegistryMirror status: what all nodes together say of an object.

mod conditions;
mod publication;
mod tally;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use registry_mirror_crds::{MirrorNodes, NodeSummary, RegistryMirror, RegistryMirrorStatus, bounds::bounded};

pub use publication::{PublishFailure, has_entry, unpublished};
pub use tally::{Agent, FirstProblem, NamedNodes, Node, Tally, keys_of, selector_keys, tally};

use crate::{
    budget::Policy,
    bundle::{Entry, Mode},
    compile::{Conflict, Verdict, shown_url},
    status::condition::Said,
};

/// What holds for all objects.
#[derive(Debug, Clone)]
pub struct Rollout {
    /// The mode in force.
    pub mode: Mode,
    /// Who decides about restarts.
    pub policy: Policy,
    /// Why restarts are paused, where they are.
    pub paused: Option<String>,
}

/// All that is known of one object.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The object as it stands.
    pub object: &'a RegistryMirror,
    /// What compiling it came to.
    pub verdict: &'a Verdict,
    /// The nodes that it loses to older objects.
    pub conflict: Option<&'a Conflict>,
    /// Its entry in the bundle in force.
    pub entry: Option<&'a Entry>,
    /// What the nodes say of that entry; without one [`Tally::without_entry`].
    pub tally: Option<&'a Tally>,
    /// Why that entry is not what was compiled, where it is not.
    pub unpublished: Option<&'a PublishFailure>,
}

/// The object's status. The same facts over the same previous status change nothing.
#[must_use]
pub fn status(
    known: Known<'_>,
    previous: Option<&RegistryMirrorStatus>,
    rollout: &Rollout,
    now: Timestamp,
) -> RegistryMirrorStatus {
    let Known { object, verdict, conflict, entry, tally, unpublished } = known;
    if let Some(failure) = unpublished {
        return bounded(publication::status(known, failure, previous, now));
    }
    let none = Tally::default();
    let tally = tally.unwrap_or(&none);
    let said = [
        conditions::accepted(verdict, conflict),
        conditions::resolved_refs(verdict),
        conditions::programmed(verdict, conflict, entry, tally, rollout),
        conditions::healthy(entry, tally),
    ];
    let said: Vec<Said> = said.into_iter().chain(conditions::credentials_unusable(tally)).collect();
    let old: &[Condition] = previous.map_or(&[], |status| &status.conditions);
    let generation = verdict.of.generation;
    // Those that it loses to older objects are among them: `0/2` and not `0/0`.
    let matched = conflict.map_or(tally.matched, |conflict| conflict.matched);
    bounded(RegistryMirrorStatus {
        observed_generation: generation,
        reason: said.iter().find(|said| said.is_amiss()).map(|said| said.reason.to_owned()),
        conditions: said.into_iter().map(|said| said.condition(old, generation, now)).collect(),
        nodes: Some(NodeSummary {
            matched,
            programmed: tally.programmed,
            pending_restart: tally.pending_restart,
            failed: tally.failed,
            summary: format!("{}/{matched}", tally.programmed),
        }),
        // Nodes that are put back have none of them; a later install must not take them for something in force.
        mirrors: entry
            .filter(|_| rollout.mode != Mode::Restore)
            .into_iter()
            .flat_map(|entry| entry.mirrors.iter().enumerate())
            .map(|(i, mirror)| {
                let (healthy_nodes, unhealthy_nodes) = tally.mirrors.get(i).copied().unwrap_or_default();
                MirrorNodes { url: mirror.display_url.clone(), healthy_nodes, unhealthy_nodes }
            })
            .collect(),
        mirror_summary: mirror_summary(object),
    })
}

/// `https://first +2`.
fn mirror_summary(object: &RegistryMirror) -> Option<String> {
    let (first, rest) = object.spec.mirrors.split_first()?;
    // a refused url may hold a password
    let first = shown_url(&first.url);
    Some(if rest.is_empty() { first } else { format!("{first} +{}", rest.len()) })
}

#[cfg(test)]
mod tests;
