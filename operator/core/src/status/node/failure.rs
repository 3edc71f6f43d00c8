//! Why a node is not as the bundle wants it: said by its agent, acted on by the controller.

use registry_mirror_crds::reason;

/// What went wrong on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeFailure {
    /// The restart failed and was undone, or was made and brought nothing.
    Restart,
    /// The restart was refused before anything was touched.
    RestartRefused,
    /// It cannot be done safely here.
    Unsupported,
    /// Somebody else's change waits for the restart that is due.
    ChangedSinceStart,
    /// containerd's configuration cannot be read, by us or by its next start.
    ConfigBroken,
    /// A file could not be written.
    Apply,
    /// Others take a file of ours away again and again.
    Contested,
    /// The host could not be read.
    Observe,
    /// The bundle is not there or cannot be used.
    BundleUnknown,
    /// One that this release does not know.
    Other,
}

impl NodeFailure {
    /// Those that an agent of this release says.
    pub const ALL: [Self; 9] = [
        Self::Restart,
        Self::RestartRefused,
        Self::Unsupported,
        Self::ChangedSinceStart,
        Self::ConfigBroken,
        Self::Apply,
        Self::Contested,
        Self::Observe,
        Self::BundleUnknown,
    ];

    /// As the reason of the condition Ready.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Restart => reason::RESTART_FAILED,
            Self::RestartRefused => reason::RESTART_REFUSED,
            Self::Unsupported => reason::UNSUPPORTED,
            Self::ChangedSinceStart => reason::CHANGED_SINCE_START,
            Self::ConfigBroken => reason::CONFIG_BROKEN,
            Self::Apply => reason::APPLY_FAILED,
            Self::Contested => reason::CONTESTED,
            Self::Observe => reason::OBSERVE_FAILED,
            Self::BundleUnknown => reason::BUNDLE_UNKNOWN,
            Self::Other => "Unknown",
        }
    }

    /// Reads what [`Self::reason`] says.
    #[must_use]
    pub fn of(reason: &str) -> Self {
        Self::ALL.into_iter().find(|failure| failure.reason() == reason).unwrap_or(Self::Other)
    }

    /// What it says of a restart of this node.
    #[must_use]
    pub const fn attempt(self) -> Attempt {
        match self {
            Self::Restart => Attempt::Failed,
            Self::RestartRefused => Attempt::Refused,
            // A broken file is the node's own trouble as well: the host's containerd reads each candidate before
            // anything changes, so a file that is broken elsewhere too is refused there.
            Self::Unsupported
            | Self::ChangedSinceStart
            | Self::ConfigBroken
            | Self::Apply
            | Self::Contested
            | Self::Observe
            | Self::BundleUnknown
            | Self::Other => Attempt::None,
        }
    }
}

/// What became of a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// None was begun.
    None,
    /// Nothing was touched: a matter of this node alone.
    Refused,
    /// containerd was restarted for nothing, or is as it was: the next node may fare no better.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_read_as_it_is_said_and_only_a_restart_that_was_made_stops_others() {
        for failure in NodeFailure::ALL {
            assert_eq!(NodeFailure::of(failure.reason()), failure);
            assert_eq!(failure.attempt() == Attempt::Failed, failure == NodeFailure::Restart, "{failure:?}");
        }
        assert_eq!(NodeFailure::of("SaidByANewerAgent"), NodeFailure::Other);
    }
}
