//! The one restart goes wrong: the node ends as it was, says why, and the roll-out stops.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{
    CONFIG_TOML, Cluster, Condition, MIRROR, RegistryMirror, Trap, Values, Witness, leftovers, restart_with_its_files,
    until,
};
use jiff::Timestamp;
use testbed::Node;

/// In the place of a trap, which is cleared after each scenario.
const REFUSES: &str = "/etc/systemd/system/containerd.service.d/e2e-trap.conf";

/// Long enough for the guard, which waits for the unit's time-outs and a minute for CRI.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Why the node is not Ready, once it says one of these reasons.
pub fn refusal(cluster: &Cluster, node: &Node, reasons: &[&str]) -> Result<Condition> {
    let condition = cluster.condition(node.name(), "Ready", PATIENCE, |condition| {
        condition.status == "False" && reasons.contains(&condition.reason.as_str())
    })?;
    let sentence = condition.message.trim();
    ensure!(
        sentence.split_whitespace().count() >= 5 && sentence.ends_with('.') && !sentence.contains("Err("),
        "the NodeMirror of {} does not say why in a sentence: {sentence}",
        node.name()
    );
    Ok(condition)
}

/// The node ends with its old file, a running containerd and a Ready kubelet, and the roll-out is paused.
pub fn ended_well(cluster: &Cluster, node: &Node, old: &[u8], since: Timestamp) -> Result<()> {
    let why = cluster.paused_by(node.name(), Duration::from_secs(30))?;
    ensure!(why.split_whitespace().count() >= 5, "the pause does not say why: {why}");
    is_as_before(cluster, node, old, since)
}

/// The node refused before anything was touched, and the others go on.
fn refused_alone(cluster: &Cluster, node: &Node, old: &[u8], since: Timestamp) -> Result<()> {
    is_as_before(cluster, node, old, since)?;
    ensure!(cluster.pause()?.is_none(), "the roll-out is paused although nothing was touched");
    Ok(())
}

/// Its old file, a running containerd, a Ready kubelet, and no traces.
fn is_as_before(cluster: &Cluster, node: &Node, old: &[u8], since: Timestamp) -> Result<()> {
    let now = node.read(CONFIG_TOML)?;
    ensure!(
        now == old,
        "config.toml on {} is not the old one:\n{}\ninstead of:\n{}",
        node.name(),
        String::from_utf8_lossy(&now),
        String::from_utf8_lossy(old)
    );
    cluster.node_ready(node, since)?;
    until(&format!("the end of the guard on {}", node.name()), Duration::from_secs(30), || {
        Ok(leftovers(node)?.is_empty().then_some(()))
    })
    .with_context(|| format!("left behind: {:?}", leftovers(node)))
}

/// A fresh cluster, and docker.io mirrored on that node alone once `spoil` has prepared it. Returns its config.toml as
/// `spoil` left it, the witness before and the moment.
pub fn begin(
    cluster: &Cluster,
    name: &str,
    spoil: impl FnOnce(&Node) -> Result<()>,
) -> Result<(Vec<u8>, Witness, Timestamp)> {
    cluster.fresh(&Values::default())?;
    let node = cluster.node(name)?;
    spoil(node)?;
    let old = node.read(CONFIG_TOML)?;
    let before = Witness::of(node)?;
    let since = Timestamp::now();
    cluster.apply(&RegistryMirror::docker_hub().on(name))?;
    Ok((old, before, since))
}

/// The other node is none of this.
pub fn other_node_untouched(cluster: &Cluster, name: &str, before: &[Witness]) -> Result<()> {
    for (node, before) in cluster.nodes().iter().zip(before) {
        if node.name() != name {
            let now = Witness::of(node)?;
            ensure!(now.config == before.config && now.starts == before.starts, "{} was touched too", node.name());
        }
    }
    Ok(())
}

pub fn broken_config(cluster: &Cluster) -> Result<()> {
    let (old, before, since) = begin(cluster, "node1", |node| {
        let mut text = node.read(CONFIG_TOML)?;
        text.extend(b"\n[plugins.\"broken\n");
        node.write(CONFIG_TOML, text)
    })?;
    let node = cluster.node("node1")?;
    let said = refusal(cluster, node, &["ConfigBroken"])?;
    ensure!(
        said.message.contains(CONFIG_TOML) && said.message.contains("line"),
        "the file and line are not named: {said:?}"
    );
    refused_alone(cluster, node, &old, since)?;
    ensure!(Witness::of(node)?.starts == before.starts, "containerd was restarted with a broken config.toml");
    Ok(())
}

pub fn refused_candidate(cluster: &Cluster) -> Result<()> {
    // A containerd that runs with every file and reads none with `config_path`: its own check finds that before anything
    // changes.
    let (old, before, since) = begin(cluster, "node2", |node| {
        let refuses = "#!/bin/sh\ncase \"$*\" in *\" config dump\") echo no >&2; exit 3;; esac\nexec /usr/local/bin/containerd \"$@\"\n";
        node.sh("mkdir -p /opt/refuses")?;
        node.write("/opt/refuses/containerd", refuses)?;
        node.run(["chmod", "0755", "/opt/refuses/containerd"])?;
        node.write(REFUSES, "[Service]\nExecStart=\nExecStart=/opt/refuses/containerd\n")?;
        restart_with_its_files(node)
    })?;
    let node = cluster.node("node2")?;
    let said = refusal(cluster, node, &["RestartRefused", "Unsupported"])?;
    eprintln!("{}", said.message);
    refused_alone(cluster, node, &old, since)?;
    ensure!(Witness::of(node)?.starts == before.starts, "containerd was restarted although it refuses the file");
    Ok(())
}

/// Somebody's change waits for a restart that is not ours to make: it would take CRI away, and no way back would help.
pub fn changed_since_start(cluster: &Cluster) -> Result<()> {
    let (old, before, since) = begin(cluster, "node2", |node| {
        let text = String::from_utf8_lossy(&node.read(CONFIG_TOML)?).replace("overlayfs", "missing");
        node.write(CONFIG_TOML, text)
    })?;
    let node = cluster.node("node2")?;
    let said = refusal(cluster, node, &["ChangedSinceStart"])?;
    ensure!(said.message.contains(CONFIG_TOML) && said.message.contains("systemctl restart"), "{said:?}");
    let mirror = cluster.node_mirror("node2")?["status"].clone();
    ensure!(mirror["plan"]["kind"] == "Unsupported" && mirror["plan"]["restart"] == false, "{mirror}");
    ensure!(node.read(CONFIG_TOML)? == old, "config.toml was touched");
    ensure!(Witness::of(node)?.starts == before.starts, "containerd was restarted");
    cluster.node_ready(node, since)?;
    ensure!(cluster.pause()?.is_none(), "one node's pending change pauses nobody");

    // Its author takes it back and restarts; then the operator goes on.
    node.write(CONFIG_TOML, String::from_utf8_lossy(&old).replace("missing", "overlayfs"))?;
    restart_with_its_files(node)?;
    cluster.programmed("docker-hub", "1/1", Duration::from_secs(90))?;
    ensure!(Witness::of(node)?.starts == before.starts + 2, "one restart by hand, and ours");
    Ok(())
}

pub fn unit_fails(cluster: &Cluster) -> Result<()> {
    let mut others = Vec::new();
    let (old, before, since) = begin(cluster, "node1", |node| {
        // Not earlier: putting the nodes back may restart containerd.
        others = cluster.witnesses()?;
        Trap::UnitFails.set(node)
    })?;
    let node = cluster.node("node1")?;
    let said = refusal(cluster, node, &["RestartFailed"])?;
    eprintln!("{}", said.message);
    ended_well(cluster, node, &old, since)?;
    ensure!(Witness::of(node)?.invocation != before.invocation, "containerd was never restarted");
    other_node_untouched(cluster, "node1", &others)?;

    // The admin removes the cause and resumes: now it works.
    Trap::clear(node)?;
    let said = cluster.must(&["resume"])?;
    ensure!(said.contains("node1"), "`resume` does not say what had failed: {said}");
    cluster.programmed("docker-hub", "1/1", Duration::from_secs(90))?;
    ensure!(cluster.hosts(node, "docker.io")? == Some(vec![MIRROR.to_owned()]), "the file is not there");
    ensure!(cluster.pause()?.is_none(), "the roll-out is still paused");
    Ok(())
}

pub fn import_breaks_cri(cluster: &Cluster) -> Result<()> {
    for name in ["node2", "node1"] {
        let (old, before, since) = begin(cluster, name, |node| Trap::ImportBreaksCri.set(node))?;
        let node = cluster.node(name)?;
        let said = refusal(cluster, node, &["RestartFailed"])?;
        eprintln!("{}", said.message);
        ended_well(cluster, node, &old, since).with_context(|| format!("on {name}"))?;
        let starts = Witness::of(node)?.starts - before.starts;
        ensure!(
            starts == 2,
            "containerd on {name} was started {starts} times: once with the new file, once with the old one"
        );
    }
    Ok(())
}
