//! Somebody has changed what containerd reads at its start alone, and has not restarted it.

use anyhow::{Result, ensure};
use testbed::Node;

use crate::host::{boot, config, identity, pass, pass_with, spec, starts};

const CONFIG: &str = "/etc/containerd/config.toml";
const DROP_IN: &str = "/etc/systemd/system/containerd.service.d/theirs.conf";

/// A pass that refuses for this reason and touches nothing; what it says.
fn refused(node: &Node, file: &str) -> Result<String> {
    let (before, starts_before) = (identity(node)?, starts(node)?);
    let said = pass(node)?;
    ensure!(said.contains("verdict ChangedSinceStart: ") && said.contains(file), "{file} is not named: {said}");
    ensure!(said.contains("plan Unsupported restart false"), "{said}");
    ensure!(identity(node)? == before && starts(node)? == starts_before, "{file}: something was touched");
    ensure!(!node.exists("/etc/containerd/certs.d/docker.io"), "{file}: a file was written that nobody reads");
    node.run(["cri", "version"])?;
    Ok(said)
}

fn restart_by_hand(node: &Node) -> Result<()> {
    node.sh(
        "systemctl daemon-reload; systemctl restart containerd; until cri status >/dev/null 2>&1; do sleep 0.1; done",
    )
    .map(drop)
}

#[test]
#[ignore = "boots nodes"]
fn changed_since_start_is_not_brought_into_force_by_our_restart() -> Result<()> {
    let bed = boot("unread", [("old", "1.6.20"), ("new", "2.4.2")].map(|(name, release)| spec(name, release)))?;
    for name in ["old", "new"] {
        let node = bed.node(name)?;
        let theirs = config(node)?;
        // With this CRI does not load, at the next start.
        let pending = theirs.replace("overlayfs", "missing");
        ensure!(pending != theirs, "the bed's configuration has another snapshotter");
        node.write(CONFIG, &pending)?;
        let said = refused(node, CONFIG)?;
        ensure!(said.contains("systemctl restart containerd.service"), "{name}: what to do is not said: {said}");
        refused(node, CONFIG)?;

        // Taken back and restarted by its author: now it goes on by itself.
        node.write(CONFIG, &theirs)?;
        restart_by_hand(node)?;
        let said = pass(node)?;
        ensure!(said.contains("verdict Ready") && starts(node)? == 3, "{name}: {said}");
    }
    each_kind_of_file(bed.node("new")?)
}

/// The node is patched. What is put back by hand makes the next restart due.
fn each_kind_of_file(node: &Node) -> Result<()> {
    let ours = config(node)?;
    let without: String =
        ours.lines().filter(|line| !line.contains("config_path")).map(|line| format!("{line}\n")).collect();
    let (first, rest) = without.split_once('\n').unwrap_or((&without, ""));
    let without = format!("{first}\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n{rest}");
    node.sh("mkdir -p /etc/containerd/conf.d; printf 'oom_score = 0\\n' >/etc/containerd/conf.d/x.toml; rm -r /etc/containerd/certs.d")?;
    node.write(CONFIG, &without)?;
    restart_by_hand(node)?;
    // Nothing is mirrored, so that nothing is due; but the files are seen. A file that goes before that is missed by nobody.
    ensure!(pass_with(node, "")?.contains("verdict Ready"));
    let undo = format!(
        "rm -f {DROP_IN} /etc/containerd/conf.d/y.toml; printf 'oom_score = 0\\n' >/etc/containerd/conf.d/x.toml; systemctl daemon-reload"
    );
    let drop_in = format!("printf '[Service]\\nEnvironment=X=1\\n' >{DROP_IN}");
    for (change, file) in [
        ("printf 'oom_score = 1\\n' >/etc/containerd/conf.d/x.toml", "/etc/containerd/conf.d/x.toml;"),
        ("rm /etc/containerd/conf.d/x.toml", "/etc/containerd/conf.d/x.toml (removed)"),
        // A file that came with an old time.
        (
            "printf 'oom_score = 1\\n' >/root/y; touch -d 2020-01-01 /root/y; cp -p /root/y /etc/containerd/conf.d/y.toml",
            "/etc/containerd/conf.d/y.toml;",
        ),
        (&*drop_in, "files of containerd.service"),
        (&*format!("{drop_in}; systemctl daemon-reload"), "theirs.conf;"),
    ] {
        node.sh(change)?;
        refused(node, file)?;
        node.sh(&undo)?;
    }
    // The same bytes again are no change, and neither is a new mode.
    node.sh(&format!("cp {CONFIG} /root/same && cp /root/same {CONFIG} && chmod 600 /etc/containerd/conf.d/x.toml"))?;
    let said = pass(node)?;
    ensure!(said.contains("verdict Ready") && said.contains("effective Yes"), "{said}");

    // A change while nothing waits for a restart is nobody's affair, and hosts.toml files go on.
    let before = starts(node)?;
    node.sh("printf 'oom_score = 1\\n' >/etc/containerd/conf.d/x.toml")?;
    let said = pass_with(node, "docker.io=http://10.88.0.1:5000 quay.io=http://10.88.0.1:5000")?;
    ensure!(said.contains("verdict Ready") && node.exists("/etc/containerd/certs.d/quay.io/hosts.toml"), "{said}");
    ensure!(starts(node)? == before, "restarted for nothing");
    Ok(())
}

/// An operator that is taken away and comes back finds its own undone edit, which no daemon has read.
#[test]
#[ignore = "boots nodes"]
fn what_an_uninstall_took_back_is_no_change_of_somebody_else() -> Result<()> {
    let bed = boot("again", [spec("node1", "2.4.2")])?;
    let node = bed.node("node1")?;
    let theirs = config(node)?;
    pass(node)?;
    let said = pass_with(node, "--restore")?;
    ensure!(said.contains("verdict Restored") && config(node)? == theirs && starts(node)? == 2, "{said}");
    let said = pass(node)?;
    ensure!(said.contains("verdict Ready") && starts(node)? == 3, "{said}");
    Ok(())
}

/// The restart fails, and with the old files containerd does not work any more either.
#[test]
#[ignore = "boots nodes"]
fn a_failed_restart_is_told_while_containerd_cannot_be_looked_at() -> Result<()> {
    let bed = boot("down", [spec("node1", "2.4.2")])?;
    let node = bed.node("node1")?;
    let theirs = config(node)?;
    // From the first start with `config_path` on nothing listens where CRI was.
    let trap = format!("if grep -q config_path {CONFIG} || [ -e /var/sprung ]; then touch /var/sprung; exit 1; fi");
    node.write(DROP_IN, format!("[Service]\nExecStartPre=/bin/sh -c '{trap}'\nRestartSec=1h\n"))?;
    restart_by_hand(node)?;
    let said = pass(node)?;
    ensure!(said.contains("verdict RestartFailed: ") && said.contains("containerd does not work"), "{said}");
    ensure!(config(node)? == theirs, "the old file is not back");
    // Another process: the agent was restarted, or the node.
    let said = pass(node)?;
    ensure!(said.contains("verdict RestartFailed: ") && said.contains("; now "), "RestartFailed is hidden: {said}");
    node.sh(&format!("rm -f {DROP_IN} /var/sprung; systemctl reset-failed containerd"))?;
    restart_by_hand(node)?;
    let said = pass(node)?;
    ensure!(said.contains("verdict Ready"), "{said}");
    // It is over, so that trouble of another kind is called by its name.
    node.sh("systemctl stop containerd")?;
    let said = pass(node)?;
    ensure!(said.contains("verdict ObserveFailed: "), "{said}");
    Ok(())
}
