//! A configuration file without its secrets, line by line, for people's eyes.
//!
//! Better too much than too little: a value counts as secret when its key, or a table that it stands in, is called like
//! one, also in what is commented out.

const HIDDEN: &str = "\"(redacted)\"";

/// Parts of keys and tables below which values are secret: `auth`, `auths`, `identitytoken`, `password`, `headers`, …
const SECRET: [&str; 5] = ["auth", "password", "token", "secret", "header"];

/// The same number of lines, without secret values.
#[must_use]
pub fn redact(text: &str) -> String {
    let mut section_is_secret = false;
    let mut value_is_secret = false;
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let end = line.len() - line.trim_end_matches(['\r', '\n']).len();
        let (line, newline) = line.split_at(line.len() - end);
        let said = line.trim_start_matches(|c: char| c == '#' || c.is_whitespace());
        if said.starts_with('[') && !value_is_secret_continued(said, value_is_secret) {
            section_is_secret = sounds_secret(said);
            value_is_secret = false;
            out.push_str(line);
        } else if let Some((key, value)) = line.split_once('=').filter(|(key, _)| is_key(key)) {
            value_is_secret = section_is_secret || sounds_secret(key) || sounds_secret_inside(value);
            if value_is_secret {
                out.push_str(key);
                out.push_str("= ");
                out.push_str(HIDDEN);
            } else {
                out.push_str(&without_user(line));
            }
        } else if value_is_secret && !said.is_empty() {
            // A value over several lines.
            out.push_str("  (redacted)");
        } else {
            out.push_str(&without_user(line));
        }
        out.push_str(newline);
    }
    out
}

/// A header ends a value, but a line such as `["a"],` within one does not.
fn value_is_secret_continued(said: &str, value_is_secret: bool) -> bool {
    value_is_secret && (said.trim_end().ends_with(',') || said.contains('='))
}

fn is_key(key: &str) -> bool {
    let key = key.trim_matches(|c: char| c == '#' || c.is_whitespace());
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.\"' *:/".contains(c))
}

fn sounds_secret(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    SECRET.iter().any(|word| text.contains(word))
}

/// `{ auth = { password = "…" } }`.
fn sounds_secret_inside(value: &str) -> bool {
    value.contains('{') && sounds_secret(value)
}

/// `https://user:password@host` without the user.
fn without_user(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let end = after.find(['/', '"', '\'', ' ', ',']).unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(at) => {
                out.push_str("(redacted)");
                &after[at..]
            }
            None => after,
        };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_left() {
        let text = r#"version = 2
sandbox_image = "registry.k8s.io/pause:3.8"
[plugins."io.containerd.grpc.v1.cri".registry]
  [plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]
    endpoint = ["https://robot:hunter2@mirror.example/x", "https://b"]
  [plugins."io.containerd.grpc.v1.cri".registry.configs."m".auth]
    username = "hunter2"
    password = "hunter2"
  [plugins."io.containerd.grpc.v1.cri".registry.configs."m".tls]
    ca_file = "/etc/ca.pem"
  [plugins."io.containerd.grpc.v1.cri".registry.headers]
    X-Tenant = [
      "hunter2",
      "hunter2",
    ]
# [plugins."io.containerd.grpc.v1.cri".registry.configs."n".auth]
#   auth = "hunter2"
[plugins."x"]
configs = { "m" = { auth = { password = "hunter2" } } }
identitytoken = """
hunter2
"""
key = "shown"
"#;
        let redacted = redact(text);
        assert!(!redacted.contains("hunter2"), "{redacted}");
        assert_eq!(redacted.lines().count(), text.lines().count());
        insta::assert_snapshot!(redacted);
    }

    #[test]
    fn what_is_not_secret_stays_byte_for_byte() {
        let text = "a = 1\r\n# a comment = x\n\n[t]\n  endpoint = [\"https://a/b@c\"]\n  b = 2";
        assert_eq!(redact(text), text);
    }
}
