//! PEM text as Go's `encoding/pem` reads it, and what of it must not reach a node.
//!
//! A `ca` or `client` file that containerd cannot read fails the pull for all hosts of the registry, the upstream
//! included. Go passes over a block that it cannot decode; here it is refused, because somebody meant it.

use std::fmt;

use base64::{
    Engine as _, alphabet,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};

use super::certificate::{self, Unreadable};

/// As Go's `base64.StdEncoding`.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// Certificates as containerd is given them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificates {
    /// Ends with a line break.
    pub(super) text: String,
    /// The DER of the first, which is the one that belongs to a key.
    pub(super) first: Vec<u8>,
    place: Place,
}

/// A private key as containerd is given it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// Ends with a line break.
    pub(super) text: String,
    pub(super) der: Vec<u8>,
}

/// Which block of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// From 1.
    number: usize,
    /// From 1.
    line: usize,
}

/// What is wrong with a PEM text. It never quotes the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Malformed {
    NotClosed { place: Place, label: String },
    NotBase64(Place),
    Damaged(Place),
    NoCertificate,
    KeyAmongCertificates,
    NoPlaceAmongCertificates { label: String },
    Headers(Place),
    Unreadable { place: Place, why: Unreadable },
    NoKey,
    Encrypted,
    NoKeyBut { label: String },
    SeveralBlocks,
}

impl Malformed {
    /// As it goes on after "which": in which key of an object, where it stands in one.
    pub(super) fn sentence(&self, key: Option<&str>) -> String {
        let place = key.map(|key| format!(" in its key `{key}`")).unwrap_or_default();
        let (verb, rest) = self.parts();
        format!("{verb}{place} {rest}")
    }

    fn parts(&self) -> (&'static str, String) {
        match self {
            Self::NotClosed { place, label } => {
                ("has", format!("a PEM {place} without its line -----END {label}-----"))
            }
            Self::NotBase64(place) => ("has", format!("a PEM {place} that is no base64")),
            Self::Damaged(place) => ("has", format!("a PEM {place} that is cut short or damaged")),
            Self::NoCertificate => {
                ("holds", "no certificate: write PEM text that begins with -----BEGIN CERTIFICATE-----".to_owned())
            }
            Self::KeyAmongCertificates => {
                ("holds", "a private key among the certificates: leave the key out".to_owned())
            }
            Self::NoPlaceAmongCertificates { label } => {
                ("holds", format!("a PEM block `{label}`: only CERTIFICATE blocks have a place here"))
            }
            Self::Headers(place) => (
                "has",
                format!("a PEM {place} with header lines, which containerd passes over: take them out of the block"),
            ),
            Self::Unreadable { place, why } => ("has", format!("a PEM {place} that {why}")),
            Self::NoKey => {
                ("holds", "no private key: write PEM text that begins with -----BEGIN PRIVATE KEY-----".to_owned())
            }
            Self::Encrypted => (
                "holds",
                "an encrypted private key, which containerd cannot read: write it without a passphrase".to_owned(),
            ),
            Self::NoKeyBut { label } => ("holds", format!("a PEM block `{label}` where a private key is needed")),
            Self::SeveralBlocks => ("holds", "more than one PEM block where one private key is needed".to_owned()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, line } = self;
        write!(f, "block {number} (line {line})")
    }
}

/// Certificates of authorities. One that Go cannot read is passed over by it while another can be read: some bundles of
/// distributions hold such.
pub(super) fn authorities(text: &str) -> Result<String, Malformed> {
    let blocks = certificate_blocks(text)?;
    let unreadable = |block: &Block| match certificate::read(&block.der) {
        Ok(_) => None,
        Err(why) => Some(Malformed::Unreadable { place: block.place, why }),
    };
    let faults: Vec<Malformed> = blocks.iter().filter_map(unreadable).collect();
    let none_is_read = faults.len() == blocks.len();
    match faults.into_iter().next() {
        Some(fault) if none_is_read => Err(fault),
        Some(_) | None => Ok(with_line_break(text)),
    }
}

/// The chain of a client: the first certificate is its own.
pub(super) fn chain(text: &str) -> Result<Certificates, Malformed> {
    let first = certificate_blocks(text)?.into_iter().next().ok_or(Malformed::NoCertificate)?;
    Ok(Certificates { text: with_line_break(text), first: first.der, place: first.place })
}

impl Certificates {
    /// What is wrong with the first certificate.
    pub(super) const fn unreadable(&self, why: Unreadable) -> Malformed {
        Malformed::Unreadable { place: self.place, why }
    }
}

/// CERTIFICATE blocks alone, at least one.
fn certificate_blocks(text: &str) -> Result<Vec<Block>, Malformed> {
    let blocks = blocks(text)?;
    for Block { label, place, has_headers, .. } in &blocks {
        if label.ends_with("PRIVATE KEY") {
            return Err(Malformed::KeyAmongCertificates);
        }
        if label != "CERTIFICATE" {
            return Err(Malformed::NoPlaceAmongCertificates { label: label.clone() });
        }
        // `AppendCertsFromPEM` of crypto/x509 skips such a block
        if *has_headers {
            return Err(Malformed::Headers(*place));
        }
    }
    if blocks.is_empty() { Err(Malformed::NoCertificate) } else { Ok(blocks) }
}

/// One private key that is not encrypted.
pub(super) fn private_key(text: &str) -> Result<Key, Malformed> {
    // OpenSSL writes the curve before an EC key.
    let mut keys = blocks(text)?.into_iter().filter(|block| block.label != "EC PARAMETERS");
    let key = keys.next().ok_or(Malformed::NoKey)?;
    if keys.next().is_some() {
        return Err(Malformed::SeveralBlocks);
    }
    if key.label == "ENCRYPTED PRIVATE KEY" || key.is_encrypted {
        return Err(Malformed::Encrypted);
    }
    if !matches!(key.label.as_str(), "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY") {
        return Err(Malformed::NoKeyBut { label: key.label });
    }
    Ok(Key { text: with_line_break(text), der: key.der })
}

fn with_line_break(text: &str) -> String {
    format!("{}\n", text.trim())
}

struct Block {
    label: String,
    der: Vec<u8>,
    place: Place,
    has_headers: bool,
    /// By the headers of RFC 1421, as OpenSSL writes them.
    is_encrypted: bool,
}

/// `Decode` of Go's encoding/pem: a block begins and ends at the start of a line, and what stands between blocks is
/// comment.
fn blocks(text: &str) -> Result<Vec<Block>, Malformed> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let label = line.trim_end().strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
        let Some(label) = label.map(str::to_owned) else { continue };
        let place = Place { number: blocks.len() + 1, line: number + 1 };
        let mut headers = Vec::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| line.contains(':')) {
            headers.push(line);
        }
        let end = format!("-----END {label}-----");
        let mut body = String::new();
        loop {
            match lines.next() {
                None => return Err(Malformed::NotClosed { place, label }),
                Some((_, line)) if line.trim_end() == end => break,
                Some((_, line)) => body.extend(line.chars().filter(|c| !matches!(c, ' ' | '\t' | '\r'))),
            }
        }
        let is_encrypted = headers.iter().any(|line| line.contains("ENCRYPTED"));
        let der = BASE64.decode(&body).map_err(|_| Malformed::NotBase64(place))?;
        if !is_encrypted && !certificate::is_one_element(&der) {
            return Err(Malformed::Damaged(place));
        }
        blocks.push(Block { label, der, place, has_headers: !headers.is_empty(), is_encrypted });
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests;
