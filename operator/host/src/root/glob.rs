//! Go's `filepath.Glob`, because `imports` in containerd's config.toml is expanded by it (path/filepath, Go 1.16 to
//! 1.26; containerd cmd/containerd/server/config `resolveImports`).

use std::path::{Path, PathBuf};

use registry_mirror_core::config_toml::glob as pattern;

use super::{HostRoot, Kind};

/// The pattern is one that `filepath.Match` refuses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadPattern;

/// The paths that match. A path without wildcard matches itself where it exists.
pub(super) fn matches(root: &HostRoot, wanted: &str) -> Result<Vec<PathBuf>, BadPattern> {
    if pattern::is_well_formed(wanted) { Ok(expand(root, wanted)) } else { Err(BadPattern) }
}

fn expand(root: &HostRoot, wanted: &str) -> Vec<PathBuf> {
    if !has_wildcard(wanted) {
        let path = PathBuf::from(wanted);
        let exists = matches!(root.stat_link(&path), Ok(Some(_)));
        return if exists { vec![path] } else { Vec::new() };
    }
    let (directory, name) = match wanted.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((directory, name)) => (directory, name),
        None => (".", wanted),
    };
    let directories = if has_wildcard(directory) { expand(root, directory) } else { vec![PathBuf::from(directory)] };
    directories.iter().flat_map(|directory| matches_in(root, directory, name)).collect()
}

/// The names in one directory that match; nothing where it cannot be read, as in Go.
fn matches_in(root: &HostRoot, directory: &Path, wanted: &str) -> Vec<PathBuf> {
    let is_directory = matches!(root.stat(directory), Ok(Some(stat)) if stat.kind == Kind::Directory);
    let Ok(Some(entries)) = (if is_directory { root.read_dir(directory) } else { Ok(None) }) else {
        return Vec::new();
    };
    let names = entries.into_iter().map(|entry| entry.name);
    let matching = names.filter(|name| pattern::matches(wanted, &name.to_string_lossy()));
    matching.map(|name| directory.join(name)).collect()
}

fn has_wildcard(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[', '\\'])
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn a_malformed_pattern_is_refused_even_where_nothing_could_match() {
        let host = tempfile::tempdir().expect("tempdir");
        fs::write(host.path().join("a"), b"").expect("write");
        let root = HostRoot::open(host.path()).expect("open");
        assert_eq!(matches(&root, "/nowhere/["), Err(BadPattern));
        assert_eq!(matches(&root, "/[a]"), Ok(vec![Path::new("/a").to_owned()]));
    }
}
