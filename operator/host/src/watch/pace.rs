//! How often changes may cause a look: a few at once, and one a second in the long run, whoever writes without end.

use std::time::Duration;

use tokio::time::Instant;

/// In the long run.
const EVERY: Duration = Duration::from_secs(1);
/// At once, after a quiet time.
const BURST: u32 = 10;

/// Counts looks (the generic cell rate algorithm: a bucket that leaks, kept as the time at which it is empty).
#[derive(Debug)]
pub(super) struct Pace {
    empty_at: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { empty_at: now }
    }

    /// When the next look may be.
    pub(super) fn next(&self, now: Instant) -> Instant {
        self.empty_at.checked_sub(EVERY * (BURST - 1)).map_or(now, |at| at.max(now))
    }

    /// Counts one.
    pub(super) fn spend(&mut self, now: Instant) {
        self.empty_at = self.empty_at.max(now) + EVERY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_one_a_second() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut now = start;
        let mut looks = Vec::new();
        while looks.len() < 14 {
            now = pace.next(now);
            pace.spend(now);
            looks.push((now - start).as_secs());
        }
        assert_eq!(looks, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
        let rested = now + EVERY * BURST;
        assert_eq!(pace.next(rested), rested);
    }
}
