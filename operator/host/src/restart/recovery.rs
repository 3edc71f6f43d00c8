//! What to do about a restart that was cut short: a total function from what is found to one action.
//!
//! Found are the journal's last step, whether the guard is armed, has acted or is gone, what stands in the
//! configuration file, and whether the daemon has been started since. Nothing else decides, least of all the clock.

use serde::{Deserialize, Serialize};

use crate::guard::Arming;

/// The last step that the journal names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Progress {
    /// The old file is backed up; the candidate may stand beside it, checked or not.
    Prepared,
    /// The guard is armed or about to be; the candidate may have come into place.
    Guarded,
    /// The candidate is in place.
    Renamed,
    /// systemd was asked to restart containerd, or is about to be.
    RestartCalled,
    /// The new start has passed the proof.
    Proved,
    /// The old file is being put back.
    RollingBack,
}

/// What stands in the files that the restart brings into force: one, or containerd's configuration and a drop-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigIs {
    /// What stood there before (or nothing, if nothing did).
    Before,
    /// What we wrote.
    After,
    /// One of them is ours, the other one is not: it was cut short between the two, or another program wrote one since.
    Mixed,
    /// Nothing of ours, and another program wrote one since.
    Foreign,
}

impl ConfigIs {
    /// What two files make together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Before, Self::Before) => Self::Before,
            (Self::After, Self::After) => Self::After,
            (Self::Before | Self::Foreign, Self::Before | Self::Foreign) => Self::Foreign,
            (Self::After | Self::Mixed, _) | (_, Self::After | Self::Mixed) => Self::Mixed,
        }
    }
}

/// The daemon, compared with the start that the journal names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// The same start: it has not read the file since.
    SameStart,
    /// Started anew, or not running.
    StartedSince,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing was under way.
    Nothing,
    /// The node is as it was: remove our traces and start over when the plan says so.
    Abandon,
    /// The file is in place and the daemon has not read it: guard, restart, prove.
    Continue,
    /// The daemon has started with the file: see whether it works, then finish or roll back.
    Prove,
    /// It is proved: remove our traces and report success.
    Finish,
    /// Put the files back that are ours; the daemon has read none of them.
    TakeBack,
    /// Put the old file back and restart the daemon.
    RollBack,
    /// Wait for the guard to end, see that the old file is back and containerd answers, and report what it did.
    SettleGuard,
}

/// Decides.
#[must_use]
pub const fn next(progress: Option<Progress>, arming: Arming, config: ConfigIs, daemon: Daemon) -> Action {
    let Some(progress) = progress else {
        return match (arming, config) {
            (Arming::Disarmed, _) => Action::Nothing,
            (Arming::Fired, _) => Action::SettleGuard,
            // The journal was lost, and with it all that is known of the restart: back to what worked.
            (Arming::Armed { .. }, ConfigIs::After | ConfigIs::Mixed) => Action::RollBack,
            (Arming::Armed { .. }, ConfigIs::Before | ConfigIs::Foreign) => Action::Abandon,
        };
    };
    if matches!(arming, Arming::Fired) {
        return Action::SettleGuard;
    }
    match (progress, config, daemon) {
        (Progress::RollingBack, ..) => Action::RollBack,
        (Progress::Proved, ..) => Action::Finish,
        // The file in place is what counts, whatever the journal had time to write down.
        (_, ConfigIs::After, Daemon::SameStart) => Action::Continue,
        (_, ConfigIs::After, Daemon::StartedSince) => Action::Prove,
        (_, ConfigIs::Mixed, Daemon::SameStart) => Action::TakeBack,
        (_, ConfigIs::Mixed, Daemon::StartedSince) => Action::RollBack,
        // Before the rename a start of the daemon by somebody else is none of ours.
        (Progress::Prepared | Progress::Guarded, ConfigIs::Before | ConfigIs::Foreign, _) => Action::Abandon,
        (Progress::Renamed | Progress::RestartCalled, ConfigIs::Before | ConfigIs::Foreign, Daemon::SameStart) => {
            Action::Abandon
        }
        // The daemon may run the new configuration while the file holds the old one.
        (Progress::Renamed | Progress::RestartCalled, ConfigIs::Before, Daemon::StartedSince) => Action::RollBack,
        // Another program's file is its own affair, and the plan starts from it.
        (Progress::Renamed | Progress::RestartCalled, ConfigIs::Foreign, Daemon::StartedSince) => Action::Abandon,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    const PROGRESS: [Option<Progress>; 7] = [
        None,
        Some(Progress::Prepared),
        Some(Progress::Guarded),
        Some(Progress::Renamed),
        Some(Progress::RestartCalled),
        Some(Progress::Proved),
        Some(Progress::RollingBack),
    ];
    const ARMING: [Arming; 4] =
        [Arming::Disarmed, Arming::Armed { this_boot: true }, Arming::Armed { this_boot: false }, Arming::Fired];
    const CONFIG: [ConfigIs; 4] = [ConfigIs::Before, ConfigIs::After, ConfigIs::Mixed, ConfigIs::Foreign];
    const DAEMON: [Daemon; 2] = [Daemon::SameStart, Daemon::StartedSince];

    /// Every case, to be read by people.
    #[test]
    fn table() {
        let mut table = String::new();
        for progress in PROGRESS {
            for arming in ARMING {
                for config in CONFIG {
                    for daemon in DAEMON {
                        let action = next(progress, arming, config, daemon);
                        let progress = progress.map_or_else(|| "no journal".to_owned(), |step| format!("{step:?}"));
                        let arming = match arming {
                            Arming::Disarmed => "no guard",
                            Arming::Armed { this_boot: true } => "armed",
                            Arming::Armed { this_boot: false } => "armed earlier",
                            Arming::Fired => "fired",
                        };
                        let _ = writeln!(
                            table,
                            "{progress:<14} {arming:<14} {:<8} {:<13} {action:?}",
                            format!("{config:?}"),
                            format!("{daemon:?}")
                        );
                    }
                }
            }
        }
        insta::assert_snapshot!(table);
    }

    fn any_case() -> impl Strategy<Value = (Option<Progress>, Arming, ConfigIs, Daemon)> {
        (
            proptest::sample::select(PROGRESS.to_vec()),
            proptest::sample::select(ARMING.to_vec()),
            proptest::sample::select(CONFIG.to_vec()),
            proptest::sample::select(DAEMON.to_vec()),
        )
    }

    proptest! {
        #[test]
        fn the_guards_outcome_is_never_overruled((progress, _, config, daemon) in any_case()) {
            prop_assert_eq!(next(progress, Arming::Fired, config, daemon), Action::SettleGuard);
        }

        #[test]
        fn an_unproved_file_is_never_left_alone((progress, arming, _, daemon) in any_case()) {
            let under_way = progress.is_some() || arming != Arming::Disarmed;
            prop_assume!(under_way && progress != Some(Progress::Proved));
            for config in [ConfigIs::After, ConfigIs::Mixed] {
                let action = next(progress, arming, config, daemon);
                prop_assert!(!matches!(action, Action::Nothing | Action::Abandon | Action::Finish), "{action:?}");
            }
        }

        #[test]
        fn a_daemon_is_not_restarted_for_a_file_it_never_read((progress, arming, config, _) in any_case()) {
            prop_assume!(config != ConfigIs::After && progress != Some(Progress::RollingBack));
            // Without a journal nobody knows which start it is.
            prop_assume!(config != ConfigIs::Mixed || progress.is_some());
            let action = next(progress, arming, config, Daemon::SameStart);
            prop_assert!(!matches!(action, Action::Continue | Action::RollBack | Action::Prove), "{action:?}");
        }

        #[test]
        fn a_start_with_the_new_file_is_not_repeated((progress, arming, config, _) in any_case()) {
            prop_assert_ne!(next(progress, arming, config, Daemon::StartedSince), Action::Continue);
        }
    }
}
