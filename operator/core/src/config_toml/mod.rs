//! containerd's config.toml as the daemon reads it: which files, which table, what is in force; and the smallest edit
//! that makes it read hosts.toml.
//!
//! ```text
//! load (imports) -> merge (version rules) -> analyze -> patch | migrate -> Edit { before, after, changes, undo }
//! ```
//!
//! Edits are splices of bytes: comments, order, spacing, quotes, line ends and everything else stay as they are. Before
//! an edit is handed out, the edited files are merged again: they must differ in the registry settings alone, and the
//! daemon must pull by the same path as before.

mod analysis;
mod document;
mod errors;
pub mod glob;
mod ignored;
mod imports;
mod judge;
mod merge;
mod migrate;
mod need;
mod node;
mod patch;
mod pull_path;
mod registry_table;
mod source;
mod splice;
mod undo;
mod version;

use std::path::{Path, PathBuf};

pub use analysis::{Analysis, Effectiveness, Legacy, Origin};
pub use document::ConfigFile;
pub use errors::{ConfigError, PatchError};
pub use ignored::Ignored;
pub use migrate::{MigratedEndpoint, MigratedRegistry, migrate};
pub use need::Need;
pub use patch::{Change, Edit, patch};
pub use pull_path::{PullPath, Trigger};
pub(crate) use registry_table::{RegistryTable, host_of_auths};
pub use source::{ConfigSource, MapSource, SourceError};
pub use undo::{Undo, UndoError, UndoOutcome, undo};

use crate::containerd::Version;
use merge::Effective;

/// The configuration of one daemon: its files, merged as its version does.
#[derive(Debug, Clone)]
pub struct LoadedConfig {
    version: Version,
    main: PathBuf,
    files: Vec<ConfigFile>,
    pub(crate) effective: Effective,
}

/// Reads `main` and its imports as containerd `version` does at start. A `main` that does not exist is legal: the daemon
/// then runs on its defaults.
///
/// # Errors
/// With these files the daemon would not start, or start without CRI; the error says which file and line, and why.
pub fn load(main: &Path, version: Version, source: &dyn ConfigSource) -> Result<LoadedConfig, ConfigError> {
    let files = imports::load_files(main, version, source)?;
    LoadedConfig::build(version, main.to_owned(), files)
}

impl LoadedConfig {
    fn build(version: Version, main: PathBuf, files: Vec<ConfigFile>) -> Result<Self, ConfigError> {
        let effective = merge::merge(&files, version)?;
        Ok(Self { version, main, files, effective })
    }

    /// The same configuration with one file's bytes replaced.
    fn with_file(&self, index: usize, bytes: Vec<u8>) -> Result<Self, ConfigError> {
        let mut files = self.files.clone();
        if let Some(file) = files.get_mut(index) {
            *file = ConfigFile::parse(index, file.path(), bytes, self.version)?;
        }
        Self::build(self.version, self.main.clone(), files)
    }

    /// What the daemon makes of it.
    #[must_use]
    pub fn analyze(&self) -> Analysis {
        analysis::analyze(self)
    }

    /// The main file, whether it exists or not.
    #[must_use]
    pub fn main(&self) -> &Path {
        &self.main
    }

    /// The daemon that reads the files.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The files that exist, in the order in which the daemon reads them.
    pub fn files(&self) -> impl Iterator<Item = &ConfigFile> {
        self.files.iter()
    }
}
