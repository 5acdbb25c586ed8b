//! Own writes that a cache has not shown yet.
//!
//! A controller that counts what it sees must not count before it sees what it did: it would do it twice. Upstream
//! counts expectations, and waits for versions (`StaleControllerConsistency`); here it is versions alone, and UIDs for
//! deletions, whose answers have no version that a cache would reach.
//!
//! Use: [`Writes::wrote`] and [`Writes::deleting`] after a write, [`Writes::are_seen`] before the next plan. The event
//! that shows a write wakes the owner by itself.

use std::collections::HashMap;
use std::time::Duration;

use component::client::Kind;
use component::informer::{Key, Lister};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;

/// When to look again although no event came: a list in place of a broken watch may hold neither the object nor its
/// deletion.
pub const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The writes of one controller to one kind of children.
#[derive(Default)]
pub struct Writes {
    unseen: Mutex<HashMap<Key, Unseen>>,
}

#[derive(Default)]
struct Unseen {
    /// The newest version that was written.
    version: u64,
    /// What is being deleted, by key.
    deleting: HashMap<Key, String>,
}

impl Writes {
    /// Notes that a child of `owner` was created or changed; `meta` is the answer's.
    pub fn wrote(&self, owner: &Key, meta: &ObjectMeta) {
        let version = meta.resource_version.as_deref().unwrap_or_default();
        if let Ok(version) = version.parse::<u64>() {
            let mut unseen = self.unseen.lock();
            let unseen = unseen.entry(owner.clone()).or_default();
            unseen.version = unseen.version.max(version);
        }
    }

    /// Notes that a child of `owner` was told to go.
    pub fn deleting(&self, owner: &Key, child: &ObjectMeta) {
        let uid = child.uid.clone().unwrap_or_default();
        let mut unseen = self.unseen.lock();
        let unseen = unseen.entry(owner.clone()).or_default();
        unseen.deleting.insert(Key::of(child), uid);
    }

    /// Whether the cache shows all that was written for `owner`. If not, come back after [`LOOK_AGAIN`] at the latest.
    #[must_use]
    pub fn are_seen<K: Kind>(&self, owner: &Key, children: &Lister<K>) -> bool {
        self.check(
            owner,
            |version| children.has_reached(&version.to_string()),
            |child, uid| {
                children
                    .by_key(child)
                    .is_none_or(|seen| gone_or_going(seen.metadata(), uid))
            },
        )
    }

    fn check(
        &self,
        owner: &Key,
        reached: impl FnOnce(u64) -> bool,
        gone: impl Fn(&Key, &str) -> bool,
    ) -> bool {
        let mut all = self.unseen.lock();
        let Some(unseen) = all.get_mut(owner) else {
            return true;
        };
        if unseen.version > 0 && reached(unseen.version) {
            unseen.version = 0;
        }
        unseen.deleting.retain(|child, uid| !gone(child, uid));
        let seen = unseen.version == 0 && unseen.deleting.is_empty();
        if seen {
            all.remove(owner);
        }
        seen
    }

    /// The owner is gone.
    pub fn forget(&self, owner: &Key) {
        self.unseen.lock().remove(owner);
    }
}

fn gone_or_going(seen: &ObjectMeta, uid: &str) -> bool {
    seen.uid.as_deref() != Some(uid) || seen.deletion_timestamp.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(name: &str, version: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(format!("uid-{name}")),
            resource_version: Some(version.to_owned()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn a_write_is_unseen_until_the_cache_is_as_new() {
        let writes = Writes::default();
        let owner = Key::from("ns/a");
        let at = |now: u64| writes.check(&owner, |wanted| now >= wanted, |_, _| true);
        assert!(at(0), "nothing was written");
        writes.wrote(&owner, &meta("x", "9"));
        writes.wrote(&owner, &meta("y", "7"));
        assert!(!at(8));
        assert!(at(9));
        assert!(at(1), "it is not asked again");
    }

    #[test]
    fn a_deletion_is_unseen_until_the_cache_shows_it() {
        let writes = Writes::default();
        let owner = Key::from("ns/a");
        writes.deleting(&owner, &meta("x", "1"));
        writes.deleting(&owner, &meta("y", "1"));
        assert!(!writes.check(&owner, |_| true, |child, _| child.name() == "x"));
        assert!(!writes.check(&owner, |_| true, |_, _| false));
        assert!(writes.check(&owner, |_| true, |child, _| child.name() == "y"));
    }

    #[test]
    fn another_object_of_the_same_name_shows_that_the_first_is_gone() {
        assert!(gone_or_going(&meta("x", "1"), "uid-other"));
        assert!(!gone_or_going(&meta("x", "1"), "uid-x"));
    }
}
