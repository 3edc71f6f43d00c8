//! No inotify to be had: drift is repaired by the periodic look. `cargo test -p e2e --test no_inotify`.
//!
//! A program of its own: while it holds every inotify instance that the machine has, no other bed's kubelet or containerd
//! can start.

use std::{
    fs,
    os::fd::OwnedFd,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use e2e::{Cluster, MIRROR, NAMESPACE, Product, RegistryMirror, Scenario, play, until};
use rustix::{
    fs::inotify::{CreateFlags, init},
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

const SCENARIOS: &[Scenario] = &[("drift_is_still_repaired", drift_is_repaired)];

fn main() -> ExitCode {
    play(|lifetime| Cluster::up("no-inotify", Product::build_with_faults()?, lifetime), SCENARIOS)
}

/// Holds all inotify instances that the kernel lets this user have, also those that others give back meanwhile.
fn while_nobody_has_inotify(work: impl FnOnce() -> Result<()>) -> Result<()> {
    // The machine's sysctls stay as they are.
    let path = "/proc/sys/fs/inotify/max_user_instances";
    let limit: u64 = fs::read_to_string(path)?.trim().parse().context("a number of inotify instances")?;
    ensure!(limit <= 100_000, "{path} is {limit}: that many instances cannot be held by one process");
    let files = getrlimit(Resource::Nofile);
    let wanted = limit + 1024;
    if files.current.is_some_and(|current| current < wanted) {
        let maximum = files.maximum.map(|maximum| maximum.max(wanted));
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).context("the limit of open files")?;
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let hog = scope.spawn(|| -> Result<usize> {
            let mut instances: Vec<OwnedFd> = Vec::new();
            while !done.load(Ordering::Relaxed) {
                match init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
                    Ok(instance) => instances.push(instance),
                    Err(Errno::MFILE) => std::thread::sleep(Duration::from_millis(1)),
                    Err(error) => return Err(error).context("inotify_init1"),
                }
            }
            Ok(instances.len())
        });
        let outcome = work();
        done.store(true, Ordering::Relaxed);
        let held = hog.join().map_err(|_| anyhow!("a thread broke down")).flatten()?;
        eprintln!("{held} inotify instances were held, {limit} is the limit for all");
        outcome
    })
}

fn drift_is_repaired(cluster: &Cluster) -> Result<()> {
    cluster.settled()?;
    let before = cluster.witnesses()?;
    while_nobody_has_inotify(|| without_inotify(cluster))?;
    cluster.no_restart_since(&before)
}

fn without_inotify(cluster: &Cluster) -> Result<()> {
    let bed = cluster.bed();
    let selector = "app.kubernetes.io/component=agent";
    bed.kubectl(["delete", "pods", "--namespace", NAMESPACE, "--selector", selector, "--timeout=90s"])?;
    bed.kubectl(["rollout", "status", "daemonset", "--namespace", NAMESPACE, "--timeout=90s"])?;
    let logs = bed.kubectl(["logs", "--namespace", NAMESPACE, "--selector", selector, "--tail=-1"])?;
    ensure!(logs.contains("inotify"), "the agents do not say that they have no inotify:\n{logs}");
    for node in cluster.nodes() {
        node.write("/etc/containerd/certs.d/docker.io/hosts.toml", "# edited by hand\n")?;
    }
    let took =
        cluster.files("docker.io", Some(&[MIRROR]), Duration::from_secs(60)).context("drift was not repaired")?;
    eprintln!("drift was repaired within {took:.0?} without inotify");
    for node in cluster.nodes() {
        let about = format!("reason=DriftRepaired,involvedObject.name={}", node.name());
        until(&format!("an Event about the repair on {}", node.name()), Duration::from_secs(20), || {
            let events = bed.kubectl(["get", "events", "--all-namespaces", "--field-selector", &about])?;
            Ok(events.contains("docker.io/hosts.toml was replaced by a file that is not the operator's").then_some(()))
        })?;
    }
    // Changes come by the API, not by inotify.
    cluster.apply(&RegistryMirror::new("quay", "quay.io", &[MIRROR]))?;
    cluster.files("quay.io", Some(&[MIRROR]), Duration::from_secs(2))?;
    cluster.delete("registrymirror", "quay")
}
