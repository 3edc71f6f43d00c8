//! `/healthz`, `/readyz` and `/metrics`.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use crate::{caches::Caches, metrics::Metrics};

/// Listens. `[::]` takes IPv4 too, and stands for every address of this pod: where the kernel has no IPv6, the IPv4 ones.
pub(crate) async fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(listen).await {
        Err(error) if listen.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, listen.port())).await.map_err(|_| error)
        }
        bound => bound,
    }
}

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, caches: Arc<Caches>, metrics: Arc<Metrics>) -> &'static str {
    let app = Router::new()
        // The loop and this server share one thread, so an answer says that the loop is not stuck in a computation.
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state(caches))
        .route("/metrics", get(exposition).with_state(metrics));
    if let Err(error) = axum::serve(listener, app).await {
        tracing::error!(%error, "health and metrics cannot be served any more");
    }
    "health and metrics"
}

/// Ready is who could take over at once: a controller that waits for the Lease is.
async fn ready(State(caches): State<Arc<Caches>>) -> impl IntoResponse {
    match caches.first_unsynced() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(what) => (StatusCode::SERVICE_UNAVAILABLE, format!("{what} have not been listed yet\n")),
    }
}

async fn exposition(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    (kind, metrics.encode())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    /// The kubelet's probe comes to the pod's own address, which is an IPv6 one in a cluster without IPv4.
    #[tokio::test]
    async fn every_address_of_the_pod_is_listened_on() {
        let listener = bind((Ipv6Addr::UNSPECIFIED, 0).into()).await.expect("it listens");
        let port = listener.local_addr().expect("its address").port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("over IPv4");
        if std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.expect("over IPv6");
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_not_looked_for_elsewhere() {
        let other = bind((Ipv6Addr::UNSPECIFIED, 0).into()).await.expect("it listens");
        let taken = other.local_addr().expect("its address");
        assert_eq!(bind(taken).await.expect_err("it is taken").kind(), io::ErrorKind::AddrInUse);
    }
}
