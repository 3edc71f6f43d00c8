//! Asks a registry as containerd would: the same TLS settings, headers, resolver and roots; one request, one answer.
//!
//! What counts is whether containerd would have to wait. It gives a dial 30 s and a TLS handshake 10 s, remembers
//! nothing, and pays that price again for each request (`core/remotes/docker/config`, 1.5 to 2.4). An HTTP error costs
//! it nothing: it moves on at once.

mod challenge;
mod dial;
mod resolve;
mod tls;
mod trust;

use std::{error::Error, io, pin::pin, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use registry_mirror_core::sensitive::Sensitive;
use rustls::{AlertDescription, pki_types::ServerName};
use thiserror::Error as ThisError;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;
use url::Url;

pub use challenge::Challenge;
pub use hyper::{Method, StatusCode};
pub use resolve::{Resolved, Token, TokenError, TokenRequest, resolve};
pub use rustls::ClientConfig as TlsConfig;
pub use tls::{ClientIdentity, TlsError, TlsSettings};
pub use trust::HostTrust;

/// One question.
#[derive(Debug, Clone)]
pub struct Question {
    /// `http` or `https`.
    pub url: Url,
    /// GET for a registry's root, HEAD for a manifest, as containerd does.
    pub method: Method,
    /// Sent as they are.
    pub headers: Vec<(String, Sensitive)>,
    /// All of it: name, connection, handshake, answer.
    pub limit: Duration,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// How it ended.
    pub outcome: Outcome,
    /// From the first packet to that end.
    pub took: Duration,
}

/// How a question ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server spoke HTTP; any status is an answer.
    Answered(Reply),
    /// It failed at once: refused, no such name, a certificate that is not trusted. containerd moves on.
    Failed(Failure),
    /// Nothing came within the limit. containerd waits.
    Silent(Stage),
}

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The server sends its clients to a token server.
    pub challenge: Option<Challenge>,
    /// Where it sends them with a redirect.
    pub location: Option<String>,
}

/// Why a question failed.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[error("{stage}: {why}")]
pub struct Failure {
    /// Where.
    pub stage: Stage,
    /// As the system or TLS says it.
    pub why: String,
}

/// How far a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
pub enum Stage {
    /// Name and TCP.
    #[error("connecting")]
    Connect,
    /// The TLS handshake.
    #[error("TLS handshake")]
    Handshake,
    /// The HTTP request.
    #[error("waiting for the answer")]
    Request,
}

impl Outcome {
    /// For people.
    #[must_use]
    pub fn sentence(&self, limit: Duration) -> String {
        match self {
            Self::Answered(Reply { status, .. }) => format!("answers {status}"),
            Self::Failed(failure) => failure.to_string(),
            Self::Silent(stage) => format!("{stage}: nothing came within {} s", limit.as_secs()),
        }
    }
}

/// Asks. `tls` is for https urls.
pub async fn ask(question: &Question, tls: &Arc<TlsConfig>) -> Answer {
    let started = Instant::now();
    let outcome = match attempt(question, tls, 0).await {
        Ok((reply, _)) => Outcome::Answered(reply),
        Err(end) => end.into(),
    };
    Answer { outcome, took: started.elapsed() }
}

#[derive(Debug)]
enum End {
    Failed(Failure),
    Silent(Stage),
}

impl From<End> for Outcome {
    fn from(end: End) -> Self {
        match end {
            End::Failed(failure) => Self::Failed(failure),
            End::Silent(stage) => Self::Silent(stage),
        }
    }
}

fn failed(stage: Stage, why: &impl ToString) -> End {
    End::Failed(Failure { stage, why: why.to_string() })
}

/// One exchange, with this many bytes of the answer's body at the most.
async fn attempt(question: &Question, tls: &Arc<TlsConfig>, body: usize) -> Result<(Reply, Bytes), End> {
    let deadline = Instant::now() + question.limit;
    let Some(host) = question.url.host_str() else {
        return Err(failed(Stage::Connect, &"the url has no host"));
    };
    let port = question.url.port_or_known_default().unwrap_or(443);
    // `[::1]` is written with brackets in a url and without them everywhere else.
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = timeout_at(deadline, dial::dial(bare, port))
        .await
        .map_err(|_| End::Silent(Stage::Connect))?
        .map_err(|error| connect_end(&error))?;
    if question.url.scheme() == "http" {
        return exchange(question, stream, deadline, body).await;
    }
    let name = ServerName::try_from(bare.to_owned()).map_err(|error| failed(Stage::Handshake, &error))?;
    let stream = timeout_at(deadline, TlsConnector::from(Arc::clone(tls)).connect(name, stream))
        .await
        .map_err(|_| End::Silent(Stage::Handshake))?
        .map_err(|error| failed(Stage::Handshake, &error))?;
    exchange(question, stream, deadline, body).await
}

/// The kernel's own time-out is as silent as ours.
fn connect_end(error: &io::Error) -> End {
    match error.kind() {
        io::ErrorKind::TimedOut => End::Silent(Stage::Connect),
        _ => failed(Stage::Connect, error),
    }
}

async fn exchange(
    question: &Question,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    deadline: Instant,
    body: usize,
) -> Result<(Reply, Bytes), End> {
    let request = request(question).map_err(|error| failed(Stage::Request, &error))?;
    let talk = async {
        let (mut sender, connection) = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
        let mut connection = pin!(connection);
        let mut answer = pin!(async {
            let (head, rest) = sender.send_request(request).await?.into_parts();
            let rest = match body {
                0 => Bytes::new(),
                most => Limited::new(rest, most).collect().await?.to_bytes(),
            };
            Ok((head, rest))
        });
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // It may end before the answer is taken from it, and the answer is there all the same.
            _ = &mut connection => answer.await,
        }
    };
    let (head, body) = timeout_at(deadline, talk)
        .await
        .map_err(|_| End::Silent(Stage::Request))?
        .map_err(|error: Box<dyn Error + Send + Sync>| failed(Stage::Request, &innermost(&*error)))?;
    let location = head.headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok((Reply { status: head.status, challenge: Challenge::of(&head.headers), location }, body))
}

/// hyper says "connection error" and keeps what happened to itself.
fn innermost(error: &(dyn Error + 'static)) -> String {
    if let Some(io) = error.downcast_ref::<io::Error>()
        && let Some(rustls::Error::AlertReceived(alert)) = io.get_ref().and_then(|inner| inner.downcast_ref())
    {
        // From TLS 1.3 on a server looks at the client's certificate when the client takes the handshake for done.
        let why = match alert {
            AlertDescription::CertificateRequired | AlertDescription::BadCertificate => {
                ", which means that it wants a client certificate and got none that it accepts"
            }
            AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired => ", which means that it does not accept the client certificate",
            _ => "",
        };
        return format!("the server ended the connection with the TLS alert {alert:?}{why}");
    }
    error.source().map_or_else(|| error.to_string(), innermost)
}

fn request(question: &Question) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    let Question { url, method, headers, limit: _ } = question;
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let authority = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, concat!("registry-mirror-operator/", env!("CARGO_PKG_VERSION")));
    for (name, value) in headers {
        request = request.header(name, value.reveal());
    }
    request.body(Empty::new())
}

#[cfg(test)]
mod tests;
