//! What is said of an object whose bundle could not be published.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use registry_mirror_crds::{RegistryMirrorStatus, condition, reason};

use super::{Known, conditions, mirror_summary};
use crate::{
    bundle::{Bundle, Entry},
    compile::Verdict,
    status::condition::{Said, Status},
};

/// Why the bundle that was compiled is not the one that nodes read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishFailure {
    /// The API server refuses it; its words.
    Refused(String),
    /// The API server did not answer.
    NoAnswer,
    /// The bundle in force is lost, and the compiled one would take these objects away from nodes.
    WouldVanish(BTreeSet<String>),
}

/// Whether a bundle in force had something of the object for nodes when this was said of it: every entry has a mirror.
/// After an uninstall none has, so that a new install is a first one.
#[must_use]
pub const fn has_entry(status: &RegistryMirrorStatus) -> bool {
    !status.mirrors.is_empty()
}

/// The objects of which the bundle in force does not say what was compiled. A bundle that is not known says nothing of
/// any.
#[must_use]
pub fn unpublished<'v>(
    verdicts: &'v BTreeMap<String, Verdict>,
    compiled: &Bundle,
    in_force: Option<&Bundle>,
) -> BTreeSet<&'v str> {
    fn by_object(bundle: &Bundle) -> HashMap<&str, &Entry> {
        bundle.entries.iter().map(|entry| (entry.object.as_str(), entry)).collect()
    }
    let names = verdicts.keys().map(String::as_str);
    let Some(in_force) = in_force else { return names.collect() };
    let (compiled, in_force) = (by_object(compiled), by_object(in_force));
    names.filter(|name| compiled.get(name) != in_force.get(name)).collect()
}

/// The status of an object that was compiled and not published.
///
/// Accepted and ResolvedRefs are about the object as it was compiled, and Programmed says why nodes do not have that.
/// All else stays what it was, `observedGeneration` above all: it was said of what is in force.
pub(super) fn status(
    known: Known<'_>,
    failure: &PublishFailure,
    previous: Option<&RegistryMirrorStatus>,
    now: Timestamp,
) -> RegistryMirrorStatus {
    let Known { object, verdict, conflict, .. } = known;
    let said = [conditions::accepted(verdict, conflict), conditions::resolved_refs(verdict), programmed(failure)];
    let kinds = said.each_ref().map(|said| said.kind);
    let reason = said.iter().find(|said| said.is_amiss()).map(|said| said.reason.to_owned());
    let previous = previous.cloned().unwrap_or_default();
    let mut conditions: Vec<Condition> =
        said.into_iter().map(|said| said.condition(&previous.conditions, verdict.of.generation, now)).collect();
    conditions.extend(previous.conditions.iter().filter(|old| !kinds.contains(&old.type_.as_str())).cloned());
    let mirror_summary = previous.mirror_summary.clone().or_else(|| mirror_summary(object));
    RegistryMirrorStatus { conditions, reason, mirror_summary, ..previous }
}

/// How many objects a message names.
const NAMED: usize = 3;

fn programmed(failure: &PublishFailure) -> Said {
    let (reason, why) = match failure {
        PublishFailure::Refused(why) => {
            let why =
                format!("the API server refuses to write the bundle's Secret ({why}); do away with what it names");
            (reason::PUBLISH_FAILED, format!("{why}. It is tried again."))
        }
        PublishFailure::NoAnswer => {
            let why = "the API server did not answer when the bundle's Secret was written. It is tried again.";
            (reason::PUBLISH_FAILED, why.to_owned())
        }
        PublishFailure::WouldVanish(objects) => {
            let mut names: Vec<String> = objects.iter().take(NAMED).cloned().collect();
            if objects.len() > NAMED {
                names.push(format!("{} more", objects.len() - NAMED));
            }
            let names = names.join(", ");
            let why = format!(
                "the bundle in force is lost (its Secret was deleted, is damaged or was written by a newer release), and \
                 a new one would take what cannot be compiled now away from nodes: {names}. Put right what Accepted and \
                 ResolvedRefs say there, or delete it."
            );
            (reason::BUNDLE_LOST, why)
        }
    };
    let message = format!("This object is not published, and nodes keep what they have: {why}");
    Said::new(condition::PROGRAMMED, Status::False, reason, message)
}
