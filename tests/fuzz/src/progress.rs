//! How far inputs get: a million that fail at the first bracket say nothing about a patcher.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Inputs, and those of them that reached the second and the third stage.
pub struct Progress {
    names: [&'static str; 3],
    counts: [AtomicU64; 3],
}

impl Progress {
    /// Nothing counted yet.
    #[must_use]
    pub const fn new(names: [&'static str; 3]) -> Self {
        Self { names, counts: [AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)] }
    }

    /// One more input reached the stage. Says so at each power of two and every 2^20 inputs.
    pub fn reached(&self, stage: usize) {
        let count = self.counts[stage].fetch_add(1, Relaxed) + 1;
        if stage == 0 && count >= 1 << 16 && (count.is_power_of_two() || count.is_multiple_of(1 << 20)) {
            let shown = self.names.iter().zip(&self.counts).map(|(name, n)| format!("{} {name}", n.load(Relaxed)));
            eprintln!("progress: {}", shown.collect::<Vec<_>>().join(", "));
        }
    }
}
