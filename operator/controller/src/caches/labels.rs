//! Labels of thousands of nodes in little memory.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use registry_mirror_core::select::Labels;

/// Texts that many nodes share, once each.
#[derive(Debug, Default)]
pub(super) struct Texts(HashSet<Arc<str>>);

impl Texts {
    fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.0.insert(Arc::clone(&new));
        new
    }

    /// Forgets what no node uses any more, once that may be worth it.
    pub fn tidy(&mut self) {
        self.0.retain(|text| Arc::strong_count(text) > 1);
    }

    pub fn labels(&mut self, labels: &BTreeMap<String, String>) -> CompactLabels {
        CompactLabels(labels.iter().map(|(key, value)| (self.share(key), self.share(value))).collect())
    }
}

/// A node's labels, sorted by key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CompactLabels(Box<[(Arc<str>, Arc<str>)]>);

impl CompactLabels {
    /// The labels with these keys.
    pub fn project(&self, keys: &BTreeSet<&str>) -> Labels {
        keys.iter().filter_map(|key| Some(((*key).to_owned(), self.get(key)?.to_owned()))).collect()
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.find(key).map(|value| &**value)
    }

    /// The value of a label, for keeping.
    pub fn shared(&self, key: &str) -> Option<Arc<str>> {
        self.find(key).map(Arc::clone)
    }

    fn find(&self, key: &str) -> Option<&Arc<str>> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projection_holds_the_labels_that_are_asked_for() {
        let mut texts = Texts::default();
        let all = BTreeMap::from([("a", "1"), ("b", "2"), ("c", "3")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        let labels = texts.labels(&all);
        let keys = BTreeSet::from(["c", "a", "x"]);
        assert_eq!(
            labels.project(&keys),
            Labels::from([("a", "1"), ("c", "3")].map(|(k, v)| (k.to_owned(), v.to_owned())))
        );
        drop(labels);
        texts.tidy();
        assert!(texts.0.is_empty());
    }
}
