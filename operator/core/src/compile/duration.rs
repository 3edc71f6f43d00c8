//! Durations as containerd and Kubernetes write them: `3s`, `500ms`, `1m30s`.

use std::fmt::Write as _;

use crate::hosts_toml::parse_go_duration;

/// Milliseconds of `dialTimeout`.
pub(super) fn dial_timeout(text: &str) -> Result<u64, String> {
    within(text, 10, 120_000, "3s")
}

/// Milliseconds of `healthCheck.interval`.
pub(super) fn health_interval(text: &str) -> Result<u64, String> {
    within(text, 5_000, 86_400_000, "30s")
}

fn within(text: &str, least: u64, most: u64, example: &str) -> Result<u64, String> {
    match milliseconds(text) {
        None => Err(format!("`{text}` is no duration: write a number with ms, s, m or h, for example {example}")),
        Some(millis) if (least..=most).contains(&millis) => Ok(millis),
        Some(_) => Err(format!("`{text}` is out of range: write {} to {}", shown(least), shown(most))),
    }
}

/// What Go reads, as far as the API admits it: whole milliseconds, no smaller unit, digits on both sides of a point.
fn milliseconds(text: &str) -> Option<u64> {
    let begins_with_a_digit = |part: &str| part.starts_with(|letter: char| letter.is_ascii_digit());
    let is_admitted = text.bytes().all(|byte| byte.is_ascii_digit() || b".msh".contains(&byte))
        && text.contains(['s', 'm', 'h'])
        && text.split('.').all(begins_with_a_digit);
    let duration = parse_go_duration(text).ok().filter(|_| is_admitted)?;
    let is_whole = duration.subsec_nanos() % 1_000_000 == 0;
    u64::try_from(duration.as_millis()).ok().filter(|_| is_whole)
}

fn shown(millis: u64) -> String {
    let mut text = String::new();
    let (amount, unit) = match millis {
        m if m % 3_600_000 == 0 => (m / 3_600_000, "h"),
        m if m % 60_000 == 0 => (m / 60_000, "m"),
        m if m % 1000 == 0 => (m / 1000, "s"),
        m => (m, "ms"),
    };
    let _ = write!(text, "{amount}{unit}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_forms_that_go_writes() {
        for (text, expected) in
            [("3s", 3000), ("500ms", 500), ("1m30s", 90_000), ("0s", 0), ("1h", 3_600_000), ("1.5s", 1500)]
        {
            assert_eq!(milliseconds(text), Some(expected), "{text}");
        }
        for text in ["", "3", "s", "3 s", "-3s", "3d", "1.s", "1.0005s", "99999999999999999999s", "3s3"] {
            assert_eq!(milliseconds(text), None, "{text}");
        }
    }

    #[test]
    fn bounds_stand_in_the_sentence() {
        assert_eq!(health_interval("1s").unwrap_err(), "`1s` is out of range: write 5s to 24h");
        assert_eq!(dial_timeout("1ms").unwrap_err(), "`1ms` is out of range: write 10ms to 2m");
    }
}
