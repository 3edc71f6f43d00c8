//! Who of several controllers leads: the one that holds the Lease, by the rules of client-go's leader election.
//!
//! No two clocks are compared. A candidate takes the Lease when it has itself seen it unchanged for its duration; the
//! holder, by its own clock, stops acting a good while before that. So it is over with the one before it begins with
//! the other, also where requests hang or a clock is wrong.

use std::time::Duration;

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimes {
    /// A Lease that does not change for so long is free.
    pub duration: Duration,
    /// A holder that could not renew for so long stops acting.
    pub renew_deadline: Duration,
    /// From one look at the Lease, or one renewal, to the next.
    pub period: Duration,
}

impl Default for LeaseTimes {
    /// Those of client-go, but for the period of 2 s: an idle cluster is written to half as often.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            period: Duration::from_secs(4),
        }
    }
}

/// A state of the Lease, as the API server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseState {
    /// Every write changes it, a renewal too.
    pub resource_version: String,
    /// Who holds it; `None` where it was given back.
    pub holder: Option<String>,
    /// How often it changed hands.
    pub transitions: i32,
}

/// What to do about the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is ours: renew it.
    Renew,
    /// It is free: take it.
    Take,
    /// Someone else holds it.
    Wait,
}

/// What `me` does about a Lease that it has seen unchanged for so long.
#[must_use]
pub fn claim(me: &str, state: &LeaseState, unchanged_for: Duration, times: &LeaseTimes) -> Claim {
    match state.holder.as_deref() {
        None | Some("") => Claim::Take,
        Some(holder) if holder == me => Claim::Renew,
        Some(_) if unchanged_for >= times.duration => Claim::Take,
        Some(_) => Claim::Wait,
    }
}

/// How long the holder may still act, that long after it began the last renewal that succeeded; `None`: no longer.
#[must_use]
pub fn may_act_for(since_renewal: Duration, times: &LeaseTimes) -> Option<Duration> {
    times.renew_deadline.checked_sub(since_renewal).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn held_by(holder: Option<&str>) -> LeaseState {
        LeaseState { resource_version: "7".to_owned(), holder: holder.map(str::to_owned), transitions: 3 }
    }

    #[test]
    fn a_lease_is_taken_only_when_it_was_seen_unchanged() {
        let times = LeaseTimes::default();
        for (holder, unchanged, expected) in [
            (None, 0, Claim::Take),
            (Some(""), 0, Claim::Take),
            (Some("other"), 0, Claim::Wait),
            (Some("other"), 14, Claim::Wait),
            (Some("other"), 15, Claim::Take),
            // the same pod, started anew
            (Some("me"), 0, Claim::Renew),
            (Some("me"), 60, Claim::Renew),
        ] {
            assert_eq!(claim("me", &held_by(holder), SECOND * unchanged, &times), expected, "{holder:?} {unchanged}");
        }
    }

    /// However the two look at it: the renewal arrives at the moment it began or later, and a candidate sees it then or
    /// later.
    #[test]
    fn the_holder_stops_before_a_candidate_can_begin() {
        let times = LeaseTimes::default();
        for after in 0..60 {
            let taken = claim("me", &held_by(Some("other")), SECOND * after, &times) == Claim::Take;
            assert!(!(taken && may_act_for(SECOND * after, &times).is_some()), "both act after {after} s");
        }
        assert_eq!(may_act_for(SECOND * 4, &times), Some(SECOND * 6));
        assert_eq!(may_act_for(SECOND * 10, &times), None);
        assert!(times.period * 2 < times.renew_deadline, "one renewal may fail");
    }
}
