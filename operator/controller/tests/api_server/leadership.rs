//! One controller writes; the next takes over.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime};
use kube::api::{Patch, PatchParams, PostParams};
use registry_mirror_controller::{ControllerConfig, ControllerError, contract};
use registry_mirror_core::{bundle::Mode, lease::LeaseTimes};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    cluster::{Cluster, client_config, until},
    gate::Gate,
};

async fn publishes(cluster: &Cluster, name: &str) {
    let registry = format!("{name}.example.com");
    cluster.mirror(name, json!({"registry": registry, "mirrors": [{"url": "https://a.example.com"}]})).await;
    until(name, || async { cluster.objects_of_bundle().await.filter(|names| names.contains(&name.to_owned())) }).await;
}

#[tokio::test]
async fn the_next_controller_takes_over() {
    let Some(cluster) = Cluster::clean().await else { return };
    let first = cluster.start(hurried(cluster.config("first")));
    publishes(&cluster, "one").await;
    let second = cluster.start(hurried(cluster.config("second")));
    publishes(&cluster, "two").await;
    first.stop().await.expect("it stops in order");
    publishes(&cluster, "three").await;
    let third = cluster.start(hurried(cluster.config("third")));
    second.cut_off();
    publishes(&cluster, "four").await;
    third.stop().await.expect("it stops in order");
}

/// As by default, but sooner.
fn hurried(mut config: ControllerConfig) -> ControllerConfig {
    let times = LeaseTimes::default();
    config.lease =
        LeaseTimes { duration: times.duration / 5, renew_deadline: times.renew_deadline / 5, period: times.period / 5 };
    config
}

async fn holder(cluster: &Cluster) -> Option<String> {
    cluster.here::<Lease>().get_opt(contract::LEASE).await.ok()??.spec?.holder_identity
}

/// Its watches and its writes go on: only what it says about the Lease does not arrive.
#[tokio::test]
async fn a_leader_whose_lease_requests_hang_ends_before_another_leads() {
    let Some(cluster) = Cluster::clean().await else { return };
    let gate = Gate::open();
    let mut config = hurried(cluster.config("first"));
    config.mode = Mode::DryRun;
    let first = cluster.start_with(gate.client(client_config().await), config);
    publishes(&cluster, "one").await;
    let second = cluster.start(hurried(cluster.config("second")));
    gate.hold_back("/leases/");
    gate.holds_one().await;
    until("the second leads", || async { (holder(&cluster).await? == "second").then_some(()) }).await;
    assert!(first.has_ended(), "two lead");
    let error = first.ended().await.expect_err("it has lost the Lease");
    assert!(matches!(error, ControllerError::LeaseLost(_)), "{error}");
    until("the second writes", || async { cluster.bundle().await.filter(|bundle| bundle.mode == Mode::Enforce) }).await;
    second.stop().await.expect("it stops in order");
}

/// The API server and the candidate see the renewals; what time the holder believes it is, does not matter.
#[tokio::test]
async fn a_holder_whose_clock_is_slow_keeps_the_lease() {
    let Some(cluster) = Cluster::clean().await else { return };
    let api = cluster.here::<Lease>();
    let lease = json!({"metadata": {"name": contract::LEASE}, "spec": {"holderIdentity": "slow"}});
    let lease: Lease = serde_json::from_value(lease).expect("a Lease");
    api.create(&PostParams::default(), &lease).await.expect("taken");
    let config = hurried(cluster.config("candidate"));
    let duration = config.lease.duration;
    let candidate = cluster.start(config);
    let started = Instant::now();
    while started.elapsed() < duration * 2 {
        let renew_time = MicroTime(jiff::Timestamp::now() - Duration::from_secs(20));
        let renewal = json!({"spec": {"renewTime": renew_time, "leaseDurationSeconds": 15}});
        api.patch(contract::LEASE, &PatchParams::default(), &Patch::Merge(renewal)).await.expect("renewed");
        assert_eq!(holder(&cluster).await.as_deref(), Some("slow"), "robbed after {:?}", started.elapsed());
        tokio::time::sleep(duration / 10).await;
    }
    // It dies: then the Lease is free.
    until("the candidate leads", || async { (holder(&cluster).await? == "candidate").then_some(()) }).await;
    candidate.stop().await.expect("it stops in order");
    assert_eq!(holder(&cluster).await, None, "given back");
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
