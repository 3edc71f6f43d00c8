//! After the first roll-out: files follow every change, and containerd is never restarted again.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{Cluster, MIRROR, MIRROR2, RegistryMirror, Values, during};
use testbed::{Image, Node};

const AT_ONCE: Duration = Duration::from_secs(2);
/// So long a status is awaited.
const A_STATUS: Duration = Duration::from_secs(5);

pub fn files_follow(cluster: &Cluster) -> Result<()> {
    cluster.settled()?;
    let before = cluster.witnesses()?;

    cluster.apply(&RegistryMirror::new("quay", "quay.io", &[MIRROR2]))?;
    let second = cluster.files("quay.io", Some(&[MIRROR2]), AT_ONCE)?;
    cluster.bed().push("mirror2", "org/tool", "1", &Image::filler("tool", 2))?;
    for node in cluster.nodes() {
        cluster.pull_anew(node, "quay.io/org/tool:1")?;
        let served = cluster.asked("mirror2", node, Some("quay.io"))?;
        ensure!(!served.is_empty(), "the second mirror was not asked by {}", node.name());
    }

    cluster.apply(&RegistryMirror::new("docker-hub", "docker.io", &[MIRROR2, MIRROR]))?;
    let changed = cluster.files("docker.io", Some(&[MIRROR2, MIRROR]), AT_ONCE)?;

    cluster.bed().kubectl(["delete", "registrymirror", "quay", "--wait=false"])?;
    let deleted = cluster.files("quay.io", None, AT_ONCE)?;
    for node in cluster.nodes() {
        ensure!(cluster.hosts(node, "docker.io")?.is_some(), "the other registry's file went too on {}", node.name());
    }

    cluster.programmed("docker-hub", "2/2", Duration::from_secs(15))?;
    cluster.no_restart_since(&before)?;
    eprintln!(
        "on both nodes: a second object after {second:.0?}, a changed list after {changed:.0?}, a deleted object after {deleted:.0?}"
    );
    Ok(())
}

pub fn fifty_in_a_row(cluster: &Cluster) -> Result<()> {
    cluster.settled()?;
    let bed = cluster.bed();
    for registry in ["mirror", "mirror2"] {
        bed.push(registry, "library/steady", "1", &Image::filler("steady", 3))?;
    }
    let before = cluster.witnesses()?;
    let upstream_before = bed.accesses("docker.io")?.len();
    let lists: [&[&str]; 4] = [&[MIRROR2], &[MIRROR2, MIRROR], &[MIRROR], &[MIRROR, MIRROR2]];

    let image = |_: &Node, _| Ok("docker.io/library/steady:1".to_owned());
    let ((), pulls) = during(cluster.nodes(), image, || {
        (0..50).try_for_each(|number: usize| {
            cluster.apply(&RegistryMirror::new("docker-hub", "docker.io", lists[number % lists.len()]))
        })
    })?;

    let last = lists[49 % lists.len()];
    let took = cluster.files("docker.io", Some(last), AT_ONCE)?;
    cluster.programmed("docker-hub", "2/2", Duration::from_secs(15))?;
    cluster.no_restart_since(&before)?;
    pulls.all_went_well(20)?;
    let upstream = bed.accesses("docker.io")?.split_off(upstream_before);
    ensure!(upstream.is_empty(), "the upstream was asked: {upstream:?}");
    eprintln!("50 changes: {} pulls, none failed; the last state stood on both nodes after {took:.0?}", pulls.asked);
    Ok(())
}

/// Another program that changes a file again and again: it is put right always, after pauses that grow, so that the
/// registry never stays without its mirrors and two programs never write without end. The node says who fights.
pub fn fought_over(cluster: &Cluster) -> Result<()> {
    const DIRECTORY: &str = "/etc/containerd/certs.d/docker.io";
    cluster.fresh(&Values::default())?;
    cluster.apply(&RegistryMirror::docker_hub())?;
    cluster.programmed("docker-hub", "2/2", Duration::from_secs(90))?;
    let bed = cluster.bed();
    bed.push("mirror", "library/fought", "1", &Image::filler("fought", 2))?;
    let upstream_before = bed.accesses("docker.io")?.len();
    let node = cluster.node("node1")?;
    for (nth, pause) in [0, 1, 2, 4, 8].into_iter().enumerate() {
        if nth % 2 == 0 {
            node.sh(&format!("rm {DIRECTORY}/hosts.toml"))?;
        } else {
            node.write(&format!("{DIRECTORY}/hosts.toml"), "server = \"https://other.example\"\n")?;
        }
        if pause == 8 {
            let away = cluster.condition("node1", "Ready", A_STATUS, |ready| ready.reason == "Contested")?;
            ensure!(away.status == "False" && away.message.contains(DIRECTORY), "{away:?}");
        }
        let took = cluster.files("docker.io", Some(&[MIRROR]), Duration::from_secs(pause + 5))?;
        cluster.pull_anew(node, "docker.io/library/fought:1")?;
        eprintln!("change {}: put right after {took:.0?}", nth + 1);
    }
    ensure!(bed.accesses("docker.io")?.len() == upstream_before, "a pull went past the mirrors");
    let conflict = cluster.condition("node1", "Conflicts", A_STATUS, |conflict| conflict.status == "True")?;
    ensure!(conflict.message.contains(DIRECTORY), "the directory is not named: {}", conflict.message);
    // In place again it counts again.
    cluster.condition("node1", "Ready", A_STATUS, |ready| ready.status == "True")?;
    cluster.programmed("docker-hub", "2/2", Duration::from_secs(15))?;
    cluster.clean()
}
