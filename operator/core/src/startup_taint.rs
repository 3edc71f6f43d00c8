//! The taint that new nodes carry until their mirrors are in place.

use jiff::{SignedDuration, Timestamp};

/// When the taint goes in any case. A node whose creation is not known has had its time.
#[must_use]
pub fn deadline(created: Option<Timestamp>, after: SignedDuration) -> Timestamp {
    created.map_or(Timestamp::UNIX_EPOCH, |created| created.saturating_add(after).unwrap_or(Timestamp::MAX))
}

/// Whether a node is new, so that no pods run on it: it carries the taint and is younger than the taint's deadline.
/// Whoever taints old nodes takes none of them out of the budget.
#[must_use]
pub fn is_fresh(tainted: bool, created: Option<Timestamp>, after: SignedDuration, now: Timestamp) -> bool {
    tainted && now < deadline(created, after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_node_that_is_tainted_is_not_fresh() {
        let now = Timestamp::constant(1_800_000_000, 0);
        let after = SignedDuration::from_secs(300);
        for (tainted, age, fresh) in
            [(true, Some(299), true), (true, Some(300), false), (false, Some(1), false), (true, None, false)]
        {
            let created = age.map(|seconds| now - SignedDuration::from_secs(seconds));
            assert_eq!(is_fresh(tainted, created, after, now), fresh, "{tainted} {age:?}");
        }
    }
}
