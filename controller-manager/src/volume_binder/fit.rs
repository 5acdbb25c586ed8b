//! Which volume fits a claim.

use std::sync::Arc;

use component::volumes::{
    allows_access, asked_by, class_of_claim, class_of_volume, is_for, modes_agree, size_of_volume,
};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::selector::Selector;

/// Why a volume that a claim names cannot be bound to it.
///
/// # Errors
/// The reason, in upstream's words.
pub(super) fn satisfies(
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
) -> Result<(), &'static str> {
    if asked_by(claim) > size_of_volume(volume) {
        Err("requested PV is too small")
    } else if class_of_volume(volume) != class_of_claim(claim) {
        Err("storageClassName does not match")
    } else if !modes_agree(volume, claim) {
        Err("incompatible volumeMode")
    } else if !allows_access(volume, claim) {
        Err("incompatible accessMode")
    } else {
        Ok(())
    }
}

/// The volume of the claim's class that fits best: the one that is meant for it, otherwise the smallest.
/// With `delayed` the scheduler chooses, and only the former counts.
#[must_use]
pub(super) fn best(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    delayed: bool,
) -> Option<Arc<PersistentVolume>> {
    let spec = claim.spec.as_ref();
    let selector = match spec.and_then(|s| s.selector.as_ref()) {
        Some(selector) => Some(Selector::of(selector).ok()?),
        None => None,
    };
    let usable = |v: &&Arc<PersistentVolume>| {
        size_of_volume(v) >= asked_by(claim)
            && modes_agree(v, claim)
            && v.metadata.deletion_timestamp.is_none()
    };
    let free = |v: &&Arc<PersistentVolume>| {
        let phase = v.status.as_ref().and_then(|s| s.phase.as_deref());
        v.spec.as_ref().is_some_and(|s| s.claim_ref.is_none())
            && phase == Some("Available")
            && selector
                .as_ref()
                .is_none_or(|s| s.matches(v.metadata.labels.as_ref()))
            && class_of_volume(v) == class_of_claim(claim)
            && allows_access(v, claim)
    };
    let mut all = volumes.iter().filter(usable);
    if let Some(meant) = all.clone().find(|v| is_for(v, claim)) {
        return Some(Arc::clone(meant));
    }
    if delayed {
        return None;
    }
    // Of equal ones the first by name.
    let mut smallest: Option<&Arc<PersistentVolume>> = None;
    for volume in all.by_ref().filter(free) {
        if smallest.is_none_or(|s| size_of_volume(volume) < size_of_volume(s)) {
            smallest = Some(volume);
        }
    }
    smallest.map(Arc::clone)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::{Value, json};

    pub(crate) fn volume(name: &str, size: &str, more: Value) -> Arc<PersistentVolume> {
        let mut volume = json!({
            "metadata": {"name": name, "uid": format!("uid-{name}")},
            "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "slow"},
            "status": {"phase": "Available"}
        });
        for (key, value) in more.as_object().unwrap() {
            volume["spec"][key] = value.clone();
        }
        Arc::new(proto::typed::from_json_value(volume).unwrap())
    }

    pub(crate) fn claim(more: Value) -> PersistentVolumeClaim {
        let mut claim = json!({
            "metadata": {"name": "c", "namespace": "ns", "uid": "uid-c"},
            "spec": {"resources": {"requests": {"storage": "2Gi"}}, "accessModes": ["ReadWriteOnce"], "storageClassName": "slow"},
            "status": {"phase": "Pending"}
        });
        for (key, value) in more.as_object().unwrap() {
            claim["spec"][key] = value.clone();
        }
        proto::typed::from_json_value(claim).unwrap()
    }

    fn name(volume: Option<Arc<PersistentVolume>>) -> String {
        volume
            .and_then(|v| v.metadata.name.clone())
            .unwrap_or_default()
    }

    #[test]
    fn the_smallest_volume_that_fits_is_taken() {
        let volumes = [
            volume("big", "10Gi", json!({})),
            volume("small", "1Gi", json!({})),
            volume("good", "3Gi", json!({})),
            volume("other", "2Gi", json!({"storageClassName": "fast"})),
            volume("device", "2Gi", json!({"volumeMode": "Block"})),
            volume(
                "taken",
                "2Gi",
                json!({"claimRef": {"namespace": "ns", "name": "d"}}),
            ),
        ];
        assert_eq!(name(best(&claim(json!({})), &volumes, false)), "good");
        assert_eq!(name(best(&claim(json!({})), &volumes, true)), "");
        assert_eq!(
            name(best(
                &claim(json!({"accessModes": ["ReadWriteMany"]})),
                &volumes,
                false
            )),
            ""
        );
    }

    #[test]
    fn a_volume_that_is_meant_for_the_claim_comes_first() {
        let meant = json!({"claimRef": {"namespace": "ns", "name": "c"}});
        let volumes = [
            volume("good", "3Gi", json!({})),
            volume("meant", "10Gi", meant),
        ];
        assert_eq!(name(best(&claim(json!({})), &volumes, true)), "meant");
        let old = json!({"claimRef": {"namespace": "ns", "name": "c", "uid": "older"}});
        assert_eq!(
            name(best(&claim(json!({})), &[volume("old", "3Gi", old)], false)),
            ""
        );
    }
}
