//! What a node's conditions mean for its taints, labels and pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::taints::{self, NO_EXECUTE, NO_SCHEDULE, NOT_READY, UNREACHABLE, taint};

const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Which condition in which status means which taint.
const TAINTS: &[(&str, &str, &str)] = &[
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    (
        "MemoryPressure",
        "True",
        "node.kubernetes.io/memory-pressure",
    ),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    (
        "NetworkUnavailable",
        "True",
        "node.kubernetes.io/network-unavailable",
    ),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

/// Conditions that only the kubelet knows.
const FROM_KUBELET: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Old labels and the ones whose values they have.
const LABELS: [(&str, &str); 2] = [
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
];

/// A condition of a node.
#[must_use]
pub fn condition<'n>(node: &'n Node, kind: &str) -> Option<&'n NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == kind)
}

/// The status of a node's `Ready` condition.
#[must_use]
pub fn ready(node: &Node) -> Option<&str> {
    condition(node, "Ready").map(|c| c.status.as_str())
}

/// The `NoSchedule` taints that come and go with the node's conditions: those to add, those to remove.
#[must_use]
pub fn no_schedule(node: &Node) -> (Vec<Taint>, Vec<Taint>) {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_deref());
    let of = |c: &NodeCondition| {
        let row = TAINTS
            .iter()
            .find(|(k, s, _)| *k == c.type_ && *s == c.status);
        row.map(|(_, _, key)| taint(key, NO_SCHEDULE))
    };
    let mut wanted: Vec<Taint> = conditions
        .unwrap_or_default()
        .iter()
        .filter_map(of)
        .collect();
    let spec = node.spec.as_ref();
    if spec.and_then(|s| s.unschedulable).unwrap_or(false) {
        wanted.push(taint(UNSCHEDULABLE, NO_SCHEDULE));
    }
    let ours = |t: &&Taint| {
        t.effect == NO_SCHEDULE
            && (t.key == UNSCHEDULABLE || TAINTS.iter().any(|(_, _, key)| *key == t.key))
    };
    let has: Vec<Taint> = taints::of(node).iter().filter(ours).cloned().collect();
    let without = |from: &[Taint], others: &[Taint]| -> Vec<Taint> {
        let new = |t: &&Taint| !others.iter().any(|o| taints::matches(o, t));
        from.iter().filter(new).cloned().collect()
    };
    (without(&wanted, &has), without(&has, &wanted))
}

/// The `NoExecute` taint of a node in this state, and the one that it must not have then.
#[must_use]
pub fn no_execute(ready: &str) -> Option<(Taint, Taint)> {
    let (not_ready, unreachable) = (taint(NOT_READY, NO_EXECUTE), taint(UNREACHABLE, NO_EXECUTE));
    match ready {
        "False" => Some((not_ready, unreachable)),
        "Unknown" => Some((unreachable, not_ready)),
        _ => None,
    }
}

/// Both of them.
#[must_use]
pub fn both() -> [Taint; 2] {
    [taint(NOT_READY, NO_EXECUTE), taint(UNREACHABLE, NO_EXECUTE)]
}

/// Whether a node has this taint.
#[must_use]
pub fn has(node: &Node, wanted: &Taint) -> bool {
    taints::of(node).iter().any(|t| taints::matches(t, wanted))
}

/// Old labels that have to follow the new ones.
#[must_use]
pub fn labels(node: &Node) -> BTreeMap<&'static str, String> {
    let labels = node.metadata.labels.as_ref();
    let get = |key: &str| labels.and_then(|l| l.get(key));
    let follow = |(old, new): (&'static str, &str)| {
        let value = get(new).filter(|value| get(old) != Some(value))?;
        Some((old, value.clone()))
    };
    LABELS.into_iter().filter_map(follow).collect()
}

/// The conditions of a node whose kubelet is not heard of, those that change.
#[must_use]
pub fn unknown(node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    let change = |kind: &str| match condition(node, kind) {
        None => Some(NodeCondition {
            type_: kind.to_owned(),
            status: "Unknown".to_owned(),
            reason: Some("NodeStatusNeverUpdated".to_owned()),
            message: Some("Kubelet never posted node status.".to_owned()),
            last_heartbeat_time: node.metadata.creation_timestamp.clone(),
            last_transition_time: Some(Time(now)),
        }),
        Some(known) if known.status != "Unknown" => Some(NodeCondition {
            status: "Unknown".to_owned(),
            reason: Some("NodeStatusUnknown".to_owned()),
            message: Some("Kubelet stopped posting node status.".to_owned()),
            last_transition_time: Some(Time(now)),
            ..known.clone()
        }),
        Some(_) => None,
    };
    FROM_KUBELET.into_iter().filter_map(change).collect()
}

/// The failure zone of a node: region and zone.
#[must_use]
pub fn zone(node: &Node) -> String {
    let labels = node.metadata.labels.as_ref();
    let get = |old: &str, new: &str| {
        let value = labels.and_then(|l| l.get(old).or_else(|| l.get(new)));
        value.cloned().unwrap_or_default()
    };
    let zone = get(
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/zone",
    );
    let region = get(
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/region",
    );
    if zone.is_empty() && region.is_empty() {
        String::new()
    } else {
        format!("{region}:\0:{zone}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(conditions: serde_json::Value, spec: serde_json::Value) -> Node {
        proto::typed::from_json_value(json!({
            "metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z",
                         "labels": {"kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "x", "kubernetes.io/arch": "amd64"}},
            "spec": spec, "status": {"conditions": conditions}
        }))
        .unwrap()
    }

    #[test]
    fn conditions_become_taints_and_leave_others_alone() {
        let sick = node(
            json!([{"type": "Ready", "status": "False"}, {"type": "DiskPressure", "status": "True"}]),
            json!({"unschedulable": true, "taints": [
                {"key": NOT_READY, "effect": "NoSchedule"}, {"key": "mine", "effect": "NoSchedule"},
                {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"},
                {"key": UNREACHABLE, "effect": "NoExecute"}]}),
        );
        let (add, remove) = no_schedule(&sick);
        let keys = |taints: &[Taint]| taints.iter().map(|t| t.key.clone()).collect::<Vec<_>>();
        assert_eq!(
            keys(&add),
            ["node.kubernetes.io/disk-pressure", UNSCHEDULABLE]
        );
        assert_eq!(keys(&remove), ["node.kubernetes.io/memory-pressure"]);
    }

    #[test]
    fn a_silent_kubelet_makes_its_conditions_unknown() {
        let silent = node(
            json!([{"type": "Ready", "status": "True"}, {"type": "PIDPressure", "status": "Unknown"},
                   {"type": "NetworkUnavailable", "status": "False"}]),
            json!({}),
        );
        let changed = unknown(&silent, Timestamp::UNIX_EPOCH);
        let all: Vec<_> = changed
            .iter()
            .map(|c| (c.type_.as_str(), c.reason.as_deref().unwrap()))
            .collect();
        assert_eq!(
            all,
            [
                ("Ready", "NodeStatusUnknown"),
                ("MemoryPressure", "NodeStatusNeverUpdated"),
                ("DiskPressure", "NodeStatusNeverUpdated")
            ]
        );
        assert_eq!(
            changed[1].last_heartbeat_time,
            silent.metadata.creation_timestamp
        );
    }

    #[test]
    fn old_labels_follow_the_new_ones() {
        let labels = labels(&node(json!([]), json!({})));
        assert_eq!(labels["beta.kubernetes.io/os"], "linux");
        assert_eq!(labels["beta.kubernetes.io/arch"], "amd64");
    }
}
