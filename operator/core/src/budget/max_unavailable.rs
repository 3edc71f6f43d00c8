//! `maxUnavailable`: a number of nodes, or a share of them.

use std::{fmt, str::FromStr};

/// How many nodes may be unavailable at a time; at least one, else nothing would ever restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxUnavailable {
    /// A number of nodes, at least 1.
    Nodes(u32),
    /// 1 to 100 per cent of the nodes that a RegistryMirror matches.
    Percent(u8),
}

/// The text is neither a number nor a share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "maxUnavailable `{0}` is neither a number from 1 nor a share from 1% to 100%: write for example 10%; to forbid \
     restarts write the policy Never"
)]
pub struct MaxUnavailableError(String);

impl MaxUnavailable {
    /// How many of so many nodes: a share is rounded down, but never below one.
    #[must_use]
    pub fn of(self, nodes: usize) -> usize {
        match self {
            Self::Nodes(count) => usize::try_from(count).unwrap_or(usize::MAX).max(1),
            Self::Percent(percent) => (nodes * usize::from(percent) / 100).max(1),
        }
    }
}

impl Default for MaxUnavailable {
    fn default() -> Self {
        Self::Percent(10)
    }
}

impl fmt::Display for MaxUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for MaxUnavailable {
    type Err = MaxUnavailableError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
        let parsed = match text.strip_suffix('%') {
            Some(share) => digits(share)
                .and_then(|percent| u8::try_from(percent).ok())
                .filter(|percent| (1..=100).contains(percent))
                .map(Self::Percent),
            None => digits(text).filter(|count| *count >= 1).map(Self::Nodes),
        };
        parsed.ok_or_else(|| MaxUnavailableError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_down_but_never_to_nothing() {
        for (text, nodes, expected) in
            [("10%", 5, 1), ("10%", 19, 1), ("10%", 20, 2), ("100%", 3, 3), ("1", 100, 1), ("5", 2, 5), ("10%", 0, 1)]
        {
            assert_eq!(text.parse::<MaxUnavailable>().map(|m| m.of(nodes)), Ok(expected), "{text} of {nodes}");
        }
    }

    #[test]
    fn refuses_what_would_never_restart_anything() {
        for text in ["0", "0%", "101%", "", "%", "-1", "+1", "1.5", "ten"] {
            assert!(text.parse::<MaxUnavailable>().is_err(), "{text}");
        }
    }
}
