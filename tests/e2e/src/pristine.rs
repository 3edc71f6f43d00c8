//! A node as it was before the operator came: remembered, put back between scenarios, and compared with.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::Node;

use crate::{
    cluster::{CERTS_D, CONFIG_TOML, cri_ready},
    traps::{Trap, restart_with_its_files},
    until,
};

/// Where the operator keeps its state.
const STATE: &str = "/var/lib/registry-mirror-operator";

/// Everything where the operator may write on a host, and all of /etc beside: kind, mode, owner, a link's target, and
/// the content's hash where it is a file. systemd makes the directory of its transient units when it needs it.
const LISTING: &str = "set -- /etc /run/systemd/system /run/systemd/transient /var/lib/registry-mirror-operator
    {
        find \"$@\" -not -path /run/systemd/transient -not -path '/run/systemd/transient/*.scope' -printf '%p %y %m %U:%G %l\\n'
        find \"$@\" -not -path '/run/systemd/transient/*.scope' -type f -exec sha256sum {} + | sed -E 's/^(.{16})[^ ]* +(.*)$/\\2 sha256:\\1/'
    } 2>/dev/null | sort";

/// A node before the operator came.
#[derive(Debug)]
pub(crate) struct Pristine {
    config: Vec<u8>,
}

impl Pristine {
    /// Remembers the node. A node of an earlier run of a kept bed has a copy of its first config.toml.
    pub(crate) fn of(node: &Node) -> Result<Self> {
        const KEPT: &str = "/root/e2e-config.toml";
        if !node.exists(KEPT) {
            node.run(["cp", CONFIG_TOML, KEPT])?;
        }
        Ok(Self { config: node.read(KEPT)? })
    }

    /// Puts the node back. The agent must be gone. containerd is started anew only if it read something else before.
    pub(crate) fn restore(&self, node: &Node) -> Result<()> {
        node.boot()?;
        Trap::clear(node)?;
        node.sh(&format!(
            "for unit in $(systemctl list-units --all --plain --no-legend 'registry-mirror*' | cut -d' ' -f1); do systemctl stop $unit; done
             systemctl reset-failed 'registry-mirror*' 2>/dev/null
             rm -rf {CERTS_D} {STATE} /etc/containerd/.registry-mirror* /etc/containerd/conf.d
             rm -rf /etc/systemd/system/registry-mirror* /etc/systemd/system/*.wants/registry-mirror* /etc/systemd/system/containerd.service.d
             systemctl daemon-reload"
        ))?;
        if node.read(CONFIG_TOML).ok().as_ref() != Some(&self.config) {
            node.write(CONFIG_TOML, &self.config)?;
            node.run(["chmod", "0644", CONFIG_TOML])?;
            restart_with_its_files(node)?;
        }
        until(&format!("containerd's CRI on {}", node.name()), Duration::from_secs(60), || {
            Ok(cri_ready(node)?.then_some(()))
        })?;
        ensure!(!node.exists(STATE), "{STATE} is still there");
        Ok(())
    }
}

/// A text with lines for each file that the operator may write on a host; equal texts, equal files.
///
/// # Errors
/// When the node is off.
pub fn host_files(node: &Node) -> Result<String> {
    node.sh(LISTING).context("the node's files cannot be listed")
}

/// Sees that a node's files are as [`host_files`] saw them before.
///
/// # Errors
/// Names each line that is gone (`-`) or new (`+`).
pub fn same_files(node: &Node, before: &str) -> Result<()> {
    let now = host_files(node)?;
    let gone = before.lines().filter(|line| !now.lines().any(|other| other == *line)).map(|line| format!("- {line}"));
    let new = now.lines().filter(|line| !before.lines().any(|other| other == *line)).map(|line| format!("+ {line}"));
    let differences: Vec<String> = gone.chain(new).collect();
    ensure!(differences.is_empty(), "files of {} are not as before:\n{}", node.name(), differences.join("\n"));
    Ok(())
}

/// What is left of the guard and of the one restart, one line each; nothing is what it should be.
///
/// # Errors
/// When the node is off.
pub fn leftovers(node: &Node) -> Result<Vec<String>> {
    let found = node.sh(&format!(
        "find /etc/systemd/system /run/systemd -name '*registry-mirror*' 2>/dev/null
         find /etc/containerd -maxdepth 1 -name '.registry-mirror*'
         systemctl list-units --all --plain --no-legend 'registry-mirror*'
         systemctl list-timers --all --no-legend 'registry-mirror*'
         find {STATE}/guard {STATE}/journal.json 2>/dev/null
         find {STATE} -type f 2>/dev/null | grep -E 'armed|fired' || true"
    ))?;
    Ok(found.lines().map(str::to_owned).collect())
}
