//! Objects for tests.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use crate::pod::PodInfo;

/// A node with room for 110 pods, 4 CPUs and 8 GB.
pub(crate) fn node(name: &str, labels: Value) -> Arc<Node> {
    node_with(
        name,
        labels,
        json!({}),
        json!({ "cpu": "4", "memory": "8G", "pods": "110" }),
    )
}

pub(crate) fn node_with(
    name: &str,
    mut labels: Value,
    spec: Value,
    allocatable: Value,
) -> Arc<Node> {
    labels["kubernetes.io/hostname"] = json!(name);
    let node = json!({ "metadata": { "name": name, "labels": labels }, "spec": spec,
        "status": { "allocatable": allocatable } });
    Arc::new(proto::typed::from_json_value(node).unwrap())
}

pub(crate) fn pod(name: &str, spec: Value) -> Arc<PodInfo> {
    labelled_pod(name, json!({}), spec)
}

pub(crate) fn labelled_pod(name: &str, labels: Value, mut spec: Value) -> Arc<PodInfo> {
    if spec.get("containers").is_none() {
        spec["containers"] = json!([]);
    }
    let pod = json!({ "metadata": { "name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": labels },
        "spec": spec });
    object(pod)
}

pub(crate) fn object(pod: Value) -> Arc<PodInfo> {
    let pod: Pod = proto::typed::from_json_value(pod).unwrap();
    Arc::new(PodInfo::new(Arc::new(pod)))
}
