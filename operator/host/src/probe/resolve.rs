//! Asks for a manifest as containerd's resolver does: through redirects, and with a token where the registry wants one.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use hyper::{Method, StatusCode};
use registry_mirror_core::sensitive::Sensitive;
use serde::Deserialize;
use thiserror::Error as ThisError;
use url::Url;

use super::{Answer, Challenge, Outcome, Question, Reply, TlsConfig, ask, attempt};

/// As many as Go's http client follows.
const MAX_REDIRECTS: usize = 10;
/// A token server's answer is a few kilobytes.
const MAX_ANSWER: usize = 1 << 20;

/// What a token is asked for with.
#[derive(Debug, Clone, Default)]
pub struct TokenRequest {
    /// Sent to the token server: the host's headers from containerd 2.1 on, none before.
    pub headers: Vec<(String, Sensitive)>,
    /// The image's repository, for which containerd always wants the right to pull.
    pub repository: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The last answer.
    pub outcome: Outcome,
    /// All of it.
    pub took: Duration,
    /// Whether a token was asked for.
    pub token: Token,
    /// The host of the last answer, where a redirect led to another one.
    pub redirected_to: Option<String>,
}

/// Whether a token was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// The registry did not want one.
    NotWanted,
    /// The token server gave one, and the registry was asked again with it.
    Given {
        /// The token server.
        server: String,
    },
    /// It gave none.
    NotGiven(TokenError),
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum TokenError {
    /// The challenge cannot be followed.
    #[error("it wants a token and does not say from which server")]
    NoServer,
    /// The server said no.
    #[error("its token server {server} answers {status}")]
    Refused {
        /// The token server.
        server: String,
        /// What it said.
        status: StatusCode,
    },
    /// The server cannot be reached.
    #[error("its token server {server} does not answer: {why}")]
    Unreachable {
        /// The token server.
        server: String,
        /// Why.
        why: String,
    },
    /// There is no token in what the server said.
    #[error("its token server {server} sends no token")]
    Empty {
        /// The token server.
        server: String,
    },
}

/// Asks until there is an answer that counts. Each request has the question's limit.
pub async fn resolve(question: &Question, request: &TokenRequest, tls: &Arc<TlsConfig>) -> Resolved {
    let (first, last) = follow(question.clone(), tls).await;
    let mut took = first.took;
    let wanted = match &first.outcome {
        Outcome::Answered(Reply { status: StatusCode::UNAUTHORIZED, challenge: Some(challenge), .. }) => {
            challenge.clone()
        }
        Outcome::Answered(_) | Outcome::Failed(_) | Outcome::Silent(_) => {
            let redirected_to = other_host(question, &last);
            return Resolved { outcome: first.outcome, took, token: Token::NotWanted, redirected_to };
        }
    };
    let (given, spent) = fetch(&wanted, request, question.limit, tls).await;
    took += spent;
    let (server, token) = match given {
        Ok(given) => given,
        Err(error) => {
            let redirected_to = other_host(question, &last);
            return Resolved { outcome: first.outcome, took, token: Token::NotGiven(error), redirected_to };
        }
    };
    let mut asked = last;
    asked.headers.retain(|(name, _)| !is_authorization(name));
    asked.headers.push(("Authorization".to_owned(), Sensitive::new(format!("Bearer {}", token.reveal()))));
    let (second, last) = follow(asked, tls).await;
    Resolved {
        outcome: second.outcome,
        took: took + second.took,
        token: Token::Given { server },
        redirected_to: other_host(question, &last),
    }
}

/// Asks, and asks wherever it is sent; returns the last question too.
async fn follow(mut question: Question, tls: &Arc<TlsConfig>) -> (Answer, Question) {
    let mut took = Duration::ZERO;
    for _ in 0..MAX_REDIRECTS {
        let answer = ask(&question, tls).await;
        took += answer.took;
        let Some(next) = redirect(&answer.outcome, &question.url) else {
            return (Answer { took, ..answer }, question);
        };
        if next.host_str() != question.url.host_str() {
            // Go's http client does the same.
            question.headers.retain(|(name, _)| !is_authorization(name));
        }
        question.url = next;
    }
    let answer = ask(&question, tls).await;
    (Answer { took: took + answer.took, ..answer }, question)
}

fn redirect(outcome: &Outcome, from: &Url) -> Option<Url> {
    let Outcome::Answered(Reply { status, location: Some(location), challenge: _ }) = outcome else { return None };
    let next = status.is_redirection().then(|| from.join(location).ok())??;
    matches!(next.scheme(), "http" | "https").then_some(next)
}

fn is_authorization(header: &str) -> bool {
    header.eq_ignore_ascii_case("authorization")
}

fn other_host(asked: &Question, last: &Question) -> Option<String> {
    let host = |question: &Question| question.url.host_str().map(str::to_owned);
    host(last).filter(|last| Some(last) != host(asked).as_ref())
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    /// The same by another name (OAuth 2); containerd prefers it.
    #[serde(default)]
    access_token: String,
}

/// Asks the token server (`FetchToken`, with GET, as containerd does without a pod's pull secret).
async fn fetch(
    challenge: &Challenge,
    request: &TokenRequest,
    limit: Duration,
    tls: &Arc<TlsConfig>,
) -> (Result<(String, Sensitive), TokenError>, Duration) {
    let Challenge { realm, service, scope } = challenge;
    let started = tokio::time::Instant::now();
    let Some(mut url) = realm.as_deref().and_then(|realm| Url::parse(realm).ok()) else {
        return (Err(TokenError::NoServer), Duration::ZERO);
    };
    url.set_fragment(None);
    let server = {
        let mut shown = url.clone();
        shown.set_query(None);
        shown.to_string()
    };
    let own = format!("repository:{}:pull", request.repository);
    let scopes: BTreeSet<&str> =
        scope.iter().flat_map(|scope| scope.split_whitespace()).chain([own.as_str()]).collect();
    url.query_pairs_mut()
        .extend_pairs(service.iter().map(|service| ("service", service.as_str())))
        .extend_pairs(scopes.into_iter().map(|scope| ("scope", scope)));
    let question = Question { url, method: Method::GET, headers: request.headers.clone(), limit };
    let got = match attempt(&question, tls, MAX_ANSWER).await {
        Err(end) => Err(TokenError::Unreachable { server, why: Outcome::from(end).sentence(limit) }),
        Ok((Reply { status, .. }, _)) if !status.is_success() => Err(TokenError::Refused { server, status }),
        Ok((_, body)) => match serde_json::from_slice::<TokenAnswer>(&body) {
            Ok(TokenAnswer { access_token: found, .. }) if !found.is_empty() => Ok((server, Sensitive::new(found))),
            Ok(TokenAnswer { token: found, .. }) if !found.is_empty() => Ok((server, Sensitive::new(found))),
            Ok(_) | Err(_) => Err(TokenError::Empty { server }),
        },
    };
    (got, started.elapsed())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::probe::{HostTrust, TlsSettings};

    /// A server that answers each request by its head.
    async fn server(answer: impl Fn(SocketAddr, &str) -> String + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let read = stream.read(&mut request).await.unwrap_or(0);
                let answer = answer(address, &String::from_utf8_lossy(&request[..read]));
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    fn reply(status: &str, header: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\n{header}content-length: {}\r\n\r\n{body}", body.len())
    }

    async fn resolved(address: SocketAddr, request: &TokenRequest) -> Resolved {
        let question = Question {
            url: format!("http://{address}/v2/a/b/manifests/1?ns=docker.io").parse().expect("a url"),
            method: Method::HEAD,
            headers: vec![("Authorization".to_owned(), Sensitive::new("Basic eA==".to_owned()))],
            limit: Duration::from_secs(2),
        };
        let tls = TlsSettings::default().client_config(&HostTrust::nobody()).expect("plain settings");
        resolve(&question, request, &tls).await
    }

    fn registry_with_tokens(address: SocketAddr, head: &str) -> String {
        let token = head.starts_with("GET /token?a=1&service=hub&scope=repository%3Aa%2Fb%3Apull HTTP");
        match head {
            _ if head.contains("authorization: Bearer t0ken\r\n") => reply("200 OK", "", ""),
            _ if token && head.contains("authorization: Basic eA==") => reply("200 OK", "", r#"{"token": "t0ken"}"#),
            _ if token => reply("200 OK", "", r#"{"token": "of-nobody"}"#),
            _ => reply(
                "401 Unauthorized",
                &format!(
                    "www-authenticate: Bearer realm=\"http://{address}/token?a=1\",service=\"hub\",\
                     scope=\"repository:a/b:pull\"\r\n"
                ),
                "",
            ),
        }
    }

    fn status(resolved: &Resolved) -> Option<u16> {
        match &resolved.outcome {
            Outcome::Answered(reply) => Some(reply.status.as_u16()),
            Outcome::Failed(_) | Outcome::Silent(_) => None,
        }
    }

    #[tokio::test]
    async fn a_token_is_fetched_with_the_credentials_that_containerd_forwards() {
        let address = server(registry_with_tokens).await;
        let given = Token::Given { server: format!("http://{address}/token") };
        let headers = vec![("Authorization".to_owned(), Sensitive::new("Basic eA==".to_owned()))];
        let mut request = TokenRequest { headers, repository: "a/b".to_owned() };
        let with = resolved(address, &request).await;
        assert_eq!((status(&with), &with.token), (Some(200), &given));
        request.headers.clear();
        let without = resolved(address, &request).await;
        assert_eq!((status(&without), &without.token), (Some(401), &given));
    }

    #[tokio::test]
    async fn a_token_server_that_refuses_is_named() {
        let address = server(|address, head| match head.starts_with("GET /token") {
            true => reply("403 Forbidden", "", ""),
            false => registry_with_tokens(address, head),
        })
        .await;
        let found = resolved(address, &TokenRequest::default()).await;
        let Token::NotGiven(error) = found.token else { panic!("{found:?}") };
        assert_eq!(error.to_string(), format!("its token server http://{address}/token answers 403 Forbidden"));
    }

    #[tokio::test]
    async fn a_redirect_is_followed_without_the_credentials() {
        let other = server(|_, head| match head.contains("authorization") {
            true => reply("400 Bad Request", "", ""),
            false => reply("200 OK", "", ""),
        })
        .await;
        let location = format!("location: http://localhost:{}/there\r\n", other.port());
        let first = server(move |_, _| reply("307 Temporary Redirect", &location, "")).await;
        let found = resolved(first, &TokenRequest::default()).await;
        assert_eq!((status(&found), found.redirected_to.as_deref()), (Some(200), Some("localhost")));
    }

    #[tokio::test]
    async fn redirects_in_a_circle_end() {
        let address = server(|_, _| reply("302 Found", "location: /again\r\n", "")).await;
        assert_eq!(status(&resolved(address, &TokenRequest::default()).await), Some(302));
    }
}
