//! The exit codes, which scripts rely on.

use std::process::ExitCode;

/// How a command ended. A usage error is clap's and exits with 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: it could not be done; the reason stands on stderr.
    Failed,
    /// 3: `plan` found changes.
    ChangesFound,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Failed => Self::from(1),
            Exit::ChangesFound => Self::from(3),
        }
    }
}
