//! One controller writes; the next takes over.

use serde_json::json;

use crate::cluster::{Cluster, until};

async fn publishes(cluster: &Cluster, name: &str) {
    let registry = format!("{name}.example.com");
    cluster.mirror(name, json!({"registry": registry, "mirrors": [{"url": "https://a.example.com"}]})).await;
    until(name, || async { cluster.objects_of_bundle().await.filter(|names| names.contains(&name.to_owned())) }).await;
}

#[tokio::test]
async fn a_second_controller_takes_over_from_one_that_stops_and_from_one_that_dies() {
    let Some(cluster) = Cluster::clean().await else { return };
    let first = cluster.start(cluster.config("first"));
    publishes(&cluster, "one").await;
    let second = cluster.start(cluster.config("second"));
    publishes(&cluster, "two").await;
    first.stop().await.expect("it stops in order");
    publishes(&cluster, "three").await;
    let third = cluster.start(cluster.config("third"));
    second.kill();
    publishes(&cluster, "four").await;
    third.stop().await.expect("it stops in order");
}
