//! What has changed since the loop looked last.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

/// One kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Compile and publish the bundle.
    Publish,
    /// NodeMirrors and restarts.
    Nodes,
    /// The startup taint, which waits for no restart.
    Taints,
    /// RegistryMirror status.
    Status,
}

impl Lane {
    pub const ALL: [Self; 4] = [Self::Publish, Self::Nodes, Self::Taints, Self::Status];

    const fn bit(self) -> u8 {
        match self {
            Self::Publish => 1,
            Self::Nodes => 2,
            Self::Status => 4,
            Self::Taints => 8,
        }
    }
}

/// Set by the caches, taken by the loop. A set of flags and not a queue: however much changes, one pass deals with it.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    flags: AtomicU8,
    notify: Notify,
}

impl Signals {
    pub fn mark(&self, lanes: &[Lane]) {
        let bits = lanes.iter().fold(0, |bits, lane| bits | lane.bit());
        self.flags.fetch_or(bits, Ordering::AcqRel);
        self.notify.notify_one();
    }

    /// Resolves when something is marked.
    pub async fn marked(&self) {
        self.notify.notified().await;
    }

    pub fn take(&self) -> Vec<Lane> {
        let bits = self.flags.swap(0, Ordering::AcqRel);
        Lane::ALL.into_iter().filter(|lane| bits & lane.bit() != 0).collect()
    }
}
