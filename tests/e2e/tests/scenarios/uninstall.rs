//! `helm uninstall`: every node gets back what it had, no containerd restarts, and a node that is away is named.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::{
    CERTS_D, CONFIG_TOML, Cluster, MIRROR, MIRROR2, NAMESPACE, RegistryMirror, Values, Witness, during, host_files,
    leftovers, same_files, until,
};
use testbed::{Image, Node};

const PATIENCE: Duration = Duration::from_secs(90);
const REGISTRIES: [&str; 2] = ["docker.io", "quay.io"];
/// What stood there before the operator: for a registry that it takes over, and for one that it never hears of.
const FOREIGN: [(&str, &str, &str); 2] = [
    (
        "docker.io",
        "0640",
        "# ours since 2019\nserver = \"https://registry-1.docker.io\"\n[host.\"http://mirror2.testbed.internal:5001\"]\n",
    ),
    ("ghcr.io", "0600", "server = \"https://ghcr.io\"\r\n"),
];

/// The nodes with other people's files, then the operator with two RegistryMirrors on all of them. Returns what the
/// nodes were like before.
fn installed(cluster: &Cluster, values: &Values) -> Result<Vec<String>> {
    cluster.clean()?;
    for node in cluster.nodes() {
        for (registry, mode, text) in FOREIGN {
            let file = format!("{CERTS_D}/{registry}/hosts.toml");
            node.write(&file, text)?;
            node.run(["chmod", mode, &file])?;
        }
    }
    let before = cluster.nodes().iter().map(host_files).collect::<Result<Vec<_>>>()?;
    cluster.install(values)?;
    cluster.apply(&RegistryMirror::docker_hub())?;
    cluster.apply(&RegistryMirror::new("quay", "quay.io", &[MIRROR2]))?;
    for name in ["docker-hub", "quay"] {
        cluster.programmed(name, "2/2", PATIENCE)?;
    }
    for (node, before) in cluster.nodes().iter().zip(&before) {
        ensure!(cluster.hosts(node, "docker.io")? == Some(vec![MIRROR.to_owned()]), "the foreign file is still there");
        ensure!(same_files(node, before).is_err(), "nothing was written on {}", node.name());
    }
    Ok(before)
}

/// An image that every mirror and the upstream have.
fn push_everywhere(cluster: &Cluster, name: &str, tag: &str) -> Result<()> {
    let image = Image::filler(&format!("{name}-{tag}"), 1);
    for registry in ["mirror", "mirror2", "docker.io", "quay.io"] {
        cluster.bed().push(registry, name, tag, &image)?;
    }
    Ok(())
}

/// A new image for each pull.
fn fresh_image(cluster: &Cluster, name: &str, node: &Node, number: usize) -> Result<String> {
    let tag = format!("{}-{number}", node.name());
    push_everywhere(cluster, name, &tag)?;
    Ok(format!("{}/{name}:{tag}", REGISTRIES[number % REGISTRIES.len()]))
}

/// Nothing is left, and pulls go on, also after a restart of containerd, which then reads its configuration of before.
fn nothing_left(cluster: &Cluster, node: &Node, before: &str) -> Result<()> {
    same_files(node, before)?;
    ensure!(leftovers(node)?.is_empty(), "left on {}: {:?}", node.name(), leftovers(node)?);
    let name = "library/after-uninstall";
    push_everywhere(cluster, name, "1")?;
    for registry in REGISTRIES {
        cluster.pull_anew(node, &format!("{registry}/{name}:1"))?;
    }
    node.run(["systemctl", "restart", "containerd.service"])?;
    until(&format!("containerd's CRI on {}", node.name()), PATIENCE, || {
        Ok(node.exec(["cri", "version"])?.status.success().then_some(()))
    })?;
    let mirrored = mirrored(cluster, node)?;
    for registry in REGISTRIES {
        cluster.pull_anew(node, &format!("{registry}/{name}:1"))?;
        ensure!(!cluster.asked(registry, node, None)?.is_empty(), "the upstream {registry} was not asked");
    }
    ensure!(self::mirrored(cluster, node)? == mirrored, "a mirror was asked though no config_path names one");
    same_files(node, before)
}

fn mirrored(cluster: &Cluster, node: &Node) -> Result<usize> {
    let mut accesses = 0;
    for (mirror, registry) in [("mirror", "docker.io"), ("mirror2", "docker.io"), ("mirror2", "quay.io")] {
        accesses += cluster.asked(mirror, node, Some(registry))?.len();
    }
    Ok(accesses)
}

pub fn as_it_was(cluster: &Cluster) -> Result<()> {
    let before = installed(cluster, &Values::default())?;
    let witnesses = cluster.witnesses()?;
    let name = "library/uninstalling";
    let start = Instant::now();
    let image = |node: &Node, number| fresh_image(cluster, name, node, number);
    let ((said, log), pulls) = during(cluster.nodes(), image, || {
        std::thread::scope(|scope| {
            let log = scope.spawn(|| cluster.uninstall_log(PATIENCE));
            let said = cluster.helm_uninstall(&["--timeout", "5m"]);
            let log = log.join().map_err(|_| anyhow::anyhow!("the reader of the log broke down"))?;
            Ok((said?, log?))
        })
    })?;
    let took = start.elapsed();

    cluster.no_restart_since(&witnesses)?;
    pulls.all_went_well(10)?;
    for (number, step) in ["1/2", "2/2"].into_iter().enumerate() {
        ensure!(
            log.lines().any(|line| line.contains(step)),
            "no line with {step} ({number}) in the hook's log:\n{log}"
        );
    }
    for node in cluster.nodes() {
        let line = format!("{} is as it was before", node.name());
        ensure!(log.contains(&line), "the hook's log does not say that {line}:\n{log}");
        ensure!(said.contains(&line), "helm does not say that {line}:\n{said}");
    }
    for (node, before) in cluster.nodes().iter().zip(&before) {
        nothing_left(cluster, node, before)?;
    }
    let state = ["get", "nodemirrors,secret,lease,configmap", "--namespace", NAMESPACE, "--output", "name"];
    let state = cluster.bed().kubectl(state)?;
    ensure!(!state.contains("registry-mirror"), "the credentials or what nodes said stay behind:\n{state}");
    eprintln!("helm uninstall took {took:.1?} under {} pulls, none failed; its hook said:\n{log}", pulls.asked);
    cluster.clean()
}

/// The worst moment: the controller's node goes, and while the cluster still takes it for Ready, the hook's own pod is put
/// there.
pub fn one_away(cluster: &Cluster) -> Result<()> {
    const HELM: Duration = Duration::from_secs(240);
    let before = installed(cluster, &Values { uninstall_seconds: Some(30), ..Values::default() })?;
    let witnesses = cluster.witnesses()?;
    let (away, there) = match cluster.nodes() {
        [first, second] if on_node(cluster, "controller")?.as_deref() == Some(second.name()) => {
            ((1, second), (0, first))
        }
        [first, second] => ((0, first), (1, second)),
        _ => anyhow::bail!("the bed has not two nodes"),
    };
    let ((away_number, away), (there_number, there)) = (away, there);
    let kept = host_files(away)?;
    cluster.bed().kubectl(["cordon", there.name()])?;
    away.power_cut()?;
    let start = Instant::now();
    let said = std::thread::scope(|scope| -> Result<String> {
        let helm = scope.spawn(|| cluster.helm_uninstall(&["--timeout", &format!("{}s", HELM.as_secs())]));
        let placed = until("the hook's pod on the node that is away", PATIENCE, || {
            Ok((on_node(cluster, "uninstall")?.as_deref() == Some(away.name())).then_some(()))
        });
        cluster.bed().kubectl(["uncordon", there.name()])?;
        placed?;
        helm.join().map_err(|_| anyhow::anyhow!("the thread that runs helm broke down"))?
    })?;
    let took = start.elapsed();
    ensure!(took < HELM, "helm uninstall took {took:.0?}");
    let line = said.lines().find(|line| line.contains("have not answered")).with_context(|| said.clone())?;
    ensure!(line.contains(away.name()) && !line.contains(there.name()), "the wrong node is named: {line}");
    ensure!(line.contains("registry-mirror node restore"), "what to do is not said: {line}");
    nothing_left(cluster, there, &before[there_number])?;

    // The node comes back to a cluster without the operator, goes on as it was, and is put back by hand.
    let since = jiff::Timestamp::now();
    cluster.bed().boot(away.name())?;
    cluster.node_ready(away, since)?;
    ensure!(
        Witness::of(away)?.config == witnesses[away_number].config,
        "config.toml of the node that was away changed"
    );
    cluster.install_command_line(away)?;
    let mirror = cluster.asked("mirror", away, Some("docker.io"))?.len();
    push_everywhere(cluster, "library/back", "1")?;
    cluster.pull_anew(away, "docker.io/library/back:1")?;
    ensure!(cluster.asked("mirror", away, Some("docker.io"))?.len() > mirror, "the mirror was not asked");
    same_files(away, &kept).context("while the node was away")?;
    eprintln!("helm uninstall took {took:.1?} with a node away (time-out {HELM:?}): {line}");
    eprintln!("{}", away.run(["registry-mirror", "node", "restore"])?.trim());
    nothing_left(cluster, away, &before[away_number])?;
    cluster.clean()
}

/// Where the first pod of a component is.
fn on_node(cluster: &Cluster, component: &str) -> Result<Option<String>> {
    let selector = format!("app.kubernetes.io/component={component}");
    let pods = cluster.bed().kubectl_json(["get", "pods", "--all-namespaces", "--selector", &selector])?;
    Ok(pods["items"][0]["spec"]["nodeName"].as_str().map(str::to_owned))
}

pub fn by_hand(cluster: &Cluster) -> Result<()> {
    let before = installed(cluster, &Values::default())?;
    let witnesses = cluster.witnesses()?;
    // Without hooks nothing is put back.
    let mut kept = Vec::new();
    for node in cluster.nodes() {
        kept.push(host_files(node)?);
    }
    cluster.uninstall()?;
    for (node, kept) in cluster.nodes().iter().zip(&kept) {
        same_files(node, kept)?;
        cluster.install_command_line(node)?;
    }
    let name = "library/by-hand";
    let image = |node: &Node, number| fresh_image(cluster, name, node, number);
    let ((), pulls) = during(cluster.nodes(), image, || {
        cluster.nodes().iter().try_for_each(|node| {
            let said = node.run(["registry-mirror", "node", "restore"])?;
            // Doing it again changes nothing.
            node.run(["registry-mirror", "node", "restore"])?;
            eprintln!("{}: {}", node.name(), said.trim());
            Ok(())
        })
    })?;
    pulls.all_went_well(2)?;
    cluster.no_restart_since(&witnesses)?;
    for (node, before) in cluster.nodes().iter().zip(&before) {
        ensure!(node.exists(CONFIG_TOML), "config.toml is gone");
        nothing_left(cluster, node, before)?;
    }
    cluster.clean()
}
