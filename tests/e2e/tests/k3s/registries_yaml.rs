//! K3s's own mirrors beside the operator's.

use anyhow::{Result, ensure};
use e2e::{Cluster, MIRROR2, RegistryMirror, condition, until};

use crate::{PATIENCE, must_own, node, pulls_from, restart_k3s};

const REGISTRIES_YAML: &str = "/etc/rancher/k3s/registries.yaml";
/// A registry with a port, for which the operator and K3s call the directory otherwise.
const WITH_PORT: &str = "mirror2.testbed.internal:5001";

pub fn named(cluster: &Cluster) -> Result<()> {
    let node = node(cluster)?;
    let other = RegistryMirror::new("with-port", WITH_PORT, &["http://mirror.testbed.internal:5000"]);
    cluster.apply(&other)?;
    cluster.programmed("with-port", "1/1", PATIENCE)?;
    must_own(cluster, &["docker.io", "mirror2.testbed.internal_5001_"], &[])?;
    // quay.io without an endpoint: K3s writes nothing for it, so it stays the operator's to have.
    cluster.apply(&RegistryMirror::new("quay", "quay.io", &[MIRROR2]))?;
    node.write(
        REGISTRIES_YAML,
        format!(
            "mirrors:\n  docker.io: {{endpoint: ['{MIRROR2}']}}\n  '{WITH_PORT}': {{endpoint: ['{MIRROR2}']}}\n  quay.io:\n"
        ),
    )?;
    restart_k3s(cluster)?;
    must_own(cluster, &["quay.io"], &["docker.io", WITH_PORT])?;
    let said = cluster.condition("k3s", "Conflicts", PATIENCE, |condition| condition.message.contains(WITH_PORT))?;
    let theirs = format!("{}/{WITH_PORT} itself", e2e::certs_d(node));
    ensure!(said.message.contains(&theirs), "K3s's directory is not named: {}", said.message);
    pulls_from(cluster, "docker.io/library/theirs", &["mirror2"], "mirror2")
}

pub fn taken_away(cluster: &Cluster) -> Result<()> {
    node(cluster)?.run(["rm", REGISTRIES_YAML])?;
    restart_k3s(cluster)?;
    must_own(cluster, &["docker.io", "mirror2.testbed.internal_5001_", "quay.io"], &[])?;
    until("a NodeMirror without conflicts", PATIENCE, || {
        let said = condition(&cluster.node_mirror("k3s")?, "Conflicts");
        Ok(said.is_none_or(|said| said.status == "False").then_some(()))
    })?;
    for name in ["with-port", "quay"] {
        cluster.delete("registrymirror", name)?;
    }
    must_own(cluster, &["docker.io"], &[])?;
    pulls_from(cluster, "docker.io/library/ours-again", &["mirror"], "mirror")
}

/// With `embedded-registry` and `"*"` nodes share the images of registries that have no directory of their own.
pub fn embedded_registry(cluster: &Cluster) -> Result<()> {
    let node = node(cluster)?;
    let drop_in = "/etc/rancher/k3s/config.yaml.d/embedded.yaml";
    node.write(drop_in, "embedded-registry: true\n")?;
    node.write(REGISTRIES_YAML, "mirrors:\n  '*':\n")?;
    restart_k3s(cluster)?;
    must_own(cluster, &["docker.io"], &["127.0.0.1:6443", "_default"])?;
    node.write("/root/mirror.yaml", RegistryMirror::docker_hub().manifest())?;
    let plan = node.exec(["registry-mirror", "node", "plan", "-f", "/root/mirror.yaml"])?;
    let plan = [plan.stdout, plan.stderr].concat();
    let plan = String::from_utf8_lossy(&plan);
    node.run(["rm", drop_in, REGISTRIES_YAML])?;
    restart_k3s(cluster)?;
    ensure!(plan.contains("embedded-registry") && plan.contains("\"*\""), "the plan says nothing of it: {plan}");
    must_own(cluster, &["docker.io"], &[])
}
