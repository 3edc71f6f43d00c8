//! Asks a host what containerd would ask it.

use std::{path::Path, time::Duration};

use registry_mirror_core::{explain::Attempt, sensitive::Sensitive};
use registry_mirror_host::probe::{
    self, Answer, ClientIdentity, HostTrust, Method, Outcome, Question, Stage, TlsSettings,
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
pub async fn ask(attempt: &Attempt, source: &Source, trust: &HostTrust, limit: Duration) -> Probed {
    let failed = |answer: String| Probed { answer, status: None, milliseconds: 0, serves: false };
    let tls = match settings(attempt, source) {
        Ok(settings) => settings,
        Err(why) => return failed(why),
    };
    let tls = match tls.client_config(trust) {
        Ok(tls) => tls,
        Err(error) => return failed(error.to_string()),
    };
    let mut answer = match question(attempt, &attempt.url, limit) {
        Ok(question) => probe::ask(&question, &tls).await,
        Err(why) => return failed(why),
    };
    let mut remark = "";
    let spoke_no_tls = matches!(&answer.outcome, Outcome::Failed(failure) if matches!(failure.stage, Stage::Handshake));
    if attempt.https_first && spoke_no_tls {
        let plain = attempt.url.replacen("https://", "http://", 1);
        if let Ok(question) = question(attempt, &plain, limit) {
            answer = probe::ask(&question, &tls).await;
            remark = ", over plain http after HTTPS failed";
        }
    }
    let Answer { outcome, took } = answer;
    let (status, wants_token) = match &outcome {
        Outcome::Answered { status, wants_token } => (Some(status.as_u16()), *wants_token),
        Outcome::Failed(_) | Outcome::Silent(_) => (None, false),
    };
    let has_credentials = attempt.header_names.iter().any(|name| name == "Authorization");
    let meaning = match (status, wants_token, has_credentials) {
        (Some(401), true, true) => ": it wants a token of its token server for the credentials",
        (Some(401), true, false) => ": it wants a token of its token server",
        (Some(401), false, true) => ": it refuses the credentials",
        (Some(401), false, false) => ": it asks for credentials",
        (Some(404), ..) => ": it does not have the image",
        _ => "",
    };
    Probed {
        answer: format!("{}{meaning}{remark}", outcome.sentence(limit)),
        status,
        milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        serves: status.is_some_and(|status| (200..300).contains(&status)),
    }
}

fn question(attempt: &Attempt, url: &str, limit: Duration) -> Result<Question, String> {
    let url = url.parse().map_err(|error| format!("`{url}` is no url: {error}"))?;
    let mut headers = vec![("Accept".to_owned(), Sensitive::new(ACCEPT.to_owned()))];
    for header in &attempt.headers {
        headers.extend(header.values.iter().map(|value| (header.name.clone(), value.clone())));
    }
    Ok(Question { url, method: Method::HEAD, headers, limit })
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
