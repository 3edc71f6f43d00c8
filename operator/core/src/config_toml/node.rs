//! The values of a config file, each with the place that it was read from.

use std::{collections::BTreeMap, fmt, ops::Range};

use serde::{Deserialize, Serialize};
use toml_edit::{Item, Value};

/// Where a value stands: which of the loaded files, and which bytes of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) file: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Place {
    fn new(file: usize, span: &Range<usize>) -> Self {
        Self { file, start: span.start, end: span.end }
    }
}

/// A table by key. Order is of no meaning in any table that this project reads.
pub(crate) type Table = BTreeMap<String, Node>;

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) place: Place,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Table(Table),
    Array(Vec<Node>),
    Text(String),
    Integer(i64),
    Boolean(bool),
    /// A float or a date: nothing that is read here, kept so that two files can be compared.
    Other(String),
}

/// A value that an edit sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Scalar {
    Text(String),
    Boolean(bool),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Boolean(value) => value.fmt(f),
        }
    }
}

impl Node {
    pub(crate) fn scalar(&self) -> Option<Scalar> {
        match &self.kind {
            Kind::Text(text) => Some(Scalar::Text(text.clone())),
            Kind::Boolean(value) => Some(Scalar::Boolean(*value)),
            _ => None,
        }
    }

    pub(crate) fn table(&self) -> Option<&Table> {
        match &self.kind {
            Kind::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The node at a path of keys below this one.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| node.table()?.get(*key))
    }

    /// Equal values, wherever they stand.
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Table(a), Kind::Table(b)) => same_tables(a, b),
            (Kind::Array(a), Kind::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b)),
            (Kind::Text(a), Kind::Text(b)) | (Kind::Other(a), Kind::Other(b)) => a == b,
            (Kind::Integer(a), Kind::Integer(b)) => a == b,
            (Kind::Boolean(a), Kind::Boolean(b)) => a == b,
            _ => false,
        }
    }

    /// Whether this or anything below stands at the place.
    pub(crate) fn contains(&self, place: Place) -> bool {
        self.place == place
            || match &self.kind {
                Kind::Table(table) => table.values().any(|node| node.contains(place)),
                Kind::Array(nodes) => nodes.iter().any(|node| node.contains(place)),
                _ => false,
            }
    }

    /// The places of all values below that are no tables.
    pub(crate) fn leaves(&self) -> Vec<Place> {
        match &self.kind {
            Kind::Table(table) => table.values().flat_map(Self::leaves).collect(),
            _ => vec![self.place],
        }
    }

    pub(crate) fn from_table(table: &toml_edit::Table, file: usize, key: &Range<usize>) -> Self {
        let span = table.span().unwrap_or_else(|| key.clone());
        let entries = table.iter().filter_map(|(name, item)| {
            let key = table.key(name).and_then(toml_edit::Key::span).unwrap_or_else(|| span.clone());
            Some((name.to_owned(), Self::from_item(item, file, &key)?))
        });
        Self { kind: Kind::Table(entries.collect()), place: Place::new(file, &span) }
    }

    fn from_item(item: &Item, file: usize, key: &Range<usize>) -> Option<Self> {
        match item {
            Item::None => None,
            Item::Value(value) => Some(Self::from_value(value, file, key)),
            Item::Table(table) => Some(Self::from_table(table, file, key)),
            Item::ArrayOfTables(tables) => {
                let nodes = tables.iter().map(|table| Self::from_table(table, file, key)).collect();
                Some(Self { kind: Kind::Array(nodes), place: Place::new(file, key) })
            }
        }
    }

    fn from_value(value: &Value, file: usize, key: &Range<usize>) -> Self {
        // dotted keys make tables without a place of their own
        let span = value.span().unwrap_or_else(|| key.clone());
        let kind = match value {
            Value::String(text) => Kind::Text(text.value().clone()),
            Value::Integer(number) => Kind::Integer(*number.value()),
            Value::Boolean(boolean) => Kind::Boolean(*boolean.value()),
            Value::Float(float) => Kind::Other(float.value().to_string()),
            Value::Datetime(date) => Kind::Other(date.value().to_string()),
            Value::Array(array) => Kind::Array(array.iter().map(|v| Self::from_value(v, file, &span)).collect()),
            Value::InlineTable(table) => {
                let entries = table.iter().map(|(name, value)| {
                    let key = table.key(name).and_then(toml_edit::Key::span).unwrap_or_else(|| span.clone());
                    (name.to_owned(), Self::from_value(value, file, &key))
                });
                Kind::Table(entries.collect())
            }
        };
        Self { kind, place: Place::new(file, &span) }
    }
}

/// Equal tables, wherever their values stand.
pub(crate) fn same_tables(a: &Table, b: &Table) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((ka, a), (kb, b))| ka == kb && a.same(b))
}
