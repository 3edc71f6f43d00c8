//! `fallback: Deny` with every mirror down: the kernel counts the packets to the upstream's address.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Cluster, MIRROR, MIRROR2, RegistryMirror, pod, until};
use serde_json::{Value, json};
use testbed::{Bed, Image, Node};

const PATIENCE: Duration = Duration::from_secs(90);
const MIRRORS: [&str; 2] = ["mirror", "mirror2"];

pub fn no_packet(cluster: &Cluster) -> Result<()> {
    let bed = cluster.bed();
    cluster.settled()?;
    let counter = Counter::of(bed, "docker.io")?;
    for registry in MIRRORS {
        bed.stop(registry)?;
    }
    let outcome = denied(cluster, &counter).and_then(|()| allowed(cluster, &counter));
    for registry in MIRRORS {
        bed.start(registry)?;
    }
    outcome
}

fn object(fallback: &str) -> String {
    let Value::Object(mut object) = json!({
        "apiVersion": "registry-mirror.dev/v1alpha1",
        "kind": "RegistryMirror",
        "metadata": {"name": RegistryMirror::docker_hub().name},
    }) else {
        return String::new();
    };
    let spec = json!({
        "registry": "docker.io",
        "mirrors": [{"url": MIRROR}, {"url": MIRROR2}],
        "upstream": {"fallback": fallback},
        // The agents' probes must not go there either.
        "healthCheck": {"interval": "5s"},
    });
    object.insert("spec".to_owned(), spec);
    Value::Object(object).to_string()
}

fn denied(cluster: &Cluster, counter: &Counter<'_>) -> Result<()> {
    let bed = cluster.bed();
    bed.apply(&object("Deny"))?;
    in_force(cluster, "server = \"http://mirror2.testbed.internal:5001\"")?;
    counter.quiet()?;
    let before = counter.packets()?;
    for node in cluster.nodes() {
        // The upstream has it, and would serve it.
        let name = format!("denied-{}", node.name());
        bed.push("docker.io", &format!("library/{name}"), "1", &Image::filler(&name, 1))?;
        bed.apply(&pod(&name, node.name(), &format!("docker.io/library/{name}:1"), &[], false))?;
    }
    for node in cluster.nodes() {
        let said = event(cluster, node)?;
        eprintln!("{}: {said}", node.name());
        // The mirror, what went wrong with it, and no word of the upstream.
        for word in ["testbed.internal:500", "connection refused", "docker.io/library/denied-"] {
            ensure!(said.contains(word), "the pod's event does not say `{word}`: {said}");
        }
        ensure!(!said.contains("registry-1.docker.io"), "the pod's event speaks of the upstream: {said}");
    }
    let packets = counter.packets()? - before;
    ensure!(packets == 0, "{packets} packets went to the upstream in spite of fallback: Deny");
    Ok(())
}

/// The same counter counts where the upstream may be asked, and the pods get their image.
fn allowed(cluster: &Cluster, counter: &Counter<'_>) -> Result<()> {
    let bed = cluster.bed();
    bed.apply(&object("Allow"))?;
    in_force(cluster, "server = \"https://registry-1.docker.io\"")?;
    let before = counter.packets()?;
    for node in cluster.nodes() {
        node.pull(&format!("docker.io/library/denied-{}:1", node.name()))
            .context("with fallback: Allow the upstream serves the image")?;
    }
    let packets = counter.packets()? - before;
    ensure!(packets > 0, "the counter counts nothing, so it has shown nothing before");
    eprintln!("0 packets with Deny, {packets} with Allow");
    bed.kubectl(["delete", "pods", "--all", "--namespace", "default", "--grace-period=0", "--force"])?;
    Ok(())
}

/// Waits until every node's file has that line.
fn in_force(cluster: &Cluster, line: &str) -> Result<()> {
    until(&format!("`{line}` in hosts.toml on every node"), PATIENCE, || {
        for node in cluster.nodes() {
            let text = cluster.hosts_toml(node, "docker.io")?.unwrap_or_default();
            if !text.lines().any(|found| found == line) {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}

/// Why the pod's image was not pulled, as `kubectl describe pod` tells it.
fn event(cluster: &Cluster, node: &Node) -> Result<String> {
    let filter = format!("involvedObject.name=denied-{},reason=Failed", node.name());
    until(&format!("the event of the pod on {}", node.name()), PATIENCE, || {
        let events = cluster.bed().kubectl_json(["get", "events", "--field-selector", &filter])?;
        let messages = events["items"].as_array().cloned().unwrap_or_default();
        let text = messages.iter().filter_map(|event| event["message"].as_str()).find(|text| text.contains("pull"));
        Ok(text.map(str::to_owned))
    })
}

/// A rule of the bed's own firewall that counts the packets to a registry and lets them pass.
struct Counter<'a> {
    bed: &'a Bed,
    address: String,
}

impl<'a> Counter<'a> {
    fn of(bed: &'a Bed, registry: &str) -> Result<Self> {
        let counter = Self { bed, address: bed.registry(registry)?.address.ip().to_string() };
        counter.iptables(&["-I", "INPUT", "-d", &counter.address])?;
        Ok(counter)
    }

    /// Waits until the connections of earlier pulls are closed: containerd keeps an idle one for a while, and its end
    /// would be counted.
    fn quiet(&self) -> Result<()> {
        until(&format!("the end of all connections to {}", self.address), PATIENCE, || {
            let args = ["ss", "-Htn", "state", "connected", "exclude", "time-wait", "src", &self.address];
            let output = self.bed.inside(args).output().context("ss cannot be started")?;
            ensure!(output.status.success(), "ss failed: {}", String::from_utf8_lossy(&output.stderr));
            Ok(output.stdout.is_empty().then_some(()))
        })
    }

    fn packets(&self) -> Result<u64> {
        let listed = self.iptables(&["-nvxL", "INPUT"])?;
        let line = listed.lines().find(|line| line.contains(&self.address)).context("the counting rule is gone")?;
        let packets = line.split_whitespace().next().and_then(|word| word.parse().ok());
        packets.with_context(|| format!("iptables lists the rule in an unknown form: {line}"))
    }

    fn iptables(&self, args: &[&str]) -> Result<String> {
        let output = self.bed.inside(["iptables", "-w"]).args(args).output().context("iptables cannot be started")?;
        ensure!(output.status.success(), "iptables failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Counter<'_> {
    fn drop(&mut self) {
        let _ = self.iptables(&["-D", "INPUT", "-d", &self.address]);
    }
}
