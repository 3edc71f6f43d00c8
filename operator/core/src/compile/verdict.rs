//! What became of an object, in the words of its conditions.

use std::fmt;

use registry_mirror_crds::{RegistryMirror, reason};

/// Which state of an object was looked at. The uid belongs to it: an object that was deleted and made anew begins with
/// generation 1 again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revision {
    /// `metadata.uid`.
    pub uid: Option<String>,
    /// `metadata.generation`; `None` offline.
    pub generation: Option<i64>,
}

impl Revision {
    /// The state that this is.
    #[must_use]
    pub fn of(object: &RegistryMirror) -> Self {
        Self { uid: object.metadata.uid.clone(), generation: object.metadata.generation }
    }
}

/// What became of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What was compiled: whatever is said of the object is said of this.
    pub of: Revision,
    /// The condition `Accepted`, but for conflicts, which depend on the nodes: [`super::Conflict`].
    pub accepted: Result<(), Refusal>,
    /// The condition `ResolvedRefs`.
    pub resolved_refs: Result<(), Refusal>,
    /// What the bundle holds of it.
    pub in_force: InForce,
}

/// What the bundle holds of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InForce {
    /// The object as it stands.
    Current,
    /// What it was when it was last good.
    LastGood,
    /// Nothing: it was never good.
    Nothing,
}

/// Why an object is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One of [`registry_mirror_crds::reason`].
    pub reason: &'static str,
    /// Never empty.
    pub problems: Vec<Problem>,
}

/// A reference that leads nowhere, or to something else than is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unresolved {
    pub reason: &'static str,
    pub problem: Problem,
}

/// One thing that is wrong with an object. Shows as a sentence that begins with the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// For example `spec.mirrors[0].url`.
    pub field: String,
    /// What is wrong and what to write instead.
    pub sentence: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, sentence } = self;
        write!(f, "{field} {sentence}")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl Verdict {
    pub(super) fn from_problems(of: Revision, problems: Vec<Problem>, unresolved: Vec<Unresolved>) -> Self {
        let accepted = if problems.is_empty() { Ok(()) } else { Err(Refusal { reason: reason::INVALID, problems }) };
        let resolved_refs = match unresolved.first() {
            None => Ok(()),
            Some(first) => Err(Refusal {
                reason: first.reason,
                problems: unresolved.into_iter().map(|unresolved| unresolved.problem).collect(),
            }),
        };
        Self { of, accepted, resolved_refs, in_force: InForce::Nothing }
    }

    /// Whether the object as it stands may go into the bundle.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.accepted.is_ok() && self.resolved_refs.is_ok()
    }

    /// Everything that is wrong, in order.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        [&self.accepted, &self.resolved_refs].into_iter().filter_map(|r| r.as_ref().err()).flat_map(|r| &r.problems)
    }
}
