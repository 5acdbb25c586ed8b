//! Which of an object's owners are there, and patches of its references. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

/// What an owner is found to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// It is there.
    Solid,
    /// It is not.
    Dangling,
    /// It is being deleted in the foreground.
    Waiting,
}

/// What becomes of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Stay,
    /// It stays, without the references to these owners.
    Release(Vec<String>),
    /// Its dependents go first, because an owner waits for it. `unblock`: a dependent of it waits itself, and it must
    /// not block its owners, or all would wait for each other.
    DeleteForeground {
        unblock: bool,
    },
    Delete {
        policy: &'static str,
    },
}

/// Decides over an object by the states of its owners.
pub(super) fn verdict(
    meta: &ObjectMeta,
    states: &[State],
    has_dependents: bool,
    a_dependent_waits: bool,
) -> Verdict {
    let references = meta.owner_references.as_deref().unwrap_or_default();
    if references.is_empty() {
        return Verdict::Stay;
    }
    let is = |wanted: State| states.contains(&wanted);
    if is(State::Solid) {
        let gone = references.iter().zip(states);
        let gone: Vec<String> = gone
            .filter(|(_, state)| **state != State::Solid)
            .map(|(reference, _)| reference.uid.clone())
            .collect();
        return if gone.is_empty() {
            Verdict::Stay
        } else {
            Verdict::Release(gone)
        };
    }
    if is(State::Waiting) && has_dependents {
        return Verdict::DeleteForeground {
            unblock: a_dependent_waits,
        };
    }
    let has = |wanted: &str| {
        let finalizers = meta.finalizers.as_deref().unwrap_or_default();
        finalizers.iter().any(|f| f == wanted)
    };
    let policy = if has(super::graph::ORPHAN) {
        "Orphan"
    } else if has(super::graph::FOREGROUND) {
        "Foreground"
    } else {
        "Background"
    };
    Verdict::Delete { policy }
}

/// The patch that leaves `references` of an object as it was read; another state of it refuses the patch.
fn references(meta: &ObjectMeta, references: &[OwnerReference]) -> Value {
    json!({"metadata": {
        "uid": meta.uid,
        "resourceVersion": meta.resource_version,
        "ownerReferences": references,
    }})
}

/// Without the references to these owners; none if there are none.
pub(super) fn without(meta: &ObjectMeta, owners: &[String]) -> Option<Value> {
    let all = meta.owner_references.as_deref().unwrap_or_default();
    let rest: Vec<_> = all
        .iter()
        .filter(|r| !owners.contains(&r.uid))
        .cloned()
        .collect();
    (rest.len() < all.len()).then(|| references(meta, &rest))
}

/// With references that block no owner; none if none does.
pub(super) fn unblocked(meta: &ObjectMeta) -> Option<Value> {
    let all = meta.owner_references.as_deref().unwrap_or_default();
    if !all.iter().any(|r| r.block_owner_deletion == Some(true)) {
        return None;
    }
    let rest: Vec<_> = all
        .iter()
        .map(|r| OwnerReference {
            block_owner_deletion: r.block_owner_deletion.map(|_| false),
            ..r.clone()
        })
        .collect();
    Some(references(meta, &rest))
}

/// Without a finalizer; none if it does not have it.
pub(super) fn without_finalizer(meta: &ObjectMeta, finalizer: &str) -> Option<Value> {
    let all = meta.finalizers.as_deref().unwrap_or_default();
    let rest: Vec<_> = all.iter().filter(|f| *f != finalizer).collect();
    (rest.len() < all.len()).then(|| {
        json!({"metadata": {
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
            "finalizers": rest,
        }})
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Dangling, Solid, Waiting};

    fn object(owners: &[&str], finalizers: &[&str]) -> ObjectMeta {
        let reference = |uid: &&str| OwnerReference {
            uid: (*uid).to_owned(),
            block_owner_deletion: Some(true),
            ..OwnerReference::default()
        };
        ObjectMeta {
            uid: Some("me".to_owned()),
            resource_version: Some("7".to_owned()),
            owner_references: Some(owners.iter().map(reference).collect()),
            finalizers: Some(finalizers.iter().map(|f| (*f).to_owned()).collect()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn one_solid_owner_keeps_an_object() {
        let me = object(&["a", "b", "c"], &[]);
        assert_eq!(verdict(&me, &[Solid; 3], false, false), Verdict::Stay);
        assert_eq!(
            verdict(&me, &[Solid, Dangling, Waiting], true, false),
            Verdict::Release(vec!["b".to_owned(), "c".to_owned()])
        );
    }

    #[test]
    fn what_has_no_owner_never_goes() {
        assert_eq!(verdict(&object(&[], &[]), &[], false, false), Verdict::Stay);
    }

    #[test]
    fn without_owners_an_object_goes_as_its_finalizers_say() {
        let policy = |finalizers: &[&str]| match verdict(
            &object(&["a"], finalizers),
            &[Dangling],
            true,
            false,
        ) {
            Verdict::Delete { policy } => policy,
            other => panic!("{other:?}"),
        };
        assert_eq!(policy(&[]), "Background");
        assert_eq!(policy(&["orphan"]), "Orphan");
        assert_eq!(policy(&["x/y", "foregroundDeletion"]), "Foreground");
    }

    #[test]
    fn what_a_waiting_owner_waits_for_goes_after_its_own_dependents() {
        let me = object(&["a"], &[]);
        assert_eq!(
            verdict(&me, &[Waiting], true, false),
            Verdict::DeleteForeground { unblock: false }
        );
        assert_eq!(
            verdict(&me, &[Waiting], true, true),
            Verdict::DeleteForeground { unblock: true }
        );
        assert_eq!(
            verdict(&me, &[Waiting], false, false),
            Verdict::Delete {
                policy: "Background"
            }
        );
    }

    #[test]
    fn patches_are_for_the_state_that_was_read() {
        let me = object(&["a", "b"], &["f", "g"]);
        let patch = without(&me, &["a".to_owned()]).unwrap();
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["metadata"]["ownerReferences"][0]["uid"], "b");
        assert_eq!(without(&me, &["z".to_owned()]), None);
        let patch = unblocked(&me).unwrap();
        assert_eq!(
            patch["metadata"]["ownerReferences"][1]["blockOwnerDeletion"],
            false
        );
        let patch = without_finalizer(&me, "f").unwrap();
        assert_eq!(patch["metadata"]["finalizers"], json!(["g"]));
        assert_eq!(without_finalizer(&me, "z"), None);
    }
}
