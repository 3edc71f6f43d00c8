//! Against peers on loopback that answer badly.

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    time::Instant,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{ListParams, WatchEvent, WatchParams},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::sleep,
};

use super::*;

const LIMIT: Duration = Duration::from_millis(300);

/// A peer that says these parts to each request, and the rest only after a pause; then nothing, and it does not hang up.
async fn peer(first: &'static str, then: Option<(Duration, &'static str)>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                stream.write_all(first.as_bytes()).await.expect("sent");
                if let Some((pause, rest)) = then {
                    sleep(pause).await;
                    stream.write_all(rest.as_bytes()).await.expect("sent");
                }
                std::future::pending::<()>().await;
            });
        }
    });
    address
}

fn secrets(address: SocketAddr) -> Api<Secret> {
    let config = Config::new(format!("http://{address}").parse().expect("a url"));
    Api::namespaced(connect_within(config, LIMIT).expect("a client"), "here")
}

#[tokio::test]
async fn a_call_that_is_not_answered_in_whole_ends() {
    let half = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    for first in ["", half] {
        let api = secrets(peer(first, None).await);
        for _ in 0..2 {
            let started = Instant::now();
            let error = api.get("robot").await.expect_err("nothing was said").to_string();
            assert!(error.contains("did not answer in 300ms"), "{error}");
            assert!(started.elapsed() >= LIMIT);
        }
        assert!(api.list(&ListParams::default()).await.is_err());
    }
}

const WATCH: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn a_watch_begins_in_time_and_then_goes_on() {
    let event = "48\r\n{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"robot\"},\"type\":\"Opaque\"}}\n\r\n";
    let api = secrets(peer(WATCH, Some((LIMIT * 3, event))).await);
    let mut events = pin!(api.watch(&WatchParams::default(), "0").await.expect("it begins"));
    let Some(Ok(WatchEvent::Added(secret))) = events.next().await else { panic!("it was cut off") };
    assert_eq!(secret.metadata.name.as_deref(), Some("robot"));

    let silent = secrets(peer("", None).await);
    assert!(silent.watch(&WatchParams::default(), "0").await.is_err());
}

/// The kernel asks the peer of a watch that says nothing.
#[tokio::test]
async fn an_idle_connection_is_kept_alive() {
    let address = peer(WATCH, None).await;
    let api = secrets(address);
    let _events = api.watch(&WatchParams::default(), "0").await.expect("it begins");
    // As proc_net_tcp of the kernel's documentation has it: the connection from our end, the timer that runs on it (2 is
    // keepalive), and when it fires, in hundredths of a second.
    let peer = format!("0100007F:{:04X}", address.port());
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let table = std::fs::read_to_string("/proc/self/net/tcp").expect("the kernel's table");
        let ours = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|f| f[2] == peer);
        let timer = ours.and_then(|fields| fields[5].strip_prefix("02:"));
        if timer.is_some_and(|when| u64::from_str_radix(when, 16).is_ok_and(|when| when <= KEEPALIVE.as_secs() * 100)) {
            return;
        }
        assert!(Instant::now() < deadline, "no keepalive in {table}");
        sleep(Duration::from_millis(20)).await;
    }
}
