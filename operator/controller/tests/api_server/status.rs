//! RegistryMirror status and Events.

use std::{pin::pin, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Node, Secret},
    events::v1::Event,
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams},
};
use registry_mirror_controller::ControllerConfig;
use registry_mirror_core::bundle::{BUNDLE_KEY, unpack};
use registry_mirror_crds::{NodeMirror, RegistryMirror};
use serde_json::json;

use crate::cluster::{Cluster, until};

#[tokio::test]
async fn counts_nodes_and_a_dead_agents_last_word_does_not_count() {
    let Some(cluster) = Cluster::clean().await else { return };
    let controller = cluster.start(cluster.config("a"));
    let spec = json!({"registry": "docker.io",
        "mirrors": [{"url": "https://a.example.com"}, {"url": "https://b.example.com"}]});
    cluster.mirror("hub", spec).await;
    until("the object", || async { cluster.objects_of_bundle().await.filter(|names| names == &["hub"]) }).await;
    for node in ["n1", "n2"] {
        cluster.node(node, json!({}), json!([])).await;
        cluster.agent_pod(node, true).await;
        cluster.report_ready(node).await;
    }
    until("both nodes count", || async { cluster.told("hub").await.filter(|(_, summary)| summary == "2/2") }).await;
    cluster.tells("hub", "Programmed=True Programmed").await;
    let object = cluster.all::<RegistryMirror>().get("hub").await.expect("the object");
    let status = object.status.expect("a status");
    assert_eq!(status.nodes.as_ref().map(|nodes| nodes.summary.as_str()), Some("2/2"));
    assert_eq!(status.mirror_summary.as_deref(), Some("https://a.example.com +1"));
    assert_eq!(status.reason, None);
    assert_eq!(status.observed_generation, object.metadata.generation);
    let mirrors: Vec<_> = status.mirrors.iter().map(|m| (m.url.as_str(), m.healthy_nodes)).collect();
    assert_eq!(mirrors, [("https://a.example.com", 2), ("https://b.example.com", 2)]);

    cluster.agent_pod("n2", false).await;
    cluster.tells("hub", "Programmed=False AgentsNotReady").await;
    assert_eq!(cluster.told("hub").await.map(|(_, summary)| summary).as_deref(), Some("1/2"));
    cluster.agent_pod("n2", true).await;
    cluster.tells("hub", "Programmed=True Programmed").await;

    // Events tell it once.
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), "default");
    let told = || async {
        let list = events.list(&ListParams::default()).await.ok()?;
        let mut told: Vec<_> = list
            .items
            .into_iter()
            .filter(|event| {
                event.regarding.as_ref().and_then(|about| about.uid.as_ref()) == object.metadata.uid.as_ref()
            })
            .filter_map(|event| event.reason)
            .collect();
        told.sort();
        Some(told)
    };
    until("the Events", || async { told().await.filter(|told| told.contains(&"AgentsNotReady".to_owned())) }).await;
    let told = told().await.expect("Events");
    assert_eq!(told.iter().filter(|reason| *reason == "AgentsNotReady").count(), 1, "{told:?}");
    assert!(told.contains(&"Accepted".to_owned()) && told.contains(&"Programmed".to_owned()), "{told:?}");
    controller.stop().await.expect("it stops in order");
}

#[tokio::test]
async fn conflicts_and_bad_references_are_told() {
    let Some(cluster) = Cluster::clean().await else { return };
    let controller = cluster.start(cluster.config("a"));
    until("the bundle", || cluster.bundle()).await;
    for (node, region) in [("n1", "north"), ("n2", "south")] {
        cluster.node(node, json!({"region": region}), json!([])).await;
    }
    let mirrors = json!([{"url": "https://a.example.com"}]);
    let north =
        json!({"registry": "docker.io", "mirrors": mirrors, "nodeSelector": {"matchLabels": {"region": "north"}}});
    // objects of one second stand in the order of their names
    cluster.mirror("a-north", north).await;
    cluster.mirror("b-all", json!({"registry": "docker.io", "mirrors": mirrors})).await;
    cluster.mirror("c-all", json!({"registry": "docker.io", "mirrors": mirrors})).await;
    cluster.tells("b-all", "Accepted=True Conflict").await;
    cluster.tells("c-all", "Accepted=False Conflict").await;
    cluster.tells("a-north", "Accepted=True Accepted").await;

    let config_map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"},
        "data": {"ca.crt": "-----BEGIN CERTIFICATE-----\nnone\n"}});
    let api = cluster.here::<ConfigMap>();
    api.patch("ca", &PatchParams::apply("test").force(), &Patch::Apply(config_map)).await.expect("taken");
    let spec = json!({"registry": "quay.io", "mirrors": [{"url": "https://a.example.com",
        "tls": {"caRef": {"kind": "ConfigMap", "name": "ca"}}}]});
    cluster.mirror("quay", spec).await;
    cluster.tells("quay", "ResolvedRefs=False RefMalformed").await;
    controller.stop().await.expect("it stops in order");
}

/// `0/0` and True of objects that reach no node were taken for done.
#[tokio::test]
async fn an_object_that_reaches_no_node_says_how_many_it_is_for() {
    let Some(cluster) = Cluster::clean().await else { return };
    let controller = cluster.start(cluster.config("a"));
    for node in ["n1", "n2"] {
        cluster.node(node, json!({}), json!([])).await;
        cluster.agent_pod(node, true).await;
    }
    let mirrors = json!([{"url": "https://a.example.com"}]);
    let missing = json!([{"url": "https://a.example.com", "auth": {"secretRef": {"name": "missing"}}}]);
    cluster.mirror("unresolved", json!({"registry": "quay.io", "mirrors": missing})).await;
    cluster.tells("unresolved", "ResolvedRefs=False RefNotFound").await;
    cluster.mirror("hub", json!({"registry": "docker.io", "mirrors": mirrors})).await;
    cluster.tells("hub", "Accepted=True Accepted").await;
    cluster.mirror("zz-younger", json!({"registry": "docker.io", "mirrors": mirrors})).await;
    cluster.tells("zz-younger", "Accepted=False Conflict").await;
    let nowhere = json!({"matchLabels": {"region": "nowhere"}});
    cluster.mirror("nowhere", json!({"registry": "ghcr.io", "mirrors": mirrors, "nodeSelector": nowhere})).await;
    cluster.tells("nowhere", "Programmed=False NoMatchingNodes").await;
    for (object, expected) in [("unresolved", "0/2"), ("zz-younger", "0/2"), ("hub", "0/2"), ("nowhere", "0/0")] {
        until(object, || async { cluster.told(object).await.filter(|(_, summary)| summary == expected) }).await;
    }
    controller.stop().await.expect("it stops in order");
}

/// An upgrade takes each agent away for some seconds, and containerd pulls through the mirrors meanwhile.
#[tokio::test]
async fn an_agent_that_is_replaced_is_no_alarm() {
    let Some(cluster) = Cluster::clean().await else { return };
    let patient = ControllerConfig { agent_grace: Duration::from_secs(3600), ..cluster.config("a") };
    let controller = cluster.start(patient);
    let mirrors = json!([{"url": "https://a.example.com"}]);
    cluster.mirror("hub", json!({"registry": "docker.io", "mirrors": mirrors})).await;
    until("the object", || async { cluster.objects_of_bundle().await.filter(|names| names == &["hub"]) }).await;
    cluster.node("n1", json!({}), json!([])).await;
    cluster.agent_pod("n1", true).await;
    cluster.report_ready("n1").await;
    cluster.tells("hub", "Programmed=True Programmed").await;

    cluster.agent_pod("n1", false).await;
    // When this one has its status, a whole pass has come after that.
    cluster.mirror("quay", json!({"registry": "quay.io", "mirrors": mirrors})).await;
    cluster.tells("quay", "Programmed=False Progressing").await;
    let told = cluster.told("hub").await.expect("a status");
    assert_eq!(told.1, "1/1");
    cluster.tells("hub", "Programmed=True Programmed").await;
    controller.stop().await.expect("it stops in order");

    // Nothing but the time that passes tells the next one that the agent does not come back.
    let hasty = ControllerConfig { agent_grace: Duration::from_secs(2), ..cluster.config("b") };
    let controller = cluster.start(hasty);
    cluster.tells("hub", "Programmed=False AgentsNotReady").await;
    controller.stop().await.expect("it stops in order");
}

#[tokio::test]
async fn an_idle_controller_writes_nothing() {
    let Some(cluster) = Cluster::clean().await else { return };
    let controller = cluster.start(cluster.config("a"));
    cluster.mirror("hub", json!({"registry": "docker.io", "mirrors": [{"url": "https://a.example.com"}]})).await;
    cluster.node("n1", json!({}), json!([])).await;
    cluster.agent_pod("n1", true).await;
    until("the object", || async { cluster.objects_of_bundle().await.filter(|names| names == &["hub"]) }).await;
    cluster.report_ready("n1").await;
    cluster.tells("hub", "Programmed=True Programmed").await;

    let versions = || async {
        let version = |meta: kube::core::ObjectMeta| meta.resource_version.unwrap_or_default();
        let secret = cluster.here::<Secret>();
        let mut versions = vec![
            version(secret.get("registry-mirror-bundle").await.expect("the Secret").metadata),
            version(cluster.all::<RegistryMirror>().get("hub").await.expect("the object").metadata),
            version(cluster.all::<NodeMirror>().get("n1").await.expect("the NodeMirror").metadata),
        ];
        versions.push(version(cluster.here::<ConfigMap>().get("registry-mirror-rollout").await.expect("it").metadata));
        versions
    };
    let before = versions().await;
    // Changes that concern no object: the controller looks at each of them and has nothing to write.
    let nodes: Api<Node> = cluster.all();
    for round in ["1", "2", "3"] {
        let label = json!({"metadata": {"labels": {"round": round}}});
        nodes.patch("n1", &PatchParams::default(), &Patch::Merge(label)).await.expect("a label");
    }
    // When this one has its status, a whole pass has come after them.
    let mirrors = json!([{"url": "https://a.example.com"}]);
    cluster.mirror("quay", json!({"registry": "quay.io", "mirrors": mirrors})).await;
    cluster.tells("quay", "Accepted=True Accepted").await;
    let secrets = cluster.here::<Secret>();
    let only = WatchParams::default().fields("metadata.name=registry-mirror-bundle");
    let mut writes = pin!(secrets.watch(&only, &before[0]).await.expect("the writes since"));
    let Some(Ok(WatchEvent::Modified(first))) = writes.next().await else { panic!("the bundle was not written") };
    let first = unpack(&first.data.expect("data")[BUNDLE_KEY].0).expect("a bundle");
    assert_eq!(first.entries.iter().map(|entry| &*entry.object).collect::<Vec<_>>(), ["hub", "quay"]);
    let after = versions().await;
    assert_eq!(after[1..], before[1..]);
    // A new start writes nothing either.
    controller.stop().await.expect("it stops in order");
    let controller = cluster.start(cluster.config("a"));
    cluster.mirror("ghcr", json!({"registry": "ghcr.io", "mirrors": mirrors})).await;
    cluster.tells("ghcr", "Accepted=True Accepted").await;
    assert_eq!(versions().await[1..], before[1..]);
    controller.stop().await.expect("it stops in order");
}
