//! RegistryMirrors from what others configured: K3s's registries.yaml, containerd's old tables, a certs.d tree, Docker's
//! daemon.json.
//!
//! Each format is gathered into the same shape ([`gathered`]), which one place turns into objects ([`objects`]).

mod certs_d;
mod containerd;
mod docker;
mod gathered;
mod k3s;
mod objects;

use std::fmt;

use k8s_openapi::api::core::v1::Secret;
use registry_mirror_crds::RegistryMirror;
use thiserror::Error;

pub use certs_d::{RegistryFile, import as certs_d};
pub use containerd::{ContainerdError, import as containerd};
pub use docker::import as docker;
pub use k3s::import as k3s;

/// The objects, and what they do not say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Imported {
    /// By registry.
    pub mirrors: Vec<RegistryMirror>,
    /// What the mirrors refer to.
    pub secrets: Vec<Secret>,
    /// What a RegistryMirror cannot express and is left out, each a sentence.
    pub left_out: Vec<String>,
    /// What the objects do in another way.
    pub remarks: Vec<Remark>,
}

/// Something that the objects do, and in another way than what they were made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// containerd uses the credentials of config.toml where a pull brings none. A mirror's `auth` becomes a header of
    /// hosts.toml, which is sent with every request, and a 403 is not asked again (seen on 2.4.2).
    CredentialsBeatPullSecrets {
        /// The table, dotted.
        place: String,
    },
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CredentialsBeatPullSecrets { place } => write!(
                f,
                "{place}: containerd uses these credentials only where a pull brings none, but the `auth` of a mirror \
                 goes with every request and beats the pods' own pull secrets; take it out of the object if pods have \
                 some for this registry: on nodes that have the table it stays in config.toml and goes on working"
            ),
        }
    }
}

/// Nothing could be imported.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ImportError {
    /// The text is not what it is taken for.
    #[error("{what} cannot be read: {why}")]
    Syntax {
        /// For example `registries.yaml`.
        what: &'static str,
        /// With the line.
        why: String,
    },
    /// A certificate or key that the text names.
    #[error("{place} names {path}, which cannot be read here: {why}; run the import where the file is, as root")]
    File {
        /// Who names it.
        place: String,
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
}
