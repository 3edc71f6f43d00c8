//! Values as TOML that every release reads alike.

use std::fmt::Write as _;

use super::model::ClientPair;

/// go-toml 1 refuses arrays of mixed types, so a file that holds both parts stands in its pair twice.
pub(super) fn client_value(client: &[ClientPair]) -> String {
    if client.iter().all(|pair| pair.key.is_none()) {
        return array(client.iter().map(|pair| string(&pair.certificate)));
    }
    array(client.iter().map(|ClientPair { certificate, key }| {
        array([string(certificate), string(key.as_deref().unwrap_or(certificate))].into_iter())
    }))
}

pub(super) fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

pub(super) fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if is_bare { name.to_owned() } else { string(name) }
}

/// A basic string with the escapes of TOML 1.0 that go-toml 1 knows too.
pub(super) fn string(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(text, "\\u{:04X}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
    text
}
