//! Waiting for a condition with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks `ready` again and again until it answers `Ok(Some(_))`.
///
/// # Errors
/// When `ready` fails for good (`Err`), or after `limit`; the message then names `what`.
pub fn until<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if start.elapsed() >= limit {
            bail!("{what} did not happen within {} s", limit.as_secs());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_names_what_was_awaited() {
        let never = until::<()>("the moon landing", Duration::ZERO, || Ok(None));
        assert_eq!(never.unwrap_err().to_string(), "the moon landing did not happen within 0 s");
    }
}
