//! What the agents' pods share with the node.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{Cluster, NAMESPACE, RegistryMirror, Values, until};

/// The default of the chart's `agent.port`.
const PORT: u16 = 19464;
const OTHER: &str = "e2e-other-program.service";

/// In the node's network another program may have the port of the metrics: it costs no mirror and no restart of the agent.
pub fn port_taken(cluster: &Cluster) -> Result<()> {
    cluster.clean()?;
    for node in cluster.nodes() {
        node.sh(&format!(
            "systemctl reset-failed {OTHER} 2>/dev/null
             systemd-run --quiet --unit={OTHER} socat TCP-LISTEN:{PORT},fork,reuseaddr OPEN:/dev/null"
        ))?;
    }
    let outcome = mirrors_without_metrics(cluster);
    for node in cluster.nodes() {
        node.run(["systemctl", "stop", OTHER])?;
    }
    outcome?;
    let ask = format!("exec 3<>/dev/tcp/127.0.0.1/{PORT}; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3");
    for node in cluster.nodes() {
        until(&format!("metrics of {}", node.name()), Duration::from_secs(30), || {
            let answer = node.exec(["bash", "-c", &ask])?;
            Ok(String::from_utf8_lossy(&answer.stdout).contains("registry_mirror_agent_").then_some(()))
        })?;
    }
    Ok(())
}

fn mirrors_without_metrics(cluster: &Cluster) -> Result<()> {
    cluster.install(&Values::default())?;
    let hub = RegistryMirror::docker_hub();
    cluster.apply(&hub)?;
    cluster.programmed(&hub.name, "2/2", Duration::from_secs(90))?;
    let selector = "app.kubernetes.io/component=agent";
    let pods = cluster.bed().kubectl_json(["get", "pods", "--namespace", NAMESPACE, "--selector", selector])?;
    for pod in pods["items"].as_array().into_iter().flatten() {
        let status = &pod["status"]["containerStatuses"][0];
        ensure!(status["ready"] == true && status["restartCount"] == 0, "the agent suffers: {status}");
        let log = cluster.bed().kubectl([
            "logs",
            "--namespace",
            NAMESPACE,
            pod["metadata"]["name"].as_str().unwrap_or_default(),
        ])?;
        ensure!(log.contains("metrics are not served"), "the agent does not say that it has no metrics:\n{log}");
    }
    Ok(())
}
