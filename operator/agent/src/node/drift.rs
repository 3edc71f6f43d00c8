//! Files of ours that others changed since this process has started, the last few: for status and Events.

use std::path::Path;

use jiff::Timestamp;
use registry_mirror_core::status::node::{DRIFT_KEPT, DriftFacts};

#[derive(Debug, Default)]
pub(super) struct DriftLog {
    recent: Vec<DriftFacts>,
}

impl DriftLog {
    /// Tells of a file, in a sentence without its full stop.
    pub fn note(&mut self, path: &Path, what: String) {
        tracing::warn!("{what}");
        self.recent.push(DriftFacts { path: path.display().to_string(), at: Timestamp::now(), what });
        let surplus = self.recent.len().saturating_sub(DRIFT_KEPT);
        self.recent.drain(..surplus);
    }

    pub fn recent(&self) -> Vec<DriftFacts> {
        self.recent.clone()
    }
}
