//! What a restart has to prove: that containerd reads the directory, and that it pulls if it did before.
//!
//! The pull of a whole image reaches what the answer of a registry does not: an edit that takes the last local-pull
//! trigger away leaves a 2.1 and later with the transfer service, which unpacks for overlayfs only, and every pull of a
//! node with another snapshotter ends there (seen on 2.4.2) while the directory is read.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::{Instant, sleep};

use super::Restarter;
use crate::{
    fault,
    proof::{ProofResult, WholePull, prove, pull_by_any_way, pull_through},
};

/// Between two tries to prove something.
const PAUSE: Duration = Duration::from_millis(500);

/// Whether containerd could pull an image before we touched anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum PulledBefore {
    /// It was not found out, or who found it out is gone: only what must hold in any case is proved.
    #[default]
    Unknown,
    /// It could, so it must be able to afterwards.
    Yes,
    /// It could not, which is no fault of ours and no reason to take anything back.
    No,
}

/// What a new start of containerd lacks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Shortcoming {
    /// It does not read the directory.
    #[error("containerd restarted, but does not read {} ({cri_said})", certs_d.display())]
    Unread {
        /// The directory.
        certs_d: PathBuf,
        /// What CRI answered to a pull through it.
        cri_said: String,
    },
    /// It reads the directory and cannot pull.
    #[error("containerd restarted, and cannot pull any more what it could pull before ({cri_said})")]
    PullsNoMore {
        /// What CRI answered.
        cri_said: String,
    },
    /// That could not be found out in time.
    #[error(
        "whether the restarted containerd reads {} and pulls could not be proved within {} s: {why}",
        certs_d.display(),
        after.as_secs()
    )]
    Unproved {
        /// The directory.
        certs_d: PathBuf,
        /// For how long it was tried.
        after: Duration,
        /// What stood in the way last.
        why: String,
    },
}

/// What one try has shown.
enum Found {
    Proved,
    Lacking(Shortcoming),
    Nothing { why: String },
}

impl Restarter<'_> {
    /// Whether containerd can pull now, before anything is changed.
    pub(super) async fn pulled_before(&self, certs_d: &Path) -> PulledBefore {
        fault::point("restart:pulls");
        let pull = pull_by_any_way(self.writer, certs_d, &self.cri).await;
        fault::point("restart:pulled");
        match pull {
            WholePull::Works => PulledBefore::Yes,
            WholePull::Refused { cri_said } => {
                tracing::info!("containerd cannot pull an image of our own before its restart: {cri_said}");
                PulledBefore::No
            }
            WholePull::Failed { why } => {
                tracing::info!("whether containerd pulls before its restart could not be found out: {why}");
                PulledBefore::Unknown
            }
        }
    }

    /// Proves the new start. What merely could not be found out is tried again for `limit`: a daemon that has just started
    /// on a full node stalls for seconds.
    pub(super) async fn prove_start(
        &self,
        certs_d: &Path,
        before: PulledBefore,
        limit: Duration,
    ) -> Result<(), Shortcoming> {
        let until = Instant::now() + limit;
        loop {
            match self.prove_once(certs_d, before).await {
                Found::Proved => return Ok(()),
                Found::Lacking(shortcoming) => return Err(shortcoming),
                Found::Nothing { why } if Instant::now() >= until => {
                    return Err(Shortcoming::Unproved { certs_d: certs_d.to_owned(), after: limit, why });
                }
                Found::Nothing { why } => {
                    tracing::info!("the proof is tried again: {why}");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn prove_once(&self, certs_d: &Path, before: PulledBefore) -> Found {
        match prove(self.writer, certs_d, &self.cri).await {
            ProofResult::Effective { .. } => {}
            ProofResult::NotEffective { cri_said } => {
                return Found::Lacking(Shortcoming::Unread { certs_d: certs_d.to_owned(), cri_said });
            }
            ProofResult::Failed { why } => return Found::Nothing { why },
        }
        if before != PulledBefore::Yes {
            return Found::Proved;
        }
        let mut pulled = pull_through(self.writer, certs_d, &self.cri).await;
        if matches!(pulled, WholePull::Refused { .. }) {
            // Once more, for what follows is a restart.
            pulled = pull_through(self.writer, certs_d, &self.cri).await;
        }
        match pulled {
            WholePull::Works => Found::Proved,
            WholePull::Refused { cri_said } => Found::Lacking(Shortcoming::PullsNoMore { cri_said }),
            WholePull::Failed { why } => Found::Nothing { why },
        }
    }
}
