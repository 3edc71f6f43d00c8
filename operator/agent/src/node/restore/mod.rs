//! Putting a node back as it was before the operator, safely for the daemon that runs.
//!
//! Two depths. The safe one leaves the node pulling at least as well as before, at once and after containerd's next
//! start: our files go (or those of before come back) and our own edit is taken out of config.toml, which the running
//! daemon does not notice. Where old registry tables were carried over into hosts.toml files, these files and
//! `config_path` stay, because the running daemon knows nothing else. The exact one puts every byte back at once, and
//! says whether containerd must be restarted for it.

mod config;
mod host;

use std::{collections::BTreeSet, path::PathBuf};

use registry_mirror_core::plan::config::DEFAULT_DIRECTORY;
use registry_mirror_host::file_error::FileError;

use self::host::{Host, still_shared};
use super::{Asking, Node, edits::MOST_LENIENT};
use crate::metrics::Metrics;
use registry_mirror_core::status::node::{Facts, NodeFailure, Verdict};

/// How far a node is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What the running daemon depends on stays.
    Safe,
    /// Every byte of before, at once.
    Exact,
}

/// What was put back, and what was not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// What was done, a few words each.
    pub done: Vec<String>,
    /// What stays, and why: a sentence each.
    pub stays: Vec<String>,
    /// What a person must do: a sentence each.
    pub by_hand: Vec<String>,
    /// Files that other nodes still need: a sentence each.
    pub shared: Vec<String>,
    /// Why containerd must be restarted, where it must.
    pub restart_due: Option<String>,
}

impl Restored {
    /// All of it in one sentence or a few, for status.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut sentences = vec![match self.is_clean() {
            true if !self.shared.is_empty() => "The node's own files are as they were before the operator.".to_owned(),
            true => "The node is as it was before the operator.".to_owned(),
            false => "The node pulls as it did before the operator.".to_owned(),
        }];
        let Self { done: _, stays, by_hand, shared, restart_due } = self;
        sentences.extend(stays.iter().chain(by_hand).chain(shared).chain(restart_due).map(|what| format!("{what}.")));
        sentences.join(" ")
    }

    /// Whether nothing of ours is left on the host, apart from what other nodes need.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.stays.is_empty() && self.by_hand.is_empty()
    }
}

impl Node {
    /// Puts the node back. Doing it again changes nothing. Where other nodes share its directory and their agents run,
    /// its files stay.
    ///
    /// # Errors
    /// A sentence; what was done until then is whole, and doing it again goes on.
    pub async fn restore(&mut self, depth: Depth, metrics: &Metrics) -> Result<Restored, String> {
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
                let others = host.others_who_stay(directory).map_err(sentence)?;
                restored.shared.extend((!others.is_empty()).then(|| still_shared(directory, &others)));
            }
            return Ok(restored);
        }
        let _lock = self.records.lock().await.map_err(|error| error.to_string())?;
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
            Err(why) => Verdict::failed(NodeFailure::Apply, why),
        };
    }
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands its error over")]
fn sentence(error: FileError) -> String {
    error.to_string()
}
