//! How soon a file of ours goes back after somebody else has changed it.
//!
//! A file costs no restart, so it goes back always; and without it the node pulls past its mirrors. Against a program
//! that changes it again and again the pauses grow from [`FIRST_PAUSE`] to [`LONGEST_PAUSE`], so that two programs never
//! write one file in a hot loop.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Between the first time that a file was put back and the second; doubled from time to time.
pub const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(1);

/// The pause grows up to this.
pub const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(5);

/// An hour in which nobody changed the file makes the next pause the first one again. With the longest pause a file is
/// put back twelve times in an hour, which is enough for the longest pause again.
const CALM: SignedDuration = SignedDuration::from_hours(1);

/// Changes on one day are one quarrel: Ansible comes by every half hour, a person once.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// After so many changes on one day somebody is fighting for the file.
const QUARREL: usize = 3;

/// The pause after the last of them is the longest; older ones tell nothing more.
const KEPT: usize = 12;

/// When a file was put back after somebody had changed it, the last few times, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PutBacks(Vec<Timestamp>);

/// Somebody changes a file of ours again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarrel {
    /// How often it was put back within the last 24 hours; more often than that is not counted.
    pub times: usize,
    /// The first of these times.
    pub first: Timestamp,
    /// The last one.
    pub last: Timestamp,
}

impl PutBacks {
    /// Those of the last 24 hours, by a clock that may have been set back meanwhile.
    #[must_use]
    pub fn recent(mut self, now: Timestamp) -> Self {
        self.0.retain(|&time| is_within(time, now, DAY));
        self
    }

    /// When the file may be put back that was found changed `now`: in the past or now, where at once.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> Timestamp {
        let lately = || self.0.iter().copied().filter(|&time| is_within(time, now, CALM));
        lately().max().map_or(now, |last| last.saturating_add(pause(lately().count())).unwrap_or(Timestamp::MAX))
    }

    /// It is put back now.
    pub fn note(&mut self, now: Timestamp) {
        self.0.push(now);
        let surplus = self.0.len().saturating_sub(KEPT);
        self.0.drain(..surplus);
    }

    /// What there is to say of the last 24 hours; `None` where nobody changed the file.
    #[must_use]
    pub fn history(&self) -> Option<Quarrel> {
        let (first, last) = (*self.0.first()?, *self.0.last()?);
        Some(Quarrel { times: self.0.len(), first, last })
    }

    /// The quarrel, where it is one: a file that was changed once or twice is not.
    #[must_use]
    pub fn quarrel(&self) -> Option<Quarrel> {
        self.history().filter(|history| history.times >= QUARREL)
    }
}

fn is_within(time: Timestamp, now: Timestamp, window: SignedDuration) -> bool {
    time <= now && now.duration_since(time) < window
}

/// The pause after the `nth` time.
fn pause(nth: usize) -> SignedDuration {
    let doublings = u32::try_from(nth.saturating_sub(1)).unwrap_or(u32::MAX);
    let factor = 2_i32.checked_pow(doublings).unwrap_or(i32::MAX);
    FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE)
}

impl fmt::Display for Quarrel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { times, first, last } = self;
        let at = |time: &Timestamp| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        match times {
            1 => write!(f, "at {}", at(last)),
            KEPT.. => write!(f, "{times} times or more since {}, the last time at {}", at(first), at(last)),
            _ => write!(f, "{times} times since {}, the last time at {}", at(first), at(last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("in range")
    }

    /// Somebody who changes the file the moment it is put back: the pauses, in seconds.
    fn pauses_of_a_fight(put_backs: &mut PutBacks, from: i64, times: usize) -> Vec<i64> {
        let mut now = at(from);
        (0..times)
            .map(|_| {
                let due = put_backs.due(now).max(now);
                let pause = due.duration_since(now).as_secs();
                now = due;
                *put_backs = std::mem::take(put_backs).recent(now);
                put_backs.note(now);
                pause
            })
            .collect()
    }

    #[test]
    fn the_first_goes_back_at_once_and_the_pauses_grow_to_five_minutes_and_stay() {
        let pauses = pauses_of_a_fight(&mut PutBacks::default(), 0, 400);
        assert_eq!(pauses[..12], [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(pauses[10..].iter().all(|pause| *pause == 300), "{pauses:?}");
    }

    #[test]
    fn an_hour_of_calm_makes_the_pauses_short_again_and_the_day_remembers() {
        let mut put_backs = PutBacks::default();
        let fought: i64 = pauses_of_a_fight(&mut put_backs, 0, 12).iter().sum();
        assert_eq!(pauses_of_a_fight(&mut put_backs.clone(), fought + 3600, 3), [0, 1, 2]);
        assert!(put_backs.quarrel().is_some());
        let calm = put_backs.recent(at(fought) + DAY);
        assert_eq!((calm.quarrel(), calm.history()), (None, None));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nobody_wait() {
        let mut put_backs = PutBacks::default();
        pauses_of_a_fight(&mut put_backs, 10_000, 12);
        assert_eq!(put_backs.due(at(0)), at(0));
        assert_eq!(put_backs.recent(at(0)), PutBacks::default());
    }

    #[test]
    fn a_quarrel_begins_with_the_third_change_and_says_since_when() {
        let mut put_backs = PutBacks::default();
        let mut said = Vec::new();
        for minute in 0..13 {
            put_backs.note(at(minute * 60));
            said.push(put_backs.quarrel().map_or_else(String::new, |quarrel| quarrel.to_string()));
        }
        assert_eq!(said[..2], ["", ""]);
        assert_eq!(said[2], "3 times since 2027-01-15 08:00:00Z, the last time at 2027-01-15 08:02:00Z");
        assert_eq!(said[12], "12 times or more since 2027-01-15 08:01:00Z, the last time at 2027-01-15 08:12:00Z");
    }
}
