//! Whether a node is one of those that somebody selects: `component-helpers/scheduling/corev1`. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

/// Whether one of the terms matches a node of this name, with these labels.
#[must_use]
pub fn matches(terms: &[NodeSelectorTerm], name: &str, labels: &BTreeMap<String, String>) -> bool {
    terms.iter().any(|term| term_matches(term, name, labels))
}

fn term_matches(term: &NodeSelectorTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let of_labels = term.match_expressions.as_deref().unwrap_or_default();
    let of_fields = term.match_fields.as_deref().unwrap_or_default();
    // An empty term selects nothing.
    let empty = of_labels.is_empty() && of_fields.is_empty();
    let field = |key: &str| (key == "metadata.name").then_some(name);
    let label = |key: &str| labels.get(key).map(String::as_str);
    !empty
        && of_labels
            .iter()
            .all(|r| requirement_holds(r, label(&r.key)))
        && of_fields
            .iter()
            .all(|r| requirement_holds(r, field(&r.key)))
}

fn requirement_holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|v| v == value));
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
    let limit = number(values.first().map(String::as_str));
    let compared = number(value).zip(limit);
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared.is_some_and(|(value, limit)| value > limit),
        "Lt" => compared.is_some_and(|(value, limit)| value < limit),
        _ => false,
    }
}
