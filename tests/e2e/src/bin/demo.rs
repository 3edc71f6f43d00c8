//! `make demo`: the main job on a real two-node cluster, shown step by step. The cluster stays up afterwards.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use e2e::{Cluster, Lifetime, MIRROR, NAMESPACE, Product, RegistryMirror, Values, Witness, pod, workspace};

/// The bed that `make testbed-status` and `make testbed-down` speak of.
const BED: &str = "dev";
const IMAGE: &str = "docker.io/library/busybox:1.35";
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo did not get to its end: {error:#}");
            eprintln!("`make testbed-status` shows what runs, `make testbed-down` removes it.");
            ExitCode::FAILURE
        }
    }
}

/// Prints what is being done, and then how long it took.
fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    println!("==> {what}");
    let done = work()?;
    println!("    {:.1} s", start.elapsed().as_secs_f64());
    Ok(done)
}

/// Prints the output of a command under the command itself.
fn show(cluster: &Cluster, args: &[&str]) -> Result<()> {
    println!("\n$ kubectl {}", args.join(" "));
    println!("{}", cluster.bed().kubectl(args.iter().copied())?.trim_end());
    Ok(())
}

fn run() -> Result<()> {
    let start = Instant::now();
    let product = step("building the operator: one static binary", Product::build)?;
    let cluster = step(
        "starting a cluster: node1 with containerd 1.6.20 and no message bus, node2 with containerd 2.4.2",
        || {
            println!("    (the first time, its parts are built, which takes some 15 minutes; they are kept)");
            Cluster::up(BED, product, Lifetime::Kept)
        },
    )?;
    let bed = cluster.bed();
    cluster.clean()?;
    bed.kubectl(["delete", "pods", "--all", "--namespace", "default", "--grace-period=0", "--force"])?;
    for node in cluster.nodes() {
        node.remove_image(IMAGE)?;
    }
    let before = cluster.witnesses()?;
    let mirror_before = bed.accesses("mirror")?.len();
    let upstream_before = bed.accesses("docker.io")?.len();

    step("helm install", || cluster.install(&Values::default()))?;
    let mirror = RegistryMirror::docker_hub();
    println!("\n$ kubectl apply -f docker-hub.yaml    # docker.io -> {MIRROR}");
    step("until both nodes pull docker.io through the mirror, containerd proved on each", || {
        cluster.apply(&mirror)?;
        cluster.programmed(&mirror.name, &format!("{0}/{0}", cluster.nodes().len()), PATIENCE)
    })?;
    step(&format!("a pod with {IMAGE} on each node"), || {
        for node in cluster.nodes() {
            bed.apply(&pod(
                &format!("demo-{}", node.name()),
                node.name(),
                IMAGE,
                &["/bin/busybox", "sleep", "1000000"],
                false,
            ))?;
        }
        for node in cluster.nodes() {
            cluster.running(&format!("demo-{}", node.name()), PATIENCE)?;
        }
        Ok(())
    })?;

    show(&cluster, &["get", "registrymirrors,nodemirrors"])?;
    show(&cluster, &["get", "pods", "-o", "wide"])?;

    println!("\nWho served the pulls, by the registries' own access logs:");
    for node in cluster.nodes() {
        let of_node = |registry: &str, skip: usize| -> Result<usize> {
            let accesses = bed.accesses(registry)?.split_off(skip);
            Ok(accesses
                .iter()
                .filter(|access| access.client == node.address() && access.path.contains("/library/busybox/"))
                .count())
        };
        println!(
            "  {}: the mirror {} requests with ns=docker.io, the upstream docker.io {}",
            node.name(),
            of_node("mirror", mirror_before)?,
            of_node("docker.io", upstream_before)?
        );
    }
    println!("\nRestarts of containerd since the installation, by systemd:");
    for (node, before) in cluster.nodes().iter().zip(&before) {
        println!("  {}: {}", node.name(), Witness::of(node)?.starts - before.starts);
    }
    for node in cluster.nodes() {
        let text = cluster.hosts_toml(node, "docker.io")?.context("hosts.toml is not there")?;
        println!("\n{}:/etc/containerd/certs.d/docker.io/hosts.toml\n{}", node.name(), text.trim_end());
    }

    let testbed =
        workspace().join("target").join(format!("{}-unknown-linux-gnu", std::env::consts::ARCH)).join("debug/testbed");
    let testbed = testbed.canonicalize().unwrap_or(testbed);
    println!("\nDone after {:.0} s. The cluster stays up. To look around:", start.elapsed().as_secs_f64());
    println!("  make testbed-status");
    println!("  {} kubectl get nodemirror node1 -o yaml", testbed.display());
    println!("  {} kubectl logs --namespace {NAMESPACE} daemonset/registry-mirror-agent", testbed.display());
    println!("  {} exec node2 -- cat /etc/containerd/config.toml", testbed.display());
    println!("  kubeconfig, for programs in the bed's network (`testbed net -- ...`): {}", bed.kubeconfig().display());
    println!("To remove it:\n  make testbed-down");
    Ok(())
}
