//! The whole configuration that a containerd would start with, for comparison.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use testbed::Node;
use toml_edit::{DocumentMut, Item, Value};

use crate::start::CONFIG;

/// What an edit may change: the registry settings, as the releases spell them, and the key that keeps pulls on the path
/// that the old ones chose.
const EDITED: [&str; 3] = [
    "plugins.io.containerd.grpc.v1.cri.registry",
    "plugins.io.containerd.cri.v1.images.registry",
    "plugins.io.containerd.cri.v1.images.use_local_image_pull",
];

/// Every setting by its dotted path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dump(BTreeMap<String, String>);

impl Dump {
    /// What `containerd config dump` says, or the defaults where there is no file: 1.7.35 dumps none then.
    pub(crate) fn read(node: &Node) -> Result<Self> {
        let text = if node.exists(CONFIG) {
            node.sh("containerd config dump 2>/dev/null")?
        } else {
            node.sh("containerd config default 2>/dev/null")?
        };
        let document: DocumentMut = text.parse().context("the dump of containerd's configuration cannot be read")?;
        let mut settings = BTreeMap::new();
        flatten("", document.as_item(), &mut settings);
        Ok(Self(settings))
    }

    /// Sees that the two differ in registry settings alone.
    pub(crate) fn same_but_for_registry(&self, after: &Self) -> Result<()> {
        let keys: BTreeSet<&String> = self.0.keys().chain(after.0.keys()).collect();
        let strange: Vec<String> = keys
            .into_iter()
            .filter(|key| self.0.get(*key) != after.0.get(*key) && !EDITED.iter().any(|table| key.starts_with(table)))
            .map(|key| format!("{key}: {:?} -> {:?}", self.0.get(key), after.0.get(key)))
            .collect();
        ensure!(strange.is_empty(), "other settings than the registry's have changed:\n{}", strange.join("\n"));
        Ok(())
    }
}

fn flatten(path: &str, item: &Item, settings: &mut BTreeMap<String, String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    if let Some(table) = item.as_table_like() {
        for (key, item) in table.iter() {
            flatten(&below(key), item, settings);
        }
    } else if let Some(array) = item.as_array() {
        // 1.x lists the files that it imported in any order.
        let mut values: Vec<String> = array.iter().map(plain).collect();
        if path == "imports" {
            values.sort();
            // 1.x lists the main file with them.
            values.retain(|value| value.trim_matches(['"', '\'']) != CONFIG);
        }
        settings.insert(path.to_owned(), values.join(", "));
    } else if let Some(value) = item.as_value() {
        settings.insert(path.to_owned(), plain(value));
    } else if let Some(tables) = item.as_array_of_tables() {
        for (number, table) in tables.iter().enumerate() {
            flatten(&below(&number.to_string()), &Item::Table(table.clone()), settings);
        }
    }
}

/// A value without the blanks and comments around it.
fn plain(value: &Value) -> String {
    value.clone().decorated("", "").to_string()
}
