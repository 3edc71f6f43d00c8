//! Two objects for one registry: on a node the oldest wins. Who meets whom depends on the nodes' labels:
//! [`crate::status::object::tally`] finds it out.

use std::collections::BTreeMap;

/// The nodes that an object loses to older ones.
///
/// As routes do in the Gateway API, an object stays `Accepted` while it has an effect anywhere: `Accepted=True` with
/// reason `Conflict` where it loses some of its nodes, `Accepted=False` where it loses all of them. Objects whose
/// selectors meet on no node of the cluster do not conflict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conflict {
    /// Nodes that its selector matches.
    pub matched: u32,
    /// Of these, how many each older object wins.
    pub lost_to: BTreeMap<String, u32>,
}

impl Conflict {
    /// Nodes that it loses.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.lost_to.values().sum()
    }

    /// Whether it wins no node.
    #[must_use]
    pub fn is_total(&self) -> bool {
        self.lost() == self.matched
    }
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let winners: Vec<_> =
            self.lost_to.iter().map(|(winner, nodes)| format!("`{winner}` ({})", nodes_text(*nodes))).collect();
        write!(
            f,
            "an older RegistryMirror for the same registry wins on {} of {}: {}; delete one of them, or give both a \
             nodeSelector that no node meets twice",
            self.lost(),
            nodes_text(self.matched),
            winners.join(", ")
        )
    }
}

fn nodes_text(count: u32) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}
