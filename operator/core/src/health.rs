//! Which mirrors are taken out of hosts.toml while they are dead.
//!
//! Only what makes containerd wait counts as dead: it remembers nothing about hosts and pays the dial time-out (30 s)
//! again at each request (1.5 to 2.4). A mirror that refuses the connection or answers an error costs it nothing, so it
//! stays in place.

use std::collections::BTreeSet;

use crate::bundle::Entry;

/// So many failures in a row make a mirror dead: the first, and the quick repeats that confirm it.
pub const CONFIRMATIONS: u8 = 3;

/// What one probe saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// An HTTP answer, whatever its status.
    Answer,
    /// A failure that containerd notices at once; why.
    Failure(String),
    /// Nothing came in time; how far it got.
    Silence(String),
}

/// What is held of one way to a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Health {
    /// Not probed yet.
    #[default]
    Unknown,
    /// It answered the last probe.
    Alive,
    /// It failed at once; containerd moves on without waiting.
    Failing(String),
    /// It was silent this many times in a row, fewer than [`CONFIRMATIONS`].
    Suspect {
        /// Silent probes in a row.
        silent: u8,
        /// How far the last one got.
        why: String,
        /// Whether it was alive before; until it is confirmed dead it counts as such.
        was_alive: bool,
    },
    /// It makes containerd wait; why.
    Dead(String),
}

impl Health {
    /// After one more probe.
    #[must_use]
    pub fn after(&self, seen: Seen) -> Self {
        match seen {
            Seen::Answer => Self::Alive,
            Seen::Failure(why) => Self::Failing(why),
            Seen::Silence(why) => {
                let (silent, was_alive) = match self {
                    Self::Dead(_) => return Self::Dead(why),
                    Self::Suspect { silent, was_alive, .. } => (silent + 1, *was_alive),
                    Self::Alive => (1, true),
                    Self::Unknown | Self::Failing(_) => (1, false),
                };
                if silent >= CONFIRMATIONS { Self::Dead(why) } else { Self::Suspect { silent, why, was_alive } }
            }
        }
    }

    /// Whether the next probe shall follow quickly, to confirm or clear a suspicion.
    #[must_use]
    pub const fn wants_confirmation(&self) -> bool {
        matches!(self, Self::Suspect { .. })
    }

    /// A suspicion that is not confirmed yet counts for the other mirrors as if it were not there: else a drained one
    /// would come back for the seconds that the confirmation takes.
    const fn has_just_answered(&self) -> bool {
        matches!(self, Self::Alive | Self::Suspect { was_alive: true, .. })
    }
}

/// The urls of an entry's mirrors that are left out: the dead ones, as long as another way to the registry has just
/// answered. If every way looks dead the probe may be what is wrong, and nothing is changed.
#[must_use]
pub fn drained(entry: &Entry, health_of: impl Fn(&str) -> Health, upstream: &Health) -> BTreeSet<String> {
    let ways: Vec<(&str, Health)> =
        entry.mirrors.iter().map(|mirror| (mirror.url.as_str(), health_of(&mirror.url))).collect();
    let another_answers = upstream.has_just_answered() || ways.iter().any(|(_, health)| health.has_just_answered());
    if !another_answers {
        return BTreeSet::new();
    }
    ways.into_iter().filter(|(_, health)| matches!(health, Health::Dead(_))).map(|(url, _)| url.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bundle::MirrorHost;

    fn silence() -> Seen {
        Seen::Silence("connecting".to_owned())
    }

    fn dead() -> Health {
        (0..CONFIRMATIONS).fold(Health::Alive, |health, _| health.after(silence()))
    }

    fn entry(urls: &[&str]) -> Entry {
        let mirrors = urls.iter().map(|url| MirrorHost::new(url)).collect();
        Entry {
            health_interval_seconds: Some(30),
            ..Entry::new("o", "docker.io".parse().expect("a registry"), mirrors)
        }
    }

    #[test]
    fn one_silence_is_confirmed_before_a_mirror_is_dead() {
        let first = Health::Alive.after(silence());
        assert!(first.wants_confirmation());
        assert_eq!(first.after(Seen::Answer), Health::Alive);
        assert!(matches!(dead(), Health::Dead(_)));
    }

    #[test]
    fn a_dead_mirror_comes_back_with_its_first_answer() {
        assert_eq!(dead().after(Seen::Answer), Health::Alive);
        assert!(matches!(dead().after(silence()), Health::Dead(_)));
    }

    #[test]
    fn what_fails_at_once_is_never_dead() {
        let refused = || Seen::Failure("connection refused".to_owned());
        let health = (0..10).fold(Health::Alive, |health, _| health.after(refused()));
        assert_eq!(health, Health::Failing("connection refused".to_owned()));
    }

    #[test]
    fn a_dead_mirror_is_drained_only_while_another_way_answers() {
        let entry = entry(&["https://a", "https://b"]);
        let health = |b: Health| move |url: &str| if url == "https://a" { dead() } else { b.clone() };
        assert_eq!(drained(&entry, health(Health::Alive), &Health::Unknown), ["https://a".to_owned()].into());
        assert_eq!(drained(&entry, health(dead()), &Health::Unknown), BTreeSet::new());
        assert_eq!(drained(&entry, health(dead()), &Health::Alive).len(), 2);
        assert_eq!(drained(&entry, health(Health::Failing(String::new())), &Health::Unknown), BTreeSet::new());
    }

    proptest! {
        #[test]
        fn never_is_everything_drained_without_an_upstream_that_answers(seen in prop::collection::vec(0_u8..3, 0..40)) {
            let entry = entry(&["https://a", "https://b"]);
            let (mut a, mut b) = (Health::Unknown, Health::Unknown);
            for (index, what) in seen.into_iter().enumerate() {
                let seen = match what { 0 => Seen::Answer, 1 => Seen::Failure(String::new()), _ => silence() };
                let target = if index % 2 == 0 { &mut a } else { &mut b };
                *target = target.after(seen);
                let health_of = |url: &str| if url == "https://a" { a.clone() } else { b.clone() };
                prop_assert!(drained(&entry, health_of, &Health::Unknown).len() < 2);
            }
        }
    }
}
