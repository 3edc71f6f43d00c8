//! Approvals: within the budget, taken back, paused.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use registry_mirror_controller::{ControllerConfig, contract};
use registry_mirror_core::budget::{MaxUnavailable, Policy};
use registry_mirror_crds::NodeMirror;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Running, until};

async fn with_nodes(names: &[&str], policy: Policy) -> Option<(Cluster, Running)> {
    let cluster = Cluster::clean().await?;
    let mut config = cluster.config("a");
    config.max_unavailable = MaxUnavailable::Nodes(1);
    config.policy = policy;
    let controller = started(&cluster, config).await;
    for node in names {
        waiting(&cluster, node, json!({}), json!([])).await;
    }
    Some((cluster, controller))
}

/// A controller with one object in the bundle.
async fn started(cluster: &Cluster, config: ControllerConfig) -> Running {
    let controller = cluster.start(config);
    cluster.mirror("hub", json!({"registry": "docker.io", "mirrors": [{"url": "https://a.example.com"}]})).await;
    until("the object", || async { cluster.objects_of_bundle().await.filter(|names| names == &["hub"]) }).await;
    controller
}

/// A node whose agent runs and waits for its restart.
async fn waiting(cluster: &Cluster, node: &str, labels: Value, taints: Value) {
    cluster.node(node, labels, taints).await;
    cluster.agent_pod(node, true).await;
    cluster.report_pending(node, &format!("plan-{node}")).await;
}

async fn approved(cluster: &Cluster, expected: &[&str]) {
    until(&format!("{expected:?} and no other is approved"), || async {
        (cluster.approved().await == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_node_at_a_time() {
    let Some((cluster, controller)) = with_nodes(&["n1", "n2", "n3"], Policy::Automatic).await else { return };
    let mut done = Vec::new();
    for _ in 0..3 {
        let now =
            until("one is approved", || async { Some(cluster.approved().await).filter(|names| !names.is_empty()) })
                .await;
        assert_eq!(now.len(), 1, "never more than one: {now:?}");
        let node = now[0].clone();
        assert!(!done.contains(&node), "{node} is approved again");
        let plan = cluster.node_mirror(&node).await.spec.restart_approval.expect("approved").plan;
        assert_eq!(plan, format!("plan-{node}"));
        cluster.report_ready(&node).await;
        until("it is taken back once used", || async { (!cluster.approved().await.contains(&node)).then_some(()) })
            .await;
        done.push(node);
    }
    cluster.tells("hub", "Programmed=True Programmed").await;
    assert!(cluster.approved().await.is_empty());
    controller.stop().await.expect("it stops in order");
}

/// Five nodes may be away, and yet the first goes alone: it is the example. A new controller knows of it by the nodes.
#[tokio::test]
async fn the_first_grant_is_one_node_then_two_and_the_control_plane_is_last() {
    let Some(cluster) = Cluster::clean().await else { return };
    let config = |identity: &str| {
        let mut config = cluster.config(identity);
        config.max_unavailable = MaxUnavailable::Nodes(5);
        config.startup_taint = Some("registry-mirror.dev/not-ready".to_owned());
        // Not even one second old: no node is fresh, whoever taints it.
        config.startup_taint_deadline = std::time::Duration::ZERO;
        config
    };
    let waits = ControllerConfig { policy: Policy::Never, startup_taint: None, ..config("a") };
    let controller = started(&cluster, waits).await;
    let taints = || json!([{"key": "registry-mirror.dev/not-ready", "effect": "NoSchedule"}]);
    waiting(&cluster, "a-control-plane", json!({"node-role.kubernetes.io/control-plane": ""}), taints()).await;
    for node in ["n1", "n2", "n3", "n4"] {
        let zone = if node == "n3" { "b" } else { "a" };
        waiting(&cluster, node, json!({"topology.kubernetes.io/zone": zone}), taints()).await;
    }
    cluster.tells("hub", "Programmed=False RestartPending").await;
    controller.stop().await.expect("it stops in order");

    let mut controller = cluster.start(config("b"));
    for (round, expected) in [&["n1"][..], &["n2", "n3"], &["n4"], &["a-control-plane"]].into_iter().enumerate() {
        approved(&cluster, expected).await;
        controller.stop().await.expect("it stops in order");
        controller = cluster.start(config(&format!("c{round}")));
        for node in expected {
            cluster.report_restarted(node).await;
        }
    }
    approved(&cluster, &[]).await;
    controller.stop().await.expect("it stops in order");
}

#[tokio::test]
async fn a_failure_pauses_until_resume_and_the_failed_node_comes_last() {
    let Some((cluster, controller)) = with_nodes(&["n1", "n2"], Policy::Automatic).await else { return };
    approved(&cluster, &["n1"]).await;
    cluster.report_failed("n1", "plan-n1").await;
    let rollout = until("the pause", || async {
        cluster.rollout().await.filter(|data| data.get("paused").is_some_and(|p| p == "true"))
    })
    .await;
    assert_eq!((rollout["node"].as_str(), rollout["plan"].as_str()), ("n1", "plan-n1"));
    assert_eq!(rollout["reason"], "RestartFailed on n1.");
    approved(&cluster, &[]).await;
    cluster.tells("hub", "Programmed=False NodesFailed").await;

    // A new controller keeps the pause.
    controller.stop().await.expect("it stops in order");
    let mut config = cluster.config("b");
    config.max_unavailable = MaxUnavailable::Nodes(1);
    let controller = cluster.start(config);
    cluster.mirror("quay", json!({"registry": "quay.io", "mirrors": [{"url": "https://a.example.com"}]})).await;
    until("the new controller works", || async { cluster.objects_of_bundle().await.filter(|names| names.len() == 2) })
        .await;
    assert!(cluster.approved().await.is_empty());

    resume(&cluster).await;
    approved(&cluster, &["n2"]).await;
    cluster.report_ready("n2").await;
    approved(&cluster, &["n1"]).await;
    // it fails again: paused again, by the same node and plan
    cluster.report_failed("n1", "plan-n1").await;
    until("the second pause", || async { cluster.rollout().await.filter(|data| data["paused"] == "true") }).await;
    approved(&cluster, &[]).await;
    resume(&cluster).await;
    approved(&cluster, &["n1"]).await;
    cluster.report_ready("n1").await;
    approved(&cluster, &[]).await;
    assert_eq!(cluster.rollout().await.map(|data| data["paused"].clone()).as_deref(), Some("false"));
    controller.stop().await.expect("it stops in order");
}

/// A full disk or a broken file on one node stops no other one.
#[tokio::test]
async fn a_refusal_that_touched_nothing_pauses_nobody() {
    let Some((cluster, controller)) = with_nodes(&["n1", "n2", "n3"], Policy::Automatic).await else { return };
    approved(&cluster, &["n1"]).await;
    cluster.report_refused("n1", "plan-n1").await;
    approved(&cluster, &["n2"]).await;
    let broken = [("Ready", "False", "ConfigBroken"), ("RestartPending", "False", "NoRestartNeeded")];
    cluster.report("n2", &broken, None).await;
    approved(&cluster, &["n3"]).await;
    cluster.report_restarted("n3").await;
    // n1 has its rest before it is asked again
    approved(&cluster, &[]).await;
    assert_eq!(cluster.rollout().await.map(|data| data["paused"].clone()).as_deref(), Some("false"));
    cluster.tells("hub", "Programmed=False NodesFailed").await;
    controller.stop().await.expect("it stops in order");
}

/// A node whose status makes no sense keeps no other node from its restart, and no new node from its pods.
#[tokio::test]
async fn one_bad_status_stops_neither_restarts_nor_taints() {
    let Some(cluster) = Cluster::clean().await else { return };
    let taint = "registry-mirror.dev/not-ready";
    let config = ControllerConfig {
        max_unavailable: MaxUnavailable::Nodes(3),
        startup_taint: Some(taint.to_owned()),
        ..cluster.config("a")
    };
    let controller = started(&cluster, config).await;
    cluster.node("a-nameless", json!({}), json!([])).await;
    cluster.agent_pod("a-nameless", true).await;
    cluster.report_pending("a-nameless", "").await;
    cluster.node("b-long", json!({}), json!([])).await;
    cluster.agent_pod("b-long", true).await;
    let refused = [("Ready", "False", "RestartRefused")];
    let said = |message: &str| {
        json!({"conditions": [{"type": "Ready", "status": "False", "reason": "RestartFailed",
        "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
    };
    cluster.node("fresh", json!({}), json!([{"key": taint, "effect": "NoSchedule"}])).await;
    cluster.agent_pod("fresh", true).await;
    waiting(&cluster, "n1", json!({}), json!([])).await;
    approved(&cluster, &["n1"]).await;
    cluster.report_with("b-long", &refused, Some("plan"), said(&"x".repeat(1_000_000))).await;
    // The pause that the failure makes is written although the sentence has a megabyte.
    let paused = || async { cluster.rollout().await.filter(|data| data.get("paused").is_some_and(|p| p == "true")) };
    let data = until("the pause", paused).await;
    assert!(data["reason"].len() <= 4096, "{} bytes", data["reason"].len());
    approved(&cluster, &[]).await;
    cluster.report_ready("fresh").await;
    let nodes = cluster.all::<k8s_openapi::api::core::v1::Node>();
    until("the taint is gone", || async {
        let taints = nodes.get("fresh").await.ok()?.spec?.taints.unwrap_or_default();
        taints.iter().all(|has| has.key != taint).then_some(())
    })
    .await;
    controller.stop().await.expect("it stops in order");
}

async fn resume(cluster: &Cluster) {
    let patch = json!({"data": {"paused": "false"}});
    let params = PatchParams::default();
    let api = cluster.here::<ConfigMap>();
    api.patch(contract::ROLLOUT_CONFIG_MAP, &params, &Patch::Merge(patch)).await.expect("resumed");
}

#[tokio::test]
async fn manual_waits_for_approve() {
    let Some((cluster, controller)) = with_nodes(&["n1", "n2"], Policy::Manual).await else { return };
    cluster.tells("hub", "Programmed=False RestartPending").await;
    assert!(cluster.approved().await.is_empty());
    let annotate = |plan: &str| json!({"metadata": {"annotations": {contract::APPROVE_ANNOTATION: plan}}});
    let api = cluster.all::<NodeMirror>();
    let params = PatchParams::default();
    api.patch("n1", &params, &Patch::Merge(annotate("another plan"))).await.expect("annotated");
    api.patch("n2", &params, &Patch::Merge(annotate("plan-n2"))).await.expect("annotated");
    approved(&cluster, &["n2"]).await;
    for node in ["n1", "n2"] {
        until("the request is taken off", || async {
            let annotations = api.get(node).await.ok()?.metadata.annotations.unwrap_or_default();
            (!annotations.contains_key(contract::APPROVE_ANNOTATION)).then_some(())
        })
        .await;
    }
    assert_eq!(cluster.approved().await, ["n2"]);
    controller.stop().await.expect("it stops in order");
}
