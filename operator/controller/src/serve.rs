//! `/healthz`, `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use crate::{caches::Caches, metrics::Metrics};

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
