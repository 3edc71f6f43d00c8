//! containerd's own forward proxy: in the same restart as its configuration, later within the budget, and gone again.
//!
//! The proxy is a real one on the last node, which knows the registries' names.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use e2e::{Cluster, MIRROR2, Proxy, RegistryMirror, Trap, Values, Witness, restart_with_its_files, until};
use testbed::{Cache, Image, Node};

const PATIENCE: Duration = Duration::from_secs(90);
const DROP_IN: &str = "/etc/systemd/system/containerd.service.d/zz-registry-mirror-proxy.conf";
const LOG: &str = "/var/log/e2e-proxy.log";
/// Not the proxy's affair: the operator's image and the cluster's own traffic.
const EXCEPT: [&str; 2] = ["images.testbed.internal", "10.244.0.0/16"];

pub fn one_restart_for_both(cluster: &Cluster) -> Result<()> {
    cluster.clean()?;
    let proxy = start(cluster)?;
    cluster.install(&Values { proxy: Some(proxy.clone()), ..Values::default() })?;
    let before = cluster.witnesses()?;
    cluster.apply(&RegistryMirror::docker_hub())?;
    cluster.programmed("docker-hub", &all(cluster), PATIENCE)?;
    for (node, before) in cluster.nodes().iter().zip(&before) {
        cluster.condition(node.name(), "ProxyInForce", PATIENCE, |condition| condition.status == "True")?;
        restarts(node, before, 1)?;
        ensure!(
            running(node)?.get("HTTPS_PROXY") == Some(&proxy.url),
            "{} runs with {:?}",
            node.name(),
            running(node)?
        );
        let except = running(node)?.get("NO_PROXY").cloned().unwrap_or_default();
        for entry in ["127.0.0.0/8", "::1", EXCEPT[1], "mirror2.testbed.internal:5001"] {
            ensure!(except.split(',').any(|known| known == entry), "NO_PROXY={except} does not hold {entry}");
        }
    }

    // A mirror by http and an upstream by https go through it; a mirror that is named as direct does not.
    let (bed, node) = (cluster.bed(), cluster.node("node1")?);
    bed.push("mirror", "library/through", "1", &Image::filler("through", 1))?;
    bed.push("quay.io", "e2e/through", "1", &Image::filler("quay", 1))?;
    bed.push("mirror2", "library/straight", "1", &Image::filler("straight", 1))?;
    cluster.pull_anew(node, "docker.io/library/through:1")?;
    cluster.pull_anew(node, "quay.io/e2e/through:1")?;
    let asked = asked(cluster, node.address())?;
    for target in ["http://mirror.testbed.internal:5000/v2/library/through", "CONNECT quay.io:443"] {
        ensure!(
            asked.iter().any(|request| request.contains(target)),
            "the proxy was not asked for {target}: {asked:?}"
        );
    }
    let said = cluster.must(&["explain", "docker.io/library/through:1", "--node", node.name()])?;
    ensure!(said.contains("http://mirror.testbed.internal:5000, https://registry-1.docker.io through its"), "{said}");
    let now = cluster.witnesses()?;
    cluster.apply(&RegistryMirror::new("docker-hub", "docker.io", &[MIRROR2]))?;
    cluster.files("docker.io", Some(&[MIRROR2]), PATIENCE)?;
    cluster.pull_anew(node, "docker.io/library/straight:1")?;
    let requests = cluster.asked("mirror2", node, Some("docker.io"))?;
    ensure!(requests.iter().any(|access| access.path.contains("straight")), "mirror2 was not asked by the node itself");
    // A proxy hands its own address on.
    ensure!(
        !self::asked(cluster, node.address())?.iter().any(|request| request.contains("mirror2")),
        "through the proxy"
    );
    cluster.no_restart_since(&now).context("a change of mirrors")
}

/// Goes on where the first scenario has ended, or makes that state.
fn with_proxy(cluster: &Cluster) -> Result<Proxy> {
    cluster.clean()?;
    let proxy = start(cluster)?;
    cluster.install(&Values { proxy: Some(proxy.clone()), ..Values::default() })?;
    cluster.apply(&RegistryMirror::docker_hub())?;
    cluster.programmed("docker-hub", &all(cluster), PATIENCE)?;
    Ok(proxy)
}

pub fn a_later_change_waits(cluster: &Cluster) -> Result<()> {
    let proxy = with_proxy(cluster)?;
    let before = cluster.witnesses()?;
    let changed = Proxy { except: vec![EXCEPT[0], EXCEPT[1], "example.org"], ..proxy };
    cluster.install(&Values { restart_policy: "Manual", proxy: Some(changed), ..Values::default() })?;
    for node in cluster.nodes() {
        let pending =
            cluster.condition(node.name(), "RestartPending", PATIENCE, |condition| condition.status == "True")?;
        ensure!(pending.message.contains("proxy"), "it does not say what for: {}", pending.message);
    }
    cluster.no_restart_since(&before)?;
    for (number, node) in cluster.nodes().iter().enumerate() {
        cluster.must(&["approve", node.name()])?;
        cluster.condition(node.name(), "ProxyInForce", PATIENCE, |condition| condition.status == "True")?;
        for (position, (node, before)) in cluster.nodes().iter().zip(&before).enumerate() {
            restarts(node, before, usize::from(position <= number))?;
            let has = running(node)?.get("NO_PROXY").is_some_and(|except| except.contains("example.org"));
            ensure!(has == (position <= number), "{} runs with {:?}", node.name(), running(node)?);
        }
    }
    Ok(())
}

pub fn one_that_breaks_the_unit(cluster: &Cluster) -> Result<()> {
    let proxy = with_proxy(cluster)?;
    let node = cluster.node("node1")?;
    let old = node.read(DROP_IN)?;
    node.write(
        "/etc/systemd/system/containerd.service.d/e2e-trap.conf",
        format!("[Service]\nTimeoutStartSec=10\nTimeoutStopSec=10\nExecStartPre=/bin/sh -c '! grep -q breaks.example {DROP_IN}'\n"),
    )?;
    restart_with_its_files(node)?;
    let broken = Proxy { except: vec![EXCEPT[0], EXCEPT[1], "breaks.example"], ..proxy.clone() };
    cluster.install(&Values { proxy: Some(broken), ..Values::default() })?;
    let why = cluster.paused_by("node1", Duration::from_secs(180))?;
    eprintln!("{why}");
    until("the old drop-in on node1", PATIENCE, || Ok((node.read(DROP_IN)? == old).then_some(())))?;
    let except = running(node)?.get("NO_PROXY").cloned().unwrap_or_default();
    ensure!(!except.is_empty() && !except.contains("breaks.example"), "node1 runs with NO_PROXY={except}");

    Trap::clear(node)?;
    cluster.install(&Values { proxy: Some(proxy), ..Values::default() })?;
    // Another node may have taken the broken one before, and goes back.
    cluster.must(&["resume"])?;
    cluster.programmed("docker-hub", &all(cluster), PATIENCE)
}

pub fn gone_with_the_operator(cluster: &Cluster) -> Result<()> {
    let proxy = with_proxy(cluster)?;
    let before = cluster.witnesses()?;
    cluster.must(&["uninstall"])?;
    for node in cluster.nodes() {
        ensure!(!node.exists(DROP_IN), "{DROP_IN} is still on {}", node.name());
        let stale = node.run(["systemctl", "show", "-p", "NeedDaemonReload", "--value", "containerd.service"])?;
        ensure!(stale.trim() == "no", "systemd on {} has not read that it is gone", node.name());
        ensure!(running(node)?.get("HTTP_PROXY") == Some(&proxy.url), "the running daemon has lost it already");
    }
    cluster.no_restart_since(&before)?;
    for node in cluster.nodes() {
        node.run(["systemctl", "restart", "containerd.service"])?;
        ensure!(running(node)?.is_empty(), "{} starts with {:?}", node.name(), running(node)?);
    }
    host(cluster)?.run(["systemctl", "stop", "e2e-proxy.service"]).map(drop)
}

/// The node that the proxy runs on.
fn host(cluster: &Cluster) -> Result<&Node> {
    cluster.nodes().last().context("the bed has no node")
}

/// `2/2` on two nodes.
fn all(cluster: &Cluster) -> String {
    let nodes = cluster.nodes().len();
    format!("{nodes}/{nodes}")
}

/// Starts the proxy, where it is not running.
fn start(cluster: &Cluster) -> Result<Proxy> {
    let node = host(cluster)?;
    if !node.sh("systemctl is-active e2e-proxy.service || true")?.starts_with("active") {
        node.install_program(&testbed::forward_proxy(&Cache::locate()?)?, "tinyproxy")?;
        node.write("/root/e2e-proxy.conf", "Port 8888\nLogLevel Connect\nMaxClients 100\nTimeout 600\n")?;
        node.sh(&format!(
            "systemctl reset-failed e2e-proxy.service 2>/dev/null
             systemd-run --quiet --unit=e2e-proxy -p StandardOutput=append:{LOG} tinyproxy -d -c /root/e2e-proxy.conf"
        ))?;
    }
    let url = format!("http://{}:8888", node.address());
    Ok(Proxy { url, except: EXCEPT.to_vec(), direct: vec![MIRROR2] })
}

/// What the proxy was asked for by a node, by its own log: a line with the address, then one with the request.
fn asked(cluster: &Cluster, by: Ipv4Addr) -> Result<Vec<String>> {
    let log = String::from_utf8_lossy(&host(cluster)?.read(LOG)?).into_owned();
    let descriptor = |line: &str| Some(line.split_once("(file descriptor ")?.1.split_once(')')?.0.to_owned());
    let mut clients: BTreeMap<String, bool> = BTreeMap::new();
    let mut requests = Vec::new();
    for line in log.lines() {
        let Some(descriptor) = descriptor(line) else { continue };
        if line.contains("Connect (") {
            clients.insert(descriptor, line.contains(&by.to_string()));
        } else if line.contains("Request (") && clients.get(&descriptor) == Some(&true) {
            requests.push(line.split_once("): ").map_or(line, |(_, request)| request).to_owned());
        }
    }
    ensure!(log.contains("Request (") || requests.is_empty(), "the proxy's log is in another form:\n{log}");
    Ok(requests)
}

/// The proxy variables of the running daemon, as the kernel shows them.
fn running(node: &Node) -> Result<BTreeMap<String, String>> {
    let shown = node.sh("tr '\\0' '\\n' </proc/$(systemctl show -p MainPID --value containerd.service)/environ")?;
    let pairs = shown.lines().filter_map(|line| line.split_once('='));
    Ok(pairs.filter(|(name, _)| name.ends_with("_PROXY")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect())
}

fn restarts(node: &Node, before: &Witness, expected: usize) -> Result<()> {
    let starts = Witness::of(node)?.starts - before.starts;
    ensure!(starts == expected, "containerd on {} was restarted {starts} times, {expected} expected", node.name());
    Ok(())
}
