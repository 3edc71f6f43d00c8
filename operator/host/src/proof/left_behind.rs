//! What a proof that was cut off leaves in a certs.d.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use crate::root::{FileError, HostRoot, Kind};

/// The port of the made-up registry; nothing listens there on a host's loopback.
pub(super) const PORT: u16 = 1;

/// Begins a proof's file.
pub(super) const FIRST_LINE: &str = "# registry-mirror-operator: a self-test, removed within seconds.";

/// Whether a directory of this name below a certs.d is one that a proof writes into, on whichever node.
#[must_use]
pub fn is_directory(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("127.") && name.ends_with(&format!("_{PORT}_"))
}

/// What proofs that were cut off have left in a certs.d, on whichever node.
///
/// # Errors
/// On what the kernel says.
pub fn left_behind(root: &HostRoot, certs_d: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut left = Vec::new();
    for entry in root.read_dir(certs_d)?.unwrap_or_default() {
        if entry.kind == Kind::Directory && is_directory(&entry.name) {
            let directory = certs_d.join(&entry.name);
            let hosts = root.read(&directory.join("hosts.toml"))?;
            if hosts.is_none_or(|content| content.starts_with(FIRST_LINE.as_bytes())) {
                left.push(directory);
            }
        }
    }
    Ok(left)
}
