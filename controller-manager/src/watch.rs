//! Which keys an event wakes: the object's own, its controller's, or those of whoever might adopt it.

use component::client::Kind;
use component::informer::{Event, Index, Informer, Key};
use component::queue::Queue;
use k8s_openapi::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::owners;

/// Wakes the object itself, whatever happens to it.
pub fn own<K: Kind>(informer: &Informer<K>, queue: &Queue<Key>) {
    let queue = queue.clone();
    informer.subscribe(move |key, _| queue.add(key.clone()));
}

/// Wakes the controller of a changed object, if it is an `O`, and the one that it had before.
///
/// `orphan` is asked for the keys of those that might adopt an object without a controller; it is asked only when that
/// object, its labels or its owner changed.
pub fn owned<O: Resource, K: Kind>(
    children: &Informer<K>,
    queue: &Queue<Key>,
    orphan: impl Fn(&K) -> Vec<Key> + Send + Sync + 'static,
) {
    let queue = queue.clone();
    children.subscribe(move |_, event| {
        let (old, new) = match event {
            Event::Added(new) => (None, Some(new)),
            Event::Updated { old, new } => (Some(old), Some(new)),
            Event::Deleted(old) => (Some(old), None),
        };
        let before = old.and_then(|o| owners::key::<O>(o.metadata()));
        let after = new.and_then(|n| owners::key::<O>(n.metadata()));
        if let Some(key) = before.filter(|key| after.as_ref() != Some(key)) {
            queue.add(key);
        }
        if let Some(key) = after {
            queue.add(key);
        } else if let Some(new) = new
            && owners::controller(new.metadata()).is_none()
            && new.metadata().deletion_timestamp.is_none()
            && old.is_none_or(|old| claims_may_differ(old.metadata(), new.metadata()))
        {
            for key in orphan(new) {
                queue.add(key);
            }
        }
    });
}

/// For objects that nobody adopts.
pub fn nobody<K>(_: &K) -> Vec<Key> {
    Vec::new()
}

fn claims_may_differ(old: &ObjectMeta, new: &ObjectMeta) -> bool {
    old.labels != new.labels || old.owner_references != new.owner_references
}

/// Keeps the index behind [`owners::children`]: objects by their controller's UID, and those without one by namespace.
#[must_use]
pub fn by_controller<K: Kind>(informer: &Informer<K>) -> Index {
    informer.index("controller", |object| {
        vec![owners::index_value(object.metadata())]
    })
}
