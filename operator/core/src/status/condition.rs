//! One builder for the conditions of both kinds, by the Kubernetes API conventions: a type that names a state, a status, a
//! reason in CamelCase, a message for people, and the time of the last change of status.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// True, False, Unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// As the type says.
    True,
    /// Not as the type says.
    False,
    /// Not known.
    Unknown,
}

impl Status {
    /// As in `conditions[].status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    /// Reads what [`Self::name`] says.
    #[must_use]
    pub fn of(text: &str) -> Self {
        [Self::True, Self::False].into_iter().find(|status| status.name() == text).unwrap_or(Self::Unknown)
    }
}

/// A condition before it knows since when it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// One of [`registry_mirror_crds::condition`].
    pub kind: &'static str,
    pub status: Status,
    /// One of [`registry_mirror_crds::reason`].
    pub reason: &'static str,
    pub message: String,
}

impl Said {
    pub fn new(kind: &'static str, status: Status, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status, reason, message: message.into() }
    }

    /// The condition; its time is that of the old one while the status is the same.
    pub fn condition(self, old: &[Condition], generation: Option<i64>, now: Timestamp) -> Condition {
        let Self { kind, status, reason, message } = self;
        let since = old
            .iter()
            .find(|old| old.type_ == kind && old.status == status.name())
            .map_or_else(|| Time(whole_seconds(now)), |old| old.last_transition_time.clone());
        Condition {
            type_: kind.to_owned(),
            status: status.name().to_owned(),
            reason: reason.to_owned(),
            message: sentence(&message),
            observed_generation: generation,
            last_transition_time: since,
        }
    }
}

/// metav1.Time holds whole seconds.
#[must_use]
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Errors are written to be put together and have no full stop of their own.
pub(super) fn sentence(text: &str) -> String {
    let text = text.trim();
    let is_whole = text.is_empty() || text.ends_with(['.', '!', '?', ':', ',', '…']);
    if is_whole { text.to_owned() } else { format!("{text}.") }
}
