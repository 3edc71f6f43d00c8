//! The agent is killed, or the whole node loses power, in the middle of the one restart, which would have failed.
//! Exactly one of agent and guard acts, and nothing of the guard is left behind.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{CONFIG_TOML, Cluster, FAULT_FILE, Trap, Witness, until};
use testbed::Node;

use crate::rollback::{begin, ended_well, refusal};

/// The new config.toml has its name; containerd does not know of it yet.
const AFTER_RENAME: &str = "restart:renamed";
/// systemd has restarted containerd; nobody has looked yet whether it works.
const AFTER_RESTART_CALL: &str = "restart:active";

/// Arms the trap and the fault, and returns when the agent has ended itself there.
fn until_the_fault(cluster: &Cluster, name: &str, point: &str) -> Result<(Vec<u8>, Witness, jiff::Timestamp)> {
    let begun = begin(cluster, name, |node| {
        Trap::ImportBreaksCri.set(node)?;
        node.write(FAULT_FILE, point)
    })?;
    let node = cluster.node(name)?;
    until(&format!("the agent of {name} reaching {point}"), Duration::from_secs(60), || {
        Ok((!node.exists(FAULT_FILE)).then_some(()))
    })?;
    Ok(begun)
}

fn killed(cluster: &Cluster, name: &str, point: &str) -> Result<()> {
    let (old, before, since) = until_the_fault(cluster, name, point)?;
    let node = cluster.node(name)?;
    let said = refusal(cluster, node, &["RestartFailed"])?;
    eprintln!("{}", said.message);
    ended_well(cluster, node, &old, since)?;
    let starts = Witness::of(node)?.starts - before.starts;
    ensure!(
        starts == 2,
        "containerd on {name} was started {starts} times: once with the new file and once by whoever put the old one back"
    );
    one_acted(node)
}

fn cut(cluster: &Cluster, name: &str, point: &str) -> Result<()> {
    let (old, _, _) = until_the_fault(cluster, name, point)?;
    let node = cluster.node(name)?;
    node.power_cut()?;
    let torn = node.read(CONFIG_TOML)?;
    ensure!(torn != old && String::from_utf8_lossy(&torn).contains("config_path"), "the power went before the rename");
    let since = jiff::Timestamp::now();
    cluster.bed().boot(name).context("the node after the power cut")?;
    let said = refusal(cluster, node, &["RestartFailed"])?;
    eprintln!("{}", said.message);
    ended_well(cluster, node, &old, since)?;
    let starts = Witness::of(node)?.starts;
    ensure!(
        starts == 1,
        "containerd on {name} was started {starts} times since the boot: the guard had put the old file back before the first"
    );
    one_acted(node)
}

/// containerd reads the old file, and no second hand has undone or repeated that.
fn one_acted(node: &Node) -> Result<()> {
    let first = Witness::of(node)?;
    // A guard that were still there would act by its deadline at the latest.
    let timers = node.sh("systemctl list-timers --all --no-legend 'registry-mirror*'")?;
    ensure!(timers.trim().is_empty(), "a timer of the guard is still there: {timers}");
    ensure!(!node.exists("/var/lib/registry-mirror-operator/guard"), "the guard's directory is still there");
    ensure!(Witness::of(node)?.invocation == first.invocation, "containerd was restarted once more");
    Ok(())
}

pub fn killed_after_rename(cluster: &Cluster) -> Result<()> {
    killed(cluster, "node1", AFTER_RENAME)
}

pub fn killed_after_restart_call(cluster: &Cluster) -> Result<()> {
    killed(cluster, "node2", AFTER_RESTART_CALL)
}

pub fn cut_after_rename(cluster: &Cluster) -> Result<()> {
    cut(cluster, "node2", AFTER_RENAME)
}

pub fn cut_after_restart_call(cluster: &Cluster) -> Result<()> {
    cut(cluster, "node1", AFTER_RESTART_CALL)
}
