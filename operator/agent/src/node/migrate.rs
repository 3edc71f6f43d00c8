//! Old registry tables on their way into hosts.toml files, and once they stand there.

use std::path::Path;

use registry_mirror_core::{config_toml::MigratedRegistry, plan::ConfigPlan};
use registry_mirror_host::{
    file_error::FileError,
    files::{HostWriter, WriteScope},
    root::HostRoot,
    state::{STATE_DIR, StateDir},
};

use super::{edits, place::migrated_by};

/// The old tables of a host.
#[derive(Debug, Clone, Default)]
pub struct Carried {
    /// What they said.
    pub registries: Vec<MigratedRegistry>,
    /// Whether some are about to be taken out of the configuration: from the daemon's next start on their files count.
    pub under_way: bool,
}

/// What this plan carries over, and what was carried over before: the record of the edits tells.
///
/// # Errors
/// On what the kernel says.
pub fn carried(root: &HostRoot, plan: &ConfigPlan) -> Result<Carried, FileError> {
    let mut registries = migrated_by(plan).to_vec();
    let under_way = !registries.is_empty();
    // Opening the state directory would make it.
    if root.stat(Path::new(STATE_DIR))?.is_some() {
        let state = StateDir::open(&HostWriter::new(root.clone(), WriteScope::state_only()))?;
        for edit in edits::recorded(&state)?.iter().rev() {
            edits::add_missing(&mut registries, &edit.migrated);
        }
    }
    Ok(Carried { registries, under_way })
}
