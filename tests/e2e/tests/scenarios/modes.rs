//! `mode: DryRun` and `restart.policy: Manual`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{CERTS_D, Cluster, MIRROR, NAMESPACE, RegistryMirror, Values, Witness, host_files, same_files, until};
use testbed::Node;

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

/// What an agent remembers when it starts is of yesterday: it puts nothing back before it has heard the mode in force.
/// While the API server is away it goes on from memory all the same.
pub fn agents_that_start(cluster: &Cluster) -> Result<()> {
    const REMEMBERED: &str = "/var/lib/registry-mirror-operator/bundle.json";
    const EDITED: &str = "# edited by hand\n";
    let file = format!("{CERTS_D}/docker.io/hosts.toml");
    cluster.fresh(&Values::default())?;
    cluster.apply(&RegistryMirror::docker_hub())?;
    cluster.programmed("docker-hub", "2/2", PATIENCE)?;
    let (one, two) = (cluster.node("node1")?, cluster.node("node2")?);

    cluster.bed().stop("kube-apiserver")?;
    let outcome = kill_agent(two).and_then(|()| two.write(&file, EDITED)).and_then(|()| {
        cluster.files("docker.io", Some(&[MIRROR]), Duration::from_secs(30)).context("nothing was done from memory")
    });
    cluster.bed().start("kube-apiserver")?;
    eprintln!("an agent that started without the API server put a file back after {:.1?}", outcome?);

    // The change of mode passes an agent by that is away.
    one.sh(&format!("cp {REMEMBERED} /root/remembered.json"))?;
    cluster.install(&Values { mode: "DryRun", ..Values::default() })?;
    cluster.condition("node1", "Ready", PATIENCE, |ready| ready.reason == "DryRun")?;
    one.write(&file, EDITED)?;
    let before = restarts_of_the_agent(cluster, one)?.context("node1 has no agent")?;
    one.sh(&format!("cp /root/remembered.json {REMEMBERED}"))?;
    kill_agent(one)?;
    until("an agent on node1 that has looked at its node", PATIENCE, || {
        Ok(restarts_of_the_agent(cluster, one)?.filter(|now| *now > before))
    })?;
    ensure!(one.read(&file)? == EDITED.as_bytes(), "a dry run has put {file} back");
    let remembered = String::from_utf8(one.read(REMEMBERED)?)?;
    ensure!(remembered.contains("DryRun"), "the mode is not remembered: {remembered}");
    Ok(())
}

fn kill_agent(node: &Node) -> Result<()> {
    node.sh("kill -9 $(pgrep -x -f '/registry-mirror agent.*')").map(drop)
}

/// How often the kubelet has restarted a node's agent; nothing while the agent is not ready.
fn restarts_of_the_agent(cluster: &Cluster, node: &Node) -> Result<Option<u64>> {
    let selector = "app.kubernetes.io/component=agent";
    let on = format!("spec.nodeName={}", node.name());
    let args = ["get", "pods", "--namespace", NAMESPACE, "--selector", selector, "--field-selector", &on];
    let pods = cluster.bed().kubectl_json(args)?;
    let container = &pods["items"][0]["status"]["containerStatuses"][0];
    Ok(container["restartCount"].as_u64().filter(|_| container["ready"] == true))
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
