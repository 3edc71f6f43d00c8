//! Asks a host what containerd would ask it, up to the manifest.

use std::{path::Path, time::Duration};

use registry_mirror_core::{
    bundle::Header,
    explain::{Attempt, ImageReference},
    sensitive::Sensitive,
};
use registry_mirror_host::probe::{
    ClientIdentity, HostTrust, Method, Outcome, Question, Resolved, Stage, TlsSettings, Token, TokenError,
    TokenRequest, resolve,
};
use serde::Serialize;

use super::source::Source;

/// What containerd accepts when it resolves a tag (`dockerResolver`).
const ACCEPT: &str = "application/vnd.docker.distribution.manifest.v2+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*";

/// What a host answered.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Probed {
    /// For people: `answers 200 OK`, or why it does not.
    pub answer: String,
    /// The HTTP status, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// From the first packet to the answer.
    pub milliseconds: u64,
    /// It has the image.
    pub serves: bool,
}

/// Asks one host.
pub async fn ask(
    attempt: &Attempt,
    image: &ImageReference,
    source: &Source,
    trust: &HostTrust,
    limit: Duration,
) -> Probed {
    let failed = |answer: String| Probed { answer, status: None, milliseconds: 0, serves: false };
    let tls = match settings(attempt, source) {
        Ok(settings) => settings,
        Err(why) => return failed(why),
    };
    let tls = match tls.client_config(trust) {
        Ok(tls) => tls,
        Err(error) => return failed(error.to_string()),
    };
    let forwards = source.version.forwards_authorization_to_token_server();
    let request = TokenRequest {
        headers: if forwards { headers(attempt).collect() } else { Vec::new() },
        repository: image.repository.clone(),
    };
    let mut resolved = match question(attempt, &attempt.url, limit) {
        Ok(question) => resolve(&question, &request, &tls).await,
        Err(why) => return failed(why),
    };
    let mut remark = "";
    let spoke_no_tls =
        matches!(&resolved.outcome, Outcome::Failed(failure) if matches!(failure.stage, Stage::Handshake));
    if attempt.https_first && spoke_no_tls {
        let plain = attempt.url.replacen("https://", "http://", 1);
        if let Ok(question) = question(attempt, &plain, limit) {
            resolved = resolve(&question, &request, &tls).await;
            remark = ", over plain http after HTTPS failed";
        }
    }
    let Resolved { outcome, took, token, redirected_to } = resolved;
    let status = match &outcome {
        Outcome::Answered(reply) => Some(reply.status.as_u16()),
        Outcome::Failed(_) | Outcome::Silent(_) => None,
    };
    let by_way = redirected_to.map(|host| format!(", redirected to {host}")).unwrap_or_default();
    let has_credentials = attempt.header_names.iter().any(|name| name == "Authorization");
    let meaning = meaning(status, &token, has_credentials, forwards);
    Probed {
        answer: format!("{}{by_way}{meaning}{remark}", outcome.sentence(limit)),
        status,
        milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        serves: status.is_some_and(|status| (200..300).contains(&status)),
    }
}

/// What an answer means to the person who asks.
fn meaning(status: Option<u16>, token: &Token, has_credentials: bool, forwards: bool) -> String {
    match (status, token) {
        (_, Token::NotGiven(error @ TokenError::Refused { .. })) if has_credentials && !forwards => {
            format!(": {error}, for this containerd does not forward the credentials to it")
        }
        (_, Token::NotGiven(error)) => format!(": {error}"),
        (Some(200..300), Token::Given { server }) => format!(", with a token of {server}"),
        (Some(401 | 403), Token::Given { server }) if has_credentials && !forwards => format!(
            ", also with a token of {server}: this containerd does not forward the credentials to a token server"
        ),
        // A registry does not tell those who may not pull an image whether it exists.
        (Some(401 | 403), Token::Given { server }) if has_credentials => {
            format!(", also with a token of {server}: the credentials may not pull the image, or it does not exist")
        }
        (Some(401 | 403), Token::Given { server }) => {
            format!(", also with a token of {server}: the image is private, or does not exist")
        }
        (Some(401), Token::NotWanted) if has_credentials => ": it refuses the credentials".to_owned(),
        (Some(401), Token::NotWanted) => ": it asks for credentials".to_owned(),
        (Some(404), _) => ": it does not have the image".to_owned(),
        _ => String::new(),
    }
}

fn headers(attempt: &Attempt) -> impl Iterator<Item = (String, Sensitive)> {
    let pairs = |header: &Header| -> Vec<_> {
        header.values.iter().map(|value| (header.name.clone(), value.clone())).collect()
    };
    attempt.headers.iter().flat_map(pairs)
}

fn question(attempt: &Attempt, url: &str, limit: Duration) -> Result<Question, String> {
    let url = url.parse().map_err(|error| format!("`{url}` is no url: {error}"))?;
    let mut sent = vec![("Accept".to_owned(), Sensitive::new(ACCEPT.to_owned()))];
    sent.extend(headers(attempt));
    Ok(Question { url, method: Method::HEAD, headers: sent, limit })
}

fn settings(attempt: &Attempt, source: &Source) -> Result<TlsSettings, String> {
    let text = |path: &Path| -> Result<String, String> {
        let bytes = source.read(path)?;
        String::from_utf8(bytes).map_err(|_| format!("{} is no PEM text", path.display()))
    };
    let mut ca = String::new();
    for path in &attempt.ca {
        ca.push_str(&text(path)?);
        ca.push('\n');
    }
    // containerd shows the first certificate that the server accepts; more than one is rare.
    let client = match attempt.client.first() {
        Some((certificate, key)) => Some(ClientIdentity {
            certificate: text(certificate)?,
            key: Sensitive::new(text(key.as_deref().unwrap_or(certificate))?),
        }),
        None => None,
    };
    Ok(TlsSettings { skip_verify: attempt.skip_verify, ca: (!attempt.ca.is_empty()).then_some(ca), client })
}

#[cfg(test)]
mod tests {
    use registry_mirror_host::probe::StatusCode;

    use super::*;

    #[test]
    fn an_answer_says_what_it_means() {
        let server = "https://auth.example/token".to_owned();
        let refused = Token::NotGiven(TokenError::Refused { server, status: StatusCode::UNAUTHORIZED });
        let given = Token::Given { server: "https://auth.example/token".to_owned() };
        let lines: Vec<String> = [
            (Some(200), &Token::NotWanted, false, true),
            (Some(200), &given, true, true),
            (Some(401), &given, true, false),
            (Some(401), &given, true, true),
            (Some(401), &given, false, true),
            (Some(401), &refused, true, false),
            (Some(401), &refused, true, true),
            (Some(401), &Token::NotWanted, true, true),
            (Some(401), &Token::NotWanted, false, true),
            (Some(404), &given, true, true),
            (None, &Token::NotWanted, true, true),
        ]
        .into_iter()
        .map(|(status, token, has_credentials, forwards)| meaning(status, token, has_credentials, forwards))
        .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
