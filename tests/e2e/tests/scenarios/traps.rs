//! The traps of the later scenarios catch what they are meant to: without the operator, by hand.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{CONFIG_TOML, Cluster, Trap, until};
use testbed::Node;

pub fn they_work(cluster: &Cluster) -> Result<()> {
    for trap in [Trap::UnitFails, Trap::ImportBreaksCri] {
        cluster.clean()?;
        for node in cluster.nodes() {
            catches(node, trap).with_context(|| format!("{trap:?} on {}", node.name()))?;
        }
    }
    cluster.clean()
}

fn catches(node: &Node, trap: Trap) -> Result<()> {
    trap.set(node)?;
    let old = node.read(CONFIG_TOML)?;
    let restart = || node.exec(["systemctl", "restart", "containerd.service"]);
    ensure!(restart()?.status.success(), "the trap springs without config_path");
    serves(node, true)?;

    let mut text = old.clone();
    text.extend(b"\n# config_path\n");
    node.write(CONFIG_TOML, &text)?;
    let started = restart()?.status.success();
    ensure!(started == (trap == Trap::ImportBreaksCri), "the unit came up: {started}");
    serves(node, false)?;

    node.write(CONFIG_TOML, &old)?;
    node.run(["systemctl", "reset-failed", "containerd.service"])?;
    ensure!(restart()?.status.success(), "containerd does not come back with the old file");
    serves(node, true)
}

/// Waits until CRI answers, or until it says that it will not.
fn serves(node: &Node, wanted: bool) -> Result<()> {
    until(&format!("CRI serving: {wanted}"), Duration::from_secs(20), || {
        let output = node.exec(["cri", "version"])?;
        Ok((output.status.success() == wanted).then_some(()))
    })
}
