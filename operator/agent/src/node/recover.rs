//! A restart that an earlier process began: finished or undone before anything else is planned.

use jiff::Timestamp;
use registry_mirror_core::status::node::NodeFailure;
use registry_mirror_host::{
    journal,
    restart::{RestartError, recover},
};

use super::Node;
use crate::metrics::Metrics;

impl Node {
    /// Settles what was left unfinished. The caller holds the lock.
    ///
    /// # Errors
    /// [`RestartError`]; the next pass tries again.
    pub(super) async fn recover(&mut self, metrics: &Metrics) -> Result<(), RestartError> {
        match recover(&self.root, &self.daemon.systemd).await {
            Ok(None) => {}
            Ok(Some(outcome)) => {
                tracing::info!("a restart that was cut short is settled");
                // Its permission was used up, and which one that was is not known any more.
                self.record(&outcome, None, Timestamp::now(), metrics);
            }
            Err(error) => return Err(error),
        }
        self.unrecovered = false;
        Ok(())
    }

    /// What it means that it could not be settled. A host whose state cannot be read (a full or broken /var) and that
    /// has no journal is no restart that went wrong, and none of the other nodes' business.
    pub(super) fn not_recovered(&self) -> NodeFailure {
        if journal::may_stand(&self.root) { NodeFailure::Restart } else { NodeFailure::Apply }
    }
}
