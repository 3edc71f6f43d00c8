//! What can go wrong between us and systemd, as sentences.

use std::time::Duration;

use thiserror::Error;

/// A conversation with systemd failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SystemdError {
    /// Neither socket answers.
    #[error(
        "systemd does not answer on {tried}: {why}; check that the host runs systemd and that its /run is visible here"
    )]
    Unreachable {
        /// The sockets, with ` or ` between them.
        tried: String,
        /// The reason that the operating system or D-Bus gave for the last one.
        why: String,
    },
    /// A call got no answer in time.
    #[error("systemd did not answer {what} within {} s: look at `systemctl status` on the host", after.as_secs())]
    Slow {
        /// The call, for people: `the restart of containerd.service`.
        what: String,
        /// How long we waited.
        after: Duration,
    },
    /// systemd answered with an error.
    #[error("systemd refused {what}: {message} ({name})")]
    Refused {
        /// The call, for people.
        what: String,
        /// The D-Bus error name, for example `org.freedesktop.systemd1.NoSuchUnit`.
        name: String,
        /// systemd's own words.
        message: String,
    },
    /// The answer has another shape than systemd documents.
    #[error("systemd's answer to {what} cannot be read: {why}; this systemd may be too old (239 is the oldest known)")]
    Unreadable {
        /// The call, for people.
        what: String,
        /// What was expected.
        why: String,
    },
    /// A job ended in another way than `done`.
    #[error("the start of {unit} ended with `{result}`: `journalctl -u {unit}` on the host says why")]
    JobFailed {
        /// The unit.
        unit: String,
        /// systemd's job result: `failed`, `timeout`, `canceled`, `dependency`, `skipped`.
        result: String,
    },
    /// The unit did not become active after its job.
    #[error("{unit} is {state} after its restart, not active: `journalctl -u {unit}` on the host says why")]
    NotActive {
        /// The unit.
        unit: String,
        /// Active state and sub state, for example `failed (exit-code)`.
        state: String,
    },
}

impl SystemdError {
    /// systemd knows no such unit (or has unloaded it since).
    #[must_use]
    pub fn is_no_such_unit(&self) -> bool {
        matches!(self, Self::Refused { name, .. }
            if matches!(name.as_str(), "org.freedesktop.systemd1.NoSuchUnit" | "org.freedesktop.systemd1.NoUnitForPID"))
    }

    /// This connection has asked for signals before.
    pub(super) fn is_already_subscribed(&self) -> bool {
        matches!(self, Self::Refused { name, .. } if name == "org.freedesktop.systemd1.AlreadySubscribed")
    }

    /// An older systemd does not know a property of a transient unit.
    pub(super) fn is_unknown_property(&self) -> bool {
        matches!(self, Self::Refused { name, .. } if matches!(name.as_str(),
            "org.freedesktop.DBus.Error.PropertyReadOnly"
                | "org.freedesktop.DBus.Error.UnknownProperty"
                | "org.freedesktop.DBus.Error.InvalidArgs"))
    }
}
