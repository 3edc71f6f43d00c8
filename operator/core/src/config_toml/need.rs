//! The verdict on an analysis: what the configuration needs so that hosts.toml files are read.

use std::path::{Path, PathBuf};

use super::{
    analysis::{Analysis, Effectiveness, Origin},
    pull_path::PullPath,
};

/// What a configuration needs, with the reason as a sentence without its full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// Nothing: hosts.toml files in this directory are read as things stand.
    Nothing {
        /// The directory to adopt: the first one that containerd searches.
        directory: PathBuf,
        /// Those that it searches after it, in order.
        then: Vec<PathBuf>,
        /// Why it works.
        why: String,
    },
    /// [`super::patch`] with this directory.
    Patch {
        /// The directory to set.
        directory: PathBuf,
        /// Why nothing is read now.
        why: String,
    },
    /// [`super::migrate`] with this directory: old settings stand in the way.
    Migrate {
        /// The directory to set.
        directory: PathBuf,
        /// What stands in the way.
        why: String,
    },
}

impl Need {
    /// The directory that will hold the hosts.toml files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        match self {
            Self::Nothing { directory, .. } | Self::Patch { directory, .. } | Self::Migrate { directory, .. } => {
                directory
            }
        }
    }
}

impl Analysis {
    /// What is needed; `default` is the directory to set where the files name none.
    #[must_use]
    pub fn need(&self, default: &Path) -> Need {
        let version = self.version;
        let at = |origin: &Option<Origin>| {
            origin.as_ref().map_or_else(String::new, |o| format!(" ({}:{})", o.file.display(), o.line))
        };
        if let Some(Origin { value, file, line }) = self.in_the_way() {
            let directory = match &self.config_path {
                Some(origin) => first_absolute(&origin.value).unwrap_or_else(|| default.to_owned()),
                None => default.to_owned(),
            };
            let why = format!(
                "{}:{line} sets `{value}`, which containerd {version} does not accept beside `config_path`",
                file.display()
            );
            return Need::Migrate { directory, why };
        }
        let trigger = match &self.pull_path {
            PullPath::Local { trigger, file, line } => {
                let file = file.display();
                format!(" because `{trigger}` in {file}:{line} makes it pull without the transfer service")
            }
            PullPath::OnlyLocal | PullPath::Transfer => String::new(),
        };
        match &self.effectiveness {
            Effectiveness::Directory(directory) => Need::Nothing {
                directory: directory.clone(),
                then: Vec::new(),
                why: format!("`config_path` is {} already{}", directory.display(), at(&self.config_path)),
            },
            Effectiveness::List(directories) => {
                let Some((first, then)) = directories.split_first() else {
                    return Need::Patch {
                        directory: default.to_owned(),
                        why: "`config_path` names no directory".to_owned(),
                    };
                };
                Need::Nothing {
                    directory: first.clone(),
                    then: then.to_vec(),
                    why: format!(
                        "`config_path` is a list{}, which containerd {version} reads{trigger}; its first directory \
                             is {}",
                        at(&self.config_path),
                        first.display()
                    ),
                }
            }
            Effectiveness::UnsetDefaultWorks(directories) => {
                let (first, then) = match directories.split_first() {
                    Some((first, then)) => (first.clone(), then.to_vec()),
                    None => (default.to_owned(), Vec::new()),
                };
                let why = format!(
                    "`config_path` is not set, and containerd {version} reads {} by default{trigger}",
                    first.display()
                );
                Need::Nothing { directory: first, then, why }
            }
            Effectiveness::ColonTrap { value, first } => Need::Patch {
                directory: first.clone(),
                why: format!(
                    "containerd {version} takes the list `{value}` in `config_path`{} for one directory, so no \
                         hosts.toml is read",
                    at(&self.config_path)
                ),
            },
            Effectiveness::UnsetDefaultTrapped(first) => Need::Patch {
                directory: first.clone(),
                why: format!(
                    "`config_path` is not set, and containerd {version} takes its default, a list, for one \
                         directory, so no hosts.toml is read"
                ),
            },
            Effectiveness::Unset => Need::Patch {
                directory: default.to_owned(),
                why: format!("`config_path` is not set, so containerd {version} reads no hosts.toml"),
            },
            Effectiveness::NotAbsolute(value) => Need::Patch {
                directory: default.to_owned(),
                why: format!("`config_path` is `{value}`{}, which is no absolute directory", at(&self.config_path)),
            },
            Effectiveness::Conflict { key, file, line } => Need::Migrate {
                directory: default.to_owned(),
                why: format!(
                    "{}:{line} sets `{key}`, which containerd {version} does not accept beside `config_path`",
                    file.display()
                ),
            },
        }
    }
}

fn first_absolute(value: &str) -> Option<PathBuf> {
    value.split(':').map(PathBuf::from).find(|path| path.is_absolute())
}
