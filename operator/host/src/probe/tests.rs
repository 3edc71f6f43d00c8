//! Against listeners on loopback, each of which fails in its own way.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

fn question(url: &str) -> Question {
    Question {
        url: url.parse().expect("a url"),
        method: Method::GET,
        headers: vec![("Authorization".to_owned(), Sensitive::new("Basic eA==".to_owned()))],
        limit: Duration::from_millis(300),
    }
}

async fn outcome(url: &str) -> Outcome {
    let tls = TlsSettings::default().client_config(&HostTrust::nobody()).expect("plain settings");
    ask(&question(url), &tls).await.outcome
}

/// A server that answers each request by its head; where it has no answer, it stays silent.
pub(super) async fn server(answer: impl Fn(SocketAddr, &str) -> String + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap_or(0);
            let answer = answer(address, &String::from_utf8_lossy(&request[..read]));
            if answer.is_empty() {
                std::future::pending::<()>().await;
            }
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

/// A listener that wants to see the header and answers with this; with nothing it stays silent.
async fn listener(answer: &'static str) -> SocketAddr {
    server(move |_, head| {
        assert!(answer.is_empty() || head.contains("authorization: Basic eA=="), "{head}");
        answer.to_owned()
    })
    .await
}

fn unauthorized(challenge: Option<Challenge>) -> Outcome {
    Outcome::Answered(Reply { status: StatusCode::UNAUTHORIZED, challenge, location: None })
}

#[tokio::test]
async fn any_status_is_an_answer() {
    let address = listener("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await;
    let outcome = outcome(&format!("http://{address}/v2/")).await;
    assert_eq!(outcome, unauthorized(None));
    assert!(!matches!(outcome, Outcome::Silent(_)));
}

#[tokio::test]
async fn a_registry_with_a_token_server_is_known_by_its_challenge() {
    let answer =
        "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer realm=\"https://t/\"\r\ncontent-length: 0\r\n\r\n";
    let token = outcome(&format!("http://{}/v2/", listener(answer).await)).await;
    assert_eq!(token, unauthorized(Some(Challenge { realm: Some("https://t/".to_owned()), ..Challenge::default() })));
    let answer = "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=\"x\"\r\ncontent-length: 0\r\n\r\n";
    let basic = outcome(&format!("http://{}/v2/", listener(answer).await)).await;
    assert_eq!(basic, unauthorized(None));
}

/// "connection error" is all that hyper says by itself.
#[test]
fn a_refused_client_certificate_is_named() {
    let alert = io::Error::other(rustls::Error::AlertReceived(AlertDescription::CertificateRequired));
    assert_eq!(
        innermost(&alert),
        "the server ended the connection with the TLS alert CertificateRequired, which means that it wants a client \
         certificate and got none that it accepts"
    );
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_makes_containerd_wait() {
    let address = listener("").await;
    let plain = outcome(&format!("http://{address}/v2/")).await;
    assert_eq!(plain, Outcome::Silent(Stage::Request));
    assert!(matches!(plain, Outcome::Silent(_)));
    assert_eq!(outcome(&format!("https://{address}/v2/")).await, Outcome::Silent(Stage::Handshake));
}

#[tokio::test]
async fn a_refused_connection_costs_containerd_nothing() {
    let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback").local_addr().expect("bound");
    let outcome = outcome(&format!("http://{unused}/v2/")).await;
    assert!(matches!(&outcome, Outcome::Failed(Failure { stage: Stage::Connect, .. })), "{outcome:?}");
    assert!(!matches!(outcome, Outcome::Silent(_)));
}

#[tokio::test]
async fn what_is_not_http_fails_at_once() {
    let address = listener("SSH-2.0-OpenSSH_9.2\r\n").await;
    let outcome = outcome(&format!("http://{address}/v2/")).await;
    assert!(matches!(&outcome, Outcome::Failed(Failure { stage: Stage::Request, .. })), "{outcome:?}");
}
