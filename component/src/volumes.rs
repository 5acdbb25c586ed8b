//! What a claim asks of a volume, as everybody who binds one to the other has to read it.
//!
//! Pure. Upstream: `component-helpers/storage/volume`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proto::quantity::Quantity;

/// The class of a claim or volume, before there was a field for it.
pub const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// On a claim: the node that the scheduler chose for its pod.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a claim whose binding is written on both sides.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a claim or volume that was bound by a program, and may be unbound by one.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

fn class<'o>(meta: &'o ObjectMeta, field: Option<&'o String>) -> &'o str {
    let old = meta.annotations.as_ref().and_then(|a| a.get(CLASS));
    old.or(field).map_or("", String::as_str)
}

/// The class of a volume; empty if none.
#[must_use]
pub fn class_of_volume(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref();
    class(
        &volume.metadata,
        spec.and_then(|s| s.storage_class_name.as_ref()),
    )
}

/// The class that a claim asks for; empty if none.
#[must_use]
pub fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let spec = claim.spec.as_ref();
    class(
        &claim.metadata,
        spec.and_then(|s| s.storage_class_name.as_ref()),
    )
}

/// Whether a volume is bound to a claim, or was set aside for it.
#[must_use]
pub fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    reference.is_some_and(|r| {
        let uid = r.uid.as_ref().filter(|uid| !uid.is_empty());
        r.name == claim.metadata.name
            && r.namespace == claim.metadata.namespace
            && uid.is_none_or(|uid| Some(uid) == claim.metadata.uid.as_ref())
    })
}

/// The storage among some resources, in bytes; zero if nothing is said of it.
#[must_use]
pub fn storage(amounts: Option<&BTreeMap<String, Amount>>) -> Quantity {
    let amount = amounts.and_then(|all| all.get("storage"));
    amount.and_then(|a| a.0.parse().ok()).unwrap_or_default()
}

/// How large a volume is.
#[must_use]
pub fn size_of_volume(volume: &PersistentVolume) -> Quantity {
    storage(volume.spec.as_ref().and_then(|s| s.capacity.as_ref()))
}

/// How large a volume a claim asks for.
#[must_use]
pub fn asked_by(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|s| s.resources.as_ref());
    storage(resources.and_then(|r| r.requests.as_ref()))
}

/// Whether both are a file system, or both a device.
#[must_use]
pub fn modes_agree(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let is = |mode: Option<&String>| mode.map_or("Filesystem", String::as_str).to_owned();
    let volume = volume.spec.as_ref().and_then(|s| s.volume_mode.as_ref());
    let claim = claim.spec.as_ref().and_then(|s| s.volume_mode.as_ref());
    is(volume) == is(claim)
}

/// Whether a volume can be used in all ways that a claim asks for.
#[must_use]
pub fn allows_access(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let has = volume.spec.as_ref().and_then(|s| s.access_modes.as_deref());
    let wants = claim.spec.as_ref().and_then(|s| s.access_modes.as_deref());
    let has = has.unwrap_or_default();
    let mut wants = wants.unwrap_or_default().iter();
    wants.all(|mode| has.contains(mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim(spec: &serde_json::Value) -> PersistentVolumeClaim {
        let meta = json!({"name": "c", "namespace": "ns", "uid": "u", "annotations": {}});
        proto::typed::from_json_value(json!({"metadata": meta, "spec": spec})).unwrap()
    }

    fn volume(spec: &serde_json::Value) -> PersistentVolume {
        proto::typed::from_json_value(json!({"metadata": {"name": "v"}, "spec": spec})).unwrap()
    }

    #[test]
    fn the_old_annotation_goes_before_the_field() {
        let mut claim = claim(&json!({"storageClassName": "new"}));
        assert_eq!(class_of_claim(&claim), "new");
        let annotations = claim.metadata.annotations.get_or_insert_default();
        annotations.insert(CLASS.to_owned(), String::new());
        assert_eq!(class_of_claim(&claim), "");
        assert_eq!(class_of_volume(&volume(&json!({}))), "");
    }

    #[test]
    fn a_volume_is_for_the_claim_that_it_names() {
        let claim = claim(&json!({}));
        for (reference, is) in [
            (json!({"name": "c", "namespace": "ns", "uid": "u"}), true),
            (json!({"name": "c", "namespace": "ns", "uid": ""}), true),
            (json!({"name": "c", "namespace": "ns"}), true),
            (json!({"name": "c", "namespace": "ns", "uid": "x"}), false),
            (json!({"name": "c", "namespace": "other"}), false),
        ] {
            let volume = volume(&json!({"claimRef": reference}));
            assert_eq!(is_for(&volume, &claim), is, "{reference}");
        }
        assert!(!is_for(&volume(&json!({})), &claim));
    }

    #[test]
    fn sizes_modes_and_access_are_compared_with_what_is_unsaid() {
        let small =
            volume(&json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}));
        let wants = claim(&json!({
            "resources": {"requests": {"storage": "1024Mi"}},
            "volumeMode": "Filesystem", "accessModes": ["ReadWriteOnce"],
        }));
        assert!(size_of_volume(&small) == asked_by(&wants) && modes_agree(&small, &wants));
        assert!(allows_access(&small, &wants) && allows_access(&small, &claim(&json!({}))));
        let device = claim(&json!({"volumeMode": "Block", "accessModes": ["ReadWriteMany"]}));
        assert!(!modes_agree(&small, &device) && !allows_access(&small, &device));
        assert_eq!(asked_by(&device), Quantity::default());
    }
}
