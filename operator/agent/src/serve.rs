//! `/metrics`.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};
use tokio::{net::TcpListener, time::sleep};

use crate::metrics::Metrics;

/// How long until a port that was taken is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// Serves until the process ends. The agent lives in the node's network, where any port may be another program's: that
/// costs the metrics, never the mirrors.
pub async fn serve(listen: SocketAddr, metrics: Arc<Metrics>) {
    let app = Router::new().route("/metrics", get(exposition).with_state(metrics));
    let mut said = false;
    loop {
        let ended = match TcpListener::bind(listen).await {
            Ok(listener) => {
                if said {
                    tracing::info!(%listen, "metrics are served now");
                    said = false;
                }
                axum::serve(listener, app.clone()).await
            }
            Err(error) => Err(error),
        };
        if let (Err(error), false) = (ended, said) {
            tracing::warn!(
                %listen, %error,
                "metrics are not served, and will be once the address can be had; the mirrors do without. If another \
                 program has the port, set agent.port in the chart's values (--listen)"
            );
            said = true;
        }
        sleep(RETRY).await;
    }
}

async fn exposition(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    (kind, metrics.encode())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        time::timeout,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_taken_port_costs_the_metrics_only_while_it_is_taken() {
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let listen = other.local_addr().expect("its address");
        let mut serving = tokio::spawn(serve(listen, Arc::new(Metrics::new())));
        assert!(timeout(Duration::from_secs(60), &mut serving).await.is_err(), "it ends with the port");
        drop(other);
        sleep(2 * RETRY).await;
        let mut stream = TcpStream::connect(listen).await.expect("it listens");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("registry_mirror_agent_"), "{answer}");
    }
}
