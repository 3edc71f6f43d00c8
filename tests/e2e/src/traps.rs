//! Ways to make a node's one restart go wrong for real, and to undo them.

use std::time::Duration;

use anyhow::Result;
use testbed::Node;

use crate::{
    cluster::{CONFIG_TOML, cri_ready},
    until,
};

/// Holds the name of the point at which the agent ends itself (`operator/host/src/fault.rs`).
pub const FAULT_FILE: &str = "/run/registry-mirror-fault";

const DROP_IN: &str = "/etc/systemd/system/containerd.service.d/e2e-trap.conf";
const IMPORTED: &str = "/etc/containerd/e2e-conf.d/broken.toml";

/// What goes wrong at the first start of containerd with `config_path` in its config.toml.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trap {
    /// The unit does not start.
    UnitFails,
    /// The unit starts and containerd runs, but an import breaks its CRI plugin: no pod can be started.
    ImportBreaksCri,
}

impl Trap {
    /// Sets it, in force: containerd is restarted, and the trap springs at a later start. The time-outs of the unit are
    /// shortened, because the guard waits for them.
    ///
    /// # Errors
    /// When the node cannot be written or systemd refuses.
    pub fn set(self, node: &Node) -> Result<()> {
        let pre = match self {
            Self::UnitFails => format!("! grep -q config_path {CONFIG_TOML}"),
            Self::ImportBreaksCri => format!(
                "if grep -q config_path {CONFIG_TOML}; then cp /etc/containerd/e2e-broken {IMPORTED}; else rm -f {IMPORTED}; fi"
            ),
        };
        node.write(
            DROP_IN,
            format!("[Service]\nTimeoutStartSec=5\nTimeoutStopSec=5\nExecStartPre=/bin/sh -c '{pre}'\n"),
        )?;
        if self == Self::ImportBreaksCri {
            node.sh("mkdir -p /etc/containerd/e2e-conf.d")?;
            // A duration that is none: containerd's CRI plugin refuses to load, and containerd goes on without it.
            let broken = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  stream_idle_timeout = \"nonsense\"\n";
            node.write("/etc/containerd/e2e-broken", broken)?;
            let config = String::from_utf8_lossy(&node.read(CONFIG_TOML)?).into_owned();
            let (version, rest) = config.split_once('\n').unwrap_or((&config, ""));
            node.write(CONFIG_TOML, format!("{version}\nimports = [\"/etc/containerd/e2e-conf.d/*.toml\"]\n{rest}"))?;
        }
        restart_with_its_files(node)
    }

    /// Takes away whatever trap is set, and restarts containerd without it. The config.toml that a trap changed is not
    /// put back here.
    ///
    /// # Errors
    /// When systemd refuses.
    pub fn clear(node: &Node) -> Result<()> {
        let was_set = node.exists(DROP_IN);
        node.sh(&format!(
            "rm -rf {DROP_IN} {FAULT_FILE} /etc/containerd/e2e-conf.d /etc/containerd/e2e-broken
             rmdir /etc/systemd/system/containerd.service.d 2>/dev/null || true"
        ))?;
        if was_set { restart_with_its_files(node) } else { Ok(()) }
    }
}

/// Restarts containerd by hand, as whoever changed its files should.
///
/// # Errors
/// When systemd refuses, or containerd does not come up.
pub fn restart_with_its_files(node: &Node) -> Result<()> {
    node.sh(
        "systemctl daemon-reload; systemctl reset-failed containerd.service; systemctl restart containerd.service",
    )?;
    until(&format!("containerd's CRI on {}", node.name()), Duration::from_secs(60), || {
        Ok(cri_ready(node)?.then_some(()))
    })
}
