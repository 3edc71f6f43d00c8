//! Image references, made whole as Kubernetes makes them whole.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::registry::{RegistryName, split_image};

/// `registry/repository:tag@digest`, with the parts that people leave out filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReference {
    /// `docker.io` where the text names none.
    pub registry: RegistryName,
    /// With `library/` for a single name on Docker Hub.
    pub repository: String,
    /// `latest` where the text has neither tag nor digest.
    pub tag: Option<String>,
    /// `sha256:…`
    pub digest: Option<String>,
}

/// The text is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{image}` is no image: {why}")]
pub struct ImageError {
    image: String,
    why: String,
}

impl ImageReference {
    /// What stands in the url of a manifest: the digest, else the tag.
    #[must_use]
    pub fn reference(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, repository, tag, digest } = self;
        write!(f, "{registry}/{repository}")?;
        if let Some(tag) = tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for ImageReference {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = |why: &str| ImageError { image: text.chars().take(300).collect(), why: why.to_owned() };
        if text.contains("://") {
            return Err(refused("write it without a scheme, for example docker.io/library/alpine:3.20"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|digest| {
            digest.split_once(':').is_none_or(|(algorithm, hex)| {
                algorithm.is_empty() || hex.len() < 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit())
            })
        }) {
            return Err(refused("the part after @ must be a digest, for example sha256: and 64 hex digits"));
        }
        // A colon after the last slash begins a tag; one before it begins a port.
        let name_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_start..].find(':') {
            Some(colon) => (&rest[..name_start + colon], Some(&rest[name_start + colon + 1..])),
            None => (rest, None),
        };
        let tag_is_valid = |tag: &str| {
            (1..=128).contains(&tag.len())
                && !tag.starts_with(['.', '-'])
                && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        if tag.is_some_and(|tag| !tag_is_valid(tag)) {
            return Err(refused("the tag must be letters, digits, dots, dashes and underscores"));
        }
        let (host, repository) = split_image(name);
        let (registry, repository) = (host.unwrap_or("docker.io"), repository.to_owned());
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        let repository = if registry == "docker.io" && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository
        };
        let part_is_valid = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                && part.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        };
        if !repository.split('/').all(part_is_valid) {
            return Err(refused("a repository is lower-case letters, digits, dots, dashes and underscores"));
        }
        let registry =
            registry.parse().map_err(|error: crate::registry::RegistryNameError| refused(&error.to_string()))?;
        let tag = match (tag, digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry, repository, tag, digest: digest.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_leave_out_is_filled_in() {
        for (text, whole) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:888", "docker.io/library/alpine:888"),
            ("bitnami/nginx", "docker.io/bitnami/nginx:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("host:5000/a/b:1.0", "host:5000/a/b:1.0"),
            ("[fd00::1]:5000/a", "[fd00::1]:5000/a:latest"),
            (
                "quay.io/a/b@sha256:0123456789abcdef0123456789abcdef",
                "quay.io/a/b@sha256:0123456789abcdef0123456789abcdef",
            ),
        ] {
            assert_eq!(text.parse::<ImageReference>().map(|image| image.to_string()), Ok(whole.to_owned()));
        }
    }

    #[test]
    fn refuses_what_no_runtime_pulls() {
        for text in ["", "https://a.io/b", "Alpine", "a.io/", "a:b:c", "a@sha256:xyz", "a:", "a.io//b", "host:99999/a"]
        {
            assert!(text.parse::<ImageReference>().is_err(), "{text}");
        }
    }
}
