//! From a generated status to the change of an object: upstream's `mergePodStatus` and
//! `PatchPodStatus`.

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};

use super::conditions::{DISRUPTION, is_owned};
use crate::pod::spec;

/// What the API server's object is to have, given what it has: conditions of others stay, and a
/// terminal phase waits until nothing runs any more.
pub(crate) fn merged(api: &Pod, new: &PodStatus, may_run: bool, now: &Time) -> PodStatus {
    let none = PodStatus::default();
    let old = api.status.as_ref().unwrap_or(&none);
    let is_terminal = |s: &PodStatus| spec::is_terminal(s.phase.as_deref().unwrap_or_default());
    let ends = is_terminal(new) && !is_terminal(old);
    let mut merged = new.clone();
    let theirs = old
        .conditions
        .iter()
        .flatten()
        .filter(|c| !is_owned(&c.type_));
    let mut conditions: Vec<PodCondition> = theirs.cloned().collect();
    for condition in new.conditions.iter().flatten() {
        if is_owned(&condition.type_) {
            conditions.push(condition.clone());
        } else if condition.type_ == DISRUPTION && ends && !may_run {
            let mut disruption = condition.clone();
            let same = conditions.iter().find(|c| c.type_ == DISRUPTION);
            let same = same.filter(|c| c.status == disruption.status);
            let since = same.and_then(|c| c.last_transition_time.clone());
            disruption.last_transition_time = Some(since.unwrap_or_else(|| now.clone()));
            conditions.retain(|c| c.type_ != DISRUPTION);
            conditions.push(disruption);
        }
    }
    if ends && may_run {
        merged.phase.clone_from(&old.phase);
        merged.reason.clone_from(&old.reason);
        merged.message.clone_from(&old.message);
    }
    if is_terminal(&merged) {
        let succeeded = merged.phase.as_deref() == Some("Succeeded");
        let reason = if succeeded {
            "PodCompleted"
        } else {
            "PodFailed"
        };
        let ready = ["Ready", "ContainersReady"];
        let untrue = |c: &&mut PodCondition| c.status == "True" && ready.contains(&&*c.type_);
        for condition in conditions.iter_mut().filter(untrue) {
            condition.status = "False".into();
            condition.reason = Some(reason.into());
            condition.message = None;
            condition.last_transition_time = Some(now.clone());
        }
    }
    merged.conditions = Some(conditions);
    merged
        .resource_claim_statuses
        .clone_from(&old.resource_claim_statuses);
    merged
        .extended_resource_claim_status
        .clone_from(&old.extended_resource_claim_status);
    merged
        .node_allocatable_resource_claim_statuses
        .clone_from(&old.node_allocatable_resource_claim_statuses);
    merged
        .nominated_node_name
        .clone_from(&old.nominated_node_name);
    merged
}

/// Lists whose elements are merged by a key; all others are replaced whole.
const MERGED: [(&str, &str); 3] = [("conditions", "type"), ("podIPs", "ip"), ("hostIPs", "ip")];

/// The strategic merge patch that makes `new` of `old`, for the object with this uid alone; none if
/// they are the same.
pub(crate) fn patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let object = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        // A status is an object, and all of its keys are strings.
        _ => Map::new(),
    };
    let changes = difference(&object(old), &object(new), true);
    if changes.is_empty() {
        return None;
    }
    Some(json!({ "metadata": { "uid": uid }, "status": changes }))
}

fn difference(old: &Map<String, Value>, new: &Map<String, Value>, top: bool) -> Map<String, Value> {
    let mut changes = Map::new();
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        changes.insert(name.clone(), Value::Null);
    }
    for (name, value) in new {
        let was = old.get(name);
        if was == Some(value) {
            continue;
        }
        let key = MERGED.iter().find(|(list, _)| top && list == name);
        match (was, value, key) {
            (Some(Value::Array(was)), Value::Array(list), Some((_, key))) => {
                list_difference(name, key, was, list, &mut changes);
            }
            (Some(Value::Object(was)), Value::Object(fields), _) => {
                let inner = difference(was, fields, false);
                changes.insert(name.clone(), Value::Object(inner));
            }
            _ => drop(changes.insert(name.clone(), value.clone())),
        }
    }
    changes
}

/// Elements that changed or are new, and deletions, with the order of all.
fn list_difference(
    name: &str,
    key: &str,
    old: &[Value],
    new: &[Value],
    changes: &mut Map<String, Value>,
) {
    let of = |list: &[Value], element: &Value| {
        let found = list.iter().find(|other| other.get(key) == element.get(key));
        found.cloned()
    };
    let mut elements = Vec::new();
    for element in new {
        match (of(old, element), element) {
            (Some(was), element) if was == *element => {}
            (Some(Value::Object(was)), Value::Object(fields)) => {
                let mut inner = difference(&was, fields, false);
                inner.insert(
                    key.to_owned(),
                    element.get(key).cloned().unwrap_or_default(),
                );
                elements.push(Value::Object(inner));
            }
            _ => elements.push(element.clone()),
        }
    }
    for gone in old.iter().filter(|element| of(new, element).is_none()) {
        elements.push(json!({ "$patch": "delete", key: gone.get(key) }));
    }
    let order: Vec<_> = new
        .iter()
        .map(|element| json!({ key: element.get(key) }))
        .collect();
    changes.insert(format!("$setElementOrder/{name}"), Value::Array(order));
    if !elements.is_empty() {
        changes.insert(name.to_owned(), Value::Array(elements));
    }
}
