//! The API server is gone for a minute: nodes go on pulling through their mirrors, quietly.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::{Cluster, MIRROR, MIRROR2, NAMESPACE, RegistryMirror};
use testbed::Image;

const AWAY: Duration = Duration::from_secs(60);

pub fn a_minute(cluster: &Cluster) -> Result<()> {
    cluster.settled()?;
    let bed = cluster.bed();
    let before = cluster.witnesses()?;
    for tag in ["early", "late"] {
        bed.push("mirror", "library/away", tag, &Image::filler(&format!("away-{tag}"), 2))?;
    }

    let since = jiff::Timestamp::now();
    let gone = Instant::now();
    bed.stop("kube-apiserver")?;
    let outcome = while_away(cluster, gone);
    bed.start("kube-apiserver")?;
    outcome.context("while the API server was away")?;

    let back = Instant::now();
    cluster.apply(&RegistryMirror::new("docker-hub", "docker.io", &[MIRROR2, MIRROR]))?;
    // Two watches, one after the other, try again after 30 s at most, and as much again by chance: thousands of nodes
    // must not come back at once.
    cluster.files("docker.io", Some(&[MIRROR2, MIRROR]), Duration::from_secs(150))?;
    eprintln!("a change arrived {:.1} s after the API server was back", back.elapsed().as_secs_f64());
    cluster.programmed("docker-hub", "2/2", Duration::from_secs(90))?;
    cluster.no_restart_since(&before)?;

    // A log that grows by a line a second buries what matters.
    let since = format!("--since-time={since}");
    for component in ["agent", "controller"] {
        let selector = format!("app.kubernetes.io/component={component}");
        let pods = bed.kubectl(["get", "pods", "--namespace", NAMESPACE, "--selector", &selector, "-o", "name"])?;
        for pod in pods.lines() {
            let log = bed.kubectl(["logs", "--namespace", NAMESPACE, pod, &since])?;
            let errors = log.lines().filter(|line| line.contains("ERROR") || line.contains("WARN")).count();
            ensure!(
                log.lines().count() <= 60 && errors <= 20,
                "{pod} wrote {} lines in that minute, {errors} of them errors or warnings:\n{log}",
                log.lines().count()
            );
        }
    }
    Ok(())
}

fn while_away(cluster: &Cluster, gone: Instant) -> Result<()> {
    for node in cluster.nodes() {
        cluster.pull_anew(node, "docker.io/library/away:early")?;
        // Drift is repaired from the node's own copy.
        node.write("/etc/containerd/certs.d/docker.io/hosts.toml", "# edited by hand\n")?;
    }
    cluster.files("docker.io", Some(&[MIRROR]), Duration::from_secs(45)).context("drift was not repaired")?;
    // The scenario is about a minute of absence; nothing else tells when it is over.
    std::thread::sleep(AWAY.saturating_sub(gone.elapsed()));
    for node in cluster.nodes() {
        cluster.pull_anew(node, "docker.io/library/away:late")?;
        let served = cluster.asked("mirror", node, Some("docker.io"))?;
        ensure!(
            served.iter().any(|access| access.path == "/v2/library/away/manifests/late" && access.status == 200),
            "the mirror did not serve {}",
            node.name()
        );
    }
    Ok(())
}
