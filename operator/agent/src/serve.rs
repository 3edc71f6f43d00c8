//! `/healthz`, `/readyz` and `/metrics`.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// What the probes answer.
#[derive(Debug, Default)]
pub struct Health {
    /// The first pass over the node is done.
    ready: AtomicBool,
}

impl Health {
    /// The first pass is done. The kubelet's view of this is how the controller knows that an agent is alive.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }
}

/// Serves until the process ends.
///
/// # Errors
/// Where the address cannot be bound.
pub async fn serve(listen: SocketAddr, health: Arc<Health>, metrics: Arc<Metrics>) -> std::io::Result<()> {
    let app = Router::new()
        // The loop and this server share one thread, so an answer says that the loop is not stuck in a computation.
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state(health))
        .route("/metrics", get(exposition).with_state(metrics));
    let listener = TcpListener::bind(listen).await?;
    axum::serve(listener, app).await
}

async fn ready(State(health): State<Arc<Health>>) -> impl IntoResponse {
    if health.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the node has not been looked at yet\n")
    }
}

async fn exposition(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    (kind, metrics.encode())
}
