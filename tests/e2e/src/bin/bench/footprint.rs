//! Memory of the idle processes, size of binary and image.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use e2e::{Cluster, NAMESPACE, Witness};
use testbed::Node;

use crate::baseline;

/// A process's memory, from `/proc/PID/status`.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// `VmRSS`.
    pub resident_kib: u64,
    /// `RssAnon`: what is not shared with the file on disk.
    pub anonymous_kib: u64,
}

impl Memory {
    fn of(node: &Node, pid: u32) -> Result<Self> {
        let status = node.run(["cat", &format!("/proc/{pid}/status")])?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.with_context(|| format!("/proc/{pid}/status on {} has no {name}", node.name()))
        };
        Ok(Self { resident_kib: field("VmRSS")?, anonymous_kib: field("RssAnon")? })
    }
}

/// The controller, and the agent of each node.
pub fn operator(cluster: &Cluster) -> Result<Vec<(String, Memory)>> {
    let mut found = Vec::new();
    for component in ["agent", "controller"] {
        let selector = format!("app.kubernetes.io/component={component}");
        let pods = cluster.bed().kubectl_json(["get", "pods", "--namespace", NAMESPACE, "--selector", &selector])?;
        for pod in pods["items"].as_array().into_iter().flatten() {
            let node = cluster.node(pod["spec"]["nodeName"].as_str().unwrap_or_default())?;
            let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap_or_default();
            let id = id.trim_start_matches("containerd://");
            let task = Witness::of(node)?
                .tasks
                .get(id)
                .cloned()
                .with_context(|| format!("containerd has no container {id}"))?;
            found.push((format!("{component} on {}", node.name()), Memory::of(node, task.pid)?));
        }
    }
    Ok(found)
}

/// The baseline on the first node.
pub fn baseline(cluster: &Cluster) -> Result<Memory> {
    let node = cluster.nodes().first().context("the bed has no nodes")?;
    let pid = node.run(["systemctl", "show", "--value", "--property=MainPID", baseline::UNIT])?;
    Memory::of(node, pid.trim().parse().context("systemd said no process of the baseline")?)
}

/// In bytes.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// The stripped binary.
    pub binary: u64,
    /// As an image's layer: compressed by gzip at its usual level.
    pub compressed: u64,
}

/// Of a binary as it is.
pub fn size(binary: &Path) -> Result<Size> {
    let file = fs::File::open(binary).with_context(|| format!("{} cannot be opened", binary.display()))?;
    let bytes = file.metadata()?.len();
    let zipped = Command::new("gzip")
        .args(["-6", "--stdout"])
        .stdin(Stdio::from(file))
        .output()
        .context("gzip could not be started")?;
    ensure!(zipped.status.success(), "gzip failed ({})", zipped.status);
    Ok(Size { binary: bytes, compressed: zipped.stdout.len() as u64 })
}
