//! A bundle that is lost takes nothing away from nodes.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use registry_mirror_controller::contract;
use registry_mirror_core::bundle::{Mode, Upstream};
use registry_mirror_crds::RegistryMirror;
use serde_json::json;

use crate::cluster::{Cluster, Running, until};

/// A registry whose upstream is denied is in force on a node, and the Secret that it names is gone.
async fn deny_in_force() -> Option<(Cluster, Running)> {
    let cluster = Cluster::clean().await?;
    let controller = cluster.start(cluster.config("a"));
    cluster.secret("robot", &[("username", "robot"), ("password", "one")]).await;
    let mirror = json!({"url": "https://a.example.com", "auth": {"secretRef": {"name": "robot"}}});
    let spec = json!({"registry": "docker.io", "mirrors": [mirror], "upstream": {"fallback": "Deny"}});
    cluster.mirror("deny", spec).await;
    denies(&cluster).await;
    cluster.node("n1", json!({}), json!([])).await;
    cluster.agent_pod("n1", true).await;
    cluster.report_ready("n1").await;
    cluster.tells("deny", "Programmed=True Programmed").await;
    cluster.here::<Secret>().delete("robot", &DeleteParams::default()).await.expect("deleted");
    cluster.tells("deny", "ResolvedRefs=False RefNotFound").await;
    Some((cluster, controller))
}

async fn denies(cluster: &Cluster) {
    until("the upstream is denied", || async {
        let bundle = cluster.bundle().await?;
        bundle.entries.iter().any(|entry| entry.upstream == Upstream::Denied).then_some(())
    })
    .await;
}

async fn other(cluster: &Cluster, name: &str) {
    let registry = format!("{name}.example.com");
    cluster.mirror(name, json!({"registry": registry, "mirrors": [{"url": "https://a.example.com"}]})).await;
}

#[tokio::test]
async fn a_deny_outlives_its_bundle() {
    let Some((cluster, controller)) = deny_in_force().await else { return };
    let secrets = cluster.here::<Secret>();
    let gone = DeleteParams::default();
    // Whoever published it has it still.
    secrets.delete(contract::BUNDLE_SECRET, &gone).await.expect("deleted");
    denies(&cluster).await;

    controller.stop().await.expect("it stops in order");
    secrets.delete(contract::BUNDLE_SECRET, &gone).await.expect("deleted");
    // Not the first start after it, nor the next.
    for name in ["one", "two"] {
        let controller = cluster.start(cluster.config(name));
        other(&cluster, name).await;
        cluster.tells(name, "Programmed=False BundleLost").await;
        cluster.tells("deny", "Programmed=False BundleLost").await;
        cluster.tells("deny", "ResolvedRefs=False RefNotFound").await;
        assert!(
            secrets.get_opt(contract::BUNDLE_SECRET).await.expect("an answer").is_none(),
            "a Deny was published away"
        );
        controller.stop().await.expect("it stops in order");
    }
    // The way out.
    let controller = cluster.start(cluster.config("three"));
    cluster.secret("robot", &[("username", "robot"), ("password", "two")]).await;
    denies(&cluster).await;
    assert_eq!(cluster.objects_of_bundle().await.map(|names| names.len()), Some(3));
    cluster.tells("deny", "ResolvedRefs=True Resolved").await;
    controller.stop().await.expect("it stops in order");
}

#[tokio::test]
async fn a_bundle_of_a_newer_release_is_not_replaced_by_less_unless_its_object_is_deleted() {
    let Some((cluster, controller)) = deny_in_force().await else { return };
    controller.stop().await.expect("it stops in order");
    // gzip of {"schema":99}
    let newer = json!({"data": {"bundle.json.gz": "H4sIAAAAAAAC/6tWKk7OSM1NVLKytKwFAH8NN4INAAAA"}});
    let secrets = cluster.here::<Secret>();
    secrets.patch(contract::BUNDLE_SECRET, &PatchParams::default(), &Patch::Merge(&newer)).await.expect("written");
    let controller = cluster.start(cluster.config("b"));
    other(&cluster, "one").await;
    cluster.tells("one", "Programmed=False BundleLost").await;
    let secret = secrets.get(contract::BUNDLE_SECRET).await.expect("the Secret");
    assert_eq!(json!(secret.data), newer["data"]);

    cluster.all::<RegistryMirror>().delete("deny", &DeleteParams::default()).await.expect("deleted");
    until("the other object", || async { cluster.objects_of_bundle().await.filter(|names| names == &["one"]) }).await;
    controller.stop().await.expect("it stops in order");
}

#[tokio::test]
async fn an_uninstall_goes_on_without_its_bundle() {
    let Some((cluster, controller)) = deny_in_force().await else { return };
    controller.stop().await.expect("it stops in order");
    cluster.here::<Secret>().delete(contract::BUNDLE_SECRET, &DeleteParams::default()).await.expect("deleted");
    let mut config = cluster.config("b");
    config.mode = Mode::Restore;
    let controller = cluster.start(config);
    until("nodes are put back", || async { cluster.bundle().await.filter(|bundle| bundle.mode == Mode::Restore) })
        .await;
    controller.stop().await.expect("it stops in order");
}
