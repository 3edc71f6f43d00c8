//! A host that could not be looked at is looked at again, soon and then more rarely, and only said to be so when that
//! lasts: whoever restarts containerd takes it away for a second or two.

use std::time::Duration;

use registry_mirror_core::status::node::{NodeFailure, Verdict};

/// When it is looked at again, counted from the first failure.
const LOOKS: [Duration; 6] = [
    Duration::from_millis(500),
    Duration::from_millis(1_500),
    SAID_AFTER,
    Duration::from_millis(7_500),
    Duration::from_millis(15_500),
    Duration::from_millis(31_500),
];
/// After that.
const RARELY: Duration = Duration::from_secs(30);
/// A failure that lasts so long is said.
const SAID_AFTER: Duration = Duration::from_millis(3_500);

/// What to do about the outcome of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Next {
    /// It is said.
    pub is_said: bool,
    /// The host is looked at again after this time.
    pub again_in: Option<Duration>,
}

/// What to do about an outcome when the host could not be looked at for so long; zero with the first failure.
pub(crate) fn next(verdict: &Verdict, failing_for: Duration) -> Next {
    match verdict {
        Verdict::Failed(NodeFailure::Observe, _) => {
            let look = LOOKS.into_iter().find(|look| *look > failing_for);
            let again_in = look.map_or(RARELY, |look| look.saturating_sub(failing_for));
            Next { is_said: failing_for >= SAID_AFTER, again_in: Some(again_in) }
        }
        Verdict::Ready
        | Verdict::Shared(_)
        | Verdict::RestartPending
        | Verdict::DryRun
        | Verdict::Restored(_)
        | Verdict::Failed(..) => Next { is_said: true, again_in: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_cannot_be_looked_at_is_looked_at_three_times_before_it_is_said() {
        let verdict = Verdict::failed(NodeFailure::Observe, "containerd does not answer");
        let mut failing_for = Duration::ZERO;
        let mut looks = Vec::new();
        for _ in 0..8 {
            let Next { is_said, again_in } = next(&verdict, failing_for);
            let again_in = again_in.expect("it is looked at again");
            looks.push((is_said, again_in.as_millis()));
            failing_for += again_in;
        }
        let (held, said) = (|ms| (false, ms), |ms| (true, ms));
        assert_eq!(looks[..4], [held(500), held(1_000), held(2_000), said(4_000)]);
        assert_eq!(looks[4..], [said(8_000), said(16_000), said(30_000), said(30_000)]);
    }

    #[test]
    fn everything_else_is_said_at_once() {
        for verdict in [Verdict::Ready, Verdict::RestartPending, Verdict::failed(NodeFailure::Apply, "no space")] {
            assert_eq!(next(&verdict, Duration::ZERO), Next { is_said: true, again_in: None });
        }
    }
}
