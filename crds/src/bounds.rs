//! How long the texts and lists of a status may be: the schema and what is written read the same numbers.
//!
//! One node's status must not cost the cluster more than its share: without a bound a message of a megabyte went through
//! every watch. What is written is cut to the bounds first, so that no write is refused for its length.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// A text, in bytes. Also the longest path of Linux.
pub const LONGEST_TEXT: usize = 4096;
/// The message of a condition, in bytes (`metav1.Condition`).
pub const LONGEST_MESSAGE: usize = 32_768;
/// The items of a list. A node has one for each registry.
pub const MOST_ITEMS: usize = 4096;

const CONDITIONS: &str = "conditions";
const MESSAGE: &str = "message";

/// Which bound a text has.
#[derive(Clone, Copy)]
enum Place {
    /// Below `conditions`.
    Conditions,
    Elsewhere,
}

impl Place {
    fn of(self, key: &str) -> Self {
        if key == CONDITIONS { Self::Conditions } else { self }
    }

    fn longest(self, key: &str) -> usize {
        match self {
            Self::Conditions if key == MESSAGE => LONGEST_MESSAGE,
            Self::Conditions | Self::Elsewhere => LONGEST_TEXT,
        }
    }
}

/// Cuts a text between two characters to so many bytes, the mark of the cut included.
#[must_use]
pub fn shortened(mut text: String, at_most: usize) -> String {
    const CUT: char = '…';
    if text.len() > at_most {
        let longest = at_most.saturating_sub(CUT.len_utf8());
        let end = (0..=longest).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push(CUT);
    }
    text
}

/// A status whose texts and lists are as long as its schema allows. One that is so already stays as it is.
#[must_use]
pub fn bounded<S: Serialize + DeserializeOwned>(status: S) -> S {
    let Ok(mut value) = serde_json::to_value(&status) else { return status };
    if !cut(&mut value, "", Place::Elsewhere) {
        return status;
    }
    serde_json::from_value(value).unwrap_or(status)
}

/// Whether something was cut.
fn cut(value: &mut Value, key: &str, place: Place) -> bool {
    match value {
        Value::String(text) => {
            let longest = place.longest(key);
            let is_cut = text.len() > longest;
            if is_cut {
                *text = shortened(std::mem::take(text), longest);
            }
            is_cut
        }
        Value::Array(items) => {
            let is_cut = items.len() > MOST_ITEMS;
            items.truncate(MOST_ITEMS);
            items.iter_mut().fold(is_cut, |is_cut, item| cut(item, key, place) || is_cut)
        }
        Value::Object(map) => {
            map.iter_mut().fold(false, |is_cut, (key, value)| cut(value, key, place.of(key)) || is_cut)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Writes the bounds into the schema of the status of a CRD, where it has no narrower ones.
pub(crate) fn bound_status(crd: &mut Value) {
    let versions = crd.pointer_mut("/spec/versions").and_then(Value::as_array_mut);
    for version in versions.into_iter().flatten() {
        let status = version.pointer_mut("/schema/openAPIV3Schema/properties/status");
        if let Some(status) = status.and_then(Value::as_object_mut) {
            bound(status, "", Place::Elsewhere);
        }
    }
}

fn bound(schema: &mut Map<String, Value>, key: &str, place: Place) {
    match schema.get("type").and_then(Value::as_str) {
        Some("string") if !schema.contains_key("enum") && !schema.contains_key("format") => {
            schema.entry("maxLength").or_insert_with(|| place.longest(key).into());
        }
        Some("array") => {
            schema.entry("maxItems").or_insert_with(|| MOST_ITEMS.into());
            if let Some(items) = schema.get_mut("items").and_then(Value::as_object_mut) {
                bound(items, key, place);
            }
        }
        Some("object") => {
            let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
            for (key, property) in properties.into_iter().flatten() {
                if let Some(property) = property.as_object_mut() {
                    bound(property, key, place.of(key));
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    use super::*;
    use crate::{DriftStatus, NodeMirrorStatus, NodeRegistryStatus, RegistryMirrorStatus, crd_files};

    fn condition(message: String) -> Condition {
        let time = Time("2026-01-01T00:00:00Z".parse().expect("a time"));
        let (type_, status, reason) = ("Ready".to_owned(), "False".to_owned(), "Because".to_owned());
        Condition { type_, status, reason, message, observed_generation: None, last_transition_time: time }
    }

    /// The paths of texts, lists and free maps without a bound.
    fn unbounded(schema: &Value, path: &str, found: &mut Vec<String>) {
        let has = |key: &str| schema.get(key).is_some();
        match schema.get("type").and_then(Value::as_str) {
            Some("string") if !has("maxLength") && !has("enum") && !has("format") => found.push(path.to_owned()),
            Some("array") if !has("maxItems") => found.push(path.to_owned()),
            Some("object") if has("additionalProperties") && !has("maxProperties") => found.push(path.to_owned()),
            _ => {}
        }
        if let Some(items) = schema.get("items") {
            unbounded(items, &format!("{path}[]"), found);
        }
        for (key, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            unbounded(property, &format!("{path}.{key}"), found);
        }
    }

    #[test]
    fn every_text_and_list_of_both_kinds_has_a_bound() {
        for (file, text) in crd_files().expect("files") {
            let crd: Value = serde_saphyr::from_str(&text).expect("YAML");
            let mut found = Vec::new();
            for part in ["spec", "status"] {
                let schema = crd.pointer(&format!("/spec/versions/0/schema/openAPIV3Schema/properties/{part}"));
                unbounded(schema.expect("a schema"), part, &mut found);
            }
            assert_eq!(found, Vec::<String>::new(), "{file}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_once_and_the_rest_stays() {
        let at = Time("2026-01-01T00:00:00Z".parse().expect("a time"));
        let long = "ä".repeat(1 << 20);
        let status = NodeMirrorStatus {
            bundle: Some(long.clone()),
            registries: vec![NodeRegistryStatus::default(); 10_000],
            drift: vec![DriftStatus { path: "/p".to_owned(), at, what: long.clone() }],
            conditions: vec![condition(long)],
            restarts: 7,
            ..NodeMirrorStatus::default()
        };
        let cut = bounded(status);
        assert!(cut.bundle.as_ref().is_some_and(|text| text.len() <= LONGEST_TEXT && text.ends_with('…')));
        assert_eq!(cut.registries.len(), MOST_ITEMS);
        assert!(cut.drift.iter().all(|drift| drift.what.len() <= LONGEST_TEXT && drift.path == "/p"));
        let message = &cut.conditions[0].message;
        assert!((LONGEST_TEXT..=LONGEST_MESSAGE).contains(&message.len()), "{}", message.len());
        assert_eq!(cut.restarts, 7);
        assert_eq!(bounded(cut.clone()), cut, "a second time nothing is left to cut");

        let short = RegistryMirrorStatus { conditions: vec![condition("ok".to_owned())], ..Default::default() };
        assert_eq!(bounded(short.clone()), short);
    }
}
