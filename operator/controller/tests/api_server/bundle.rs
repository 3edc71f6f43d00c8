//! The bundle's Secret follows the objects and what they name.

use std::time::Instant;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use registry_mirror_controller::contract;
use registry_mirror_core::{bundle::Mode, digest::Digest, proxy::ProxySettings};
use registry_mirror_crds::RegistryMirror;
use serde_json::json;

use crate::cluster::{Cluster, until};

#[tokio::test]
async fn follows_every_change_and_is_put_back() {
    let Some(cluster) = Cluster::clean().await else { return };
    let controller = cluster.start(cluster.config("a"));
    until("an empty bundle", || async { cluster.bundle().await.filter(|bundle| bundle.entries.is_empty()) }).await;

    let started = Instant::now();
    cluster.mirror("hub", json!({"registry": "docker.io", "mirrors": [{"url": "https://a.example.com"}]})).await;
    until("the object", || async { cluster.objects_of_bundle().await.filter(|names| names == &["hub"]) }).await;
    println!("apply to bundle: {:?}", started.elapsed());

    let spec = json!({"registry": "docker.io", "mirrors": [{"url": "https://b.example.com"}]});
    cluster.mirror("hub", spec).await;
    until("the changed url", || async {
        cluster.bundle().await.filter(|bundle| bundle.entries[0].mirrors[0].url == "https://b.example.com")
    })
    .await;

    let secrets = cluster.here::<Secret>();
    let secret = secrets.get(contract::BUNDLE_SECRET).await.expect("the Secret");
    let bytes = &secret.data.expect("data")["bundle.json.gz"].0;
    let annotations = secret.metadata.annotations.expect("annotations");
    assert_eq!(annotations[contract::SHA256_ANNOTATION], Digest::of(bytes).as_str());
    assert_eq!(annotations[contract::SCHEMA_ANNOTATION], "1");
    assert_eq!(secret.type_.as_deref(), Some(contract::BUNDLE_SECRET_TYPE));

    // someone edits it, someone deletes it
    let spoiled = json!({"data": {"bundle.json.gz": "bm90aGluZw=="}});
    secrets.patch(contract::BUNDLE_SECRET, &PatchParams::default(), &Patch::Merge(spoiled)).await.expect("spoiled");
    until("it is put back", || cluster.bundle()).await;
    secrets.delete(contract::BUNDLE_SECRET, &DeleteParams::default()).await.expect("deleted");
    until("it is made anew", || cluster.bundle()).await;

    cluster.all::<RegistryMirror>().delete("hub", &DeleteParams::default()).await.expect("deleted");
    until("the object is gone", || async { cluster.objects_of_bundle().await.filter(Vec::is_empty) }).await;
    controller.stop().await.expect("it stops in order");
}

/// The proxy is the chart's: it arrives with a controller that was told of it, and goes with one that was not.
#[tokio::test]
async fn the_proxy_of_containerd_follows_the_controllers_settings() {
    let Some(cluster) = Cluster::clean().await else { return };
    let https = "http://proxy.example.com:3128".parse().expect("a proxy");
    let settings = ProxySettings::new(None, Some(https), Vec::new(), Vec::new()).expect("valid");
    for proxy in [settings, None] {
        let mut config = cluster.config("a");
        config.proxy = proxy.clone();
        let controller = cluster.start(config);
        until("the proxy", || async { cluster.bundle().await.filter(|bundle| bundle.proxy == proxy) }).await;
        controller.stop().await.expect("it stops in order");
    }
}

#[tokio::test]
async fn a_rotated_secret_arrives_and_a_missing_one_leaves_the_last_good_state() {
    let Some(cluster) = Cluster::clean().await else { return };
    let controller = cluster.start(cluster.config("a"));
    let spec = json!({"registry": "docker.io",
        "mirrors": [{"url": "https://a.example.com", "auth": {"secretRef": {"name": "robot"}}}]});
    cluster.mirror("hub", spec).await;
    cluster.tells("hub", "ResolvedRefs=False RefNotFound").await;
    assert_eq!(cluster.objects_of_bundle().await, Some(vec![]));

    cluster.secret("robot", &[("username", "robot"), ("password", "one")]).await;
    let header = || async {
        let bundle = cluster.bundle().await?;
        Some(bundle.entries.first()?.mirrors.first()?.headers.first()?.values.first()?.reveal().to_owned())
    };
    let one = until("the credentials", header).await;
    cluster.tells("hub", "ResolvedRefs=True Resolved").await;

    let started = Instant::now();
    cluster.secret("robot", &[("username", "robot"), ("password", "two")]).await;
    let two = until("the rotated credentials", || async { header().await.filter(|header| *header != one) }).await;
    println!("Secret rotation to bundle: {:?}", started.elapsed());

    cluster.here::<Secret>().delete("robot", &DeleteParams::default()).await.expect("deleted");
    cluster.tells("hub", "ResolvedRefs=False RefNotFound").await;
    assert_eq!(header().await, Some(two.clone()));

    // The last good state outlives the controller.
    controller.stop().await.expect("it stops in order");
    let controller = cluster.start(cluster.config("a"));
    let other = json!({"registry": "quay.io", "mirrors": [{"url": "https://a.example.com"}]});
    cluster.mirror("quay", other).await;
    until("the other object", || async { cluster.objects_of_bundle().await.filter(|names| names.len() == 2) }).await;
    assert_eq!(header().await, Some(two));
    let status = cluster.all::<RegistryMirror>().get("hub").await.expect("the object").status;
    let json = serde_json::to_string(&status).expect("JSON");
    assert!(!json.contains("b25l") && !json.contains("dHdv"), "credentials in a status: {json}");
    controller.stop().await.expect("it stops in order");
}

#[tokio::test]
async fn fifty_changes_in_a_row_end_in_the_last_one() {
    let Some(cluster) = Cluster::clean().await else { return };
    let controller = cluster.start(cluster.config("a"));
    for i in 0..50 {
        let spec = json!({"registry": "docker.io", "mirrors": [{"url": format!("https://m{i}.example.com")}]});
        cluster.mirror("hub", spec).await;
    }
    until("the last url", || async {
        let bundle = cluster.bundle().await?;
        (bundle.entries.first()?.mirrors.first()?.url == "https://m49.example.com").then_some(())
    })
    .await;
    controller.stop().await.expect("it stops in order");
}

#[tokio::test]
async fn the_rollout_may_override_the_mode() {
    let Some(cluster) = Cluster::clean().await else { return };
    let controller = cluster.start(cluster.config("a"));
    until("the ConfigMap", || cluster.rollout()).await;
    let patch = json!({"data": {"mode": "Restore"}});
    let config_maps = cluster.here::<k8s_openapi::api::core::v1::ConfigMap>();
    let params = PatchParams::default();
    config_maps.patch(contract::ROLLOUT_CONFIG_MAP, &params, &Patch::Merge(patch)).await.expect("patched");
    until("the mode", || async { cluster.bundle().await.filter(|bundle| bundle.mode == Mode::Restore) }).await;
    controller.stop().await.expect("it stops in order");
}
