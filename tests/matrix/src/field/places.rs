//! Files in unusual places.

use anyhow::{Result, ensure};
use testbed::{Bed, Node};

use super::{apply, config, files, is_served, object, plan, restore};
use crate::{daemon, start::CONFIG};

const MIRROR: &str = "http://10.88.0.1:5000";

/// containerd reads a directory that appears later, so that nothing but the directory is missing.
pub(super) fn missing_parents(bed: &Bed, node: &Node) -> Result<()> {
    daemon::begin(node, &[(CONFIG.to_owned(), config(Some("/cfg/containerd/certs.d")))])?;
    ensure!(!node.exists("/cfg"), "/cfg is there already");
    let before = files(node)?;
    node.write(super::OBJECT, object("docker.io", MIRROR))?;
    plan(node, "Adopt")?;
    is_served(bed, node, "docker.io", "docker.io")?;
    apply(node, &object("docker.io", MIRROR))?;
    is_served(bed, node, "docker.io", "mirror")?;
    restore(node, &before)?;
    is_served(bed, node, "docker.io", "docker.io")
}

/// The file that the link names is edited, by the one restart and back.
pub(super) fn linked_configuration(bed: &Bed, node: &Node) -> Result<()> {
    const REAL: &str = "/opt/node-config/containerd.toml";
    let local = config(None).replace("discard_unpacked_layers = true", "discard_unpacked_layers = false");
    daemon::begin(node, &[(REAL.to_owned(), local)])?;
    node.sh(&format!("ln -sfn {REAL} {CONFIG} && systemctl restart containerd.service"))?;
    daemon::ready(node)?;
    let before = files(node)?;
    node.write(super::OBJECT, object("docker.io", MIRROR))?;
    let planned = plan(node, "Patch")?;
    let starts = daemon::starts(node)?;
    apply(node, &object("docker.io", MIRROR))?;
    ensure!(daemon::starts(node)? == starts + 1, "containerd was not restarted once; the plan was {planned}");
    let real = String::from_utf8_lossy(&node.read(REAL)?).into_owned();
    ensure!(real.contains("config_path"), "{REAL} has no config_path:\n{real}");
    ensure!(node.sh(&format!("readlink {CONFIG}"))?.trim() == REAL, "{CONFIG} is no link any more");
    is_served(bed, node, "docker.io", "mirror")?;
    restore(node, &before)?;
    daemon::restart(node)?;
    is_served(bed, node, "docker.io", "docker.io")
}
