//! What comes later than the rest of the API, and is left out by one rule: custom resources and aggregation; expressions.
//!
//! Nothing is asked about these groups. Documents that tell what a server has (discovery, schemas, checks, paths) are compared
//! without the members, keys and lines that name them.

use serde_json::Value;

use super::value::text;

const GROUPS: &[&str] = &["apiextensions.k8s.io", "apiregistration.k8s.io"];
/// Parts of the names that belong to these groups: of schemas, tags, paths, checks.
const WORDS: &[&str] = &[
    "apiextensions",
    "apiregistration",
    "apiservice",
    "autoregist",
    "crd-informer",
    "kube-aggregator",
];

/// Whether a group version is of these groups.
pub fn is_later(version: &str) -> bool {
    let group = version.split_once('/').map_or("", |(group, _)| group);
    GROUPS.contains(&group)
}

/// Whether a field holds an expression, which is not compiled yet, or what consists of one.
pub fn is_expression(field: &str) -> bool {
    let last = field.rsplit('.').next().unwrap_or(field);
    last == "cel" || last.ends_with("xpression")
}

fn names(text: &str) -> bool {
    WORDS.iter().any(|word| text.contains(word))
}

/// Takes out of a document all that names these groups.
pub fn without(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !names(name));
            fields.values_mut().for_each(without);
        }
        Value::Array(members) => {
            members.retain(|member| !is_named(member));
            members.iter_mut().for_each(without);
        }
        Value::String(lines) if lines.contains('\n') => {
            let kept = lines.lines().filter(|line| !names(line));
            *lines = kept.map(|line| format!("{line}\n")).collect();
        }
        _ => {}
    }
}

/// Whether a member of a list is of these groups by its name, group or metadata; in protobuf these are its first field, or the
/// first field of that.
fn is_named(member: &Value) -> bool {
    // A list of such messages is not one of them.
    let only = |message: &Value| match message["1"].as_array().map(Vec::as_slice) {
        Some([only]) => only.clone(),
        _ => Value::Null,
    };
    let first = only(member);
    let of = [
        member,
        &member["name"],
        &member["group"],
        &member["metadata"]["name"],
        &first,
        &only(&first),
    ];
    of.into_iter().any(|name| names(text(name)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_names_a_later_group_is_taken_out() {
        assert!(is_later("apiextensions.k8s.io/v1") && !is_later("apps/v1") && !is_later("v1"));
        let mut groups =
            json!({"groups": [{"name": "apps"}, {"name": "apiregistration.k8s.io"}], "a": 1});
        without(&mut groups);
        assert_eq!(groups, json!({"groups": [{"name": "apps"}], "a": 1}));
        let mut items = json!({"items": [{"metadata": {"name": "apiextensions.k8s.io"}}], "paths": {"/apis/apiextensions.k8s.io": {}}});
        without(&mut items);
        assert_eq!(items, json!({"items": [], "paths": {}}));
        let mut checks = json!("[+]ping ok\n[+]poststarthook/crd-informer-synced ok\n");
        without(&mut checks);
        assert_eq!(checks, json!("[+]ping ok\n"));
    }

    #[test]
    fn what_holds_a_later_group_in_protobuf_stays() {
        let mut list = json!({"2": [{"1": [{"1": ["apps"]}, {"1": ["apiregistration.k8s.io"]}]}]});
        without(&mut list);
        assert_eq!(list, json!({"2": [{"1": [{"1": ["apps"]}]}]}));
        let mut groups =
            json!({"2": [{"1": [{"1": ["apiregistration.k8s.io"]}, {"1": ["apps"]}]}]});
        without(&mut groups);
        assert_eq!(groups, json!({"2": [{"1": [{"1": ["apps"]}]}]}));
    }

    #[test]
    fn expressions_are_known_by_the_names_of_their_fields() {
        assert!(is_expression("spec.validations[0].messageExpression"));
        assert!(is_expression("spec.selectors[0].cel") && is_expression("expression"));
        assert!(!is_expression("spec.cel.name") && !is_expression("spec.matchExpressions"));
    }
}
