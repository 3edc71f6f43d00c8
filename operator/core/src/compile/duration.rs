//! Durations as containerd and Kubernetes write them: `3s`, `500ms`, `1m30s`.

use std::fmt::Write as _;

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

fn milliseconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let mut thousandths = 0;
        if let Some(fraction) = rest.strip_prefix('.') {
            let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
            if !(1..=3).contains(&digits) {
                return None;
            }
            thousandths = format!("{:0<3}", fraction.get(..digits)?).parse().ok()?;
            rest = fraction.get(digits..)?;
        }
        let unit_length = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match rest.get(..unit_length)? {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        rest = rest.get(unit_length..)?;
        sum = sum.checked_add(number.checked_mul(unit)?)?.checked_add(thousandths * unit / 1000)?;
    }
    (!text.is_empty()).then_some(sum)
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
