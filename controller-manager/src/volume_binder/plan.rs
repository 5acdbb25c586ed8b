//! The next step of a claim and of a volume. Each step is one write; what it changes wakes the next.

use std::sync::Arc;

use component::volumes::{BIND_COMPLETED, BOUND_BY_CONTROLLER, is_for, modes_agree};
use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus,
};

use super::fit::satisfies;

/// An event about the claim or the volume of a step: whether it is a warning, its reason, its message.
pub(super) type Told = (bool, &'static str, String);

/// What is to be done.
#[derive(PartialEq, Debug)]
pub(super) enum Step {
    Nothing,
    Volume(Box<PersistentVolume>),
    VolumeStatus(Box<PersistentVolume>, Option<Told>),
    Claim(Box<PersistentVolumeClaim>),
    ClaimStatus(Box<PersistentVolumeClaim>, Option<Told>),
    /// Only an event about the claim.
    Tell(Told),
    /// No volume fits: a class may make one.
    Provision,
    /// The volume's claim is gone, its policy says what follows.
    Reclaim,
}

fn has(annotations: Option<&std::collections::BTreeMap<String, String>>, key: &str) -> bool {
    annotations.is_some_and(|a| a.contains_key(key))
}

/// Whether a claim was bound once.
#[must_use]
pub(super) fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    has(claim.metadata.annotations.as_ref(), BIND_COMPLETED)
}

/// The next step of a claim that names no volume yet; `found` fits it best.
#[must_use]
pub(super) fn search(claim: &PersistentVolumeClaim, found: Option<&Arc<PersistentVolume>>) -> Step {
    match found {
        Some(volume) => bind(volume, claim),
        None => Step::Provision,
    }
}

/// The next step of a claim that is not bound, but names a volume.
#[must_use]
pub(super) fn join(
    claim: &PersistentVolumeClaim,
    named: &str,
    volume: Option<&PersistentVolume>,
) -> Step {
    let Some(volume) = volume else {
        return status(claim, "Pending", None, None);
    };
    let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    if reference.is_none() {
        return match satisfies(volume, claim) {
            Ok(()) => bind(volume, claim),
            Err(why) => {
                let message = format!("Cannot bind to requested volume {named:?}: {why}");
                status_or_tell(claim, (true, "VolumeMismatch", message))
            }
        };
    }
    if is_for(volume, claim) {
        return bind(volume, claim);
    }
    let message = format!("volume {named:?} already bound to a different claim.");
    status_or_tell(claim, (true, "FailedBinding", message))
}

/// The next step of a claim that was bound.
#[must_use]
pub(super) fn keep(claim: &PersistentVolumeClaim, volume: Option<&PersistentVolume>) -> Step {
    let named = claim
        .spec
        .as_ref()
        .and_then(|s| s.volume_name.as_deref())
        .unwrap_or_default();
    let lost = |reason, message: &str| {
        let told = (true, reason, message.to_owned());
        status(claim, "Lost", None, Some(told))
    };
    if named.is_empty() {
        return lost(
            "ClaimLost",
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        );
    }
    let Some(volume) = volume else {
        return lost(
            "ClaimLost",
            "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
        );
    };
    let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    if reference.is_none_or(|r| r.uid == claim.metadata.uid) {
        return bind(volume, claim);
    }
    lost(
        "ClaimMisbound",
        "Two claims are bound to the same volume, this one is bound incorrectly",
    )
}

/// The next of the four writes that bind a volume and a claim.
fn bind(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Step {
    let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    if reference.is_none_or(|r| r.uid != claim.metadata.uid) || !is_for(volume, claim) {
        let mut next = volume.clone();
        if !is_for(volume, claim) {
            let annotations = next.metadata.annotations.get_or_insert_default();
            annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
        }
        next.spec.get_or_insert_default().claim_ref = Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("PersistentVolumeClaim".to_owned()),
            namespace: claim.metadata.namespace.clone(),
            name: claim.metadata.name.clone(),
            uid: claim.metadata.uid.clone(),
            resource_version: claim.metadata.resource_version.clone(),
            field_path: None,
        });
        return Step::Volume(Box::new(next));
    }
    if let Some(step) = phase(volume, "Bound", None) {
        return step;
    }
    let named = claim.spec.as_ref().and_then(|s| s.volume_name.as_ref());
    let own = named.is_some_and(|n| Some(n) == volume.metadata.name.as_ref());
    if !own || !is_bound(claim) {
        let mut next = claim.clone();
        let annotations = next.metadata.annotations.get_or_insert_default();
        if !own {
            annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
        }
        annotations.insert(BIND_COMPLETED.to_owned(), "yes".to_owned());
        next.spec
            .get_or_insert_default()
            .volume_name
            .clone_from(&volume.metadata.name);
        return Step::Claim(Box::new(next));
    }
    status(claim, "Bound", Some(volume), None)
}

/// The claim's status in this phase.
fn status(
    claim: &PersistentVolumeClaim,
    phase: &str,
    volume: Option<&PersistentVolume>,
    told: Option<Told>,
) -> Step {
    let old = claim.status.clone().unwrap_or_default();
    let enters = old.phase.as_deref() != Some(phase);
    let mut new = PersistentVolumeClaimStatus {
        phase: Some(phase.to_owned()),
        ..old.clone()
    };
    match volume.and_then(|v| v.spec.as_ref()) {
        None => {
            new.access_modes = None;
            new.capacity = None;
            new.current_volume_attributes_class_name = None;
        }
        Some(spec) => {
            new.access_modes.clone_from(&spec.access_modes);
            if enters {
                new.capacity.clone_from(&spec.capacity);
                new.current_volume_attributes_class_name
                    .clone_from(&spec.volume_attributes_class_name);
            }
        }
    }
    if new == old {
        return Step::Nothing;
    }
    let next = PersistentVolumeClaim {
        status: Some(new),
        ..claim.clone()
    };
    Step::ClaimStatus(Box::new(next), told.filter(|_| enters))
}

/// The claim waits, and is told why.
#[must_use]
pub(super) fn status_or_tell(claim: &PersistentVolumeClaim, told: Told) -> Step {
    match status(claim, "Pending", None, None) {
        Step::ClaimStatus(claim, _) => Step::ClaimStatus(claim, Some(told)),
        _ => Step::Tell(told),
    }
}

/// The volume's status in this phase; none if it is.
fn phase(volume: &PersistentVolume, phase: &str, told: Option<Told>) -> Option<Step> {
    let status = volume.status.as_ref();
    if status.and_then(|s| s.phase.as_deref()) == Some(phase) {
        return None;
    }
    let mut next = volume.clone();
    let status = next.status.get_or_insert_default();
    status.phase = Some(phase.to_owned());
    status.message = told.as_ref().map(|(_, _, message)| message.clone());
    Some(Step::VolumeStatus(Box::new(next), told))
}

/// What is known of the claim that a volume is bound to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owner<'c> {
    Gone,
    There(&'c PersistentVolumeClaim),
}

/// The next step of a volume that is not bound, or meant for a claim that did not come yet.
#[must_use]
pub(super) fn offer(volume: &PersistentVolume) -> Step {
    phase(volume, "Available", None).unwrap_or(Step::Nothing)
}

/// The next step of a volume that is bound.
#[must_use]
pub(super) fn hold(volume: &PersistentVolume, owner: Owner<'_>) -> Step {
    let claim = match owner {
        Owner::Gone => {
            let now = volume.status.as_ref().and_then(|s| s.phase.as_deref());
            return match now {
                Some("Released" | "Failed") => Step::Reclaim,
                _ => phase(volume, "Released", None).unwrap_or(Step::Reclaim),
            };
        }
        Owner::There(claim) => claim,
    };
    let named = claim
        .spec
        .as_ref()
        .and_then(|s| s.volume_name.as_deref())
        .unwrap_or_default();
    if named.is_empty() {
        if !modes_agree(volume, claim) {
            let volume = volume.metadata.name.as_deref().unwrap_or_default();
            return Step::Tell((
                true,
                "VolumeMismatch",
                format!(
                    "Cannot bind PersistentVolume {volume:?} to requested PersistentVolumeClaim due to incompatible volumeMode."
                ),
            ));
        }
        // The claim's turn.
        return Step::Nothing;
    }
    if Some(named) == volume.metadata.name.as_deref() {
        return phase(volume, "Bound", None).unwrap_or(Step::Nothing);
    }
    // The claim took another one.
    let mut next = volume.clone();
    let by_controller = has(volume.metadata.annotations.as_ref(), BOUND_BY_CONTROLLER);
    if let Some(spec) = &mut next.spec {
        if by_controller {
            spec.claim_ref = None;
        } else if let Some(reference) = &mut spec.claim_ref {
            reference.uid = None;
        }
    }
    if let Some(annotations) = &mut next.metadata.annotations {
        annotations.remove(BOUND_BY_CONTROLLER);
    }
    Step::Volume(Box::new(next))
}

/// A volume that cannot be deleted.
#[must_use]
pub(super) fn failed(volume: &PersistentVolume, why: String) -> Step {
    phase(volume, "Failed", Some((true, "VolumeFailedDelete", why))).unwrap_or(Step::Nothing)
}

#[cfg(test)]
mod tests {
    use super::super::fit::tests::{claim, volume};
    use super::*;
    use serde_json::json;

    #[test]
    fn binding_takes_four_writes_and_ends() {
        let mut pv = volume("v", "5Gi", json!({}));
        let mut pvc = claim(json!({}));
        let mut kinds = Vec::new();
        loop {
            match bind(&pv, &pvc) {
                Step::Volume(next) => {
                    kinds.push("volume");
                    pv = Arc::new(*next);
                }
                Step::VolumeStatus(next, _) => {
                    kinds.push("volume status");
                    pv = Arc::new(*next);
                }
                Step::Claim(next) => {
                    kinds.push("claim");
                    pvc = *next;
                }
                Step::ClaimStatus(next, _) => {
                    kinds.push("claim status");
                    pvc = *next;
                }
                Step::Nothing => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(kinds, ["volume", "volume status", "claim", "claim status"]);
        assert_eq!(pvc.spec.as_ref().unwrap().volume_name.as_deref(), Some("v"));
        let status = pvc.status.clone().unwrap();
        assert_eq!(status.phase.as_deref(), Some("Bound"));
        assert_eq!(status.capacity.unwrap()["storage"].0, "5Gi");
        assert!(is_bound(&pvc));
        assert_eq!(keep(&pvc, Some(&pv)), Step::Nothing);
        assert_eq!(hold(&pv, Owner::There(&pvc)), Step::Nothing);
    }

    #[test]
    fn a_bound_claim_without_its_volume_is_lost() {
        let mut pvc = claim(json!({"volumeName": "v"}));
        pvc.metadata.annotations = Some([(BIND_COMPLETED.to_owned(), "yes".to_owned())].into());
        let Step::ClaimStatus(lost, Some((_, reason, _))) = keep(&pvc, None) else {
            panic!("lost")
        };
        assert_eq!(lost.status.unwrap().phase.as_deref(), Some("Lost"));
        assert_eq!(reason, "ClaimLost");
    }

    #[test]
    fn a_volume_whose_claim_went_is_released_and_then_reclaimed() {
        let pv = volume(
            "v",
            "5Gi",
            json!({"claimRef": {"namespace": "ns", "name": "c", "uid": "uid-c"}}),
        );
        let Step::VolumeStatus(released, _) = hold(&pv, Owner::Gone) else {
            panic!("released")
        };
        assert_eq!(hold(&released, Owner::Gone), Step::Reclaim);
    }

    #[test]
    fn a_claim_that_names_a_volume_of_others_waits() {
        let pv = volume(
            "v",
            "5Gi",
            json!({"claimRef": {"namespace": "ns", "name": "d", "uid": "x"}}),
        );
        let Step::Tell((true, "FailedBinding", message)) =
            join(&claim(json!({"volumeName": "v"})), "v", Some(&pv))
        else {
            panic!("waits")
        };
        assert_eq!(message, "volume \"v\" already bound to a different claim.");
    }
}
