//! The baseline on the nodes: `bare-watcher`, built as the operator is and run as a unit.

use std::{fs, path::Path, time::Duration};

use anyhow::Result;
use e2e::{Cluster, until};

/// The namespace of its Secret.
pub const NAMESPACE: &str = "default";
/// The Secret's name.
pub const SECRET: &str = "bench-baseline";
/// Where it writes, on each node.
pub const FILE: &str = "/run/bench-baseline";
/// The unit in which it runs.
pub const UNIT: &str = "bench-baseline.service";

const KUBECONFIG: &str = "/root/bench-baseline.kubeconfig";

/// Starts it on every node and waits until it has written.
pub fn start(cluster: &Cluster, program: &Path) -> Result<()> {
    cluster.bed().apply(&format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: {SECRET}, namespace: {NAMESPACE}}}, stringData: {{value: begin}}}}"
    ))?;
    let kubeconfig = fs::read(cluster.bed().kubeconfig())?;
    for node in cluster.nodes() {
        node.install_program(program, "bare-watcher")?;
        node.write(KUBECONFIG, &kubeconfig)?;
        node.run([
            "systemd-run",
            "--quiet",
            &format!("--unit={UNIT}"),
            &format!("--setenv=KUBECONFIG={KUBECONFIG}"),
            "/usr/local/bin/bare-watcher",
            NAMESPACE,
            SECRET,
            FILE,
        ])?;
    }
    for node in cluster.nodes() {
        until(&format!("the baseline's first file on {}", node.name()), Duration::from_secs(20), || {
            Ok(node.exists(FILE).then_some(()))
        })?;
    }
    Ok(())
}
