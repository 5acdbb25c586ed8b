//! Orders that are chance: of Go's maps, of caches, of what is asked at once.

use serde_json::Value;

use super::text;

/// Sorts the members of lists and the rows of tables, in every form; in protobuf a list is in field 2 of its envelope.
pub fn in_any_order(answer: &mut Value) {
    for field in ["items", "rows", "2"] {
        if let Some(members) = answer.get_mut(field).and_then(Value::as_array_mut) {
            members.iter_mut().for_each(in_any_order);
            members.sort_by_key(Value::to_string);
        }
    }
}

/// What does not fit an applied object is told in the order of Go's maps.
pub(super) fn listed_problems(status: &mut Value) {
    const MANY: &str = ": errors:\n";
    let Some((head, problems)) = text(&status["message"]).split_once(MANY) else {
        return;
    };
    let mut problems: Vec<&str> = problems.lines().collect();
    problems.sort_unstable();
    status["message"] = format!("{head}{MANY}{}", problems.join("\n")).into();
}

/// Field 17 of metadata holds the managed fields, whose order is chance as in JSON.
pub(super) fn in_order(field: &str, members: &mut [Value]) {
    if field == "17"
        && members
            .iter()
            .all(|of| of["3"].is_array() && of["6"].is_array())
    {
        members.sort_by_key(|of| ["2", "1", "8", "3"].map(|field| of[field].to_string()));
    }
}

/// Who writes the status of flow schemas, at a time of his own.
const FLOWS: &str = "api-priority-and-fairness-config-consumer-v1";

/// Managed fields are in the order of their times, which is chance where they are of one second or of two. Rules that a review
/// found are in that of upstream's caches.
pub(super) fn unordered(object: &mut Value) {
    for field in ["resourceRules", "nonResourceRules"] {
        if let Some(rules) = object.get_mut(field).and_then(Value::as_array_mut) {
            rules.sort_by_key(Value::to_string);
        }
    }
    let conditions = object.get_mut("conditions").and_then(Value::as_array_mut);
    if let Some(conditions) = conditions {
        let before = conditions.len();
        conditions.retain(|of| of["type"] != "Dangling");
        if conditions.is_empty() && before > 0 {
            object.as_object_mut().map(|of| of.remove("conditions"));
        }
    }
    let entries = object
        .get_mut("managedFields")
        .and_then(Value::as_array_mut);
    if let Some(entries) = entries {
        entries.retain(|of| of["manager"] != FLOWS);
        let name = |entry: &Value| {
            ["operation", "manager", "subresource", "apiVersion"]
                .map(|of| text(&entry[of]).to_owned())
        };
        entries.sort_by_key(name);
    }
}
