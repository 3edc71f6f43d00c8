//! What a registry with a token server answers to a client that has no token.

use hyper::{HeaderMap, header};

/// A challenge of the scheme Bearer (`WWW-Authenticate`, RFC 6750, with the parameters of the distribution project's
/// token protocol).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Challenge {
    /// The token server's url; containerd gives up where it is missing.
    pub realm: Option<String>,
    /// For whom the token is.
    pub service: Option<String>,
    /// What the token is for, a few of them divided by blanks.
    pub scope: Option<String>,
}

impl Challenge {
    /// The first one in these headers. What cannot be read is passed over, as containerd does (`ParseAuthHeader`).
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        values.filter_map(|value| http_auth::parse_challenges(value).ok()).flatten().find_map(|challenge| {
            let parameter = |wanted: &str| {
                let found = challenge.params.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
                found.map(|(_, value)| value.to_unescaped()).filter(|value| !value.is_empty())
            };
            challenge.scheme.eq_ignore_ascii_case("bearer").then(|| Self {
                realm: parameter("realm"),
                service: parameter("service"),
                scope: parameter("scope"),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::WWW_AUTHENTICATE, header::HeaderValue::from_static(value));
        }
        Challenge::of(&headers)
    }

    #[test]
    fn the_first_bearer_challenge_counts() {
        let docker =
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#;
        let read = of(&[r#"Basic realm="x""#, docker]).expect("a challenge");
        assert_eq!(read.realm.as_deref(), Some("https://auth.docker.io/token"));
        assert_eq!(read.service.as_deref(), Some("registry.docker.io"));
        assert_eq!(read.scope.as_deref(), Some("repository:a/b:pull"));
        assert_eq!(of(&[r#"Basic realm="x""#]), None);
        assert_eq!(of(&["=", "bearer x=\"1\""]), Some(Challenge::default()));
    }
}
