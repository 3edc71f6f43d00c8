//! The way to the API server loses its connections without a word, as a load balancer that fails over does.

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use kube::{
    Api,
    api::{Patch, PatchParams, WatchEvent, WatchParams},
};
use registry_mirror_client::connect_within;
use registry_mirror_crds::RegistryMirror;
use serde_json::json;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::cluster::{Cluster, client_config};

/// Passes connections on until it forgets them: then nothing comes and goes on them any more, and nobody hangs up.
struct Way {
    address: SocketAddr,
    forgotten: Arc<watch::Sender<()>>,
}

impl Way {
    async fn to(upstream: String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let forgotten = Arc::new(watch::channel(()).0);
        let way = Self { address, forgotten: Arc::clone(&forgotten) };
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (upstream, mut forgotten) = (upstream.clone(), forgotten.subscribe());
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(upstream).await.expect("the API server");
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = forgotten.changed() => std::future::pending().await,
                    }
                });
            }
        });
        way
    }

    fn forget(&self) {
        self.forgotten.send_replace(());
    }
}

/// Seen: one status write of an agent hung, and the agent said nothing more, for good.
#[tokio::test]
async fn a_write_to_a_peer_that_stopped_answering_ends_and_the_next_one_arrives() {
    let Some(cluster) = Cluster::clean().await else { return };
    let mut config = client_config().await;
    let url = config.cluster_url.clone();
    let host = url.host().expect("a host");
    let way = Way::to(format!("{host}:{}", url.port_u16().unwrap_or(443))).await;
    config.cluster_url = format!("https://{}", way.address).parse().expect("a url");
    config.tls_server_name = Some(host.to_owned());
    let limit = Duration::from_secs(2);
    let api: Api<RegistryMirror> = Api::all(connect_within(config, limit).expect("a client"));
    let spec = json!({"registry": "docker.io", "mirrors": [{"url": "https://a.example.com"}]});
    let version = cluster.mirror("hub", spec).await.metadata.resource_version.expect("a version");
    let write = async |generation: i64| {
        let status = json!({"status": {"observedGeneration": generation}});
        api.patch_status("hub", &PatchParams::default(), &Patch::Merge(status)).await
    };
    write(1).await.expect("the way is open");

    way.forget();
    let started = Instant::now();
    let error = write(2).await.expect_err("nobody answers").to_string();
    assert!(error.contains("the API server did not answer in 2s"), "{error}");
    assert!(started.elapsed() < limit * 3, "{:?}", started.elapsed());
    write(3).await.expect("a new connection");
    let mut events = pin!(api.watch(&WatchParams::default(), &version).await.expect("a new watch"));
    let told = |event| match event {
        Some(Ok(WatchEvent::Modified(RegistryMirror { status: Some(status), .. }))) => status.observed_generation,
        _ => None,
    };
    assert_eq!((told(events.next().await), told(events.next().await)), (Some(1), Some(3)));
}
