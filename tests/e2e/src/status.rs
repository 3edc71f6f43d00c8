//! Conditions of the operator's objects, read as a user reads them: from the API.

use serde_json::Value;

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// The word for programs.
    pub reason: String,
    /// The sentence for people.
    pub message: String,
}

/// The condition of that type, if the object has it.
#[must_use]
pub fn condition(object: &Value, kind: &str) -> Option<Condition> {
    let found = object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)?;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Some(Condition { status: text("status"), reason: text("reason"), message: text("message") })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_is_found_by_type() {
        let object = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Ready"}]}});
        let expected = Condition { status: "True".to_owned(), reason: "Ready".to_owned(), message: String::new() };
        assert_eq!(condition(&object, "Ready"), Some(expected));
        assert_eq!(condition(&object, "Effective"), None);
        assert_eq!(condition(&json!({}), "Ready"), None);
    }
}
