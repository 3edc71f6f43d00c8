//! The plan's steps as people read them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{FilePath, Op, TEMPORARY_PREFIX};

/// One change in the directory of hosts.toml files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The registry's directory.
    pub directory: String,
    /// What happens to which file.
    pub what: StepKind,
    /// The host path.
    pub path: PathBuf,
}

/// What happens to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    /// A foreign file is kept as a backup.
    BackUp,
    /// It is written.
    Write,
    /// A foreign file comes back.
    Restore,
    /// It is removed.
    Remove,
}

impl StepKind {
    /// An imperative.
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::BackUp => "back up",
            Self::Write => "write",
            Self::Restore => "restore",
            Self::Remove => "remove",
        }
    }
}

impl Step {
    /// The step in words: `write /etc/containerd/certs.d/docker.io/hosts.toml`.
    #[must_use]
    pub fn words(&self) -> String {
        let Self { directory: _, what, path } = self;
        format!("{} {}", what.verb(), path.display())
    }
}

/// What changes in the end: the names under which directories are filled or emptied are nobody's business.
#[must_use]
pub fn steps(certs_d: &Path, ops: &[Op]) -> Vec<Step> {
    // A directory is filled before it gets its name, and emptied after it has lost it.
    let mut named: BTreeMap<&str, &str> = BTreeMap::new();
    for op in ops {
        if let Op::MoveDirectory { from, to } = op {
            let hidden = |name: &str| name.starts_with(TEMPORARY_PREFIX);
            if hidden(from) {
                named.insert(from, to);
            } else if hidden(to) {
                named.insert(to, from);
            }
        }
    }
    let at = |path: &FilePath, what: StepKind| {
        let directory = named.get(path.directory.as_str()).map_or(path.directory.as_str(), |name| *name);
        Step { directory: directory.to_owned(), what, path: certs_d.join(directory).join(&path.name) }
    };
    ops.iter()
        .filter_map(|op| match op {
            Op::BackUp { path, .. } => Some(at(path, StepKind::BackUp)),
            Op::Write { path, .. } => Some(at(path, StepKind::Write)),
            Op::Restore { path, .. } => Some(at(path, StepKind::Restore)),
            Op::Remove(path) => Some(at(path, StepKind::Remove)),
            Op::CreateDirectory { .. } | Op::MoveDirectory { .. } | Op::RemoveDirectory { .. } => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::files::Bytes;

    #[test]
    fn hidden_names_are_not_shown() {
        let file = |directory: &str| FilePath { directory: directory.to_owned(), name: "hosts.toml".to_owned() };
        let ops = [
            Op::CreateDirectory { name: ".registry-mirror.0".to_owned() },
            Op::Write { path: file(".registry-mirror.0"), content: Bytes(Vec::new()), mode: 0o644 },
            Op::MoveDirectory { from: ".registry-mirror.0".to_owned(), to: "docker.io".to_owned() },
            Op::MoveDirectory { from: "quay.io".to_owned(), to: ".registry-mirror.1".to_owned() },
            Op::Remove(file(".registry-mirror.1")),
            Op::RemoveDirectory { name: ".registry-mirror.1".to_owned() },
        ];
        let shown: Vec<_> = steps(Path::new("/c"), &ops).iter().map(Step::words).collect();
        assert_eq!(shown, ["write /c/docker.io/hosts.toml", "remove /c/quay.io/hosts.toml"]);
    }
}
