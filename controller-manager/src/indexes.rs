//! Indexes that several controllers share.

use component::informer::{Index, Informer};
use k8s_openapi::api::core::v1::{Pod, Volume};

/// Pods by the name of their node.
#[must_use]
pub fn pods_by_node(pods: &Informer<Pod>) -> Index {
    pods.index("spec.nodeName", |pod| {
        let node = pod.spec.as_ref().and_then(|s| s.node_name.clone());
        node.filter(|name| !name.is_empty()).into_iter().collect()
    })
}

/// Pods by each of their labels, under [`label`].
#[must_use]
pub fn pods_by_label(pods: &Informer<Pod>) -> Index {
    pods.index("label", |pod| {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let labels = pod.metadata.labels.iter().flatten();
        labels.map(|(k, v)| label(namespace, k, v)).collect()
    })
}

/// A label of a namespace's objects, as indexes have it.
#[must_use]
pub fn label(namespace: &str, key: &str, value: &str) -> String {
    format!("{namespace}/{key}={value}")
}

/// Pods by the claims that their volumes need, as `namespace/name`.
#[must_use]
pub fn pods_by_claim(pods: &Informer<Pod>) -> Index {
    pods.index("claim", claims)
}

/// The claims that a pod's volumes need, as `namespace/name`.
#[must_use]
pub fn claims(pod: &Pod) -> Vec<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_deref());
    let names = volumes
        .unwrap_or_default()
        .iter()
        .filter_map(|v| claim(pod, v));
    names.map(|name| format!("{namespace}/{name}")).collect()
}

/// The name of the claim that a volume of a pod needs.
#[must_use]
pub fn claim(pod: &Pod, volume: &Volume) -> Option<String> {
    if let Some(claim) = &volume.persistent_volume_claim {
        return Some(claim.claim_name.clone());
    }
    volume.ephemeral.as_ref()?;
    let pod = pod.metadata.name.as_deref().unwrap_or_default();
    Some(format!("{pod}-{}", volume.name))
}
