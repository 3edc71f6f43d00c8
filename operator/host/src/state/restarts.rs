//! What is remembered of the restarts that were made and of one that failed.

use jiff::Timestamp;
use registry_mirror_core::budget::ChangeHash;
pub use registry_mirror_core::budget::ProvedRestart;
use serde::{Deserialize, Serialize};

use super::{Loaded, StateDir, load, save};
use crate::{file_error::FileError, files::Written};

const RESTARTS_VERSION: u32 = 1;

/// The restarts of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restarts {
    /// How many were made, those that were undone included.
    pub made: u32,
    /// The plan that failed last; forgotten when one succeeds.
    pub failed: Option<FailedPlan>,
    /// The one that was begun last, so that its proof counts also where another process finds out.
    #[serde(default)]
    pub begun: Option<BegunRestart>,
    /// The last one that was proved.
    #[serde(default)]
    pub proved: Option<ProvedRestart>,
}

/// A restart that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BegunRestart {
    /// The hash of its plan.
    pub plan: String,
    /// What it changes.
    pub change: ChangeHash,
}

/// How a plan failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FailedBy {
    /// containerd was restarted, or may have been.
    #[default]
    Restart,
    /// It was refused before anything was touched.
    Refusal,
}

/// A plan that was tried in vain. It is not tried again without new leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedPlan {
    /// Its hash; `None` where a crash lost it, which then means every plan.
    pub plan: Option<String>,
    /// How.
    #[serde(default)]
    pub by: FailedBy,
    /// Why, in a sentence.
    pub why: String,
    /// When the leave that was used had been given, or when the failure was noticed.
    // The name of layout 1.
    #[serde(rename = "leaveGivenAt")]
    pub permission_given_at: Timestamp,
}

impl StateDir {
    /// The restarts of this host.
    ///
    /// # Errors
    /// On what the kernel says. A broken file is no error.
    pub fn restarts(&self) -> Result<Loaded<Restarts>, FileError> {
        load(self.writer(), &self.file("restarts.json"), RESTARTS_VERSION)
    }

    /// Records them.
    ///
    /// # Errors
    /// On what the kernel says.
    pub fn save_restarts(&self, restarts: &Restarts) -> Result<Written, FileError> {
        save(self.writer(), &self.file("restarts.json"), RESTARTS_VERSION, restarts)
    }
}
