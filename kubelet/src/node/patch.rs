//! What changed in a node, as a strategic merge patch.
//!
//! Conditions are merged by type, so that those of others are not touched; addresses are replaced as
//! a whole, because their merge key is not unique (kubernetes/kubernetes#79391).

use k8s_openapi::api::core::v1::Node;
use serde_json::{Map, Value, json};

/// The patch that makes `after` out of `before`; none if they are equal.
#[must_use]
pub fn between(before: &Node, after: &Node) -> Option<Value> {
    let tree = |node: &Node| {
        let mut tree = serde_json::to_value(node).unwrap_or_default();
        if let Some(top) = tree.as_object_mut() {
            top.remove("apiVersion");
            top.remove("kind");
        }
        tree
    };
    let patch = difference(&tree(before), &tree(after), "");
    patch
        .as_object()
        .is_some_and(|p| !p.is_empty())
        .then_some(patch)
}

/// RFC 7386 between objects, but for the two lists.
fn difference(before: &Value, after: &Value, path: &str) -> Value {
    let (Value::Object(before), Value::Object(after)) = (before, after) else {
        return after.clone();
    };
    let mut patch = Map::new();
    for (name, value) in after {
        let old = before.get(name).unwrap_or(&Value::Null);
        if old == value {
            continue;
        }
        match format!("{path}/{name}").as_str() {
            "/status/conditions" => {
                patch.insert(name.clone(), changed_conditions(old, value));
                patch.insert(format!("$setElementOrder/{name}"), order(value));
            }
            "/status/addresses" => {
                let mut all = value.as_array().cloned().unwrap_or_default();
                all.push(json!({"$patch": "replace"}));
                patch.insert(name.clone(), all.into());
            }
            at => {
                patch.insert(name.clone(), difference(old, value, at));
            }
        }
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    patch.into()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// For each condition that changed, its type and the fields that did.
fn changed_conditions(before: &Value, after: &Value) -> Value {
    let changed = list(after).iter().filter_map(|condition| {
        let same_type = |old: &&Value| old.get("type") == condition.get("type");
        let old = list(before).iter().find(same_type);
        match old {
            Some(old) if old == condition => None,
            Some(old) => {
                let mut fields = difference(old, condition, "condition");
                fields["type"] = condition["type"].clone();
                Some(fields)
            }
            None => Some(condition.clone()),
        }
    });
    changed.collect::<Vec<_>>().into()
}

fn order(conditions: &Value) -> Value {
    let types = list(conditions)
        .iter()
        .map(|condition| json!({"type": condition["type"]}));
    types.collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(value: Value) -> Node {
        proto::typed::from_json_value(value).unwrap()
    }

    #[test]
    fn only_what_changed_is_sent_and_conditions_go_by_type() {
        let before = node(json!({
            "metadata": {"name": "n", "labels": {"a": "1", "b": "2"}},
            "status": {
                "capacity": {"cpu": "4", "gone": "1"},
                "conditions": [
                    {"type": "Other", "status": "True"},
                    {"type": "Ready", "status": "False", "reason": "x"},
                ],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "images": [{"names": ["a"]}],
            },
        }));
        let after = node(json!({
            "metadata": {"name": "n", "labels": {"a": "1", "b": "3"}},
            "status": {
                "capacity": {"cpu": "4"},
                "conditions": [
                    {"type": "Other", "status": "True"},
                    {"type": "Ready", "status": "True", "reason": "x"},
                ],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.2"}],
                "images": [{"names": ["b"]}],
            },
        }));
        assert_eq!(
            between(&before, &after).unwrap(),
            json!({
                "metadata": {"labels": {"b": "3"}},
                "status": {
                    "capacity": {"gone": null},
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "$setElementOrder/conditions": [{"type": "Other"}, {"type": "Ready"}],
                    "addresses": [
                        {"type": "InternalIP", "address": "10.0.0.2"},
                        {"$patch": "replace"},
                    ],
                    "images": [{"names": ["b"]}],
                },
            })
        );
        assert_eq!(between(&before, &before), None);
    }
}
