//! A mirror that drops packets is taken out of hosts.toml while another way answers, so that no pull waits for it.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{Cluster, MIRROR, RegistryMirror};
use testbed::{BLACKHOLE, Image};

/// Three probes of five seconds with a second between them, and room for a loaded machine.
const TAKEN_OUT: Duration = Duration::from_secs(60);

pub fn taken_out(cluster: &Cluster) -> Result<()> {
    cluster.settled()?;
    let before = cluster.witnesses()?;
    cluster.bed().push("mirror", "library/patience", "1", &Image::filler("patience", 4))?;
    let dead = format!("http://{BLACKHOLE}:5000");
    cluster.apply(&RegistryMirror::new("docker-hub", "docker.io", &[&dead, MIRROR]))?;
    // The file with the healthy mirror alone stands there from before, too: only what the node says of the dead one tells
    // that it has been taken out, and not that the change is still on its way.
    for node in cluster.nodes() {
        let said =
            cluster.condition(node.name(), "MirrorsHealthy", TAKEN_OUT, |condition| condition.status == "False")?;
        ensure!(said.message.contains(&dead), "the condition does not name the mirror: {}", said.message);
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
