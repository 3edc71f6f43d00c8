//! Node selectors, refused where Kubernetes would refuse them.

use registry_mirror_crds::{LabelOperator, LabelRequirement, LabelSelector};

use super::Compiler;

impl Compiler<'_> {
    /// An empty selector is no selector.
    pub(super) fn node_selector(&mut self, selector: Option<&LabelSelector>) -> Option<Option<LabelSelector>> {
        let Some(selector) = selector else { return Some(None) };
        let LabelSelector { match_labels, match_expressions } = selector;
        let problems_before = self.problems.len();
        for (key, value) in match_labels {
            let field = format!("spec.nodeSelector.matchLabels[{key}]");
            self.label_key(&field, key);
            self.label_value(&field, value);
        }
        for (i, requirement) in match_expressions.iter().enumerate() {
            let field = format!("spec.nodeSelector.matchExpressions[{i}]");
            let LabelRequirement { key, operator, values } = requirement;
            self.label_key(&format!("{field}.key"), key);
            match operator {
                LabelOperator::In | LabelOperator::NotIn if values.is_empty() => {
                    self.refuse(
                        format!("{field}.values"),
                        "is empty: In and NotIn compare with at least one value; to ask for the label itself write \
                         operator Exists or DoesNotExist",
                    );
                }
                LabelOperator::Exists | LabelOperator::DoesNotExist if !values.is_empty() => {
                    self.refuse(
                        format!("{field}.values"),
                        "has values, which Exists and DoesNotExist do not compare: leave them out, or write operator \
                         In or NotIn",
                    );
                }
                LabelOperator::In | LabelOperator::NotIn | LabelOperator::Exists | LabelOperator::DoesNotExist => {}
            }
            for value in values {
                self.label_value(&format!("{field}.values"), value);
            }
        }
        if self.problems.len() > problems_before {
            return None;
        }
        Some((!match_labels.is_empty() || !match_expressions.is_empty()).then(|| selector.clone()))
    }

    fn label_key(&mut self, field: &str, key: &str) {
        let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
        let prefix_is_good = prefix.is_none_or(|prefix| {
            !prefix.is_empty()
                && prefix.len() <= 253
                && prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        });
        if name.is_empty() || !is_label_text(name) || !prefix_is_good {
            self.refuse(
                field,
                format!("`{key}` is no label key, so no node can have it: write [domain/]name, for example topology.kubernetes.io/region"),
            );
        }
    }

    fn label_value(&mut self, field: &str, value: &str) {
        if !is_label_text(value) {
            self.refuse(
                field,
                format!("`{value}` is no label value, so no node can have it: write up to 63 letters, digits, `-`, `_` or `.`, with a letter or digit at both ends"),
            );
        }
    }
}

fn is_label_text(text: &str) -> bool {
    let alphanumeric = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    text.len() <= 63
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
}
