//! Where the host's files are read from.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::glob;

/// A file of the host could not be read, or a directory not listed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{} cannot be read: {reason}", path.display())]
pub struct SourceError {
    /// The file or pattern that was asked for, as the host names it.
    pub path: PathBuf,
    /// What the operating system says.
    pub reason: String,
}

/// Reads the host's files. The effects crate implements it beneath the host root, tests with [`MapSource`].
pub trait ConfigSource {
    /// The bytes of a file; `None` where it does not exist.
    ///
    /// # Errors
    /// The file exists and cannot be read: a directory, no permission, a symlink out of the host root.
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, SourceError>;

    /// The existing paths that match a pattern of Go's `filepath.Glob`, sorted by name within each directory as Go
    /// does. [`glob::matches`] decides about one name.
    ///
    /// # Errors
    /// A directory on the way cannot be listed.
    fn glob(&self, pattern: &str) -> Result<Vec<PathBuf>, SourceError>;
}

/// Files that stand in a map: a source for tests and for what is planned without a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MapSource(pub BTreeMap<PathBuf, Vec<u8>>);

impl MapSource {
    /// No files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same source with one more file.
    #[must_use]
    pub fn with(mut self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        self.0.insert(path.into(), content.into());
        self
    }
}

impl ConfigSource for MapSource {
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, SourceError> {
        if let Some(content) = self.0.get(path) {
            return Ok(Some(content.clone()));
        }
        if self.0.keys().any(|file| file.starts_with(path)) {
            return Err(SourceError { path: path.to_owned(), reason: "it is a directory".to_owned() });
        }
        Ok(None)
    }

    fn glob(&self, pattern: &str) -> Result<Vec<PathBuf>, SourceError> {
        Ok(self.0.keys().filter(|path| glob::matches(pattern, &path.to_string_lossy())).cloned().collect())
    }
}
