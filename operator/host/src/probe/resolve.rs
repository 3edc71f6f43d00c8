//! Asks for a manifest as containerd's resolver does: through redirects, and with a token where the registry wants one.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use hyper::{Method, StatusCode};
use registry_mirror_core::sensitive::Sensitive;
use serde::Deserialize;
use thiserror::Error as ThisError;
use tokio::time::Instant;
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
    let started = Instant::now();
    let (mut outcome, mut last) = follow(question.clone(), tls).await;
    let mut token = Token::NotWanted;
    if let Outcome::Answered(Reply { status: StatusCode::UNAUTHORIZED, challenge: Some(challenge), .. }) = &outcome {
        token = match fetch(challenge, request, question.limit, tls).await {
            Err(error) => Token::NotGiven(error),
            Ok((server, given)) => {
                last.headers.retain(|(name, _)| !is_authorization(name));
                last.headers.push(("Authorization".to_owned(), Sensitive::new(format!("Bearer {}", given.reveal()))));
                (outcome, last) = follow(last, tls).await;
                Token::Given { server }
            }
        };
    }
    let redirected_to = last.url.host_str().filter(|last| Some(*last) != question.url.host_str()).map(str::to_owned);
    Resolved { outcome, took: started.elapsed(), token, redirected_to }
}

/// Asks, and asks wherever it is sent; returns the last question too.
async fn follow(mut question: Question, tls: &Arc<TlsConfig>) -> (Outcome, Question) {
    let first = question.url.host_str().unwrap_or_default().to_owned();
    let mut left = MAX_REDIRECTS;
    loop {
        let Answer { outcome, took: _ } = ask(&question, tls).await;
        match redirect(&outcome, &question.url) {
            Some(next) if left > 0 => question.url = next,
            _ => return (outcome, question),
        }
        left -= 1;
        if !is_below(question.url.host_str().unwrap_or_default(), &first) {
            question.headers.retain(|(name, _)| !is_authorization(name));
        }
    }
}

/// Whether Go's http client hands `Authorization` on: to the host that it is for, and to those below it.
fn is_below(host: &str, first: &str) -> bool {
    host == first || host.strip_suffix(first).is_some_and(|rest| rest.ends_with('.'))
}

fn redirect(outcome: &Outcome, from: &Url) -> Option<Url> {
    let Outcome::Answered(Reply { status, location: Some(location), challenge: _ }) = outcome else { return None };
    let next = status.is_redirection().then(|| from.join(location).ok())??;
    speaks_http(&next).then_some(next)
}

fn speaks_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

fn is_authorization(header: &str) -> bool {
    header.eq_ignore_ascii_case("authorization")
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
) -> Result<(String, Sensitive), TokenError> {
    let Challenge { realm, service, scope } = challenge;
    let realm = realm.as_deref().and_then(|realm| Url::parse(realm).ok()).filter(speaks_http);
    let mut url = realm.ok_or(TokenError::NoServer)?;
    // Without what may be secret in a url.
    let server = format!("{}{}", url.origin().ascii_serialization(), url.path());
    let own = format!("repository:{}:pull", request.repository);
    let scopes: BTreeSet<&str> =
        scope.iter().flat_map(|scope| scope.split_whitespace()).chain([own.as_str()]).collect();
    url.query_pairs_mut()
        .extend_pairs(service.iter().map(|service| ("service", service.as_str())))
        .extend_pairs(scopes.into_iter().map(|scope| ("scope", scope)));
    let question = Question { url, method: Method::GET, headers: request.headers.clone(), limit };
    match attempt(&question, tls, MAX_ANSWER).await {
        Err(end) => Err(TokenError::Unreachable { server, why: Outcome::from(end).sentence(limit) }),
        Ok((Reply { status, .. }, _)) if !status.is_success() => Err(TokenError::Refused { server, status }),
        Ok((_, body)) => match serde_json::from_slice::<TokenAnswer>(&body) {
            Ok(TokenAnswer { access_token: found, .. }) if !found.is_empty() => Ok((server, Sensitive::new(found))),
            Ok(TokenAnswer { token: found, .. }) if !found.is_empty() => Ok((server, Sensitive::new(found))),
            Ok(_) | Err(_) => Err(TokenError::Empty { server }),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::probe::{HostTrust, TlsSettings, tests::server};

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

    #[test]
    fn credentials_go_to_the_host_and_those_below_it() {
        assert!(is_below("hub.example", "hub.example") && is_below("cdn.hub.example", "hub.example"));
        assert!(!is_below("nothub.example", "hub.example") && !is_below("example", "hub.example"));
    }

    #[tokio::test]
    async fn a_challenge_without_a_token_server_is_told() {
        let header = "www-authenticate: Bearer realm=\"file:///etc/passwd\"\r\n";
        let address = server(move |_, _| reply("401 Unauthorized", header, "")).await;
        let found = resolved(address, &TokenRequest::default()).await;
        assert_eq!(found.token, Token::NotGiven(TokenError::NoServer));
    }
}
