//! What two nodes with one certs.d do.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{CERTS_D, Cluster, Condition, MIRROR, MIRROR2, RegistryMirror, Values, Witness, host_files, until};
use serde_json::json;
use testbed::{Image, Node};

const PATIENCE: Duration = Duration::from_secs(90);
/// Somebody's file where a RegistryMirror's must stand, and one for a registry that no object names.
const IN_THE_WAY: &str = "/etc/containerd/certs.d/docker.io/hosts.toml";
const BYSTANDER: &str = "/etc/containerd/certs.d/registry.example/hosts.toml";
const FOREIGN: &str = "server = \"https://registry-1.docker.io\"\n";

/// The nodes before the operator came.
pub struct Before {
    files: Vec<String>,
    witnesses: Vec<Witness>,
}

impl Before {
    pub fn take(cluster: &Cluster) -> Result<Self> {
        cluster.clean()?;
        let any = cluster.node("node1")?;
        for file in [IN_THE_WAY, BYSTANDER] {
            any.write(file, FOREIGN)?;
        }
        for node in cluster.nodes() {
            ensure!(node.exists(BYSTANDER), "{} has not the directory of the others", node.name());
        }
        let files = cluster.nodes().iter().map(files).collect::<Result<_>>()?;
        Ok(Self { files, witnesses: cluster.witnesses()? })
    }
}

pub fn one_writes(cluster: &Cluster, before: &Before) -> Result<()> {
    cluster.install(&Values::default())?;
    cluster.apply(&RegistryMirror::docker_hub())?;
    cluster.programmed("docker-hub", "2/2", PATIENCE)?;
    let (writer, other) = roles(cluster)?;
    let says = ready(cluster, other)?;
    ensure!(says.message.contains(writer.name()), "the writer is not named: {}", says.message);
    pull_through(cluster, "mirror", "first")?;
    for (node, before) in cluster.nodes().iter().zip(&before.witnesses) {
        let starts = Witness::of(node)?.starts - before.starts;
        ensure!(starts == 1, "containerd was started {starts} times on {}, not once", node.name());
    }
    ensure!(FOREIGN.as_bytes() == writer.read(BYSTANDER)?, "{BYSTANDER} was changed");
    // A change reaches both, and no containerd starts again for it.
    let settled = cluster.witnesses()?;
    cluster.apply(&RegistryMirror::new("docker-hub", "docker.io", &[MIRROR2, MIRROR]))?;
    let took = cluster.files("docker.io", Some(&[MIRROR2, MIRROR]), Duration::from_secs(5))?;
    cluster.programmed("docker-hub", "2/2", PATIENCE)?;
    pull_through(cluster, "mirror2", "second")?;
    cluster.no_restart_since(&settled)?;
    eprintln!("{} writes; a change stood there after {took:.0?}", writer.name());
    Ok(())
}

/// containerd 1.6 refuses a whole file that names `referrers`; both still pull through the mirror, whoever writes.
pub fn oldest_decides(cluster: &Cluster, _: &Before) -> Result<()> {
    let manifest = json!({
        "apiVersion": "registry-mirror.dev/v1alpha1",
        "kind": "RegistryMirror",
        "metadata": {"name": "docker-hub"},
        "spec": {
            "registry": "docker.io",
            "mirrors": [{"url": MIRROR2, "capabilities": ["pull", "resolve", "referrers"]}, {"url": MIRROR}],
        },
    });
    cluster.bed().apply(&manifest.to_string())?;
    cluster.programmed("docker-hub", "2/2", PATIENCE)?;
    pull_through(cluster, "mirror2", "referrers")?;
    while_the_writer_is_away(cluster, |_| pull_through(cluster, "mirror2", "referrers-again"))?;
    cluster.programmed("docker-hub", "2/2", PATIENCE)
}

pub fn one_node_alone(cluster: &Cluster, _: &Before) -> Result<()> {
    let (writer, other) = roles(cluster)?;
    cluster.apply(&RegistryMirror::new("quay", "quay.io", &[MIRROR2]).on(other.name()))?;
    cluster.apply(&RegistryMirror::new("ghcr", "ghcr.io", &[MIRROR2]).on(writer.name()))?;
    cluster.programmed("ghcr", "1/1", PATIENCE)?;
    let surplus = cluster.condition(other.name(), "Conflicts", PATIENCE, |said| said.status == "True")?;
    ensure!(surplus.message.contains("ghcr.io") && surplus.message.contains(writer.name()), "{}", surplus.message);
    let mut why = String::new();
    until("the reason why quay.io is not in force", PATIENCE, || {
        let object = cluster.bed().kubectl_json(["get", "registrymirror", "quay"])?;
        let programmed = e2e::condition(&object, "Programmed");
        why = programmed.map(|programmed| programmed.message).unwrap_or_default();
        Ok((why.contains(writer.name()) && why.contains("RegistryMirror/quay")).then_some(()))
    })
    .with_context(|| format!("Programmed says: {why}"))?;
    cluster.programmed("quay", "0/1", PATIENCE)?;
    ensure!(cluster.hosts(other, "quay.io")?.is_none(), "the node that stands by has written");
    for name in ["quay", "ghcr"] {
        cluster.delete("registrymirror", name)?;
    }
    cluster.files("ghcr.io", None, PATIENCE).map(drop)
}

/// The writer's agent dies and nobody starts it again; its containerd goes on.
pub fn takeover(cluster: &Cluster, _: &Before) -> Result<()> {
    let settled = cluster.witnesses()?;
    while_the_writer_is_away(cluster, |_| {
        cluster.apply(&RegistryMirror::new("docker-hub", "docker.io", &[MIRROR]))?;
        cluster.files("docker.io", Some(&[MIRROR]), Duration::from_secs(5))?;
        pull_through(cluster, "mirror", "after-takeover")
    })?;
    cluster.programmed("docker-hub", "2/2", PATIENCE)?;
    cluster.no_restart_since(&settled)
}

/// Old registry tables of one node would become mirrors of all: they stay where they are, and the node says so.
pub fn old_tables(cluster: &Cluster, _: &Before) -> Result<()> {
    const FILE: &str = "/etc/containerd/config.toml";
    let (writer, other) = roles(cluster)?;
    let ours = String::from_utf8(other.read(FILE)?)?;
    let key = ours.lines().find(|line| line.trim_start().starts_with("config_path")).context("no config_path")?;
    let old = ours.replace(key, "mirrors = { 'quay.io' = { endpoint = ['https://old.example'] } }");
    let started_with = |content: &str| {
        other.write(FILE, content)?;
        other.run(["systemctl", "restart", "containerd"])
    };
    started_with(&old)?;
    let said = cluster.condition(other.name(), "Ready", PATIENCE, |said| said.reason == "Unsupported")?;
    ensure!(said.message.contains(writer.name()) && said.message.contains(FILE), "{}", said.message);
    ensure!(old.as_bytes() == other.read(FILE)?, "{FILE} of {} was changed", other.name());
    ensure!(cluster.hosts(other, "quay.io")?.is_none(), "the old tables were carried over");
    started_with(&ours)?;
    stands_by(cluster, other, writer)?;
    cluster.programmed("docker-hub", "2/2", PATIENCE)
}

/// Looks come at least every half a minute; a change in the directory would be seen by its time.
pub fn idle(cluster: &Cluster, _: &Before) -> Result<()> {
    cluster.programmed("docker-hub", "2/2", PATIENCE)?;
    let (writer, _) = roles(cluster)?;
    let passes = || -> Result<u64> { passes(writer) };
    let times = || writer.sh(&format!("find {CERTS_D} -printf '%p %T@ %C@\\n' | sort"));
    let (seen, before) = (passes()?, times()?);
    until("another pass of the writer", Duration::from_secs(45), || Ok((passes()? > seen).then_some(())))?;
    let after = times()?;
    ensure!(before == after, "an idle pass has written:\n{before}\n{after}");
    Ok(())
}

pub fn uninstall(cluster: &Cluster, before: &Before) -> Result<()> {
    let settled = cluster.witnesses()?;
    // The one that writes now did not make the backup of the file that was in the way.
    while_the_writer_is_away(cluster, |_| Ok(()))?;
    cluster.helm_uninstall(&["--timeout", "120s"])?;
    for (node, before) in cluster.nodes().iter().zip(&before.files) {
        let mut now = String::new();
        // The agents end when helm is done.
        until(&format!("{} as it was", node.name()), Duration::from_secs(15), || {
            now = files(node)?;
            Ok((now == *before).then_some(()))
        })
        .with_context(|| difference(before, &now))?;
    }
    ensure!(FOREIGN.as_bytes() == cluster.node("node1")?.read(IN_THE_WAY)?, "{IN_THE_WAY} did not come back");
    cluster.no_restart_since(&settled)
}

/// The files that the operator may write, without a directory that systemd makes for itself with the first transient
/// unit, whoever starts that.
fn files(node: &Node) -> Result<String> {
    let listing = host_files(node)?;
    Ok(listing.lines().filter(|line| *line != "/run/systemd/transient").map(|line| format!("{line}\n")).collect())
}

/// The lines that only one of two listings has.
fn difference(before: &str, now: &str) -> String {
    let only = |sign: char, text: &str, other: &str| -> String {
        let lines = text.lines().filter(|line| !other.lines().any(|known| known == *line));
        lines.map(|line| format!("{sign} {line}\n")).collect()
    };
    format!("{}{}", only('-', before, now), only('+', now, before))
}

/// Waits until one node writes and the other stands by, and returns the two.
fn roles(cluster: &Cluster) -> Result<(&Node, &Node)> {
    let [one, other] = cluster.nodes() else { anyhow::bail!("the bed has not two nodes") };
    until("one node that writes and one that stands by", PATIENCE, || {
        let (first, second) = (ready(cluster, one), ready(cluster, other));
        let reason = |said: &Result<Condition>| said.as_ref().map(|said| said.reason.clone()).unwrap_or_default();
        Ok(match (reason(&first).as_str(), reason(&second).as_str()) {
            ("Ready", "Shared") => Some((one, other)),
            ("Shared", "Ready") => Some((other, one)),
            _ => None,
        })
    })
}

fn ready(cluster: &Cluster, node: &Node) -> Result<Condition> {
    let said = e2e::condition(&cluster.node_mirror(node.name())?, "Ready");
    said.with_context(|| format!("the NodeMirror {} has no condition Ready", node.name()))
}

fn becomes_writer(cluster: &Cluster, node: &Node) -> Result<Duration> {
    let start = std::time::Instant::now();
    cluster.condition(node.name(), "Ready", PATIENCE, |said| said.reason == "Ready")?;
    Ok(start.elapsed())
}

fn stands_by(cluster: &Cluster, node: &Node, writer: &Node) -> Result<Condition> {
    let names = |said: &Condition| said.reason == "Shared" && said.message.contains(writer.name());
    cluster.condition(node.name(), "Ready", PATIENCE, names)
}

/// Ends the writer's agent, does something when the other node writes, and lets the first one stand by.
fn while_the_writer_is_away(cluster: &Cluster, work: impl FnOnce(&Node) -> Result<()>) -> Result<()> {
    let (writer, other) = roles(cluster)?;
    // The kubelet would start it again, and whoever is first writes then. It is frozen rather than stopped, because a
    // new one needs an instance of inotify, and the machine may have none left.
    writer.run(["systemctl", "kill", "--signal=STOP", "kubelet"])?;
    let outcome = kill_agent(writer).and_then(|()| {
        let took = becomes_writer(cluster, other)?;
        eprintln!("{} wrote {took:.1?} after the death of {}'s agent", other.name(), writer.name());
        work(other)
    });
    writer.run(["systemctl", "kill", "--signal=CONT", "kubelet"])?;
    outcome?;
    stands_by(cluster, writer, other).map(drop)
}

fn kill_agent(node: &Node) -> Result<()> {
    node.sh("kill -9 $(pgrep -x -f '/registry-mirror agent.*')").map(drop)
}

/// Both pull an image that only this mirror has, on behalf of docker.io, and its access log says so.
fn pull_through(cluster: &Cluster, mirror: &str, name: &str) -> Result<()> {
    let repository = format!("library/{name}");
    cluster.bed().push(mirror, &repository, "1", &Image::filler(name, 2))?;
    for node in cluster.nodes() {
        cluster.pull_anew(node, &format!("docker.io/{repository}:1"))?;
        let asked = cluster.asked(mirror, node, Some("docker.io"))?;
        let manifest = format!("/v2/{repository}/manifests/1");
        ensure!(
            asked.iter().any(|access| access.path == manifest && access.status == 200),
            "{mirror} did not serve {repository} to {}: {asked:?}",
            node.name()
        );
    }
    Ok(())
}

/// How often the agent has looked at its node, by its own count.
fn passes(node: &Node) -> Result<u64> {
    const ASK: &str = "exec 3<>/dev/tcp/127.0.0.1/19464; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    let metrics = node.run(["bash", "-c", ASK])?;
    let line = metrics.lines().find(|line| line.contains("passes_total") && !line.starts_with('#'));
    let count = line.and_then(|line| line.split_whitespace().last()).context("the agent has no count of passes")?;
    count.parse().with_context(|| format!("the count of passes is `{count}`"))
}
