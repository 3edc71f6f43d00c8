//! How long what a proof pull has found holds: a pull is asked for when something can have changed, not at each look.

use std::time::Duration;

use crate::observed::Proof;

/// What a daemon reads does not change while it runs, except that a person mends what kept the pull from arriving.
pub const ANSWER_HOLDS: Duration = Duration::from_secs(30);
/// A pull that told nothing is tried again after this long, then after twice that, until [`ANSWER_HOLDS`].
pub const FIRST_RETRY: Duration = Duration::from_secs(1);

/// How long an answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Until the daemon starts anew.
    WhileItRuns,
    /// For this long, and until the daemon starts anew.
    For(Duration),
}

/// Decides. `start_is_known`: whether a new start of the daemon would be noticed. `failures`: how many pulls in a row
/// have told nothing, this one included.
#[must_use]
pub fn holds(proof: &Proof, start_is_known: bool, failures: u32) -> Holds {
    match proof {
        Proof::Effective if start_is_known => Holds::WhileItRuns,
        Proof::Effective | Proof::NotEffective(_) => Holds::For(ANSWER_HOLDS),
        Proof::Failed(_) => {
            let doublings = failures.saturating_sub(1).min(16);
            Holds::For((FIRST_RETRY * 2_u32.pow(doublings)).min(ANSWER_HOLDS))
        }
        Proof::NotAsked => Holds::For(Duration::ZERO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Proof {
        Proof::Failed("CRI did not answer".to_owned())
    }

    #[test]
    fn an_answer_holds_for_half_a_minute_whatever_it_is() {
        let no = Proof::NotEffective("connection refused".to_owned());
        for start_is_known in [true, false] {
            assert_eq!(holds(&no, start_is_known, 0), Holds::For(ANSWER_HOLDS));
        }
        assert_eq!(holds(&Proof::Effective, true, 0), Holds::WhileItRuns);
        assert_eq!(holds(&Proof::Effective, false, 0), Holds::For(ANSWER_HOLDS), "a new start would not be noticed");
    }

    #[test]
    fn a_pull_that_told_nothing_is_tried_again_ever_more_seldom() {
        let seconds = |failures| match holds(&failed(), true, failures) {
            Holds::For(duration) => duration.as_secs(),
            Holds::WhileItRuns => panic!("nothing was learnt"),
        };
        assert_eq!([0, 1, 2, 3, 5, 6, 7, u32::MAX].map(seconds), [1, 1, 2, 4, 16, 30, 30, 30]);
    }
}
