//! A secret that seeds plant, and where it must never be seen.

/// The planted password. The dictionaries hold it, so that the fuzzer can move it.
pub const SECRET: &str = "S3CR3T";

/// Keys whose values are secrets.
const KEYS: &[&str] = &["password", "auth", "identitytoken", "identity_token", "Authorization"];

/// Watches over the texts that people see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    planted: bool,
}

impl Watch {
    /// `separator` is what stands between key and value. Where the secret stands anywhere but in the string of a secret
    /// key (in a name, say, or in a text of several lines that only looks like such a key), it is none.
    #[must_use]
    pub fn over<'t>(texts: impl IntoIterator<Item = &'t str>, separator: char) -> Self {
        let mut planted = false;
        for text in texts {
            if !text.contains(SECRET) {
                continue;
            }
            if text.contains("'''") || text.contains("\"\"\"") {
                return Self { planted: false };
            }
            for line in text.split(['\n', '\r']).filter(|line| line.contains(SECRET)) {
                if !is_secret_line(line, separator) {
                    return Self { planted: false };
                }
                planted = true;
            }
        }
        Self { planted }
    }

    /// Whether there is a secret to look for: the texts need not be made otherwise.
    #[must_use]
    pub const fn is_planted(self) -> bool {
        self.planted
    }

    /// # Panics
    /// The text shows the secret.
    pub fn check(self, what: &str, shown: &str) {
        assert!(!self.planted || !shown.contains(SECRET), "{what} shows a secret: {shown}");
    }
}

fn is_secret_line(line: &str, separator: char) -> bool {
    let Some((key, value)) = line.split_once(separator) else {
        return false;
    };
    let value = value.trim();
    let inner = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    let plain = inner.unwrap_or(if separator == ':' { value } else { "" });
    KEYS.contains(&key.trim())
        && plain.contains(SECRET)
        && plain.bytes().all(|b| b.is_ascii_alphanumeric() || b == b' ')
}
