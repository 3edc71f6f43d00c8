//! The taint that new nodes carry until their mirrors are in place.

use jiff::{SignedDuration, Timestamp};

use crate::status::node::{NodeFailure, Readiness};

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

/// Whether the agent has come as far as it can: nothing more is to be awaited for its node.
///
/// Not while it has not heard what is wanted, nor while containerd does not answer, which it does not while it starts.
#[must_use]
pub const fn is_final(readiness: Readiness) -> bool {
    match readiness {
        Readiness::Ready | Readiness::DryRun | Readiness::Restored => true,
        Readiness::RestartPending | Readiness::Unknown => false,
        Readiness::Failed(failure) => match failure {
            NodeFailure::Observe | NodeFailure::BundleUnknown => false,
            NodeFailure::Restart
            | NodeFailure::RestartRefused
            | NodeFailure::Unsupported
            | NodeFailure::ChangedSinceStart
            | NodeFailure::ConfigBroken
            | NodeFailure::Apply
            | NodeFailure::Contested
            // A newer agent's word must not keep a node out of use.
            | NodeFailure::Other => true,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_has_not_heard_or_not_seen_has_not_come_to_its_end() {
        let not_final: Vec<_> =
            NodeFailure::ALL.into_iter().filter(|failure| !is_final(Readiness::Failed(*failure))).collect();
        assert_eq!(not_final, [NodeFailure::Observe, NodeFailure::BundleUnknown]);
        assert!(is_final(Readiness::Failed(NodeFailure::of("SaidByANewerAgent"))));
        assert!(is_final(Readiness::Ready) && is_final(Readiness::DryRun) && is_final(Readiness::Restored));
        assert!(!is_final(Readiness::RestartPending) && !is_final(Readiness::Unknown));
    }

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
