//! Putting a node back as it was before the operator, safely for the daemon that runs.
//!
//! Two depths. The safe one leaves the node pulling at least as well as before, at once and after containerd's next
//! start: our files go (or those of before come back) and our own edit is taken out of config.toml, which the running
//! daemon does not notice. Where old registry tables were carried over into hosts.toml files, these files and
//! `config_path` stay, because the running daemon knows nothing else. The exact one puts every byte back at once, and
//! says whether containerd must be restarted for it.

mod config;
mod host;
mod outcome;
mod put_back;

use std::{collections::BTreeSet, path::PathBuf};

use self::host::{Host, still_shared};
pub use self::outcome::{Depth, RestoreError, Restored};
use super::{Asking, Node, edits::MOST_LENIENT};
use crate::metrics::Metrics;
use registry_mirror_core::{
    plan::config::DEFAULT_DIRECTORY,
    status::node::{Facts, NodeFailure, Verdict},
};

impl Node {
    /// Puts the node back. Doing it again changes nothing. Where other nodes share its directory and their agents run,
    /// its files stay.
    ///
    /// # Errors
    /// [`RestoreError`]; what was done until then is whole, and doing it again goes on.
    pub async fn restore(&mut self, depth: Depth, metrics: &Metrics) -> Result<Restored, RestoreError> {
        // Another node may write from now on.
        self.share = None;
        // The last directory that was worked in, and the one in force: files of ours bear a mark, so that they are
        // found even where the record of them is lost.
        let mut directories: BTreeSet<PathBuf> = [PathBuf::from(DEFAULT_DIRECTORY), self.daemon.directory()].into();
        let mut version = MOST_LENIENT;
        if let Ok(daemon) = self.observe(Asking::Forbidden).await {
            directories.extend(daemon.seen.plan.roots());
            version = daemon.seen.version;
        }
        self.forget();
        let host = Host { root: self.root.clone(), systemd: self.daemon.systemd.clone(), depth, version, directories };
        if !host.has_anything_of_ours()? {
            let mut restored = Restored::default();
            for directory in &host.directories {
                let others = host.others_who_stay(directory)?;
                restored.shared.extend((!others.is_empty()).then(|| still_shared(directory, &others)));
            }
            return Ok(restored);
        }
        let _lock = self.records.lock().await?;
        self.recover(metrics).await?;
        let restored = host.put_back().await?;
        self.forget();
        Ok(restored)
    }

    /// The next pass knows nothing of this node.
    fn forget(&mut self) {
        self.daemon.forget();
        self.records.forget();
    }

    /// One pass in the mode `Restore`.
    pub(super) async fn restore_pass(&mut self, metrics: &Metrics, facts: &mut Facts) {
        facts.verdict = match self.restore(Depth::Safe, metrics).await {
            Ok(restored) => {
                for what in &restored.done {
                    tracing::info!("{what}");
                }
                Verdict::Restored(restored.sentence())
            }
            Err(error) => Verdict::failed(NodeFailure::Apply, error.to_string()),
        };
    }
}
