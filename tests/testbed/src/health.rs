//! What of a bed runs and what does not.

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::bed::Bed;

/// What runs and what does not.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// Control plane and registries.
    pub services: Vec<ServiceHealth>,
    /// Nodes.
    pub nodes: Vec<NodeHealth>,
}

/// A process of the bed.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceHealth {
    /// Its name, as `testbed service stop` takes it.
    pub name: String,
    /// Its process, if it runs.
    pub pid: Option<i32>,
}

/// A node of the bed.
#[derive(Debug, Clone, Serialize)]
pub struct NodeHealth {
    /// Its name.
    pub name: String,
    /// Its containerd.
    pub containerd: String,
    /// Its address in the bed's network.
    pub address: String,
    /// Its process 1, if it runs.
    pub pid: Option<i32>,
    /// What the cluster says of it: `True`, `False`, `Unknown`; nothing without a cluster.
    pub ready: Option<String>,
}

impl Health {
    /// Whether everything runs and every node is Ready.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.services.iter().all(|service| service.pid.is_some())
            && self
                .nodes
                .iter()
                .all(|node| node.pid.is_some() && node.ready.as_deref().is_none_or(|ready| ready == "True"))
    }
}

impl Bed {
    /// What runs and what does not.
    ///
    /// # Errors
    /// When the state directory cannot be read.
    pub fn health(&self) -> Result<Health> {
        let services = self.services();
        let mut running = Vec::new();
        for name in services.names()? {
            if !name.starts_with("node-") {
                let pid = services.running(&name)?.map(|pid| pid.as_raw_nonzero().get());
                running.push(ServiceHealth { name, pid });
            }
        }
        let cluster = if self.record.kubernetes {
            self.kubectl_json(["get", "nodes", "--request-timeout=5s"]).ok()
        } else {
            None
        };
        let nodes = self.nodes.iter().map(|node| {
            let object = cluster
                .as_ref()
                .and_then(|list| list["items"].as_array()?.iter().find(|item| item["metadata"]["name"] == node.name()));
            let said = object.and_then(|object| ready(object, Timestamp::UNIX_EPOCH));
            NodeHealth {
                name: node.name().to_owned(),
                containerd: node.spec.containerd.clone(),
                address: node.address().to_string(),
                pid: node.init().map(|pid| pid.as_raw_nonzero().get()),
                ready: self.record.kubernetes.then(|| said.unwrap_or_else(|| "Unknown".to_owned())),
            }
        });
        Ok(Health { services: running, nodes: nodes.collect() })
    }
}

/// The status of a Node's Ready condition, if the kubelet reported it at or after `since` (the report has whole seconds).
pub(crate) fn ready(node: &Value, since: Timestamp) -> Option<String> {
    let condition = node["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == "Ready")?;
    let reported: Timestamp = condition["lastHeartbeatTime"].as_str()?.parse().ok()?;
    (reported.as_second() >= since.as_second()).then(|| condition["status"].as_str().map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_word_from_before_the_reboot_does_not_count() {
        let node = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-21T07:30:05Z"}]}});
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(ready(&node, at("2026-11-21T07:30:05.9Z")).as_deref(), Some("True"));
        assert_eq!(ready(&node, at("2026-11-21T07:30:06Z")), None);
    }
}
