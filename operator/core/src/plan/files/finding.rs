//! What people should know about the files of a node, in sentences.

use std::{fmt, path::PathBuf};

use jiff::Timestamp;

use crate::{plan::put_backs::Quarrel, registry::RegistryName};

use super::{BackupId, HOSTS_TOML};

/// Something about one path. Its text is for status, Events and the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The RegistryMirror that it concerns.
    pub object: String,
    /// The host path.
    pub path: PathBuf,
    /// What it is.
    pub what: What,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A foreign hosts.toml gave way; it comes back when the object goes.
    BackedUp {
        /// The copy.
        backup: BackupId,
    },
    /// A file of ours was changed by somebody and is put back.
    Drift(DriftKind),
    /// Somebody changes files of ours in a directory again and again; they stand as they should.
    Contested {
        /// Since when, and how often.
        quarrel: Quarrel,
    },
    /// Somebody has changed a file of ours again, soon after it had been put back: it is put back after a pause.
    Waits {
        /// How it was changed this time.
        kind: DriftKind,
        /// Since when this goes on, and how often.
        quarrel: Quarrel,
        /// The end of the pause.
        until: Timestamp,
    },
    /// Something stands in the way that must not be replaced.
    Blocked(Obstacle),
    /// Another program writes this registry's directory.
    Claimed {
        /// The registry.
        registry: RegistryName,
        /// That program's file.
        by: String,
    },
    /// The file in which another program names its registries cannot be understood.
    ClaimsUnknown {
        /// What is wrong with it.
        why: String,
    },
    /// Files of ours for a registry are read instead of `_default`, behind which another program's peers are.
    Bypasses {
        /// That program.
        program: String,
    },
    /// The hosts.toml of this directory is not read any more, because containerd looks into ours first.
    Hidden {
        /// Our directory.
        by: PathBuf,
    },
    /// Certificates and keys of this directory, of which our hosts.toml names copies: containerd reads them themselves
    /// only while there is no hosts.toml.
    Carried {
        /// Their names.
        files: Vec<String>,
        /// Our directory.
        by: PathBuf,
    },
    /// The same, but containerd could not read them.
    Unreadable {
        /// Their names.
        files: Vec<String>,
    },
    /// A backup was not put back, because our file had been replaced or removed meanwhile.
    NotRestored {
        /// The copy.
        backup: BackupId,
    },
}

/// How a file of ours was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriftKind {
    /// Its content was edited.
    Edited,
    /// Another file took its place.
    Replaced,
    /// It was removed.
    Removed,
    /// Its permissions or its owner were changed, its content was not.
    Attributes,
}

impl DriftKind {
    const fn words(self) -> &'static str {
        match self {
            Self::Edited => "was edited",
            Self::Replaced => "was replaced",
            Self::Removed => "was removed",
            Self::Attributes => "was given other permissions or another owner",
        }
    }
}

/// What must not be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// A regular file, socket, device or pipe where the registry's directory should be.
    NotADirectory,
    /// A symbolic link where the registry's directory should be.
    SymlinkedDirectory {
        /// What it says.
        target: String,
    },
    /// A directory, socket, device or pipe where a file should be, or a file too large to be copied.
    NotAFile,
}

impl Finding {
    /// Whether it belongs into the `Conflicts` condition: somebody else has a say about the file. The rest are events
    /// and notes.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        match self.what {
            What::BackedUp { .. }
            | What::Contested { .. }
            | What::Waits { .. }
            | What::Blocked(_)
            | What::Claimed { .. }
            | What::ClaimsUnknown { .. }
            | What::Hidden { .. }
            | What::Unreadable { .. } => true,
            What::Drift(_) | What::Carried { .. } | What::NotRestored { .. } | What::Bypasses { .. } => false,
        }
    }

    /// Whether somebody changed what was ours: it happened once and is told once.
    #[must_use]
    pub const fn is_drift(&self) -> bool {
        matches!(self.what, What::Drift(_) | What::NotRestored { .. })
    }

    /// Whether it is a note: nothing is in anybody's way, and nothing is lost.
    #[must_use]
    pub const fn is_note(&self) -> bool {
        matches!(self.what, What::Carried { .. } | What::Bypasses { .. })
    }

    /// Whether the object's files could not be put in place.
    #[must_use]
    pub const fn prevents(&self) -> bool {
        self.is_away() || matches!(self.what, What::Blocked(_) | What::Claimed { .. })
    }

    /// Whether a file of ours is not there as containerd should read it, until it is put back.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        match &self.what {
            What::Waits { kind, .. } => match kind {
                DriftKind::Edited | DriftKind::Replaced | DriftKind::Removed => true,
                DriftKind::Attributes => false,
            },
            _ => false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, path, what } = self;
        let path = path.display();
        match what {
            What::BackedUp { backup } => write!(
                f,
                "{path} was there before RegistryMirror/{object} and was not written by the operator: it is kept as \
                 backup {backup} and comes back when the object is deleted"
            ),
            What::Drift(DriftKind::Edited) => {
                write!(f, "{path} was edited; it is put back: change RegistryMirror/{object} instead")
            }
            What::Drift(DriftKind::Replaced) => write!(
                f,
                "{path} was replaced by a file that is not the operator's; that file is kept as a backup and \
                 RegistryMirror/{object} is put back: delete the object to hand the registry over"
            ),
            What::Drift(DriftKind::Removed) => {
                write!(f, "{path} was removed; it is put back: delete RegistryMirror/{object} to be rid of it")
            }
            What::Drift(DriftKind::Attributes) => {
                write!(f, "{path} was given other permissions or another owner; they are put back")
            }
            What::Contested { quarrel } => write!(
                f,
                "another program changes files of the operator in {path}, which were put back {quarrel}: stop that \
                 program from writing them, or delete RegistryMirror/{object}"
            ),
            What::Waits { kind, quarrel, until } => write!(
                f,
                "{path} {} although files of this directory were put back {quarrel}; so that no two programs write it \
                 without end, it waits and is put back at {}: stop the program that changes it, or delete \
                 RegistryMirror/{object}",
                kind.words(),
                until.strftime("%Y-%m-%d %H:%M:%SZ")
            ),
            What::Blocked(Obstacle::NotADirectory) => write!(
                f,
                "{path} is not a directory, so containerd cannot pull from that registry at all and \
                 RegistryMirror/{object} is not applied: move it away"
            ),
            What::Blocked(Obstacle::SymlinkedDirectory { target }) => write!(
                f,
                "{path} is a symbolic link to {target}; files are not written through it and RegistryMirror/{object} \
                 is not applied: replace the link by a directory"
            ),
            What::Blocked(Obstacle::NotAFile) => write!(
                f,
                "{path} is not a regular file of a sensible size, and RegistryMirror/{object} is not applied: move it \
                 away"
            ),
            What::Claimed { registry, by } => {
                // The key of registries.yaml.
                let named = if registry.is_default() { "\"*\"" } else { registry.as_str() };
                write!(
                    f,
                    "{named} is configured in {by}, whose program writes {path} itself; RegistryMirror/{object} is not \
                     applied: take {named} out of {by} and restart that program first"
                )
            }
            What::Bypasses { program } => write!(
                f,
                "{program} shares images between nodes for \"*\" (embedded-registry); RegistryMirror/{object} takes its \
                 registry out of that, because containerd reads {path} instead: name the registry in registries.yaml \
                 instead if the nodes are to share its images"
            ),
            What::ClaimsUnknown { why } => write!(
                f,
                "{path} cannot be understood ({why}), so the registries that its program keeps for itself are not known; \
                 that program may remove their files at its next start: correct the file"
            ),
            What::Hidden { by } => write!(
                f,
                "{path}/{HOSTS_TOML} is not read while RegistryMirror/{object} is there, because containerd looks into {} \
                 first; it stays as it is: add to the object what is still needed of it",
                by.display()
            ),
            What::Carried { files, by } => write!(
                f,
                "what {path} holds for the registry itself ({}) goes on counting: {}/{HOSTS_TOML} names copies",
                files.join(", "),
                by.display()
            ),
            What::Unreadable { files } => write!(
                f,
                "{} of {path} cannot be read as a certificate or key, which ends every pull of that registry; the \
                 hosts.toml of RegistryMirror/{object} does without: correct or remove what is wrong",
                files.join(", ")
            ),
            What::NotRestored { backup } => write!(
                f,
                "{path} was replaced or removed by somebody else after RegistryMirror/{object} had been written; it \
                 stays so, and what stood there before the operator is kept as backup {backup}"
            ),
        }
    }
}
