//! Whose a claim is, by the retention policy: claims are deleted by deleting what owns them. Pure.
//!
//! A claim that goes with its set has the set as an owner; one that goes when the set is scaled down gets its pod as an
//! owner once that pod has to go. Source: `isClaimOwnerUpToDate` in `pkg/controller/statefulset/stateful_set_utils.go`.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::identity::start;
use crate::owners;

/// The owners that a claim has to get; none if they are right, or not this set's to change.
pub(super) fn owners(
    set: &StatefulSet,
    pod: &Pod,
    ordinal: i32,
    claim: &ObjectMeta,
) -> Option<Vec<OwnerReference>> {
    let own = [owners::reference(set), owners::reference(pod)];
    let same = |r: &OwnerReference, own: &OwnerReference| {
        r.api_version == own.api_version && r.kind == own.kind && r.name == own.name
    };
    let is_own = |r: &OwnerReference| own.iter().any(|own| same(r, own));
    let now = claim.owner_references.as_deref().unwrap_or_default();
    // Of a set or a pod of the same name that is gone: the garbage collector's.
    let stale = |r: &&OwnerReference| own.iter().any(|own| same(r, own) && r.uid != own.uid);
    if now.iter().any(|r| stale(&r)) {
        return None;
    }
    let (with_set, with_scale) = policy(set);
    let foreign = now.iter().any(|r| r.controller == Some(true) && !is_own(r));
    let first = start(set);
    let count = set.spec.replicas.unwrap_or(1).max(0);
    let surplus = !(first..first.saturating_add(count)).contains(&ordinal);
    let mut wanted: Vec<OwnerReference> = now.iter().filter(|r| !is_own(r)).cloned().collect();
    if !foreign {
        let [set, pod] = own;
        if with_scale && surplus {
            wanted.push(pod);
        } else if with_set {
            wanted.push(set);
        }
    }
    let of = |all: &[OwnerReference]| {
        let mut all: Vec<_> = all.iter().map(|r| (r.uid.clone(), r.controller)).collect();
        all.sort();
        all
    };
    (of(now) != of(&wanted)).then_some(wanted)
}

/// Whether claims go with the set, and with a scale down.
fn policy(set: &StatefulSet) -> (bool, bool) {
    let policy = set.spec.persistent_volume_claim_retention_policy.as_ref();
    let deletes = |word: Option<&String>| word.is_some_and(|w| w == "Delete");
    (
        deletes(policy.and_then(|p| p.when_deleted.as_ref())),
        deletes(policy.and_then(|p| p.when_scaled.as_ref())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(deleted: &str, scaled: &str) -> StatefulSet {
        let policy = json!({"whenDeleted": deleted, "whenScaled": scaled});
        proto::typed::from_json_value(json!({
            "metadata": {"name": "db", "uid": "s"},
            "spec": {"replicas": 1, "selector": {}, "template": {}, "serviceName": "db",
                "persistentVolumeClaimRetentionPolicy": policy},
        }))
        .unwrap()
    }

    fn pod(name: &str) -> Pod {
        proto::typed::from_json_value(json!({"metadata": {"name": name, "uid": "p"}})).unwrap()
    }

    fn uids(set: &StatefulSet, ordinal: i32, claim: &ObjectMeta) -> Option<Vec<String>> {
        let pod = pod(&format!("db-{ordinal}"));
        let owners = owners(set, &pod, ordinal, claim)?;
        Some(owners.into_iter().map(|r| r.uid).collect())
    }

    #[test]
    fn the_policy_says_what_a_claim_goes_with() {
        let none = ObjectMeta::default();
        let own = |uid: &str| Some(vec![uid.to_owned()]);
        for (deleted, scaled, kept, surplus) in [
            ("Retain", "Retain", None, None),
            ("Delete", "Retain", own("s"), own("s")),
            ("Retain", "Delete", None, own("p")),
            ("Delete", "Delete", own("s"), own("p")),
        ] {
            let set = set(deleted, scaled);
            assert_eq!(uids(&set, 0, &none), kept, "{deleted} {scaled}");
            assert_eq!(uids(&set, 1, &none), surplus, "{deleted} {scaled}");
        }
    }

    #[test]
    fn owners_that_are_right_or_of_others_stay() {
        let with = |reference: OwnerReference| ObjectMeta {
            owner_references: Some(vec![reference]),
            ..ObjectMeta::default()
        };
        let deletes = set("Delete", "Retain");
        let right = with(owners::reference(&deletes));
        assert_eq!(uids(&deletes, 0, &right), None);
        assert_eq!(uids(&set("Retain", "Retain"), 0, &right), Some(Vec::new()));
        let other = OwnerReference {
            name: "another".to_owned(),
            uid: "x".to_owned(),
            ..owners::reference(&deletes)
        };
        assert_eq!(uids(&deletes, 0, &with(other)), None);
        let stale = OwnerReference {
            uid: "old".to_owned(),
            ..owners::reference(&deletes)
        };
        assert_eq!(uids(&deletes, 0, &with(stale)), None);
    }
}
