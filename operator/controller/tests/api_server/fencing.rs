//! A write that is on its way while someone else writes changes nothing: it may be that of a leader of before.

use std::pin::pin;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use registry_mirror_controller::contract;
use registry_mirror_crds::NodeMirror;
use serde_json::json;

use crate::{
    cluster::{Cluster, Running, client_config, until},
    gate::Gate,
};

async fn gated() -> Option<(Cluster, Gate, Running)> {
    let cluster = Cluster::clean().await?;
    let gate = Gate::open();
    let controller = cluster.start_with(gate.client(client_config().await), cluster.config("a"));
    mirror(&cluster, "one").await;
    until("the object", || async { cluster.objects_of_bundle().await.filter(|names| names == &["one"]) }).await;
    Some((cluster, gate, controller))
}

async fn mirror(cluster: &Cluster, name: &str) {
    let registry = format!("{name}.example.com");
    cluster.mirror(name, json!({"registry": registry, "mirrors": [{"url": "https://a.example.com"}]})).await;
}

#[tokio::test]
async fn a_late_write_of_the_bundle_overwrites_nothing() {
    let Some((cluster, gate, controller)) = gated().await else { return };
    gate.hold_back("PATCH secrets/registry-mirror-bundle");
    mirror(&cluster, "two").await;
    gate.holds_one().await;
    // As the leader of now does it.
    let theirs = json!({"data": {"bundle.json.gz": "dGhlaXJz"}});
    let secrets = cluster.here::<Secret>();
    let params = PatchParams::default();
    secrets.patch(contract::BUNDLE_SECRET, &params, &Patch::Merge(&theirs)).await.expect("written");
    // The late write goes. What follows it is a look at what stands there.
    gate.hold_back("GET secrets/registry-mirror-bundle");
    gate.holds_one().await;
    let secret = secrets.get(contract::BUNDLE_SECRET).await.expect("the Secret");
    assert_eq!(json!(secret.data), theirs["data"]);
    gate.hold_back(None);
    until("it leads, and goes on", || async { cluster.objects_of_bundle().await.filter(|names| names.len() == 2) })
        .await;
    controller.stop().await.expect("it stops in order");
}

#[tokio::test]
async fn a_late_approval_lets_no_node_restart() {
    let Some((cluster, gate, controller)) = gated().await else { return };
    gate.hold_back("PATCH nodemirrors/n1 controller-restarts");
    cluster.node("n1", json!({}), json!([])).await;
    cluster.agent_pod("n1", true).await;
    cluster.report_pending("n1", "plan").await;
    gate.holds_one().await;
    // Meanwhile the node has no plan any more.
    cluster.report_ready("n1").await;
    let before = cluster.node_mirror("n1").await.metadata.resource_version.expect("a version");
    gate.hold_back(None);
    // When this one has its status, a whole pass has come after it.
    mirror(&cluster, "two").await;
    cluster.tells("two", "Accepted=True Accepted").await;
    let api = cluster.all::<NodeMirror>();
    let end = json!({"metadata": {"labels": {"end": "true"}}});
    api.patch("n1", &PatchParams::default(), &Patch::Merge(end)).await.expect("a label");
    let params = WatchParams::default().fields("metadata.name=n1");
    let mut changes = pin!(api.watch(&params, &before).await.expect("the changes since"));
    while let Some(Ok(WatchEvent::Modified(mirror))) = changes.next().await {
        assert_eq!(mirror.spec.restart_approval, None, "a late approval arrived");
        if mirror.metadata.labels.is_some_and(|labels| labels.contains_key("end")) {
            controller.stop().await.expect("it stops in order");
            return;
        }
    }
    panic!("the watch ended early");
}
