//! Hosts on which it matters which containerd is meant, in a cluster of their own: `cargo test -p e2e --test hosts`.

#![cfg(test)]

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{CONFIG_TOML, Cluster, Lifetime, Product, RegistryMirror, Values, host_files, same_files};
use testbed::{Image, Node, NodeSpec};

const PATIENCE: Duration = Duration::from_secs(90);
const USUAL: &str = "/run/containerd/containerd.sock";
const OTHER_UNIT: &str = "other-containerd.service";
const OTHER_CONFIG: &str = "/opt/other/main.toml";
/// One of the places that are looked at, so that the agent has to choose.
const OTHER_SOCKET: &str = "/run/k3s/containerd/containerd.sock";
/// Nobody looks there unless the kubelet's settings name it.
const ELSEWHERE: &str = "/run/elsewhere/containerd.sock";

/// The kubelet's containerd is the usual one; another runs beside it.
const BESIDE: &str = "beside";
/// The kubelet's containerd is the other one, with another unit, configuration and socket; the usual one runs too.
const MOVED: &str = "moved";
/// A restart of its unit would end every pod.
const KILLS: &str = "kills";

/// A second containerd with a unit, directories and a socket of its own.
fn with_other(spec: NodeSpec, socket: &str, wanted_by: &str) -> NodeSpec {
    // As for the bed's own containerd: the machine may withhold CAP_SYS_RESOURCE.
    let config = format!(
        "version = 2\nroot = \"/var/lib/containerd/other\"\nstate = \"/run/other\"\n[grpc]\n  address = \"{socket}\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\n  restrict_oom_score_adj = true\n"
    );
    let unit = format!(
        "[Unit]\nAfter=testbed-prepare.service\nRequires=testbed-prepare.service\n[Service]\nType=notify\n\
         ExecStart=/usr/local/bin/containerd --config {OTHER_CONFIG}\nDelegate=yes\nKillMode=process\nRestart=always\n\
         LimitNOFILE=infinity\nTasksMax=infinity\nOOMScoreAdjust=-999\n"
    );
    let wants = format!("[Unit]\nWants={OTHER_UNIT}\nAfter={OTHER_UNIT}\n");
    spec.file(OTHER_CONFIG, 0o640, config).file(&format!("/etc/systemd/system/{OTHER_UNIT}"), 0o644, unit).file(
        &format!("/etc/systemd/system/{wanted_by}.d/other.conf"),
        0o644,
        wants,
    )
}

/// The kubelet as packages start it: what the administrator wants is in /etc/default/kubelet.
fn moved() -> NodeSpec {
    let spec = with_other(NodeSpec::new(MOVED, "1.7.35"), ELSEWHERE, "kubelet.service");
    let kubelet = "[Service]\nEnvironmentFile=/etc/default/kubelet\nExecStart=\n\
        ExecStart=/opt/kubernetes/bin/kubelet --config=/etc/kubernetes/kubelet.yaml \
        --kubeconfig=/etc/kubernetes/kubelet.kubeconfig --hostname-override=moved --node-ip=10.88.0.101 \
        $KUBELET_EXTRA_ARGS\n";
    let extra = format!("KUBELET_EXTRA_ARGS=--container-runtime-endpoint=unix://{ELSEWHERE}\n");
    spec.file("/etc/systemd/system/kubelet.service.d/extra.conf", 0o644, kubelet).file(
        "/etc/default/kubelet",
        0o644,
        extra,
    )
}

fn kills() -> NodeSpec {
    let drop_in = "/etc/systemd/system/containerd.service.d/kill.conf";
    NodeSpec::new(KILLS, "2.4.2").file(drop_in, 0o644, "[Service]\nKillMode=control-group\n")
}

/// A new one with each start.
fn invocation(node: &Node, unit: &str) -> Result<String> {
    node.run(["systemctl", "show", unit, "--property=InvocationID", "--value"])
}

/// Pulls by one of the node's containerds, and counts what the mirror and the upstream were asked.
fn asked(cluster: &Cluster, node: &Node, socket: &str, tag: &str) -> Result<(usize, usize)> {
    let count = || -> Result<(usize, usize)> {
        let mirror = cluster.asked("mirror", node, Some("docker.io"))?.len();
        Ok((mirror, cluster.asked("docker.io", node, None)?.len()))
    };
    for registry in ["mirror", "docker.io"] {
        cluster.bed().push(registry, "library/which", tag, &Image::filler(tag, 1))?;
    }
    let before = count()?;
    let socket = format!("CRI_SOCKET={socket}");
    node.run(["env", &socket, "cri", "pull", &format!("docker.io/library/which:{tag}")])?;
    let after = count()?;
    Ok((after.0 - before.0, after.1 - before.1))
}

/// The containerd that runs the agent's own pod is changed, and nothing of the one beside it.
fn right_one(cluster: &Cluster, name: &str, (ours, theirs): (Place, Place), before: &Before) -> Result<()> {
    let node = cluster.node(name)?;
    ensure!(node.read(theirs.config)? == before.theirs, "{name}: {} was changed", theirs.config);
    ensure!(invocation(node, theirs.unit)? == before.their_start, "{name}: {} was restarted", theirs.unit);
    ensure!(invocation(node, ours.unit)? != before.our_start, "{name}: {} was not restarted", ours.unit);
    ensure!(String::from_utf8_lossy(&node.read(ours.config)?).contains("config_path"), "{name}: {}", ours.config);
    let status = cluster.node_mirror(name)?["status"].clone();
    ensure!(status["containerd"]["configFile"] == ours.config, "{name}: the status names another file: {status}");
    let (mirror, upstream) = asked(cluster, node, ours.socket, &format!("{name}-ours"))?;
    ensure!(mirror > 0 && upstream == 0, "{name}: ours asked the mirror {mirror} times, the upstream {upstream} times");
    let (mirror, upstream) = asked(cluster, node, theirs.socket, &format!("{name}-theirs"))?;
    ensure!(
        mirror == 0 && upstream > 0,
        "{name}: the other one asked the mirror {mirror} times, the upstream {upstream}"
    );
    Ok(())
}

/// A containerd of a host.
#[derive(Clone, Copy)]
struct Place {
    unit: &'static str,
    config: &'static str,
    socket: &'static str,
}

/// What a host was like before the operator came.
struct Before {
    theirs: Vec<u8>,
    their_start: String,
    our_start: String,
}

impl Before {
    fn of(node: &Node, (ours, theirs): (Place, Place)) -> Result<Self> {
        Ok(Self {
            theirs: node.read(theirs.config)?,
            their_start: invocation(node, theirs.unit)?,
            our_start: invocation(node, ours.unit)?,
        })
    }
}

#[test]
fn the_containerd_that_runs_the_agents_pod_is_the_one_that_is_meant() -> Result<()> {
    let nodes = [with_other(NodeSpec::new(BESIDE, "1.7.35"), OTHER_SOCKET, "kubelet.service"), moved(), kills()];
    let bed = std::env::var("E2E_BED").unwrap_or_else(|_| "e2e".to_owned());
    let bed = format!("{bed}-hosts");
    let cluster = Cluster::up_with(&bed, |bed| bed.nodes(nodes), Product::build_with_faults()?, Lifetime::Program)?;
    let outcome = scenario(&cluster);
    if let Err(error) = &outcome {
        eprintln!("{error:#}\n\n{}", cluster.dump());
    }
    cluster.down()?;
    outcome
}

fn scenario(cluster: &Cluster) -> Result<()> {
    let usual = Place { unit: "containerd.service", config: CONFIG_TOML, socket: USUAL };
    let other = |socket| Place { unit: OTHER_UNIT, config: OTHER_CONFIG, socket };
    let (beside, moved) = ((usual, other(OTHER_SOCKET)), (other(ELSEWHERE), usual));
    let beside_before = Before::of(cluster.node(BESIDE)?, beside)?;
    let moved_before = Before::of(cluster.node(MOVED)?, moved)?;
    let kills = cluster.node(KILLS)?;
    let (files, start) = (host_files(kills)?, invocation(kills, usual.unit)?);

    cluster.install(&Values { max_unavailable: "2", ..Values::default() })?;
    cluster.apply(&RegistryMirror::docker_hub())?;
    let ready = cluster.condition(KILLS, "Ready", PATIENCE, |ready| ready.reason == "Unsupported")?;
    ensure!(ready.status == "False" && ready.message.contains("KillMode=control-group"), "{ready:?}");
    cluster.programmed("docker-hub", "2/3", PATIENCE)?;

    right_one(cluster, BESIDE, beside, &beside_before)?;
    right_one(cluster, MOVED, moved, &moved_before)?;
    same_but_for_the_record(kills, &files)?;
    ensure!(invocation(kills, usual.unit)? == start, "a unit without KillMode=process was restarted");
    eprintln!("{KILLS}: {}", ready.message);
    Ok(())
}

/// The agent keeps its own notes; what is containerd's is as it was.
fn same_but_for_the_record(node: &Node, before: &str) -> Result<()> {
    match same_files(node, before) {
        Ok(()) => Ok(()),
        Err(error) => {
            let said = error.to_string();
            let others = said.lines().skip(1).filter(|line| !line.contains("/var/lib/registry-mirror-operator"));
            ensure!(others.count() == 0, "{said}");
            Ok(())
        }
    }
}
