//! Which entries of the bundle are for a node.

use std::collections::{BTreeMap, BTreeSet};

use registry_mirror_crds::{LabelOperator, LabelRequirement, LabelSelector};

use crate::bundle::{Bundle, Entry};

/// A node's labels.
pub type Labels = BTreeMap<String, String>;

/// The entries for a node with these labels, at most one per registry: the first that matches, in the bundle's order.
///
/// A suspended entry is among them, because it keeps its claim on the registry.
#[must_use]
pub fn select<'a>(bundle: &'a Bundle, labels: &Labels) -> Vec<&'a Entry> {
    let mut claimed = BTreeSet::new();
    bundle
        .entries
        .iter()
        .filter(|entry| entry.node_selector.as_ref().is_none_or(|selector| matches(selector, labels)))
        .filter(|entry| claimed.insert(&entry.registry))
        .collect()
}

/// Why an entry is not for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassedOver<'a> {
    /// Its selector asks for other nodes.
    OtherNodes,
    /// This one is for the same registry and comes first.
    GivesWay(&'a Entry),
}

/// The entries that [`select`] leaves out for a node with these labels, each with the reason.
#[must_use]
pub fn passed_over<'a>(bundle: &'a Bundle, labels: &Labels) -> Vec<(&'a Entry, PassedOver<'a>)> {
    let selected = select(bundle, labels);
    let why = |entry: &'a Entry| {
        if entry.node_selector.as_ref().is_some_and(|selector| !matches(selector, labels)) {
            return Some(PassedOver::OtherNodes);
        }
        let first = selected.iter().find(|chosen| chosen.registry == entry.registry)?;
        (first.object != entry.object).then_some(PassedOver::GivesWay(first))
    };
    bundle.entries.iter().filter_map(|entry| Some((entry, why(entry)?))).collect()
}

/// Whether a label selector matches, as Kubernetes defines it: all labels and all requirements; an empty selector
/// matches everything.
#[must_use]
pub fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    let LabelSelector { match_labels, match_expressions } = selector;
    match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        && match_expressions.iter().all(|requirement| meets(requirement, labels))
}

fn meets(requirement: &LabelRequirement, labels: &Labels) -> bool {
    let LabelRequirement { key, operator, values } = requirement;
    let label = labels.get(key);
    match operator {
        LabelOperator::In => label.is_some_and(|value| values.contains(value)),
        // a node without the label is not in any set
        LabelOperator::NotIn => label.is_none_or(|value| !values.contains(value)),
        LabelOperator::Exists => label.is_some(),
        LabelOperator::DoesNotExist => label.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{Mode, SCHEMA};

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn requires(key: &str, operator: LabelOperator, values: &[&str]) -> LabelSelector {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        LabelSelector {
            match_labels: BTreeMap::new(),
            match_expressions: vec![LabelRequirement { key: key.to_owned(), operator, values }],
        }
    }

    fn entry(object: &str, registry: &str, node_selector: Option<LabelSelector>) -> Entry {
        Entry { node_selector, ..Entry::new(object, registry.parse().expect("a registry"), Vec::new()) }
    }

    #[test]
    fn an_object_for_other_nodes_gives_way_to_nobody() {
        let north = || Some(requires("region", LabelOperator::In, &["north"]));
        let entries = vec![
            entry("first", "docker.io", None),
            entry("second", "docker.io", None),
            entry("north", "docker.io", north()),
        ];
        let bundle = Bundle { schema: SCHEMA, mode: Mode::Enforce, entries, blobs: BTreeMap::new(), proxy: None };
        let said = |labels: &Labels| -> Vec<(String, String)> {
            let why = |why: PassedOver<'_>| match why {
                PassedOver::OtherNodes => "other nodes".to_owned(),
                PassedOver::GivesWay(winner) => winner.object.clone(),
            };
            passed_over(&bundle, labels)
                .into_iter()
                .map(|(entry, passed)| (entry.object.clone(), why(passed)))
                .collect()
        };
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(object, why)| ((*object).to_owned(), (*why).to_owned())).collect()
        };
        assert_eq!(said(&labels(&[])), pairs(&[("second", "first"), ("north", "other nodes")]));
        assert_eq!(said(&labels(&[("region", "north")])), pairs(&[("second", "first"), ("north", "first")]));
    }

    #[test]
    fn selectors_match_as_kubernetes_defines_it() {
        use LabelOperator::{DoesNotExist, Exists, In, NotIn};
        let node = labels(&[("region", "north"), ("gpu", "")]);
        for (selector, expected) in [
            (LabelSelector::default(), true),
            (requires("region", In, &["south", "north"]), true),
            (requires("region", In, &["south"]), false),
            (requires("zone", In, &["a"]), false),
            (requires("region", NotIn, &["north"]), false),
            (requires("region", NotIn, &["south"]), true),
            (requires("zone", NotIn, &["a"]), true),
            (requires("gpu", Exists, &[]), true),
            (requires("zone", Exists, &[]), false),
            (requires("gpu", DoesNotExist, &[]), false),
            (requires("zone", DoesNotExist, &[]), true),
            (LabelSelector { match_labels: labels(&[("region", "north")]), ..LabelSelector::default() }, true),
            (LabelSelector { match_labels: labels(&[("region", "north")]), ..requires("zone", Exists, &[]) }, false),
        ] {
            assert_eq!(matches(&selector, &node), expected, "{selector:?}");
        }
    }

    #[test]
    fn the_first_entry_that_matches_wins_its_registry() {
        let north = requires("region", LabelOperator::In, &["north"]);
        let bundle = Bundle {
            schema: SCHEMA,
            mode: Mode::Enforce,
            entries: vec![
                entry("north", "docker.io", Some(north)),
                entry("everywhere", "docker.io", None),
                entry("quay", "quay.io", None),
            ],
            blobs: BTreeMap::new(),
            proxy: None,
        };
        let chosen = |node: &Labels| -> Vec<String> {
            select(&bundle, node).into_iter().map(|entry| entry.object.clone()).collect()
        };
        assert_eq!(chosen(&labels(&[("region", "north")])), ["north", "quay"]);
        assert_eq!(chosen(&labels(&[])), ["everywhere", "quay"]);
    }
}
