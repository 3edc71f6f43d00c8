//! What a host looks like, as far as the plan depends on it. Filled by the host crate, or by hand in a test.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    config_toml::{ConfigError, LoadedConfig},
    containerd::Version,
};

/// Everything that the plan for containerd's configuration depends on.
#[derive(Debug)]
pub struct Observed {
    /// The daemon's release.
    pub containerd: Version,
    /// What kind of host this is.
    pub distribution: Detected,
    /// What starts the daemon.
    pub supervisor: Supervisor,
    /// The daemon's main configuration file, whether it exists or not.
    pub config_file: PathBuf,
    /// What this file and its imports say, or why they cannot be read.
    pub config: Result<LoadedConfig, ConfigError>,
    /// Whether a file can be renamed over the main configuration file.
    pub config_writable: Writable,
    /// The same for each file that it imports.
    pub imports_writable: BTreeMap<PathBuf, Writable>,
    /// Where those of these files lie that are reached through symlinks.
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// Whether files can be written into the directory of hosts.toml files that is or will be in force.
    pub directory_writable: Writable,
    /// Whether the running daemon reads the directory that the files name. Asked only of a live host.
    pub proof: Proof,
}

/// A kind of host, with the file or unit that tells so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// The kind.
    pub distribution: Distribution,
    /// What was seen, for the person who doubts it.
    pub evidence: String,
}

/// The kinds of host that treat containerd's configuration differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// containerd from a package or tarball: kubeadm, deb, rpm.
    Plain,
    /// A KinD node.
    Kind,
    /// K3s, server or agent.
    K3s,
    /// RKE2, server or agent.
    Rke2,
    /// MicroK8s.
    Microk8s,
    /// k0s.
    K0s,
    /// Amazon EKS on Amazon Linux.
    Eks,
    /// Azure AKS.
    Aks,
    /// Google GKE.
    Gke,
    /// Flatcar Container Linux.
    Flatcar,
    /// Bottlerocket.
    Bottlerocket,
    /// Talos Linux.
    Talos,
}

impl Distribution {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Plain,
        Self::Kind,
        Self::K3s,
        Self::Rke2,
        Self::Microk8s,
        Self::K0s,
        Self::Eks,
        Self::Aks,
        Self::Gke,
        Self::Flatcar,
        Self::Bottlerocket,
        Self::Talos,
    ];

    /// Lower-case name, as in NodeMirror status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Kind => "kind",
            Self::K3s => "k3s",
            Self::Rke2 => "rke2",
            Self::Microk8s => "microk8s",
            Self::K0s => "k0s",
            Self::Eks => "eks",
            Self::Aks => "aks",
            Self::Gke => "gke",
            Self::Flatcar => "flatcar",
            Self::Bottlerocket => "bottlerocket",
            Self::Talos => "talos",
        }
    }

    /// The host's own way to set mirrors, where the configuration is generated or read-only and an edit would not last.
    #[must_use]
    pub const fn native_setting(self) -> Option<&'static str> {
        match self {
            Self::Talos => Some("`machine.registries.mirrors` in the Talos machine config"),
            Self::Bottlerocket => Some("`settings.container-registry.mirrors` in the Bottlerocket settings"),
            Self::Gke => Some("`registryHosts` in GKE's containerd node configuration"),
            Self::K3s => Some("`/etc/rancher/k3s/registries.yaml`"),
            Self::Rke2 => Some("`/etc/rancher/rke2/registries.yaml`"),
            Self::Microk8s => Some("`/var/snap/microk8s/current/args/certs.d`"),
            Self::K0s => Some("`config_path` in a drop-in below `/etc/k0s/containerd.d`"),
            Self::Plain | Self::Kind | Self::Eks | Self::Aks | Self::Flatcar => None,
        }
    }

    /// The directory that this kind of host makes its containerd read by each config.toml that it generates: K3s and
    /// RKE2 (pkg/agent/templates of K3s, read at 1.35.0, and seen there). `config_file` is that file, written or not.
    #[must_use]
    pub fn generated_directory(self, config_file: &Path) -> Option<PathBuf> {
        match self {
            Self::K3s | Self::Rke2 => config_file.parent().map(|directory| directory.join("certs.d")),
            _ => None,
        }
    }

    /// The host's own way to set containerd's forward proxy, where a drop-in of a unit is not the way.
    #[must_use]
    pub const fn native_proxy_setting(self) -> Option<&'static str> {
        match self {
            Self::Talos => Some("`machine.env` in the Talos machine config"),
            Self::Bottlerocket => Some("`settings.network.https-proxy` in the Bottlerocket settings"),
            Self::Gke => Some("the proxy of GKE's node network"),
            Self::K3s => Some(
                "`CONTAINERD_HTTP_PROXY`, `CONTAINERD_HTTPS_PROXY` and `CONTAINERD_NO_PROXY` in \
                 `/etc/systemd/system/k3s.service.env` (`k3s-agent.service.env` on an agent)",
            ),
            Self::Rke2 => Some(
                "`CONTAINERD_HTTP_PROXY`, `CONTAINERD_HTTPS_PROXY` and `CONTAINERD_NO_PROXY` in \
                 `/etc/default/rke2-server` (`rke2-agent` on an agent)",
            ),
            Self::Microk8s => Some("`/var/snap/microk8s/current/args/containerd-env`"),
            Self::K0s => Some("`CONTAINERD_HTTPS_PROXY` in a drop-in of k0s's own unit"),
            Self::Plain | Self::Kind | Self::Eks | Self::Aks | Self::Flatcar => None,
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What starts the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Supervisor {
    /// A systemd unit of its own.
    Unit(Unit),
    /// The daemon is a child of another program (K3s, RKE2, MicroK8s, k0s), whose restart is not ours to make.
    Embedded {
        /// The unit or program, for example `k3s.service`.
        by: String,
    },
    /// Files alone were read, of a host that is not running here.
    Offline,
    /// None was found; the sentence says what was looked for.
    Unknown(String),
}

/// The systemd unit of a containerd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// For example `containerd.service`.
    pub name: String,
    /// The daemon's binary, from ExecStart.
    pub binary: PathBuf,
    /// systemd's `KillMode`. Only `process` lets the pods' shims live through a restart.
    pub kill_mode: String,
    /// systemd's InvocationID: another one means that the daemon has restarted since. Hex, 32 digits.
    pub invocation_id: String,
    /// systemd's TimeoutStartUSec in seconds, rounded up; `None` is infinity.
    pub start_timeout_seconds: Option<u64>,
    /// systemd's TimeoutStopUSec in seconds, rounded up; `None` is infinity.
    pub stop_timeout_seconds: Option<u64>,
}

/// Whether a file can be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writable {
    /// It can.
    Yes,
    /// It cannot; the sentence names the directory and says why.
    No(String),
}

/// Whether containerd was seen to read the directory that its configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// Not asked: no daemon here.
    NotAsked,
    /// A pull of a made-up registry arrived at our listener.
    Effective,
    /// It did not; what CRI answered instead.
    NotEffective(String),
    /// It could not be asked; why.
    Failed(String),
}
