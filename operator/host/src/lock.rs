//! One hand at a time on a host: the agent and `node apply` by hand wait for each other.

use std::{
    fs::File,
    io::Write as _,
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    path::PathBuf,
    time::Duration,
};

use rustix::{fs::FlockOperation, io::Errno};
use thiserror::Error;
use tokio::time::{Instant, sleep};

use crate::{
    file_error::{Action, FileError, Reason},
    state::StateDir,
};

/// Between two attempts. The kernel's own waiting cannot be given up at a deadline.
const RETRY: Duration = Duration::from_millis(50);

/// The lock could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LockError {
    /// Somebody holds it.
    #[error(
        "{path} is held by {holder}: only one may change containerd's files at a time; wait until it has ended, or \
         stop it",
        path = path.display()
    )]
    Held {
        /// The lock's file.
        path: PathBuf,
        /// Who says to hold it.
        holder: String,
    },
    /// The file cannot be opened.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The right to change the host's files, until it is dropped. The kernel takes it back from a process that dies.
#[derive(Debug)]
pub struct HostLock {
    /// Closing it frees the lock.
    _file: OwnedFd,
}

impl HostLock {
    /// Takes the lock or says who has it. `who` is what others read then, for example `the agent`.
    ///
    /// # Errors
    /// Where somebody else holds it, and on what the kernel says.
    pub fn acquire(state: &StateDir, who: &str) -> Result<Self, LockError> {
        let path = state.file("lock");
        let file = state.writer().open_for_locking(&path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(LockError::Held { path, holder: holder(file) }),
            Err(errno) => return Err(FileError::new(&path, Action::Lock, Reason::System(errno)).into()),
        }
        let mut file = File::from(file);
        let named = file
            .set_len(0)
            .and_then(|()| writeln!(file, "{who} (process {})", rustix::process::getpid().as_raw_nonzero()));
        if let Err(error) = named {
            // the name is a courtesy, a full disk no reason to stop
            tracing::debug!("the lock {} could not be given a name: {error}", path.display());
        }
        Ok(Self { _file: file.into() })
    }

    /// As [`acquire`](Self::acquire), and waits for the holder until `limit` has passed.
    ///
    /// # Errors
    /// Where it is still held then, and on what the kernel says.
    pub async fn acquire_within(state: &StateDir, who: &str, limit: Duration) -> Result<Self, LockError> {
        let until = Instant::now() + limit;
        loop {
            match Self::acquire(state, who) {
                Err(LockError::Held { .. }) if Instant::now() < until => sleep(RETRY).await,
                result => return result,
            }
        }
    }
}

fn holder(file: OwnedFd) -> String {
    let mut text = [0; 200];
    let read = File::from(file).read_at(&mut text, 0).unwrap_or(0);
    let said = String::from_utf8_lossy(&text[..read]);
    let said = said.lines().next().unwrap_or_default().trim();
    if said.is_empty() { "another process".to_owned() } else { said.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        files::{HostWriter, WriteScope},
        root::HostRoot,
    };

    fn state(host: &tempfile::TempDir) -> StateDir {
        fs::create_dir_all(host.path().join("var/lib")).expect("mkdir");
        let root = HostRoot::open(host.path()).expect("open");
        StateDir::open(&HostWriter::new(root, WriteScope::state_only())).expect("state")
    }

    #[tokio::test]
    async fn one_at_a_time() {
        let host = tempfile::tempdir().expect("tempdir");
        let state = state(&host);
        let held = HostLock::acquire(&state, "the agent").expect("free");
        let said = HostLock::acquire(&state, "node apply").expect_err("held").to_string();
        let said = said.replace(&std::process::id().to_string(), "PID");
        insta::assert_snapshot!(said, @"/var/lib/registry-mirror-operator/lock is held by the agent (process PID): only one may change containerd's files at a time; wait until it has ended, or stop it");
        let late = HostLock::acquire_within(&state, "node apply", Duration::from_millis(60)).await;
        assert!(matches!(late, Err(LockError::Held { .. })));

        let (waiting, ()) = tokio::join!(
            HostLock::acquire_within(&state, "node apply", Duration::from_secs(10)),
            async { drop(held) },
        );
        waiting.expect("free again");
        HostLock::acquire(&state, "the agent").expect("freed by drop");
    }
}
