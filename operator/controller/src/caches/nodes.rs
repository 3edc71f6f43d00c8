//! Nodes, as far as restarts and selectors need them.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::{Api, Client, runtime::watcher};
use serde::Deserialize;

use super::{
    cache::Cache,
    labels::{CompactLabels, Texts},
    slim::Slim,
    watching::{Happened, keep},
};
use crate::signals::{Lane, Signals};

/// One Node that runs a kubelet on Linux.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeRecord {
    pub uid: String,
    pub created: Option<Timestamp>,
    pub labels: CompactLabels,
    /// Its condition Ready.
    pub ready: bool,
    /// It carries the startup taint.
    pub tainted: bool,
    /// It runs the cluster's control plane, or a member of its etcd.
    pub control_plane: bool,
    /// Where it stands.
    pub zone: Option<Arc<str>>,
}

/// Labels of nodes of the control plane, by kubeadm and by those who came before and after it (K3s and RKE2 run etcd on
/// nodes of its own).
const CONTROL_PLANE: [&str; 3] =
    ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master", "node-role.kubernetes.io/etcd"];
const ZONE: &str = "topology.kubernetes.io/zone";

#[derive(Debug, Clone, Default, Deserialize)]
struct Spec {
    #[serde(default)]
    taints: Vec<Taint>,
}

pub(super) async fn watch(
    client: Client,
    cache: &Cache<NodeRecord>,
    signals: &Signals,
    startup_taint: Option<&str>,
) -> &'static str {
    let api: Api<Slim<Node, Spec>> = Api::all(client);
    let mut texts = Texts::default();
    let mut changes = 0_u32;
    let read = |node: Slim<Node, Spec>| {
        changes = changes.wrapping_add(1);
        if changes.is_multiple_of(4096) {
            texts.tidy();
        }
        read(node, startup_taint, &mut texts)
    };
    keep(api, watcher::Config::default().page_size(50), cache, signals, read, |happened| match happened {
        Happened::Synced => {}
        Happened::Changed(_) => signals.mark(&[Lane::Nodes, Lane::Taints, Lane::Status]),
    })
    .await;
    "watch of Nodes"
}

/// `None` for a node on which no agent runs.
fn read(node: Slim<Node, Spec>, startup_taint: Option<&str>, texts: &mut Texts) -> Option<NodeRecord> {
    let ready = node.is_ready();
    let Slim { metadata, spec, .. } = node;
    let labels = metadata.labels.unwrap_or_default();
    // The same as the affinity of the agents' DaemonSet.
    let label = |key: &str| labels.get(key).map(String::as_str);
    if label("kubernetes.io/os") != Some("linux") || label("type") == Some("virtual-kubelet") {
        return None;
    }
    let control_plane = CONTROL_PLANE.into_iter().any(|key| labels.contains_key(key));
    let labels = texts.labels(&labels);
    Some(NodeRecord {
        uid: metadata.uid.unwrap_or_default(),
        created: metadata.creation_timestamp.map(|time| time.0),
        control_plane,
        zone: labels.shared(ZONE),
        labels,
        ready,
        tainted: spec.taints.iter().any(|taint| Some(taint.key.as_str()) == startup_taint),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_json(node: serde_json::Value) -> Option<NodeRecord> {
        let node = serde_json::from_value(node).expect("a node");
        read(node, Some("registry-mirror.dev/not-ready"), &mut Texts::default())
    }

    #[test]
    fn windows_and_virtual_nodes_are_none_of_ours() {
        for (labels, ours) in [
            (serde_json::json!({"kubernetes.io/os": "linux"}), true),
            (serde_json::json!({"kubernetes.io/os": "windows"}), false),
            (serde_json::json!({"kubernetes.io/os": "linux", "type": "virtual-kubelet"}), false),
            (serde_json::json!({}), false),
        ] {
            assert_eq!(read_json(serde_json::json!({"metadata": {"name": "n", "labels": labels}})).is_some(), ours);
        }
    }

    #[test]
    fn zone_and_control_plane_are_read() {
        for (role, expected) in [("control-plane", true), ("master", true), ("etcd", true), ("worker", false)] {
            let role = format!("node-role.kubernetes.io/{role}");
            let labels = serde_json::json!({"kubernetes.io/os": "linux", ZONE: "a", role: ""});
            let node =
                read_json(serde_json::json!({"metadata": {"name": "n", "labels": labels}})).expect("one of ours");
            assert_eq!((node.control_plane, node.zone.as_deref()), (expected, Some("a")));
        }
    }

    #[test]
    fn readiness_and_taint_are_read() {
        let node = read_json(serde_json::json!({
            "metadata": {"name": "n", "uid": "u", "labels": {"kubernetes.io/os": "linux"}},
            "spec": {"taints": [{"key": "registry-mirror.dev/not-ready", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "False"}],
                       "images": [{"names": ["x"]}]},
        }))
        .expect("one of ours");
        assert!(node.ready && node.tainted);
    }
}
