//! The main job: helm install, one `kubectl apply`, and every node pulls through the mirror.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{CERTS_D, Cluster, MIRROR, RegistryMirror, Values, Witness, insertion, pod};
use testbed::{Image, Node};

const PATIENCE: Duration = Duration::from_secs(90);
const IMAGE: &str = "docker.io/library/busybox:1.35";

pub fn one_apply(cluster: &Cluster) -> Result<()> {
    let bed = cluster.bed();
    cluster.clean()?;
    bed.kubectl(["delete", "pods", "--all", "--namespace", "default", "--grace-period=0", "--force"])?;
    for node in cluster.nodes() {
        node.remove_image(IMAGE)?;
    }

    // Pods that must not notice: one in the host's network, one behind the bridge, on each node.
    let mut bystanders = Vec::new();
    for node in cluster.nodes() {
        for (kind, host_network) in [("host", true), ("net", false)] {
            let name = format!("before-{kind}-{}", node.name());
            bed.apply(&pod(&name, node.name(), "registry.k8s.io/pause:3.10", &[], host_network))?;
            bystanders.push((name, node));
        }
    }
    let mut containers = Vec::new();
    for (name, _) in &bystanders {
        containers.push(cluster.running(name, PATIENCE)?);
    }

    let before = cluster.witnesses()?;
    cluster.install(&Values::default())?;
    cluster.no_restart_since(&before).context("the installation alone")?;
    for (node, before) in cluster.nodes().iter().zip(&before) {
        ensure!(
            Witness::of(node)?.config == before.config,
            "the installation alone changed config.toml on {}",
            node.name()
        );
        ensure!(!node.exists(CERTS_D), "the installation alone made {CERTS_D} on {}", node.name());
    }
    let upstream_before = bed.accesses("docker.io")?.len();

    cluster.apply(&RegistryMirror::docker_hub())?;
    cluster.programmed("docker-hub", "2/2", PATIENCE)?;

    for (node, before) in cluster.nodes().iter().zip(&before) {
        right_file(cluster, node)?;
        restarted_once(node, before)?;
        only_config_path_added(node, before)?;
    }
    for ((name, node), ids) in bystanders.iter().zip(&containers) {
        let position = cluster.nodes().iter().position(|other| other.name() == node.name()).unwrap_or_default();
        let now = Witness::of(node)?;
        ensure!(cluster.running(name, PATIENCE)? == *ids, "the pod {name} has other containers than before");
        for id in ids {
            ensure!(
                now.tasks.get(id) == before[position].tasks.get(id) && now.tasks.contains_key(id),
                "the container {id} of {name} was disturbed: {:?} before, {:?} now",
                before[position].tasks.get(id),
                now.tasks.get(id)
            );
        }
    }
    restarts_apart(cluster)?;

    // Pulled through the mirror, as its access log says; the upstream has the same image and is not asked.
    for node in cluster.nodes() {
        let name = format!("through-{}", node.name());
        bed.apply(&pod(&name, node.name(), IMAGE, &["/bin/busybox", "sleep", "1000000"], false))?;
    }
    for node in cluster.nodes() {
        cluster.running(&format!("through-{}", node.name()), PATIENCE)?;
        let served = cluster.asked("mirror", node, Some("docker.io"))?;
        ensure!(
            served.iter().any(|access| access.path == "/v2/library/busybox/manifests/1.35" && access.status == 200),
            "the mirror's access log has no manifest of busybox for {} with ns=docker.io: {served:?}",
            node.name()
        );
        ensure!(
            served.iter().any(|access| access.path.starts_with("/v2/library/busybox/blobs/") && access.status == 200),
            "the mirror's access log has no blob of busybox for {} with ns=docker.io",
            node.name()
        );
    }
    ensure!(
        bed.accesses("docker.io")?.len() == upstream_before,
        "the upstream was asked: {:?}",
        &bed.accesses("docker.io")?[upstream_before..]
    );

    // And an image that nobody but the mirror has.
    bed.push("mirror", "library/only-here", "1", &Image::filler("only-here", 4))?;
    for node in cluster.nodes() {
        cluster.pull_anew(node, "docker.io/library/only-here:1")?;
    }
    let table = bed.kubectl(["get", "registrymirror"])?;
    ensure!(table.contains("docker-hub") && table.contains("2/2"), "kubectl get registrymirror shows:\n{table}");
    bed.kubectl(["delete", "pods", "--all", "--namespace", "default", "--grace-period=0", "--force"])?;
    Ok(())
}

fn right_file(cluster: &Cluster, node: &Node) -> Result<()> {
    let text = cluster.hosts_toml(node, "docker.io")?.with_context(|| format!("{} has no hosts.toml", node.name()))?;
    let found = |line: &str| text.lines().any(|found| found.trim() == line);
    ensure!(
        text.starts_with("# registry-mirror-operator: RegistryMirror/docker-hub sha256:")
            && found("server = \"https://registry-1.docker.io\"")
            && found(&format!("[host.\"{MIRROR}\"]"))
            && found("capabilities = [\"pull\", \"resolve\"]"),
        "{} has a hosts.toml that is not right:\n{text}",
        node.name()
    );
    Ok(())
}

fn restarted_once(node: &Node, before: &Witness) -> Result<()> {
    let now = Witness::of(node)?;
    ensure!(
        now.starts == before.starts + 1,
        "containerd was started {} times on {}, not once",
        now.starts - before.starts,
        node.name()
    );
    ensure!(
        now.invocation != before.invocation && now.started_monotonic_us > before.started_monotonic_us,
        "systemd does not show a new start of containerd on {}: {before:?}, {now:?}",
        node.name()
    );
    ensure!(now.automatic_restarts == 0, "containerd died on {} and systemd restarted it", node.name());
    Ok(())
}

/// The rest of config.toml is byte for byte as before.
fn only_config_path_added(node: &Node, before: &Witness) -> Result<()> {
    let now = Witness::of(node)?;
    let (Some(old), Some(new)) = (&before.config, &now.config) else {
        anyhow::bail!("{} has no config.toml", node.name());
    };
    let added = insertion(old, new).with_context(|| format!("config.toml on {}", node.name()))?;
    for line in added.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let table = line.starts_with('[') && line.ends_with(".registry]");
        let key = matches!(line.split_once('=').map(|(key, value)| (key.trim(), value.trim())), Some(("config_path", value)) if value.trim_matches(['"', '\'']) == CERTS_D);
        ensure!(table || key, "on {} more than config_path was put into config.toml: {line}", node.name());
    }
    Ok(())
}

/// With `maxUnavailable: 1` the two restarts never overlap.
fn restarts_apart(cluster: &Cluster) -> Result<()> {
    let [one, other] = cluster.nodes() else { anyhow::bail!("the bed has not two nodes") };
    let last = |node| -> Result<_> {
        let restarts = Witness::restarts(node)?;
        restarts.last().copied().context("the journal shows no restart of containerd")
    };
    let (one, other) = (last(one)?, last(other)?);
    ensure!(!one.overlaps(&other), "the restarts overlap: {one:?} and {other:?}");
    // Nor may the second begin before the first node is seen to work: containerd was proved and the controller told.
    let granted: Result<Vec<jiff::Timestamp>> = cluster
        .nodes()
        .iter()
        .map(|node| {
            let object = cluster.node_mirror(node.name())?;
            let text = object["spec"]["restartApproval"]["approvedAt"].as_str().map(str::to_owned);
            // An approval that was used may be gone by now.
            Ok(text.map_or(Ok(jiff::Timestamp::UNIX_EPOCH), |text| text.parse())?)
        })
        .collect();
    let (first, second) = if one.started < other.started { (one, other) } else { (other, one) };
    ensure!(
        granted?.iter().all(|granted| granted.as_second() <= second.stopping.as_second()),
        "a restart began before it was approved"
    );
    ensure!(second.stopping > first.started, "the second restart began before the first had ended");
    Ok(())
}
