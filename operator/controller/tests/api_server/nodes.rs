//! NodeMirrors and the startup taint follow the Nodes.

use k8s_openapi::api::core::v1::Node;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams},
};
use registry_mirror_crds::NodeMirror;
use serde_json::json;

use crate::cluster::{Cluster, until};

#[tokio::test]
async fn each_linux_node_has_a_node_mirror_that_it_owns() {
    let Some(cluster) = Cluster::clean().await else { return };
    let controller = cluster.start(cluster.config("a"));
    cluster.node("linux", json!({}), json!([])).await;
    cluster.node("windows", json!({"kubernetes.io/os": "windows"}), json!([])).await;
    cluster.node("virtual", json!({"type": "virtual-kubelet"}), json!([])).await;
    let mirror = cluster.node_mirror("linux").await;
    let nodes = cluster.all::<Node>();
    let uid = nodes.get("linux").await.expect("the Node").uid();
    assert_eq!(mirror.owner_references().first().map(|owner| owner.uid.clone()), uid);
    let all = cluster.all::<NodeMirror>();
    assert_eq!(all.list(&ListParams::default()).await.expect("listed").items.len(), 1);

    // A Node of the same name is another machine.
    nodes.delete("linux", &DeleteParams::default()).await.expect("deleted");
    until("the NodeMirror is gone", || async { all.get_opt("linux").await.ok()?.is_none().then_some(()) }).await;
    cluster.node("linux", json!({}), json!([])).await;
    let anew = cluster.node_mirror("linux").await;
    assert_ne!(anew.uid(), mirror.uid());
    // and one that someone deletes comes back
    all.delete("linux", &DeleteParams::default()).await.expect("deleted");
    until("it comes back", || async { all.get_opt("linux").await.ok()?.filter(|again| again.uid() != anew.uid()) })
        .await;
    controller.stop().await.expect("it stops in order");
}

/// An agent that has not heard what is wanted, or whose containerd is just starting, is on its way.
#[tokio::test]
async fn the_startup_taint_stays_until_what_the_agent_says_is_final() {
    let Some(cluster) = Cluster::clean().await else { return };
    let taint = "registry-mirror.dev/not-ready";
    let mut config = cluster.config("a");
    config.startup_taint = Some(taint.to_owned());
    let controller = cluster.start(config);
    until("the bundle", || cluster.bundle()).await;
    for node in ["deaf", "blind", "unsupported", "witness"] {
        cluster.node(node, json!({}), json!([{"key": taint, "effect": "NoSchedule"}])).await;
        cluster.agent_pod(node, true).await;
    }
    let not_ready = |reason: &'static str| [("Ready", "False", reason)];
    cluster.report("deaf", &not_ready("BundleUnknown"), None).await;
    cluster.report("blind", &not_ready("ObserveFailed"), None).await;
    cluster.report("unsupported", &not_ready("Unsupported"), None).await;
    let nodes = cluster.all::<Node>();
    let tainted = || async {
        let all = nodes.list(&ListParams::default()).await.expect("listed");
        let has = |node: &Node| {
            let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
            taints.into_iter().any(|has| has.key == taint)
        };
        all.items.iter().filter(|node| has(node)).map(ResourceExt::name_any).collect::<Vec<_>>()
    };
    // The last report that was written is acted on, so the earlier ones have been too.
    cluster.report_ready("witness").await;
    until("the taints of those that are done are gone", || async {
        let left = tainted().await;
        (!left.contains(&"witness".to_owned()) && !left.contains(&"unsupported".to_owned())).then_some(())
    })
    .await;
    assert_eq!(tainted().await, ["blind", "deaf"]);
    cluster.report_ready("deaf").await;
    cluster.report_ready("blind").await;
    until("they are done too", || async { tainted().await.is_empty().then_some(()) }).await;
    controller.stop().await.expect("it stops in order");
}

#[tokio::test]
async fn the_startup_taint_goes_when_the_agent_is_done_and_others_stay() {
    let Some(cluster) = Cluster::clean().await else { return };
    let taint = "registry-mirror.dev/not-ready";
    let mut config = cluster.config("a");
    config.startup_taint = Some(taint.to_owned());
    let controller = cluster.start(config);
    let taints = json!([{"key": taint, "effect": "NoSchedule"}, {"key": "theirs", "effect": "NoSchedule"}]);
    cluster.node("fresh", json!({}), taints.clone()).await;
    cluster.node("slow", json!({}), taints).await;
    for node in ["fresh", "slow"] {
        cluster.node_mirror(node).await;
        cluster.agent_pod(node, true).await;
    }
    until("the bundle", || cluster.bundle()).await;
    cluster.report_pending("slow", "p").await;
    cluster.report_ready("fresh").await;
    let nodes = cluster.all::<Node>();
    let has = |node: &'static str, taint: &'static str| {
        let nodes = nodes.clone();
        async move {
            let taints = nodes.get(node).await.expect("the Node").spec.and_then(|spec| spec.taints);
            taints.unwrap_or_default().iter().any(|has| has.key == taint)
        }
    };
    until("the taint is gone", || async { (!has("fresh", taint).await).then_some(()) }).await;
    assert!(has("fresh", "theirs").await);
    assert!(has("slow", taint).await, "its agent is on its way");
    controller.stop().await.expect("it stops in order");
}
