//! Whose an object is: controller references, adoption and release.
//!
//! Source: `pkg/controller/controller_ref_manager.go`. The decision ([`claim`]) is pure; [`Claims::settle`] applies it.

use std::sync::Arc;

use component::client::{Api, Client, Kind, Patch};
use component::informer::{Index, Key, Lister};
use k8s_openapi::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use crate::error::Error;
use crate::selector::Selector;

/// The reference to an object's controller.
#[must_use]
pub fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    let references = meta.owner_references.as_deref().unwrap_or_default();
    references.iter().find(|r| r.controller == Some(true))
}

/// The key of an object's controller, if that is an `O`. Versions of a group are the same thing.
#[must_use]
pub fn key<O: Resource>(meta: &ObjectMeta) -> Option<Key> {
    let reference = controller(meta)?;
    let group = reference
        .api_version
        .split_once('/')
        .map_or("", |(group, _)| group);
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    (reference.kind == O::KIND && group == O::GROUP).then(|| Key::new(namespace, &reference.name))
}

/// Whether the object's controller is the one with this UID.
#[must_use]
pub fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller(meta).is_some_and(|r| r.uid == uid)
}

/// A controller reference to `owner`, which blocks its deletion in the foreground.
#[must_use]
pub fn reference<O: Kind>(owner: &O) -> OwnerReference {
    let meta = owner.metadata();
    OwnerReference {
        api_version: O::API_VERSION.to_owned(),
        block_owner_deletion: Some(true),
        controller: Some(true),
        kind: O::KIND.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
    }
}

/// Under what an object is found by [`children`].
pub(crate) fn index_value(meta: &ObjectMeta) -> String {
    match controller(meta) {
        Some(reference) => reference.uid.clone(),
        None => orphans_of(meta.namespace.as_deref().unwrap_or_default()),
    }
}

fn orphans_of(namespace: &str) -> String {
    // A UID has no slash.
    format!("orphan/{namespace}")
}

/// The objects that a controller has or could adopt, out of the index of [`crate::watch::by_controller`].
#[must_use]
pub fn children<K: Kind>(lister: &Lister<K>, index: Index, owner: &ObjectMeta) -> Vec<Arc<K>> {
    let uid = owner.uid.as_deref().unwrap_or_default();
    let namespace = owner.namespace.as_deref().unwrap_or_default();
    let mut all = lister.indexed(index, uid);
    all.extend(lister.indexed(index, &orphans_of(namespace)));
    all
}

/// The objects that a controller has, out of the same index.
#[must_use]
pub fn controlled<K: Kind>(lister: &Lister<K>, index: Index, uid: &str) -> Vec<Arc<K>> {
    lister.indexed(index, uid)
}

/// Those of a kind that might adopt an orphan: their selectors select it, and not everything.
#[must_use]
pub fn adopters<O: Kind>(
    all: &Lister<O>,
    orphan: &ObjectMeta,
    selector: impl Fn(&O) -> Option<Selector>,
) -> Vec<Key> {
    let labels = orphan.labels.as_ref();
    if labels.is_none_or(|l| l.is_empty()) {
        return Vec::new();
    }
    let selects =
        |owner: &Arc<O>| selector(owner).is_some_and(|s| !s.is_everything() && s.matches(labels));
    let all = all.in_namespace(orphan.namespace.as_deref().unwrap_or_default());
    let all = all.iter().filter(|owner| selects(owner));
    all.map(|owner| Key::of(owner.metadata())).collect()
}

/// What becomes of candidates.
#[derive(Clone, PartialEq, Debug)]
pub struct Claims<K> {
    /// Those that are the controller's and stay so.
    pub owned: Vec<Arc<K>>,
    pub adopt: Vec<Arc<K>>,
    pub release: Vec<Arc<K>>,
}

/// Sorts candidates: the controller keeps what is its own and matches, adopts orphans that match, releases what does
/// not match any more. While it is being deleted it does neither of the last two.
pub fn claim<K: Kind>(
    owner: &ObjectMeta,
    candidates: impl IntoIterator<Item = Arc<K>>,
    matches: impl Fn(&K) -> bool,
) -> Claims<K> {
    let mut claims = Claims {
        owned: Vec::new(),
        adopt: Vec::new(),
        release: Vec::new(),
    };
    let uid = owner.uid.as_deref().unwrap_or_default();
    let deleting = owner.deletion_timestamp.is_some();
    for candidate in candidates {
        let meta = candidate.metadata();
        match controller(meta) {
            Some(reference) if reference.uid != uid => {}
            Some(_) if matches(&candidate) => claims.owned.push(candidate),
            Some(_) if deleting => {}
            Some(_) => claims.release.push(candidate),
            None => {
                let adoptable = !deleting
                    && meta.deletion_timestamp.is_none()
                    && meta.namespace == owner.namespace
                    && matches(&candidate);
                if adoptable {
                    claims.adopt.push(candidate);
                }
            }
        }
    }
    claims
}

impl<K: Kind> Claims<K> {
    /// Adopts and releases, and returns all that is the controller's then. `finalizers` are put on adopted objects
    /// and taken from released ones.
    ///
    /// # Errors
    /// If some could not be adopted or released.
    pub async fn settle<O: Kind>(
        self,
        client: &Client,
        owner: &O,
        finalizers: &[&str],
    ) -> Result<Vec<Arc<K>>, Error> {
        let mut owned = self.owned;
        if self.adopt.is_empty() && self.release.is_empty() {
            return Ok(owned);
        }
        let meta = owner.metadata();
        let api: Api<K> = client.namespaced(meta.namespace.as_deref().unwrap_or_default());
        if !self.adopt.is_empty() {
            can_adopt(client, owner).await?;
        }
        let mut results = Vec::new();
        for orphan in &self.adopt {
            let patch = adoption(&reference(owner), orphan.metadata(), finalizers);
            match api
                .patch(name(orphan.metadata()), &Patch::strategic(&patch)?)
                .await
            {
                Ok(adopted) => owned.push(Arc::new(adopted)),
                Err(e) if e.is_not_found() => {}
                Err(e) => results.push(Err(e.into())),
            }
        }
        for stray in &self.release {
            let uid = meta.uid.as_deref().unwrap_or_default();
            let patch = release(uid, stray.metadata(), finalizers);
            match api
                .patch(name(stray.metadata()), &Patch::strategic(&patch)?)
                .await
            {
                // Invalid: it has no references any more, or is another object of the same name.
                Err(e) if !e.is_not_found() && !e.is_invalid() => results.push(Err(e.into())),
                _ => {}
            }
        }
        Error::all::<()>(results)?;
        Ok(owned)
    }
}

/// Looks at the owner as it is now: one that is being deleted, or another of the same name, must not adopt.
async fn can_adopt<O: Kind>(client: &Client, owner: &O) -> Result<(), Error> {
    let meta = owner.metadata();
    let api: Api<O> = client.namespaced(meta.namespace.as_deref().unwrap_or_default());
    let fresh = api.get(name(meta)).await?;
    let refuse = |why: String| Err(Error::Unusable(format!("cannot adopt: {why}")));
    if fresh.metadata().uid != meta.uid {
        return refuse(format!(
            "{} is gone: its name has another UID",
            Key::of(meta)
        ));
    }
    match &fresh.metadata().deletion_timestamp {
        Some(since) => refuse(format!(
            "{} is being deleted since {}",
            Key::of(meta),
            since.0
        )),
        None => Ok(()),
    }
}

fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

fn adoption(
    reference: &OwnerReference,
    orphan: &ObjectMeta,
    finalizers: &[&str],
) -> serde_json::Value {
    let mut meta = json!({"uid": orphan.uid, "ownerReferences": [reference]});
    if !finalizers.is_empty() {
        meta["finalizers"] = json!(finalizers);
    }
    json!({ "metadata": meta })
}

fn release(owner_uid: &str, stray: &ObjectMeta, finalizers: &[&str]) -> serde_json::Value {
    let gone = json!([{"$patch": "delete", "uid": owner_uid}]);
    let mut meta = json!({"uid": stray.uid, "ownerReferences": gone});
    if !finalizers.is_empty() {
        meta["$deleteFromPrimitiveList/finalizers"] = json!(finalizers);
    }
    json!({ "metadata": meta })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use k8s_openapi::api::core::v1::Pod;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn owner(deleting: bool) -> ReplicaSet {
        ReplicaSet {
            metadata: ObjectMeta {
                name: Some("rs".to_owned()),
                namespace: Some("ns".to_owned()),
                uid: Some("u1".to_owned()),
                deletion_timestamp: deleting.then(|| Time(component::clock::now())),
                ..ObjectMeta::default()
            },
            ..ReplicaSet::default()
        }
    }

    fn pod(name: &str, owner: Option<&str>) -> Arc<Pod> {
        let references = owner.map(|uid| {
            vec![OwnerReference {
                uid: uid.to_owned(),
                ..reference(&self::owner(false))
            }]
        });
        Arc::new(Pod {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some("ns".to_owned()),
                owner_references: references,
                ..ObjectMeta::default()
            },
            ..Pod::default()
        })
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().map(|p| name(&p.metadata)).collect()
    }

    #[test]
    fn a_controller_keeps_adopts_and_releases_by_its_selector() {
        let all = [
            pod("mine", Some("u1")),
            pod("mine-no-more", Some("u1")),
            pod("other", Some("u2")),
            pod("orphan", None),
            pod("orphan-no-match", None),
        ];
        let matches = |p: &Pod| !name(&p.metadata).contains("no-");
        let claims = claim(&owner(false).metadata, all.clone(), matches);
        assert_eq!(names(&claims.owned), ["mine"]);
        assert_eq!(names(&claims.adopt), ["orphan"]);
        assert_eq!(names(&claims.release), ["mine-no-more"]);
        let claims = claim(&owner(true).metadata, all, matches);
        assert_eq!(names(&claims.owned), ["mine"]);
        assert!(claims.adopt.is_empty() && claims.release.is_empty());
    }

    #[test]
    fn the_controllers_key_is_found_in_any_version_of_its_group() {
        let mut child = (*pod("p", Some("u1"))).clone();
        assert_eq!(key::<ReplicaSet>(&child.metadata), Some("ns/rs".into()));
        let reference = &mut child.metadata.owner_references.as_mut().unwrap()[0];
        reference.api_version = "apps/v1beta2".to_owned();
        assert_eq!(key::<ReplicaSet>(&child.metadata), Some("ns/rs".into()));
        assert_eq!(key::<Pod>(&child.metadata), None);
    }

    #[test]
    fn patches_name_the_object_that_they_are_for() {
        let orphan = ObjectMeta {
            uid: Some("p1".to_owned()),
            ..ObjectMeta::default()
        };
        let adopted = adoption(&reference(&owner(false)), &orphan, &["f"]);
        assert_eq!(adopted["metadata"]["uid"], "p1");
        assert_eq!(adopted["metadata"]["ownerReferences"][0]["uid"], "u1");
        assert_eq!(adopted["metadata"]["finalizers"], json!(["f"]));
        let released = release("u1", &orphan, &[]);
        assert_eq!(
            released,
            json!({"metadata": {"uid": "p1", "ownerReferences": [{"$patch": "delete", "uid": "u1"}]}})
        );
    }
}
