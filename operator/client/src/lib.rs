//! The way to the API server, for the controller, the agent and the commands.
//!
//! kube's own client waits for an answer for ever: a peer that went away without a word (a failed-over load balancer, a
//! node that lost power, a firewall that forgot the connection) would silence a program for good.

mod backoff;
mod limit;

use std::time::Duration;

pub use backoff::watch_backoff;
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt as _, retry::RetryPolicy},
};
use limit::TimeLimit;
use tower::{BoxError, ServiceBuilder, retry::RetryLayer};

/// Within this time a call is answered, in whole, or it has failed. The API server itself gives a call up after 60 s; one
/// that is alive answers in a small part of it.
pub const CALL_LIMIT: Duration = Duration::from_secs(30);

/// An idle connection, that of a watch above all, is asked after 30 s whether its peer is still there, and given up 45 s
/// later: as client-go has it.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 3;

/// A client of the cluster that this pod runs in, or that the kubeconfig names; as [`connect`].
///
/// # Errors
/// Where there is neither.
pub async fn infer() -> kube::Result<Client> {
    connect(Config::infer().await.map_err(kube::Error::InferConfig)?)
}

/// A client none of whose calls waits for longer than [`CALL_LIMIT`]. A watch must begin within that time and may then go
/// on.
///
/// # Errors
/// Where address or credentials cannot be used.
pub fn connect(config: Config) -> kube::Result<Client> {
    connect_within(config, CALL_LIMIT)
}

/// [`connect`] with another limit.
///
/// # Errors
/// As [`connect`].
pub fn connect_within(config: Config, limit: Duration) -> kube::Result<Client> {
    let limit = TimeLimit(limit);
    // kube's own stack knows proxies. A command is behind one, never a program that runs for months in the cluster.
    if config.proxy_url.is_some() {
        return Ok(ClientBuilder::try_from(config)?.with_layer(&limit).build());
    }
    // The same stack otherwise, for kube's has no setting for it.
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    connector.set_connect_timeout(config.connect_timeout);
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry())))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace).with_layer(&limit).build())
}

#[cfg(test)]
mod tests;
