//! Registry settings that the daemon does not read, with the reason: what people stumble over.

use std::collections::BTreeSet;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    LoadedConfig,
    document::{ConfigFile, location},
    node::{Node, Place},
    version::{Spelling, is_read},
};

/// Something that stands in a file and that the daemon does not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ignored {
    /// The key, dotted.
    pub key: String,
    /// The file, as the host names it.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// A sentence without its full stop.
    pub why: String,
}

pub(crate) fn ignored(config: &LoadedConfig) -> Vec<Ignored> {
    let LoadedConfig { version, files, effective, .. } = config;
    let read: BTreeSet<Place> = effective.registry_node().map(Node::leaves).unwrap_or_default().into_iter().collect();
    let mut found = Vec::new();
    for (index, file) in files.iter().enumerate() {
        for spelling in Spelling::ALL {
            let Some(registry) =
                file.document().root.get("plugins").and_then(|p| p.at(&[spelling.plugin(), "registry"]))
            else {
                continue;
            };
            let leaves = registry.leaves();
            let Some(first) = leaves.iter().min() else {
                continue;
            };
            if leaves.iter().all(|place| !read.contains(place)) {
                found.push(Ignored {
                    key: spelling.display().to_owned(),
                    file: file.path().to_owned(),
                    line: file.document().line(first.start),
                    why: why(config, spelling, index),
                });
            }
        }
    }
    for config in &effective.registry.configs {
        if let Some(place) = config.ignored_tls {
            let (file, line) = location(files, place);
            found.push(Ignored {
                key: format!("registry.configs.\"{}\".tls", config.host),
                file,
                line,
                why: format!("containerd {version} does not know `tls` there (2.0 removed it)"),
            });
        }
    }
    found
}

fn why(config: &LoadedConfig, spelling: Spelling, index: usize) -> String {
    let LoadedConfig { version, files, effective, .. } = config;
    let overridden = || {
        let later = files[index + 1..].iter().find(|file| has(file, spelling.plugin()));
        match later {
            Some(later) => format!("{} is read later and overrides it", later.path().display()),
            None => "a later file overrides it".to_owned(),
        }
    };
    if is_read(*version, spelling, files[index].declared_version(), effective.version) {
        let old_table_wins =
            files.iter().any(|file| has_registry(file, Spelling::Grpc) || has_registry(file, Spelling::Cri));
        return if spelling == Spelling::Images && old_table_wins {
            format!("containerd {version} migrates the registry table of the old CRI plugin over it")
        } else {
            overridden()
        };
    }
    if version.is_v1() {
        let (in_force, plugin) = (effective.version, effective.plugin.plugin());
        return format!("containerd {version} looks at the plugin `{plugin}` where the version is {in_force}");
    }
    let images = Spelling::Images.display();
    format!("containerd {version} does not migrate this table here; it reads `{images}`")
}

fn has(file: &ConfigFile, plugin: &str) -> bool {
    file.document().root.get("plugins").and_then(|plugins| plugins.at(&[plugin])).is_some()
}

fn has_registry(file: &ConfigFile, spelling: Spelling) -> bool {
    let path = [spelling.plugin(), "registry"];
    file.document().root.get("plugins").and_then(|plugins| plugins.at(&path)).is_some()
}
