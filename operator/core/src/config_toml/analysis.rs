//! What a configuration means for this project: is hosts.toml read, from where, and what stands in the way.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    LoadedConfig,
    document::location,
    ignored::{Ignored, ignored},
    merge::Effective,
    node::Place,
    pull_path::{PullPath, pull_path},
    version::{Spelling, for_new_file, is_read},
};
use crate::containerd::Version;

/// The default of 2.2+ (containerd plugins/cri/images/plugin.go).
const DEFAULT_CONFIG_PATH: &str = "/etc/containerd/certs.d:/etc/docker/certs.d";

/// A value and where it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Never a secret.
    pub value: String,
    /// The file, as the host names it.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { value, file, line } = self;
        write!(f, "`{value}` in {}:{line}", file.display())
    }
}

/// Old registry settings beside `config_path`, by the name of the registry or host; never their values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Legacy {
    /// `registry.mirrors`.
    pub mirrors: Vec<Origin>,
    /// `registry.configs.*.tls` where the daemon reads it (1.x).
    pub configs_tls: Vec<Origin>,
    /// `registry.configs.*.auth`.
    pub configs_auth: Vec<Origin>,
    /// `registry.auths`.
    pub auths: Vec<Origin>,
    /// `registry.headers`: sent to all registries, allowed beside `config_path`.
    pub headers: Vec<Origin>,
}

/// Whether hosts.toml files are read, and from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effectiveness {
    /// One absolute directory: it works on every version.
    Directory(PathBuf),
    /// A colon list that works, because this daemon splits it (up to 2.0, or with a local-pull trigger). In order.
    List(Vec<PathBuf>),
    /// A colon list that 2.1+ takes for one directory, which does not exist: every hosts.toml is ignored.
    ColonTrap {
        /// The list as it stands.
        value: String,
        /// Its first directory.
        first: PathBuf,
    },
    /// Not set, and the daemon has no default: hosts.toml is not read at all.
    Unset,
    /// Not set; the default list of 2.2+ is read because a local-pull trigger is set. Its directories, in order.
    UnsetDefaultWorks(Vec<PathBuf>),
    /// Not set; the default list of 2.2+ falls into the colon trap. Its first directory.
    UnsetDefaultTrapped(PathBuf),
    /// A relative or empty directory: what it means depends on the daemon's working directory.
    NotAbsolute(String),
    /// `config_path` (set or by default) beside what may not stand beside it: CRI does not load with these files.
    Conflict {
        /// The key that may not stand there, dotted.
        key: String,
        /// The file, as the host names it.
        file: PathBuf,
        /// From 1.
        line: usize,
    },
}

impl Effectiveness {
    /// The directory to adopt: hosts.toml files put there are read as things stand.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(directory) => Some(directory),
            Self::List(directories) | Self::UnsetDefaultWorks(directories) => directories.first().map(PathBuf::as_path),
            Self::ColonTrap { .. }
            | Self::Unset
            | Self::UnsetDefaultTrapped(_)
            | Self::NotAbsolute(_)
            | Self::Conflict { .. } => None,
        }
    }
}

/// What the files say to the daemon that reads them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Analysis {
    /// The daemon.
    pub version: Version,
    /// The main file's `version`; `None` where it has none or does not exist.
    pub declared_version: Option<u32>,
    /// All files that were read, the main file first; empty where it does not exist.
    pub files: Vec<PathBuf>,
    /// The registry table that is in force or would be added, as it is written in a header.
    pub table: String,
    /// `config_path` where it is set, also to the empty string.
    pub config_path: Option<Origin>,
    /// Whether hosts.toml is read.
    pub effectiveness: Effectiveness,
    /// Old settings that are in force.
    pub legacy: Legacy,
    /// Which code pulls images.
    pub pull_path: PullPath,
    /// The entry of `disabled_plugins` that disables CRI.
    pub cri_disabled: Option<Origin>,
    /// Settings of the registry that look as if they did something.
    pub ignored: Vec<Ignored>,
}

impl Analysis {
    /// The first old setting that keeps CRI from loading beside `config_path`: `mirrors` on every version,
    /// `configs.*.tls` on 1.x.
    #[must_use]
    pub fn in_the_way(&self) -> Option<Origin> {
        let dotted = |what: &str, origin: &Origin, suffix: &str| Origin {
            value: format!("registry.{what}.\"{}\"{suffix}", origin.value),
            ..origin.clone()
        };
        let mirror = self.legacy.mirrors.first().map(|origin| dotted("mirrors", origin, ""));
        mirror.or_else(|| self.legacy.configs_tls.first().map(|origin| dotted("configs", origin, ".tls")))
    }
}

pub(crate) fn analyze(config: &LoadedConfig) -> Analysis {
    let LoadedConfig { version, files, effective, .. } = config;
    let version = *version;
    let origin = |value: &str, place: Place| {
        let (file, line) = location(files, place);
        Origin { value: value.to_owned(), file, line }
    };
    let registry = &effective.registry;
    let legacy = Legacy {
        mirrors: registry.mirrors.iter().map(|mirror| origin(&mirror.name, mirror.place)).collect(),
        configs_tls: registry
            .configs
            .iter()
            .filter_map(|config| Some(origin(&config.host, config.tls.as_ref()?.1)))
            .collect(),
        configs_auth: registry
            .configs
            .iter()
            .filter_map(|config| Some(origin(&config.host, config.auth.as_ref()?.1)))
            .collect(),
        auths: registry.auths.iter().map(|(name, _, place)| origin(name, *place)).collect(),
        headers: registry.headers.iter().map(|(name, place)| origin(name, *place)).collect(),
    };
    let mut analysis = Analysis {
        version,
        declared_version: files.first().and_then(super::ConfigFile::declared_version),
        files: files.iter().map(|file| file.path().to_owned()).collect(),
        table: table_in_force(config).display().to_owned(),
        config_path: registry.config_path.as_ref().map(|(value, place)| origin(value, *place)),
        effectiveness: Effectiveness::Unset,
        legacy,
        pull_path: pull_path(config),
        cri_disabled: cri_disabled(effective, version).map(|(name, place)| origin(name, place)),
        ignored: ignored(config),
    };
    analysis.effectiveness = effectiveness(&analysis);
    analysis
}

fn effectiveness(analysis: &Analysis) -> Effectiveness {
    let Analysis { version, config_path, pull_path, .. } = analysis;
    let conflict = |Origin { value, file, line }| Effectiveness::Conflict { key: value, file, line };
    let set = config_path.as_ref().map(|origin| origin.value.as_str()).filter(|value| !value.is_empty());
    if let Some(value) = set {
        if let Some(in_the_way) = analysis.in_the_way() {
            return conflict(in_the_way);
        }
        // Go's filepath.SplitList; empty parts name no directory
        let parts: Vec<PathBuf> = value.split(':').filter(|part| !part.is_empty()).map(PathBuf::from).collect();
        let Some(first) = parts.first().filter(|_| parts.iter().all(|part| part.is_absolute())) else {
            return Effectiveness::NotAbsolute(value.to_owned());
        };
        return if !value.contains(':') {
            Effectiveness::Directory(first.clone())
        } else if pull_path.is_local() {
            Effectiveness::List(parts)
        } else {
            Effectiveness::ColonTrap { value: value.to_owned(), first: first.clone() }
        };
    }
    if !version.defaults_to_colon_list() {
        return Effectiveness::Unset;
    }
    if let Some(mirror) = analysis.in_the_way() {
        // 2.2.0 and 2.2.1 set the default beside `mirrors` and then refuse their own result
        return if version.defaults_only_without_mirrors() { Effectiveness::Unset } else { conflict(mirror) };
    }
    let parts: Vec<PathBuf> = DEFAULT_CONFIG_PATH.split(':').map(PathBuf::from).collect();
    if pull_path.is_local() {
        Effectiveness::UnsetDefaultWorks(parts)
    } else {
        Effectiveness::UnsetDefaultTrapped(parts.into_iter().next().unwrap_or_default())
    }
}

/// On 1.x plugins are disabled by ID in version 1 and by URI in version 2; 2.x has two more CRI plugins.
fn cri_disabled(effective: &Effective, version: Version) -> Option<(&str, Place)> {
    let names: &[&str] = match (version.is_v1(), effective.version) {
        (true, 1) => &["cri"],
        (true, _) => &["io.containerd.grpc.v1.cri"],
        (false, _) => &["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"],
    };
    effective
        .disabled
        .iter()
        .find(|disabled| names.contains(&disabled.name.as_str()))
        .map(|disabled| (disabled.written.as_str(), disabled.place))
}

/// The table that holds `config_path`, or any registry setting in force, or that would be added.
fn table_in_force(config: &LoadedConfig) -> Spelling {
    let LoadedConfig { version, files, effective, .. } = config;
    let place = match (&effective.registry.config_path, effective.registry_node()) {
        (Some((_, place)), _) => Some(*place),
        (None, Some(node)) => Some(node.leaves().first().copied().unwrap_or(node.place)),
        (None, None) => None,
    };
    if let Some(spelling) = place.and_then(|place| spelling_at(files, place)) {
        return spelling;
    }
    let Some(main) = files.first() else {
        return Spelling::for_new_table(*version, Some(for_new_file(*version)));
    };
    let has_plugin = |spelling: &Spelling| {
        files.iter().any(|file| {
            let plugins = file.document().root.get("plugins");
            is_read(*version, *spelling, file.declared_version(), effective.version)
                && plugins.and_then(|plugins| plugins.at(&[spelling.plugin()])).is_some()
        })
    };
    let declared = if version.is_v1() { Some(effective.version) } else { main.declared_version() };
    let new = Spelling::for_new_table(*version, declared);
    Spelling::ALL.into_iter().find(has_plugin).unwrap_or(new)
}

/// Under which spelling of the registry table the value at a place stands in its file.
pub(crate) fn spelling_at(files: &[super::ConfigFile], place: Place) -> Option<Spelling> {
    let file = files.get(place.file)?;
    let plugins = file.document().root.get("plugins")?;
    Spelling::ALL
        .into_iter()
        .find(|spelling| plugins.at(&[spelling.plugin(), "registry"]).is_some_and(|registry| registry.contains(place)))
}
