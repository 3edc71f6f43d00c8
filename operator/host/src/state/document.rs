//! One JSON file of the state directory: versioned, whole or absent, and never in the way when it is broken.
//!
//! A release that was rolled back meets what its successor wrote. Only the successor knows what that says, and it comes
//! back: such a file is neither read, set aside nor written over, and what needs it is refused.

use std::path::{Path, PathBuf};

use registry_mirror_core::digest::Digest;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    file_error::{Action, FileError, Reason},
    files::{Attributes, HostWriter, Owner, Written},
};

/// State may hold credentials.
const PRIVATE: Attributes = Attributes { mode: 0o600, owner: Owner::Root };

/// What was read from a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<T> {
    /// The content; `None` where there is no file or a broken one.
    pub value: Option<T>,
    /// Where a broken file was set aside, in a sentence for the log and the node's status.
    pub warning: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    data: T,
}

/// The version alone, which every later layout keeps where it is.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Reads a document. A broken file is renamed, so that it is neither lost nor in the way.
///
/// # Errors
/// On what the kernel says, and where a newer release wrote the file.
pub(crate) fn load<T: DeserializeOwned>(
    writer: &HostWriter,
    path: &Path,
    version: u32,
) -> Result<Loaded<T>, FileError> {
    let Some(content) = writer.root().read(path)? else { return Ok(Loaded { value: None, warning: None }) };
    refuse_newer(path, Action::Read, &content, version)?;
    let why = match serde_json::from_slice::<Envelope<T>>(&content) {
        Ok(Envelope { version: found, data }) if found == version => {
            return Ok(Loaded { value: Some(data), warning: None });
        }
        Ok(Envelope { version: found, .. }) => format!("has layout {found} and this release reads layout {version}"),
        // the position alone: serde quotes what it found, which may be a credential
        Err(error) => format!("is broken at line {}, column {}", error.line(), error.column()),
    };
    let aside = aside(path, &content);
    writer.rename(path, &aside)?;
    let warning = format!(
        "{} {why}; it was set aside as {} and its content is made up for as far as the files on the host tell",
        path.display(),
        aside.display()
    );
    Ok(Loaded { value: None, warning: Some(warning) })
}

/// Writes a document; the same content is not written again.
///
/// # Errors
/// On what the kernel says, and where a newer release wrote the file that stands there.
pub(crate) fn save<T: Serialize>(
    writer: &HostWriter,
    path: &Path,
    version: u32,
    data: &T,
) -> Result<Written, FileError> {
    let mut content = serde_json::to_vec_pretty(&Envelope { version, data }).map_err(|_| {
        let what = "its content cannot be written as JSON; report this as a bug".to_owned();
        FileError::new(path, Action::Write, Reason::Content { what })
    })?;
    content.push(b'\n');
    if let Some(standing) = writer.root().read(path)? {
        refuse_newer(path, Action::Write, &standing, version)?;
    }
    writer.write(path, &content, PRIVATE)
}

fn refuse_newer(path: &Path, action: Action, content: &[u8], reads: u32) -> Result<(), FileError> {
    match serde_json::from_slice::<Version>(content) {
        Ok(Version { version }) if version > reads => {
            Err(FileError::new(path, action, Reason::Newer { version, reads }))
        }
        _ => Ok(()),
    }
}

/// The name for a broken file; the same content goes to the same name, so that a file that breaks again and again does
/// not fill the disk.
fn aside(path: &Path, content: &[u8]) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".broken-{}", Digest::of(content).short()));
    path.with_file_name(name)
}
