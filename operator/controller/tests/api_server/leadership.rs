//! One controller writes; the next takes over.

use std::net::SocketAddr;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::cluster::{Cluster, until};

async fn publishes(cluster: &Cluster, name: &str) {
    let registry = format!("{name}.example.com");
    cluster.mirror(name, json!({"registry": registry, "mirrors": [{"url": "https://a.example.com"}]})).await;
    until(name, || async { cluster.objects_of_bundle().await.filter(|names| names.contains(&name.to_owned())) }).await;
}

#[tokio::test]
async fn the_next_controller_takes_over() {
    let Some(cluster) = Cluster::clean().await else { return };
    let first = cluster.start(cluster.config("first"));
    publishes(&cluster, "one").await;
    let second = cluster.start(cluster.config("second"));
    publishes(&cluster, "two").await;
    first.stop().await.expect("it stops in order");
    publishes(&cluster, "three").await;
    let third = cluster.start(cluster.config("third"));
    second.cut_off();
    publishes(&cluster, "four").await;
    third.stop().await.expect("it stops in order");
}

#[tokio::test]
async fn probes_and_metrics_are_answered() {
    let Some(cluster) = Cluster::clean().await else { return };
    let listen = free_address().await;
    let mut config = cluster.config("a");
    config.listen = listen;
    let controller = cluster.start(config);
    publishes(&cluster, "one").await;
    assert!(get(listen, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get(listen, "/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = get(listen, "/metrics").await;
    for line in ["registry_mirror_controller_leads 1", "registry_mirror_controller_bundle_bytes "] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }

    // The port is taken: said at once, with the address.
    let mut config = cluster.config("b");
    config.listen = listen;
    let error = cluster.start(config).stop().await.expect_err("the port is taken").to_string();
    assert!(error.contains(&listen.to_string()) && error.contains("--listen"), "{error}");
    controller.stop().await.expect("it stops in order");
}

async fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("its address")
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}
