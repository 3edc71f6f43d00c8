//! The operator's pods, containerd and the nodes come and go; containerd is not restarted by the operator again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{CONFIG_TOML, Cluster, MIRROR, MIRROR2, NAMESPACE, RegistryMirror, Witness, until};
use serde_json::Value;
use testbed::{Image, Node};

const PATIENCE: Duration = Duration::from_secs(90);

pub fn pods_deleted(cluster: &Cluster) -> Result<()> {
    cluster.settled()?;
    let before = cluster.witnesses()?;
    let bed = cluster.bed();
    let selector = "app.kubernetes.io/name=registry-mirror-operator";
    bed.kubectl(["delete", "pods", "--namespace", NAMESPACE, "--selector", selector, "--wait=true", "--timeout=90s"])?;
    // While they start.
    cluster.apply(&RegistryMirror::new("docker-hub", "docker.io", &[MIRROR2, MIRROR]))?;
    cluster.files("docker.io", Some(&[MIRROR2, MIRROR]), PATIENCE)?;
    cluster.programmed("docker-hub", "2/2", PATIENCE)?;
    cluster.no_restart_since(&before)
}

pub fn containerd_by_hand(cluster: &Cluster) -> Result<()> {
    cluster.settled()?;
    let before = cluster.witnesses()?;
    for node in cluster.nodes() {
        let seen = started_at(cluster, node)?;
        node.run(["systemctl", "restart", "containerd.service"])?;
        agent_saw_a_new_start(cluster, node, &seen)?;
    }
    // A change still arrives, and only then is it certain that nothing more was to come.
    cluster.apply(&RegistryMirror::new("docker-hub", "docker.io", &[MIRROR2, MIRROR]))?;
    cluster.files("docker.io", Some(&[MIRROR2, MIRROR]), Duration::from_secs(5))?;
    cluster.programmed("docker-hub", "2/2", PATIENCE)?;
    for (node, before) in cluster.nodes().iter().zip(&before) {
        let now = Witness::of(node)?;
        ensure!(
            now.starts == before.starts + 1,
            "containerd was started {} times on {} where it was restarted once by hand",
            now.starts - before.starts,
            node.name()
        );
        ensure!(now.config == before.config, "config.toml on {} changed", node.name());
    }
    Ok(())
}

pub fn nodes_rebooted(cluster: &Cluster) -> Result<()> {
    cluster.settled()?;
    let before = cluster.witnesses()?;
    let mut seen = Vec::new();
    for node in cluster.nodes() {
        seen.push(started_at(cluster, node)?);
    }
    std::thread::scope(|scope| {
        let downs: Vec<_> = cluster.nodes().iter().map(|node| scope.spawn(|| node.shut_down())).collect();
        downs.into_iter().try_for_each(|down| down.join().map_err(|_| anyhow::anyhow!("a thread broke down")).flatten())
    })?;
    // A change while both are off.
    cluster.apply(&RegistryMirror::new("docker-hub", "docker.io", &[MIRROR2, MIRROR]))?;
    for node in cluster.nodes() {
        cluster.bed().boot(node.name())?;
    }
    cluster.files("docker.io", Some(&[MIRROR2, MIRROR]), PATIENCE)?;
    for (node, seen) in cluster.nodes().iter().zip(&seen) {
        agent_saw_a_new_start(cluster, node, seen)?;
    }
    cluster.programmed("docker-hub", "2/2", PATIENCE)?;
    cluster.bed().push("mirror2", "library/after-reboot", "1", &Image::filler("after-reboot", 1))?;
    for (node, before) in cluster.nodes().iter().zip(&before) {
        let now = Witness::of(node)?;
        ensure!(now.starts == 1, "containerd was started {} times on {} since it booted", now.starts, node.name());
        ensure!(now.config == before.config, "config.toml on {} changed", node.name());
        ensure!(node.exists(CONFIG_TOML), "config.toml on {} is gone", node.name());
        cluster.pull_anew(node, "docker.io/library/after-reboot:1")?;
    }
    Ok(())
}

fn started_at(cluster: &Cluster, node: &Node) -> Result<Value> {
    Ok(cluster.node_mirror(node.name())?["status"]["containerd"]["startedAt"].clone())
}

/// The agent has noticed the new start and says that the node is as it should be.
fn agent_saw_a_new_start(cluster: &Cluster, node: &Node, before: &Value) -> Result<()> {
    let what = format!("a new startedAt in the NodeMirror {}", node.name());
    until(&what, PATIENCE, || Ok((started_at(cluster, node)? != *before).then_some(())))?;
    for kind in ["Ready", "Effective"] {
        cluster
            .condition(node.name(), kind, PATIENCE, |condition| condition.status == "True")
            .with_context(|| format!("after the restart of containerd on {}", node.name()))?;
    }
    Ok(())
}
