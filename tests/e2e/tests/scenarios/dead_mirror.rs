//! A mirror that makes a pull wait is taken out of hosts.toml while another way answers, however it is dead.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Result, ensure};
use e2e::{Cluster, MIRROR, RegistryMirror};
use testbed::{BLACKHOLE, Image};

/// Three probes of five seconds with a second between them, and room for a loaded machine.
const TAKEN_OUT: Duration = Duration::from_secs(60);

/// Every packet is dropped.
pub fn taken_out(cluster: &Cluster) -> Result<()> {
    without_waiting(cluster, BLACKHOLE)
}

/// Nobody has the address, which is on the nodes' own subnet: "no route to host", after three seconds of asking for it.
pub fn absent(cluster: &Cluster) -> Result<()> {
    without_waiting(cluster, Ipv4Addr::new(10, 88, 0, 77))
}

fn without_waiting(cluster: &Cluster, dead: Ipv4Addr) -> Result<()> {
    cluster.settled()?;
    let before = cluster.witnesses()?;
    cluster.bed().push("mirror", "library/patience", "1", &Image::filler("patience", 4))?;
    let dead = format!("http://{dead}:5000");
    cluster.apply(&RegistryMirror::new("docker-hub", "docker.io", &[&dead, MIRROR]))?;
    // The file with the healthy mirror alone stands there from before, too: only what the node says of the dead one tells
    // that it has been taken out, and not that the change is still on its way.
    for node in cluster.nodes() {
        cluster.condition(node.name(), "MirrorsHealthy", TAKEN_OUT, |condition| {
            condition.status == "False" && condition.message.contains(&dead)
        })?;
    }
    let took = cluster.files("docker.io", Some(&[MIRROR]), TAKEN_OUT)?;
    for node in cluster.nodes() {
        // containerd would wait 30 s for each request to the dead one.
        let pull = cluster.pull_anew(node, "docker.io/library/patience:1")?;
        ensure!(pull < Duration::from_secs(10), "a pull on {} took {pull:.1?} with a dead mirror", node.name());
        eprintln!("{}: a pull took {pull:.1?}", node.name());
    }
    eprintln!("the dead mirror was out after {took:.0?}");
    cluster.no_restart_since(&before)
}
