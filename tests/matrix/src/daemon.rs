//! containerd on a node: its starts, its plugins, and a fresh beginning.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::{Node, wait};

/// How often containerd has started since the node's boot, restarts by systemd included.
pub(crate) fn starts(node: &Node) -> Result<usize> {
    let count =
        node.sh("journalctl --quiet --unit=containerd.service --output=cat | grep -c 'starting containerd' || true")?;
    count.trim().parse().with_context(|| format!("`{count}` is no number of starts"))
}

/// What systemd says of the daemon's run: another InvocationID is another start, NRestarts counts crashes.
pub(crate) fn run(node: &Node) -> Result<String> {
    node.sh("systemctl show --property=InvocationID,NRestarts containerd.service")
}

/// Gives the node this configuration and nothing else of an earlier cell, and starts containerd with it.
pub(crate) fn begin(node: &Node, files: &[(String, String)]) -> Result<()> {
    node.sh("systemctl stop containerd.service && rm -rf /etc/containerd /var/lib/registry-mirror-operator")?;
    node.sh(
        "rm -rf /etc/docker/certs.d /opt/node-config /cfg && mkdir -p /etc/containerd && systemctl reset-failed containerd.service || true",
    )?;
    for (path, text) in files {
        node.write(path, text)?;
    }
    node.sh("systemctl start containerd.service")?;
    ready(node).context("containerd does not work with the configuration that the cell starts from")
}

/// Restarts it, as an administrator would.
pub(crate) fn restart(node: &Node) -> Result<()> {
    node.sh("systemctl restart containerd.service")?;
    ready(node)
}

/// Waits until CRI answers, and sees that each of its plugins has loaded.
pub(crate) fn ready(node: &Node) -> Result<()> {
    wait::until("CRI's answer", Duration::from_secs(30), || {
        Ok(node.exec(["cri", "status"])?.status.success().then_some(()))
    })?;
    let plugins = node.sh("ctr plugins ls | grep -E 'io\\.containerd\\.(grpc|cri)\\.v1 +(cri|images|runtime) '")?;
    for line in plugins.lines().filter(|line| !line.contains("grpc.v1") || line.contains(" cri ")) {
        ensure!(line.trim_end().ends_with(" ok"), "a plugin of CRI has not loaded: {line}");
    }
    ensure!(!plugins.trim().is_empty(), "containerd lists no CRI plugin");
    Ok(())
}
