//! What the plugins about storage have in common.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::pod::PodInfo;

/// An object that a pod needs is not there, in the words of the API server.
pub(super) fn not_found(kind: &str, name: &str) -> String {
    format!("{kind} {name:?} not found")
}

/// Whether a pod uses a claim. `ephemeral`: also one that is made for it.
pub(super) fn asks_for(pod: &PodInfo, claim: &PersistentVolumeClaim, ephemeral: bool) -> bool {
    let meta = &claim.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    meta.namespace.as_deref() == Some(pod.namespace())
        && pod
            .claims
            .iter()
            .any(|c| &*c.name == name && (ephemeral || !c.ephemeral))
}

/// Why a claim with the name of a pod's own is not the pod's, if it is not.
pub(super) fn not_for_pod(pod: &PodInfo, claim: &PersistentVolumeClaim) -> Option<String> {
    let meta = &claim.metadata;
    let mut owners = meta.owner_references.iter().flatten();
    if owners.any(|o| o.controller == Some(true) && o.uid == *pod.uid) {
        return None;
    }
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    Some(format!(
        "PVC {}/{} was not created for pod {}/{} (pod is not owner)",
        text(&meta.namespace),
        text(&meta.name),
        pod.namespace(),
        pod.key.name()
    ))
}
