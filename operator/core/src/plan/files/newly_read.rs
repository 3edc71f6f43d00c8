//! What a new `config_path` turns on: files of others in a directory that containerd does not read yet. Somebody may
//! have laid them there years ago and forgotten them when they had no effect (containerd#9136).

use std::path::{Path, PathBuf};

use super::{Directory, Entry, HOSTS_TOML, Listing, TEMPORARY_PREFIX, is_docker_style};
use crate::{containerd::Version, explain::directories, registry::RegistryName};

/// Something that containerd reads from its next start on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewlyRead {
    /// The registry whose pulls it changes; `_default` is every one without a directory of its own.
    pub registry: RegistryName,
    /// Its hosts.toml, or the directory that holds certificates alone.
    pub path: PathBuf,
}

/// What of others lies in `certs_d` and would be read, in the order of the directories' names.
#[must_use]
pub fn newly_read(certs_d: &Path, listing: &Listing, version: Version) -> Vec<NewlyRead> {
    let mut found = Vec::new();
    for (name, entry) in &listing.entries {
        let (Entry::Directory(directory) | Entry::Symlink { leads_to: Some(directory), .. }) = entry else { continue };
        let Some(registry) = RegistryName::of_directory(name).filter(|_| !name.starts_with(TEMPORARY_PREFIX)) else {
            continue;
        };
        let is_known = !registry.is_default() || version.knows_default_directory();
        let is_first =
            directories(&registry, version).iter().find(|name| listing.entries.contains_key(*name)) == Some(name);
        if let Some(path) = of_others(&certs_d.join(name), directory).filter(|_| is_known && is_first) {
            found.push(NewlyRead { registry, path });
        }
    }
    found
}

fn of_others(path: &Path, directory: &Directory) -> Option<PathBuf> {
    if directory.hosts_are_ours() {
        return None;
    }
    if directory.files.contains_key(HOSTS_TOML) {
        return Some(path.join(HOSTS_TOML));
    }
    directory.files.keys().any(|name| is_docker_style(name)).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Bytes, FileEntry},
        *,
    };
    use crate::provenance;

    fn directory(files: &[(&str, &str)]) -> Entry {
        let file = |text: &str| FileEntry::Regular {
            mode: 0o644,
            uid: 0,
            gid: 0,
            content: Some(Bytes(text.as_bytes().to_vec())),
        };
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), file(text))).collect();
        Entry::Directory(Directory { files })
    }

    fn named(entries: Vec<(&str, Entry)>, version: Version) -> Vec<String> {
        let entries = entries.into_iter().map(|(name, entry)| (name.to_owned(), entry)).collect();
        let found = newly_read(Path::new("/c"), &Listing { entries }, version);
        found.iter().map(|NewlyRead { registry, path }| format!("{registry} {}", path.display())).collect()
    }

    #[test]
    fn what_others_left_is_named_with_its_registry() {
        let theirs = || directory(&[(HOSTS_TOML, "server = \"https://theirs\"\n")]);
        let ours = directory(&[(HOSTS_TOML, &provenance::mark("mine", "[host.\"https://m\"]\n"))]);
        let all = vec![
            ("quay.io", theirs()),
            ("ghcr.io", ours),
            ("reg_5000_", directory(&[("ca.crt", "")])),
            // hidden by the one before it
            ("reg:5000", theirs()),
            ("_default", theirs()),
            ("empty.io", directory(&[("README", "")])),
            ("file.io", Entry::File),
            ("No Registry", theirs()),
        ];
        let expected = ["_default /c/_default/hosts.toml", "quay.io /c/quay.io/hosts.toml", "reg:5000 /c/reg_5000_"];
        assert_eq!(named(all.clone(), Version::new(1, 7, 35)), expected);
        // 1.6.16 does not look up _default
        assert_eq!(named(all, Version::new(1, 6, 16)), expected[1..]);
    }
}
