//! Which agents run, and since when the others are away.
//!
//! An upgrade takes each agent away for some seconds. Its node pulls through the mirrors meanwhile, and a status that
//! said otherwise would be a false alarm at every upgrade.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use registry_mirror_core::status::object::Agent;

/// Since when the agents that do not run are away, as far as this controller has seen.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    away: HashMap<String, Timestamp>,
}

impl Presence {
    /// Notes which nodes' agents run now.
    pub fn see<'n>(&mut self, nodes: impl Iterator<Item = (&'n str, bool)>, now: Timestamp) {
        let mut before = std::mem::take(&mut self.away);
        self.away = nodes
            .filter(|(_, runs)| !runs)
            .map(|(node, _)| before.remove_entry(node).unwrap_or_else(|| (node.to_owned(), now)))
            .collect();
    }

    /// Whether a node's agent runs.
    pub fn of(&self, node: &str, now: Timestamp, grace: Duration) -> Agent {
        match self.away.get(node) {
            None => Agent::Running,
            Some(since) if now < deadline(*since, grace) => Agent::Away,
            Some(_) => Agent::Gone,
        }
    }

    /// When the next agent that is away counts as gone.
    pub fn next_deadline(&self, now: Timestamp, grace: Duration) -> Option<Timestamp> {
        self.away.values().map(|since| deadline(*since, grace)).filter(|deadline| *deadline > now).min()
    }
}

fn deadline(since: Timestamp, grace: Duration) -> Timestamp {
    since.checked_add(grace).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(120);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn an_agent_is_gone_once_it_was_away_for_long_without_a_break() {
        let mut presence = Presence::default();
        let see =
            |presence: &mut Presence, runs: bool, second: i64| presence.see([("n", runs)].into_iter(), at(second));
        see(&mut presence, false, 100);
        see(&mut presence, false, 200);
        assert_eq!(presence.of("n", at(219), GRACE), Agent::Away);
        assert_eq!(presence.next_deadline(at(219), GRACE), Some(at(220)));
        assert_eq!(presence.of("n", at(220), GRACE), Agent::Gone);
        assert_eq!(presence.next_deadline(at(220), GRACE), None);
        see(&mut presence, true, 230);
        assert_eq!(presence.of("n", at(230), GRACE), Agent::Running);
        see(&mut presence, false, 240);
        assert_eq!(presence.of("n", at(241), GRACE), Agent::Away);
    }
}
