//! The bundle that was last in force, on the host's disk for the time when the API server is away.

use std::path::Path;

use registry_mirror_core::bundle::{Bundle, Mode};
use registry_mirror_host::state::STATE_DIR;

use super::Node;

impl Node {
    /// The slice that was last in force, from memory or from the host's disk.
    pub fn remembered(&mut self) -> Option<Bundle> {
        if self.slice.is_none() && matches!(self.root.stat(Path::new(STATE_DIR)), Ok(Some(_))) {
            match self.state().and_then(|state| state.slice::<Bundle>()) {
                Ok(loaded) => {
                    if let Some(warning) = loaded.warning {
                        tracing::warn!("{warning}");
                    }
                    self.slice = loaded.value;
                }
                Err(error) => tracing::warn!("the last state could not be read: {error}"),
            }
        }
        self.slice.clone()
    }

    /// Keeps a slice on the host's disk, for the time when the API server is away.
    ///
    /// A dry run writes nothing on a host where nothing was ever in force. Where something is remembered, it is
    /// remembered that a dry run was asked for: otherwise an agent that starts while the API server is away would work
    /// as before. That is one write in the operator's own directory. A node that is put back forgets all.
    pub fn remember(&mut self, slice: &Bundle) {
        let kept = match slice.mode {
            Mode::Enforce => slice.clone(),
            Mode::DryRun => match self.remembered() {
                Some(remembered) => Bundle { mode: Mode::DryRun, ..remembered },
                None => return,
            },
            Mode::Restore => return,
        };
        if self.slice.as_ref() == Some(&kept) {
            return;
        }
        match self.state().and_then(|state| state.save_slice(&kept)) {
            Ok(_) => self.slice = Some(kept),
            Err(error) => tracing::warn!("the state could not be kept for a time without the API server: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use registry_mirror_core::bundle::SCHEMA;
    use registry_mirror_host::restart::READY_LIMIT;

    use super::*;
    use crate::node::NodeSettings;

    fn node(host: &Path) -> Node {
        Node::open(NodeSettings { host_root: host.to_owned(), pod_uid: None, ready_limit: READY_LIMIT })
            .expect("a host")
    }

    fn slice(mode: Mode) -> Bundle {
        Bundle { schema: SCHEMA, mode, entries: Vec::new(), blobs: BTreeMap::new(), proxy: None }
    }

    #[test]
    fn a_dry_run_writes_nothing_where_nothing_was_in_force_and_is_remembered_where_something_was() {
        let host = tempfile::tempdir().expect("a directory");
        let remembered = || node(host.path()).remembered().map(|kept| kept.mode);
        node(host.path()).remember(&slice(Mode::DryRun));
        assert_eq!(std::fs::read_dir(host.path()).expect("a list").count(), 0);

        for mode in [Mode::Enforce, Mode::DryRun, Mode::Enforce] {
            node(host.path()).remember(&slice(mode));
            assert_eq!(remembered(), Some(mode), "by an agent that starts");
        }
    }
}
