//! Go's duration strings, as `dial_timeout` is written.

use std::time::Duration;

use thiserror::Error;

/// The text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a duration: write it as 500ms, 3s or 1m30s")]
pub struct DurationError(String);

/// Reads what Go's `time.ParseDuration` reads, except negative durations: `300ms`, `1.5s`, `1m30s`, `0`.
///
/// # Errors
/// For any other text, and for what does not fit into Go's 63 bits of nanoseconds.
pub fn parse_go_duration(text: &str) -> Result<Duration, DurationError> {
    let refused = || DurationError(text.chars().take(32).collect());
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(refused());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (whole, after_whole) = split_digits(rest);
        let (fraction, after) = match after_whole.strip_prefix('.') {
            Some(tail) => split_digits(tail),
            None => ("", after_whole),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(refused());
        }
        let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let scale: u128 = match unit {
            "ns" => 1,
            // the micro sign and the Greek letter
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(refused()),
        };
        // 20 digits are more than any number in Go's range has; as hours they still fit into 128 bits.
        if whole.len() > 20 || fraction.len() > 20 {
            return Err(refused());
        }
        let number = |digits: &str| if digits.is_empty() { Ok(0) } else { digits.parse::<u128>() };
        let whole = number(whole).map_err(|_| refused())?;
        let places = u32::try_from(fraction.len()).map_err(|_| refused())?;
        let fraction = number(fraction).map_err(|_| refused())?;
        total = total.saturating_add(whole * scale + fraction * scale / 10_u128.pow(places));
        rest = next;
    }
    match u64::try_from(total) {
        Ok(nanoseconds) if i64::try_from(nanoseconds).is_ok() => Ok(Duration::from_nanos(nanoseconds)),
        _ => Err(refused()),
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Writes a duration so that Go reads the same: in the largest unit that needs no fraction.
#[must_use]
pub fn format_go_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    for (unit, scale) in [("s", 1_000_000_000_u128), ("ms", 1_000_000), ("us", 1_000)] {
        if nanoseconds.is_multiple_of(scale) {
            return format!("{}{unit}", nanoseconds / scale);
        }
    }
    format!("{nanoseconds}ns")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, milliseconds) in
            [("0", 0), ("3s", 3_000), ("1.5s", 1_500), ("1m30s", 90_000), ("+.5h", 1_800_000), ("250000us", 250)]
        {
            assert_eq!(parse_go_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "3", "s", "-3s", "3 s", "3s ", "1.s.", "1d", "9999999999h", "99999999999999999999s", "."] {
            assert!(parse_go_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for nanoseconds in [0, 1, 999, 1_000, 1_500_000, 3_000_000_000, 90_000_000_000, i64::MAX as u64] {
            let duration = Duration::from_nanos(nanoseconds);
            assert_eq!(parse_go_duration(&format_go_duration(duration)), Ok(duration));
        }
    }
}
