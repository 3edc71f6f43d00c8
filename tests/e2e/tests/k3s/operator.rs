//! The operator, installed by helm on K3s's own API server.

use anyhow::{Result, ensure};
use e2e::{Cluster, MIRROR, MIRROR2, RegistryMirror, Values, manifest};
use serde_json::json;
use testbed::{BLACKHOLE, pins};

use crate::{PATIENCE, must_own, node, owners, pulls_from, restart_k3s};

pub fn installed(cluster: &Cluster) -> Result<()> {
    cluster.install(&Values::default())?;
    cluster.apply(&RegistryMirror::docker_hub())?;
    cluster.programmed("docker-hub", "1/1", PATIENCE)?;
    let object = cluster.node_mirror("k3s")?;
    let status = &object["status"];
    ensure!(status["containerd"]["distribution"] == "k3s", "the node is {}", status["containerd"]);
    ensure!(status["containerd"]["version"] == pins::CONTAINERD_K3S, "its containerd is {}", status["containerd"]);
    ensure!(status["plan"]["kind"] == "Adopt", "its plan is {}", status["plan"]);
    for condition in ["Ready", "Effective"] {
        cluster.condition("k3s", condition, PATIENCE, |condition| condition.status == "True")?;
    }
    pulls_from(cluster, "docker.io/library/installed", &["mirror"], "mirror")
}

/// K3s's fork asks the registry itself only where the file has `server`, which `_default` cannot name.
pub fn upstream(cluster: &Cluster) -> Result<()> {
    let default = json!({"registry": "_default", "mirrors": [{"url": MIRROR2}], "upstream": {"fallback": "Allow"}});
    cluster.bed().apply(&manifest("everything-else", &default))?;
    cluster.programmed("everything-else", "1/1", PATIENCE)?;
    pulls_from(cluster, "quay.io/library/mirrored", &["mirror2"], "mirror2")?;
    pulls_from(cluster, "quay.io/library/upstream", &["quay.io"], "quay.io")?;
    pulls_from(cluster, "docker.io/library/upstream", &["docker.io"], "docker.io")?;
    cluster.delete("registrymirror", "everything-else")?;
    must_own(cluster, &["docker.io"], &[])
}

pub fn dead_mirror(cluster: &Cluster) -> Result<()> {
    let dead = format!("http://{BLACKHOLE}:5000");
    cluster.apply(&RegistryMirror::new("docker-hub", "docker.io", &[&dead, MIRROR]))?;
    let said = cluster.condition("k3s", "MirrorsHealthy", PATIENCE, |condition| condition.status == "False")?;
    ensure!(said.message.contains(&dead), "the condition does not name the mirror: {}", said.message);
    cluster.files("docker.io", Some(&[MIRROR]), PATIENCE)?;
    pulls_from(cluster, "docker.io/library/patience", &["mirror"], "mirror")?;
    cluster.apply(&RegistryMirror::docker_hub())
}

/// K3s generates config.toml anew, and leaves files that are not its own where they are.
pub fn restart(cluster: &Cluster) -> Result<()> {
    let before = cluster.hosts_toml(node(cluster)?, "docker.io")?;
    restart_k3s(cluster)?;
    ensure!(before.is_some() && cluster.hosts_toml(node(cluster)?, "docker.io")? == before, "another file is there");
    pulls_from(cluster, "docker.io/library/restarted", &["mirror"], "mirror")?;
    cluster.condition("k3s", "Ready", PATIENCE, |condition| condition.status == "True").map(|_| ())
}

pub fn uninstall(cluster: &Cluster) -> Result<()> {
    let node = node(cluster)?;
    let started = || node.run(["systemctl", "show", "k3s.service", "--property=InvocationID"]);
    let before = started()?;
    cluster.helm_uninstall(&["--timeout", "120s"])?;
    let (ours, _) = owners(cluster)?;
    ensure!(ours.is_empty(), "files of ours are left for {ours:?}");
    ensure!(started()? == before, "K3s was restarted");
    ensure!(!node.exists("/var/lib/registry-mirror-operator"), "the state directory is left");
    pulls_from(cluster, "docker.io/library/uninstalled", &["docker.io"], "docker.io")
}
