//! `mode: DryRun` and `restart.policy: Manual`.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{Cluster, RegistryMirror, Values, Witness, host_files, same_files, until};

const PATIENCE: Duration = Duration::from_secs(60);

pub fn dry_run(cluster: &Cluster) -> Result<()> {
    cluster.clean()?;
    let before = cluster.witnesses()?;
    let mut files = Vec::new();
    for node in cluster.nodes() {
        files.push(host_files(node)?);
    }
    cluster.install(&Values { mode: "DryRun", ..Values::default() })?;
    cluster.apply(&RegistryMirror::docker_hub())?;

    for node in cluster.nodes() {
        let ready = cluster.condition(node.name(), "Ready", PATIENCE, |condition| condition.reason == "DryRun")?;
        ensure!(ready.status == "False", "a node that was not touched is Ready={}", ready.status);
        let mut plan = serde_json::Value::Null;
        until(&format!("the plan of {}", node.name()), PATIENCE, || {
            plan = cluster.node_mirror(node.name())?["status"]["plan"].clone();
            Ok(plan["changes"].as_array().is_some_and(|changes| !changes.is_empty()).then_some(()))
        })?;
        let change = &plan["changes"][0];
        ensure!(
            plan["kind"] == "Patch"
                && plan["restart"] == true
                && plan["reason"].as_str().is_some_and(|reason| reason.contains(' '))
                && change["file"] == "/etc/containerd/config.toml"
                && change["key"].as_str().is_some_and(|key| key.ends_with("config_path"))
                && change["to"].as_str().is_some_and(|to| to.contains("/etc/containerd/certs.d")),
            "the plan of {} is not the one to set config_path: {plan}",
            node.name()
        );
    }
    cluster.no_restart_since(&before)?;
    for (node, before) in cluster.nodes().iter().zip(&files) {
        same_files(node, before)?;
    }
    let shown = cluster.bed().kubectl(["get", "registrymirror", "docker-hub"])?;
    ensure!(shown.contains("0/2"), "kubectl get registrymirror shows:\n{shown}");
    Ok(())
}

pub fn manual(cluster: &Cluster) -> Result<()> {
    cluster.fresh(&Values { restart_policy: "Manual", ..Values::default() })?;
    let before = cluster.witnesses()?;
    cluster.apply(&RegistryMirror::docker_hub())?;
    for node in cluster.nodes() {
        cluster.condition(node.name(), "RestartPending", PATIENCE, |condition| condition.status == "True")?;
    }
    cluster.no_restart_since(&before)?;

    for (number, node) in cluster.nodes().iter().enumerate() {
        cluster.must(&["approve", node.name()])?;
        cluster.condition(node.name(), "Ready", PATIENCE, |condition| condition.status == "True")?;
        cluster.programmed("docker-hub", &format!("{}/2", number + 1), PATIENCE)?;
        for (position, (node, before)) in cluster.nodes().iter().zip(&before).enumerate() {
            let starts = Witness::of(node)?.starts - before.starts;
            let expected = usize::from(position <= number);
            ensure!(
                starts == expected,
                "containerd on {} was restarted {starts} times, {expected} expected",
                node.name()
            );
        }
    }
    Ok(())
}
