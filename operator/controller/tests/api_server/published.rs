//! A status speaks of what is published: not of what was only seen, and not of what the API server refused.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use registry_mirror_controller::contract;
use registry_mirror_crds::{RegistryMirror, RegistryMirrorStatus};
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, client_config, until},
    gate::Gate,
};

fn hub(mirror: Value) -> Value {
    json!({"registry": "docker.io", "mirrors": [mirror]})
}

async fn node(cluster: &Cluster, name: &str) {
    cluster.node(name, json!({}), json!([])).await;
    cluster.agent_pod(name, true).await;
    cluster.report_ready(name).await;
}

async fn status(cluster: &Cluster, name: &str) -> RegistryMirrorStatus {
    cluster.all::<RegistryMirror>().get(name).await.expect("the object").status.unwrap_or_default()
}

#[tokio::test]
async fn a_generation_that_was_only_seen_is_not_claimed_while_its_secret_is_listed() {
    let Some(cluster) = Cluster::clean().await else { return };
    let gate = Gate::open();
    let controller = cluster.start_with(gate.client(client_config().await), cluster.config("a"));
    cluster.secret("robot", &[("username", "robot"), ("password", "one")]).await;
    cluster.mirror("hub", hub(json!({"url": "https://a.example.com"}))).await;
    let quay = json!({"registry": "quay.io", "mirrors": [{"url": "https://a.example.com"}]});
    cluster.mirror("quay", quay).await;
    until("both objects", || async { cluster.objects_of_bundle().await.filter(|names| names.len() == 2) }).await;
    node(&cluster, "n1").await;
    for object in ["hub", "quay"] {
        cluster.tells(object, "Programmed=True Programmed").await;
    }

    gate.hold_back("/secrets?");
    let auth = json!({"url": "https://b.example.com", "auth": {"secretRef": {"name": "robot"}}});
    cluster.mirror("hub", hub(auth)).await;
    gate.holds_one().await;
    // When the other object has said two things since, a whole pass over all of them has come after the change.
    cluster.agent_pod("n1", false).await;
    cluster.tells("quay", "Programmed=False AgentsNotReady").await;
    cluster.agent_pod("n1", true).await;
    cluster.tells("quay", "Programmed=True Programmed").await;
    let told = status(&cluster, "hub").await;
    let claims =
        told.conditions.iter().map(|condition| condition.observed_generation).chain([told.observed_generation]);
    assert_eq!(claims.max(), Some(Some(1)), "{told:?}");

    gate.hold_back(None);
    until("it is published", || async {
        let told = status(&cluster, "hub").await;
        (told.observed_generation == Some(2)).then_some(told)
    })
    .await;
    let bundle = cluster.bundle().await.expect("the bundle");
    assert!(bundle.entries[0].mirrors[0].has_credentials);
    cluster.tells("hub", "Programmed=False Progressing").await;
    controller.stop().await.expect("it stops in order");
}

#[tokio::test]
async fn a_publish_that_is_refused_is_told_and_not_claimed() {
    let Some(cluster) = Cluster::clean().await else { return };
    let controller = cluster.start(cluster.config("a"));
    cluster.mirror("hub", hub(json!({"url": "https://a.example.com"}))).await;
    until("the object", || async { cluster.objects_of_bundle().await.filter(|names| names == &["hub"]) }).await;
    node(&cluster, "n1").await;
    cluster.tells("hub", "Programmed=True Programmed").await;

    // As a policy or a quota of the cluster does it, and without one of its own: the data of this Secret is refused.
    let secrets = cluster.here::<Secret>();
    let lock = json!({"immutable": true});
    secrets.patch(contract::BUNDLE_SECRET, &PatchParams::default(), &Patch::Merge(lock)).await.expect("locked");
    cluster.mirror("hub", hub(json!({"url": "https://b.example.com"}))).await;
    cluster.tells("hub", "Programmed=False PublishFailed").await;
    let told = status(&cluster, "hub").await;
    assert_eq!(told.observed_generation, Some(1), "{told:?}");
    assert_eq!(
        (told.reason.as_deref(), told.mirrors[0].url.as_str()),
        (Some("PublishFailed"), "https://a.example.com")
    );
    let programmed = told.conditions.iter().find(|condition| condition.type_ == "Programmed").expect("Programmed");
    assert!(programmed.message.contains("immutable"), "the API server's words: {}", programmed.message);
    assert_eq!(programmed.observed_generation, Some(2));
    // One that nobody ever published; and a new start knows no more.
    cluster.mirror("quay", json!({"registry": "quay.io", "mirrors": [{"url": "https://a.example.com"}]})).await;
    cluster.tells("quay", "Programmed=False PublishFailed").await;
    controller.stop().await.expect("it stops in order");
    let controller = cluster.start(cluster.config("b"));
    cluster.mirror("ghcr", json!({"registry": "ghcr.io", "mirrors": [{"url": "https://a.example.com"}]})).await;
    cluster.tells("ghcr", "Programmed=False PublishFailed").await;
    assert_eq!(status(&cluster, "ghcr").await.observed_generation, None);
    assert_eq!(status(&cluster, "hub").await.observed_generation, Some(1));
    assert_eq!(cluster.objects_of_bundle().await, Some(vec!["hub".to_owned()]));

    secrets.delete(contract::BUNDLE_SECRET, &DeleteParams::default()).await.expect("deleted");
    cluster.tells("hub", "Programmed=False Progressing").await;
    assert_eq!(status(&cluster, "hub").await.observed_generation, Some(2));
    cluster.report_ready("n1").await;
    cluster.tells("hub", "Programmed=True Programmed").await;
    controller.stop().await.expect("it stops in order");
}
