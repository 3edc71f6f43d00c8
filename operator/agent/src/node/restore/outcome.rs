//! What putting a node back comes to.

use registry_mirror_host::{
    certs_d::ApplyError, file_error::FileError, lock::LockError, restart::RestartError, systemd::SystemdError,
};
use thiserror::Error;

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

/// A node could not be put back. What was done until then is whole, and doing it again goes on.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The files of a directory.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Another program of ours holds the host.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// systemd does not read its files anew.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// A restart that was cut short could not be finished or undone.
    #[error(transparent)]
    Restart(#[from] RestartError),
}
