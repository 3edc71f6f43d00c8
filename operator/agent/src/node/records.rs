//! What the operator keeps on the host: its state directory, the lock on it, and the bundle that was last in force, for
//! the time when the API server is away.

use std::{path::Path, time::Duration};

use registry_mirror_core::{
    bundle::{Bundle, Mode},
    plan::rewrites::OwnEdit,
};
use registry_mirror_host::{
    file_error::FileError,
    files::{HostWriter, WriteScope},
    lock::{HostLock, LockError},
    root::HostRoot,
    state::{Restarts, STATE_DIR, StateDir},
};

use super::edits;

/// How long a pass waits for another program of ours that holds the host.
const LOCK_LIMIT: Duration = Duration::from_secs(30);

/// The records of one host.
#[derive(Debug)]
pub(super) struct Records {
    root: HostRoot,
    /// The bundle on the host's disk, once it was read or written.
    bundle: Option<Bundle>,
}

impl Records {
    pub fn new(root: HostRoot) -> Self {
        Self { root, bundle: None }
    }

    /// The state directory; made where it is not there.
    pub fn state(&self) -> Result<StateDir, FileError> {
        StateDir::open(&HostWriter::new(self.root.clone(), WriteScope::state_only()))
    }

    /// Keeps every other program of ours from the host.
    pub async fn lock(&self) -> Result<HostLock, LockError> {
        HostLock::acquire_within(&self.state()?, "the agent", LOCK_LIMIT).await
    }

    /// Our last edit of containerd's configuration. A host that was never worked on stays without a state directory.
    pub fn last_edit(&self) -> Option<OwnEdit> {
        self.root.stat(Path::new(STATE_DIR)).ok().flatten()?;
        let last = self.state().and_then(|state| edits::last(&state));
        last.unwrap_or_else(|error| {
            tracing::warn!("the record of earlier edits could not be read: {error}");
            None
        })
    }

    /// The restarts that were made here.
    pub fn restarts(&self) -> Restarts {
        match self.state().and_then(|state| state.restarts()) {
            Ok(loaded) => loaded.value.unwrap_or_default(),
            Err(error) => {
                tracing::warn!("the earlier restarts could not be read: {error}");
                Restarts::default()
            }
        }
    }

    /// The bundle that was last in force, from memory or from the host's disk.
    pub fn remembered(&mut self) -> Option<Bundle> {
        if self.bundle.is_none() && matches!(self.root.stat(Path::new(STATE_DIR)), Ok(Some(_))) {
            match self.state().and_then(|state| state.bundle::<Bundle>()) {
                Ok(loaded) => {
                    if let Some(warning) = loaded.warning {
                        tracing::warn!("{warning}");
                    }
                    self.bundle = loaded.value;
                }
                Err(error) => tracing::warn!("the last state could not be read: {error}"),
            }
        }
        self.bundle.clone()
    }

    /// Keeps a bundle on the host's disk.
    ///
    /// A dry run writes nothing on a host where nothing was ever in force. Where something is remembered, it is
    /// remembered that a dry run was asked for: otherwise an agent that starts while the API server is away would work
    /// as before. That is one write in the operator's own directory. A node that is put back forgets all.
    pub fn remember(&mut self, bundle: &Bundle) {
        let kept = match bundle.mode {
            Mode::Enforce => bundle.clone(),
            Mode::DryRun => match self.remembered() {
                Some(remembered) => Bundle { mode: Mode::DryRun, ..remembered },
                None => return,
            },
            Mode::Restore => return,
        };
        if self.bundle.as_ref() == Some(&kept) {
            return;
        }
        match self.state().and_then(|state| state.save_bundle(&kept)) {
            Ok(_) => self.bundle = Some(kept),
            Err(error) => tracing::warn!("the state could not be kept for a time without the API server: {error}"),
        }
    }

    /// What was read is not there any more.
    pub fn forget(&mut self) {
        self.bundle = None;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use registry_mirror_core::bundle::SCHEMA;

    use super::*;

    fn records(host: &Path) -> Records {
        Records::new(HostRoot::open(host).expect("a host"))
    }

    fn bundle(mode: Mode) -> Bundle {
        Bundle { schema: SCHEMA, mode, entries: Vec::new(), blobs: BTreeMap::new(), proxy: None }
    }

    #[test]
    fn a_dry_run_writes_nothing_where_nothing_was_in_force_and_is_remembered_where_something_was() {
        let host = tempfile::tempdir().expect("a directory");
        let remembered = || records(host.path()).remembered().map(|kept| kept.mode);
        records(host.path()).remember(&bundle(Mode::DryRun));
        assert_eq!(std::fs::read_dir(host.path()).expect("a list").count(), 0);

        for mode in [Mode::Enforce, Mode::DryRun, Mode::Enforce] {
            records(host.path()).remember(&bundle(mode));
            assert_eq!(remembered(), Some(mode), "by an agent that starts");
        }
    }
}
