//! Adopt, patch, migrate or leave alone: what containerd's configuration needs so that a directory of hosts.toml files
//! is read.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    config_toml::{self, Edit, LoadedConfig, MigratedRegistry, Need},
    observed::{Distribution, Observed, Proof, Supervisor, Unit, Writable},
};

/// The directory that is set where none is (the one that containerd's own documentation names).
pub const DEFAULT_DIRECTORY: &str = "/etc/containerd/certs.d";

/// Where containerd looks for its configuration when it is not told otherwise.
const DEFAULT_CONFIG_FILE: &str = "/etc/containerd/config.toml";

/// What containerd's configuration needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigPlan {
    /// An effective directory exists: use it.
    Adopt {
        /// The directory: the first one that containerd searches.
        directory: PathBuf,
        /// Those that it searches after it, in order.
        then: Vec<PathBuf>,
        /// Why, in a sentence.
        reason: String,
    },
    /// Set `config_path`; the daemon restarts once.
    Patch {
        /// The directory.
        directory: PathBuf,
        /// The edit; `None` where the file is right already and only the daemon has not read it yet.
        edit: Option<Edit>,
        /// Why, in a sentence.
        reason: String,
    },
    /// Set `config_path` and carry the legacy tables over into hosts.toml; the daemon restarts once.
    Migrate {
        /// The directory.
        directory: PathBuf,
        /// The edit, which also comments the old tables out.
        edit: Edit,
        /// What stood in the old tables.
        registries: Vec<MigratedRegistry>,
        /// Why, in a sentence.
        reason: String,
    },
    /// It cannot be done safely here.
    Unsupported {
        /// Why, and what to do instead, in a sentence.
        reason: String,
    },
}

/// Names one plan: an approval for one is none for another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanHash(String);

impl PlanHash {
    /// The longest that an approval takes, as in the CRD.
    const LONGEST: usize = 128;

    /// As the agent wrote it.
    #[must_use]
    pub const fn new(hash: String) -> Self {
        Self(hash)
    }

    /// From NodeMirror status; `None` where no approval could name it.
    #[must_use]
    pub fn from_status(hash: &str) -> Option<Self> {
        (1..=Self::LONGEST).contains(&hash.len()).then(|| Self(hash.to_owned()))
    }

    /// As it stands in NodeMirror status: 16 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PlanHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ConfigPlan {
    /// `Adopt`, `Patch`, `Migrate` or `Unsupported`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Adopt { .. } => "Adopt",
            Self::Patch { .. } => "Patch",
            Self::Migrate { .. } => "Migrate",
            Self::Unsupported { .. } => "Unsupported",
        }
    }

    /// Whether the daemon must restart before the directory is read.
    #[must_use]
    pub const fn needs_restart(&self) -> bool {
        matches!(self, Self::Patch { .. } | Self::Migrate { .. })
    }

    /// Why, in a sentence.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Adopt { reason, .. }
            | Self::Patch { reason, .. }
            | Self::Migrate { reason, .. }
            | Self::Unsupported { reason } => reason,
        }
    }

    /// The directory of hosts.toml files; `None` where the host is left alone.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Adopt { directory, .. } | Self::Patch { directory, .. } | Self::Migrate { directory, .. } => {
                Some(directory)
            }
            Self::Unsupported { .. } => None,
        }
    }

    /// Every directory that containerd searches with this plan, in its order; none where the host is left alone.
    #[must_use]
    pub fn roots(&self) -> Vec<PathBuf> {
        let then = match self {
            Self::Adopt { then, .. } => then.as_slice(),
            Self::Patch { .. } | Self::Migrate { .. } | Self::Unsupported { .. } => &[],
        };
        self.directory().map(Path::to_owned).into_iter().chain(then.iter().cloned()).collect()
    }

    /// The edit, where there is one.
    #[must_use]
    pub const fn edit(&self) -> Option<&Edit> {
        match self {
            Self::Patch { edit, .. } => edit.as_ref(),
            Self::Migrate { edit, .. } => Some(edit),
            Self::Adopt { .. } | Self::Unsupported { .. } => None,
        }
    }

    /// The old registry tables that the edit takes out of the file.
    #[must_use]
    pub fn migrated(&self) -> &[MigratedRegistry] {
        match self {
            Self::Migrate { registries, .. } => registries,
            Self::Adopt { .. } | Self::Patch { .. } | Self::Unsupported { .. } => &[],
        }
    }

    /// Two plans with the same hash do the same to the same bytes.
    #[must_use]
    pub fn hash(&self) -> PlanHash {
        self.hash_with(&[])
    }

    /// The same with what else the restart brings into force.
    pub(super) fn hash_with(&self, more: &[&[u8]]) -> PlanHash {
        let mut hasher = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        field(self.kind().as_bytes());
        if let Some(directory) = self.directory() {
            field(directory.as_os_str().as_encoded_bytes());
        }
        if let Some(edit) = self.edit() {
            field(edit.file.as_os_str().as_encoded_bytes());
            field(edit.before.as_deref().unwrap_or_default());
            field(&edit.after);
        }
        if let Self::Unsupported { reason } = self {
            // Another reason is another trouble, for those who remember one by its plan.
            field(reason.as_bytes());
        }
        more.iter().for_each(|bytes| field(bytes));
        PlanHash(hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }
}

/// The directory that containerd will read from its first start on, where the host generates the whole configuration
/// at each start and has not done so yet.
#[must_use]
pub fn before_first_start(distribution: Distribution, config: &LoadedConfig) -> Option<PathBuf> {
    let is_absent = config.files().next().is_none();
    is_absent.then(|| distribution.generated_directory(config.main())).flatten()
}

/// Decides what containerd's configuration needs.
///
/// `date` (`2026-11-21`) goes into the comments that a migration leaves behind.
#[must_use]
pub fn plan_config(observed: &Observed, date: &str) -> ConfigPlan {
    let Observed {
        containerd,
        distribution,
        supervisor,
        config_file,
        config,
        config_writable,
        imports_writable,
        links,
        directory_writable,
        proof,
    } = observed;
    let unsupported = |reason: String| ConfigPlan::Unsupported { reason };

    if let Some(reason) = managed(distribution.distribution) {
        return unsupported(reason);
    }

    let config = match config {
        Ok(config) => config,
        Err(error) => return unsupported(error.to_string()),
    };
    let analysis = config.analyze();
    if let Some(disabled) = &analysis.cri_disabled {
        return unsupported(format!(
            "{disabled} disables containerd's CRI plugin, so no Kubernetes node pulls through this containerd: take \
             `cri` out of `disabled_plugins` and restart containerd"
        ));
    }

    let restart_allowed = || restart_refusal(distribution.distribution, supervisor, config_file);
    // An import may be edited instead of the main file; whoever writes asks the same of the same file.
    let edit_allowed = |edit: &Edit| {
        let writable = if edit.file == *config_file { Some(config_writable) } else { imports_writable.get(&edit.file) };
        edit_refusal(distribution.distribution, &edit.file, links.get(&edit.file), writable)
    };
    let need = match before_first_start(distribution.distribution, config) {
        Some(directory) => {
            let kind = distribution.distribution;
            let why = format!("{kind} sets `config_path` to {} at each start", directory.display());
            Need::Nothing { directory, then: Vec::new(), why }
        }
        None => analysis.need(Path::new(DEFAULT_DIRECTORY)),
    };
    if let Writable::No(why) = directory_writable {
        let native = instead(distribution.distribution);
        return unsupported(format!("no file can be written into {}: {why}{native}", need.directory().display()));
    }
    match need {
        Need::Nothing { directory, then, why } => match proof {
            Proof::Effective | Proof::NotAsked => ConfigPlan::Adopt { directory, then, reason: why },
            Proof::NotEffective(said) => {
                let why = format!(
                    "{} names {}, but the running containerd does not read it ({said}): it has not restarted since \
                     the file changed",
                    config_file.display(),
                    directory.display()
                );
                match restart_allowed() {
                    None => ConfigPlan::Patch { directory, edit: None, reason: why },
                    Some(refusal) => unsupported(format!("{why}; {refusal}")),
                }
            }
            Proof::Failed(why) => unsupported(format!(
                "whether containerd {containerd} reads {} could not be proved: {why}; it is asked again shortly",
                directory.display()
            )),
        },
        Need::Patch { directory, why } => match restart_allowed() {
            Some(refusal) => unsupported(format!("{why}; {refusal}")),
            None => match config_toml::patch(config, &directory) {
                Ok(edit) => match edit_allowed(&edit) {
                    None => ConfigPlan::Patch { directory, edit: Some(edit), reason: why },
                    Some(refusal) => unsupported(format!("{why}; {refusal}")),
                },
                Err(error) => unsupported(error.to_string()),
            },
        },
        Need::Migrate { directory, why } => match restart_allowed() {
            Some(refusal) => unsupported(format!("{why}; {refusal}")),
            None => match config_toml::migrate(config, &directory, date) {
                Ok((edit, registries)) => match edit_allowed(&edit) {
                    None => ConfigPlan::Migrate { directory, edit, registries, reason: why },
                    Some(refusal) => unsupported(format!("{why}; {refusal}")),
                },
                Err(error) => unsupported(error.to_string()),
            },
        },
    }
}

/// Why nothing is written on a host whose vendor sets all of containerd's registries; `None` on the others.
fn managed(distribution: Distribution) -> Option<String> {
    let why = match distribution {
        Distribution::Talos => "is set up by its machine config alone, and /etc is read-only",
        Distribution::Bottlerocket => "writes containerd's files anew from its settings at each boot",
        Distribution::Gke => "manages containerd's registry directories itself and may overwrite what others put there",
        Distribution::Plain
        | Distribution::Kind
        | Distribution::K3s
        | Distribution::Rke2
        | Distribution::Microk8s
        | Distribution::K0s
        | Distribution::Eks
        | Distribution::Aks
        | Distribution::Flatcar => return None,
    };
    Some(format!("a {distribution} node {why}{}", instead(distribution)))
}

/// What to do on this kind of host instead, as the end of a sentence.
fn instead(distribution: Distribution) -> String {
    match distribution.native_setting() {
        Some(setting) => format!("; set the mirrors with {setting} instead"),
        None => String::new(),
    }
}

/// Why this host's containerd must not be edited and restarted, or `None` where it may.
fn restart_refusal(distribution: Distribution, supervisor: &Supervisor, config_file: &Path) -> Option<String> {
    let native = || instead(distribution);
    match distribution {
        Distribution::Talos
        | Distribution::Bottlerocket
        | Distribution::Gke
        | Distribution::K3s
        | Distribution::Rke2
        | Distribution::Microk8s
        | Distribution::K0s => {
            return Some(format!(
                "{distribution} generates {} itself and would undo an edit{}",
                config_file.display(),
                native()
            ));
        }
        Distribution::Plain | Distribution::Kind | Distribution::Eks | Distribution::Aks | Distribution::Flatcar => {}
    }
    match supervisor {
        Supervisor::Unit(Unit { name, kill_mode, .. }) if kill_mode != "process" => Some(format!(
            "a restart is not safe: {name} has KillMode={kill_mode}, which kills the running pods; set \
                 KillMode=process in the unit, or set `config_path` by hand and restart containerd when the node is \
                 drained"
        )),
        Supervisor::Embedded { by } => {
            Some(format!("containerd is a child of {by}, which is not the operator's to restart{}", native()))
        }
        Supervisor::Unknown(why) => Some(format!("containerd cannot be restarted: {why}")),
        Supervisor::Unit(_) | Supervisor::Offline => None,
    }
}

/// Why a configuration file must not be replaced, or `None` where it may. `link` is where it lies, where a symlink leads
/// there.
fn edit_refusal(
    distribution: Distribution,
    file: &Path,
    link: Option<&PathBuf>,
    writable: Option<&Writable>,
) -> Option<String> {
    let place = link.map_or(file, PathBuf::as_path);
    let named = match link {
        Some(place) => format!("{}, a link to {},", file.display(), place.display()),
        None => file.display().to_string(),
    };
    if place.starts_with("/nix/store") {
        return Some(format!(
            "{named} is built from the system's declaration and is replaced with it: set `virtualisation.containerd.\
             settings` in the NixOS configuration instead"
        ));
    }
    if place.starts_with("/usr") {
        // Flatcar's sysext, and packages that ship the file.
        let instead = match link {
            Some(_) => "put a copy of it in the place of the link".to_owned(),
            None => format!(
                "copy it to {DEFAULT_CONFIG_FILE} and let a drop-in of containerd's unit start it with the copy (on \
                 Flatcar: Environment=CONTAINERD_CONFIG={DEFAULT_CONFIG_FILE})"
            ),
        };
        return Some(format!("{named} belongs to the system's image and is replaced by its updates: {instead}"));
    }
    match writable {
        Some(Writable::No(why)) => Some(format!("{named} cannot be replaced: {why}{}", instead(distribution))),
        Some(Writable::Yes) | None => None,
    }
}

#[cfg(test)]
mod tests;
