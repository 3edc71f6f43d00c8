//! hosts.toml as text.
//!
//! Written by hand, because containerd's parsers see less than TOML has: 2.x lists only hosts that have a table header
//! of their own, a `header` table must follow its host directly, and only TOML 1.0 forms are read by every release.

use std::fmt::{self, Write as _};

use super::{
    fields::KEYS,
    model::{Fields, Host, HostsToml},
    omission::Omitted,
    restrict::restrict,
    text::{array, key, string},
};
use crate::{bundle::Header, containerd::Version};

/// A file, and what the given containerd cannot express of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// What was left out.
    pub omitted: Vec<Omitted>,
}

impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, omitted } = self;
        // the text holds credentials
        f.debug_struct("Rendered")
            .field("text", &format_args!("[{} bytes]", text.len()))
            .field("omitted", omitted)
            .finish()
    }
}

/// Writes the file for one containerd.
#[must_use]
pub fn render(file: &HostsToml, version: Version) -> Rendered {
    let (HostsToml { server, root, hosts }, omitted) = restrict(file, version);
    let mut text = String::new();
    // Upstream containerd takes an empty one for none, K3s's fork asks no upstream without the key.
    line(&mut text, "server", &string(server.as_deref().unwrap_or_default()));
    for (key, value) in keys(&root) {
        line(&mut text, key, &value);
    }
    // go-toml 1 ends a table header at the first `]`, quoted or not, which spoils the whole file, and forgets the line
    // of an inline table, which shuffles the hosts. What is left is dotted keys, for all hosts of such a file.
    let dotted = !version.reads_ipv6_host_headers() && hosts.iter().any(|host| host.url.contains(['[', ']']));
    if dotted {
        for Host { url, fields } in &hosts {
            let name = format!("host.{}", string(url));
            let mut lines = keys(fields);
            // containerd may be upgraded below the file: 2.0 to 2.3 panic where `skip_verify`, the one pointer among
            // the fields, is a later dotted key of its host (go-toml 2.2.3 to 2.3.0).
            lines.sort_by_key(|(key, _)| *key != "skip_verify");
            if lines.is_empty() && fields.headers.is_empty() {
                // An empty list is all of them, and the host must be named.
                lines.push(("capabilities", "[]".to_owned()));
            }
            for (key, value) in lines {
                line(&mut text, &format!("{name}.{key}"), &value);
            }
            for (header, values) in header_lines(&fields.headers) {
                line(&mut text, &format!("{name}.header.{header}"), &values);
            }
        }
    }
    if !root.headers.is_empty() {
        table(&mut text, "header");
        for (name, values) in header_lines(&root.headers) {
            line(&mut text, &name, &values);
        }
    }
    if !dotted {
        for Host { url, fields } in &hosts {
            let name = format!("host.{}", string(url));
            table(&mut text, &name);
            for (key, value) in keys(fields) {
                line(&mut text, key, &value);
            }
            if !fields.headers.is_empty() {
                table(&mut text, &format!("{name}.header"));
                for (name, values) in header_lines(&fields.headers) {
                    line(&mut text, &name, &values);
                }
            }
        }
    }
    Rendered { text, omitted }
}

fn line(text: &mut String, key: &str, value: &str) {
    // writing into a String cannot fail
    let _ = writeln!(text, "{key} = {value}");
}

fn table(text: &mut String, name: &str) {
    let gap = if text.is_empty() { "" } else { "\n" };
    let _ = writeln!(text, "{gap}[{name}]");
}

fn keys(fields: &Fields) -> Vec<(&'static str, String)> {
    KEYS.iter().filter_map(|key| Some((key.name, (key.write)(fields)?))).collect()
}

fn header_lines(headers: &[Header]) -> impl Iterator<Item = (String, String)> {
    headers.iter().map(|Header { name, values }| (key(name), array(values.iter().map(|value| string(value.reveal())))))
}
