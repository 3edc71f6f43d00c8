//! The command line on the host of a K3s, without the operator in the cluster.

use anyhow::{Context as _, Result, ensure};
use e2e::{Cluster, MIRROR, RegistryMirror};
use serde_json::Value;
use testbed::{k3s, pins};

use crate::{await_containerd, await_k3s, node, pulls_from, restart_k3s};

const FILE: &str = "/root/mirror.yaml";

/// As cloud-init would: K3s is set up, and has generated nothing yet.
pub fn before_the_first_start(cluster: &Cluster) -> Result<()> {
    let node = node(cluster)?;
    let config = format!("{}/agent/etc/containerd/config.toml", k3s::DATA);
    cluster.install_command_line(node)?;
    node.run(["systemctl", "stop", "k3s.service"])?;
    node.sh(&format!("rm -rf {config} {}", e2e::certs_d(node)))?;
    node.write(FILE, RegistryMirror::docker_hub().manifest())?;
    let args = ["registry-mirror", "node", "apply", "--containerd-version", pins::CONTAINERD_K3S, "-f", FILE];
    node.run(args)?;
    ensure!(!node.exists(&config), "config.toml is K3s's to write");
    node.run(["systemctl", "start", "k3s.service"])?;
    await_k3s(cluster)?;
    pulls_from(cluster, "docker.io/library/first", &["mirror"], "mirror")
}

/// K3s clears the command line of its containerd; Docker's file is not its configuration.
pub fn beside_another(cluster: &Cluster) -> Result<()> {
    let node = node(cluster)?;
    node.write("/etc/containerd/config.toml", "disabled_plugins = [\"cri\"]\n")?;
    adopts(cluster, k3s::DATA)?;
    node.run(["rm", "-r", "/etc/containerd"]).map(|_| ())
}

/// `data-dir:` moves everything, and another certs.d is read.
pub fn data_elsewhere(cluster: &Cluster) -> Result<()> {
    let node = node(cluster)?;
    let elsewhere = "/var/lib/rancher/elsewhere";
    let template = "agent/etc/containerd/config-v3.toml.tmpl";
    node.sh(&format!(
        "install -D -m 600 {}/{template} {elsewhere}/{template} && mkdir -p /etc/rancher/k3s/config.yaml.d",
        k3s::DATA
    ))?;
    let drop_in = "/etc/rancher/k3s/config.yaml.d/data-dir.yaml";
    node.write(drop_in, format!("data-dir: {elsewhere}\n"))?;
    // That is another cluster, whose API server is of no interest.
    node.run(["systemctl", "restart", "k3s.service"])?;
    await_containerd(node)?;
    let adopted = adopts(cluster, elsewhere);
    node.run(["rm", drop_in])?;
    node.run(["systemctl", "stop", "k3s.service"])?;
    node.sh(&format!("rm -rf {elsewhere}"))?;
    restart_k3s(cluster)?;
    adopted
}

fn adopts(cluster: &Cluster, data: &str) -> Result<()> {
    let node = node(cluster)?;
    // Its code is 3 where there is something to do.
    let output = node.exec(["registry-mirror", "node", "plan", "-o", "json", "-f", FILE])?;
    let said = String::from_utf8_lossy(&output.stdout);
    let plan: Value = serde_json::from_str(&said).with_context(|| format!("no JSON: {output:?}"))?;
    ensure!(plan["kind"] == "Adopt", "the plan is {plan}");
    ensure!(plan["directory"] == format!("{data}/agent/etc/containerd/certs.d"), "the plan is {plan}");
    ensure!(said.contains(MIRROR), "the plan says nothing of the mirror: {said}");
    Ok(())
}
