//! Which mirrors are taken out of hosts.toml while they are dead.
//!
//! Only what makes containerd wait counts as dead: it remembers nothing about hosts and pays the dial time-out (30 s)
//! again at each request (1.5 to 2.4). A mirror that refuses the connection or answers an error costs it nothing, so it
//! stays in place. What counts is the time and not the kind of failure: a host that is absent on the node's own subnet
//! fails with "no route to host", after the three seconds in which the kernel asks for its hardware address.

use std::{collections::BTreeSet, time::Duration};

use crate::bundle::Entry;

/// So many failures in a row make a mirror dead: the first, and the quick repeats that confirm it.
pub const CONFIRMATIONS: u8 = 3;

/// A failure that comes later than this makes a pull wait, at each of its requests.
pub const AT_ONCE: Duration = Duration::from_secs(1);

/// What one probe saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// An HTTP answer, whatever its status.
    Answer,
    /// A failure that containerd notices at once; why.
    Failure(String),
    /// containerd would have waited: nothing came in time, or the failure came late; how far it got.
    Silence(String),
}

impl Seen {
    /// Of a failure that came after this time.
    #[must_use]
    pub fn failed(why: String, took: Duration) -> Self {
        match took < AT_ONCE {
            true => Self::Failure(why),
            false => Self::Silence(format!("{why}, after {:.1} s", took.as_secs_f64())),
        }
    }
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
            Seen::Failure(why) => match self {
                // Only an answer ends a suspicion. A failure may come at once because somebody else has waited already:
                // the kernel asks for an absent host once for all who connect to it.
                Self::Suspect { .. } | Self::Dead(_) => self.after(Seen::Silence(why)),
                Self::Unknown | Self::Alive | Self::Failing(_) => Self::Failing(why),
            },
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
    fn what_fails_late_makes_containerd_wait_whatever_it_says() {
        let no_route = |seconds| Seen::failed("no route to host".to_owned(), Duration::from_secs_f64(seconds));
        assert_eq!(no_route(0.2), Seen::Failure("no route to host".to_owned()));
        assert_eq!(no_route(3.07), Seen::Silence("no route to host, after 3.1 s".to_owned()));
        // The second one has joined a question for the hardware address that was under way.
        let seen = [no_route(3.1), no_route(0.4), no_route(3.1)];
        let health = seen.into_iter().fold(Health::Alive, |health, seen| health.after(seen));
        assert!(matches!(health, Health::Dead(_)));
        assert!(matches!(health.after(no_route(0.4)), Health::Dead(_)), "only an answer brings it back");
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
