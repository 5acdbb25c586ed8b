//! What this controller wrote, so that it neither acts on caches that have not seen its own writes nor
//! wakes up for them.

use std::collections::HashMap;
use std::sync::Arc;

use component::informer::Key;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;

use super::service_key;

/// The slices of each service, as they were last written.
#[derive(Default)]
pub struct Tracker {
    services: Mutex<HashMap<Key, HashMap<String, Wrote>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrote {
    /// This generation.
    Generation(i64),
    Deletion,
}

impl Tracker {
    fn with<R>(&self, slice: &EndpointSlice, work: impl FnOnce(Option<Wrote>) -> R) -> R {
        let services = self.services.lock();
        let known = service_key(slice)
            .and_then(|key| services.get(&key))
            .and_then(|slices| slices.get(uid(slice)));
        work(known.copied())
    }

    fn note(&self, slice: &EndpointSlice, wrote: Wrote) {
        if let Some(key) = service_key(slice) {
            let mut services = self.services.lock();
            services
                .entry(key)
                .or_default()
                .insert(uid(slice).to_owned(), wrote);
        }
    }

    /// The slice was written and is this now.
    pub fn wrote(&self, slice: &EndpointSlice) {
        self.note(slice, Wrote::Generation(generation(slice)));
    }

    /// The slice was deleted.
    pub fn deleted(&self, slice: &EndpointSlice) {
        self.note(slice, Wrote::Deletion);
    }

    /// Whether the slice is known here.
    pub fn has(&self, slice: &EndpointSlice) -> bool {
        self.with(slice, |known| known.is_some())
    }

    /// Whether somebody else wrote the slice.
    pub fn is_foreign(&self, slice: &EndpointSlice) -> bool {
        self.with(slice, |known| match known {
            None => true,
            Some(Wrote::Generation(last)) => generation(slice) > last,
            Some(Wrote::Deletion) => generation(slice) > -1,
        })
    }

    /// Forgets a slice that is gone; says whether its service has to be looked at.
    pub fn is_foreign_deletion(&self, slice: &EndpointSlice) -> bool {
        let Some(key) = service_key(slice) else {
            return false;
        };
        let mut services = self.services.lock();
        let was = services
            .get_mut(&key)
            .and_then(|slices| slices.remove(uid(slice)));
        matches!(was, Some(Wrote::Generation(_)))
    }

    /// Whether a cache with these slices has not seen all that was written.
    pub fn is_stale(&self, service: &Key, slices: &[Arc<EndpointSlice>]) -> bool {
        let services = self.services.lock();
        let Some(known) = services.get(service) else {
            return false;
        };
        let old = |slice: &Arc<EndpointSlice>| match known.get(uid(slice)) {
            Some(Wrote::Deletion) => true,
            Some(Wrote::Generation(last)) => *last > generation(slice),
            None => false,
        };
        let missing = |(id, wrote): (&String, &Wrote)| {
            *wrote != Wrote::Deletion && !slices.iter().any(|s| uid(s) == id)
        };
        slices.iter().any(old) || known.iter().any(missing)
    }

    /// The service is gone.
    pub fn forget(&self, service: &Key) {
        self.services.lock().remove(service);
    }
}

fn uid(slice: &EndpointSlice) -> &str {
    slice.metadata.uid.as_deref().unwrap_or_default()
}

fn generation(slice: &EndpointSlice) -> i64 {
    slice.metadata.generation.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn slice(uid: &str, generation: i64) -> Arc<EndpointSlice> {
        Arc::new(EndpointSlice {
            metadata: ObjectMeta {
                namespace: Some("ns".into()),
                uid: Some(uid.into()),
                generation: Some(generation),
                labels: Some([(super::super::SERVICE_NAME.to_owned(), "web".to_owned())].into()),
                ..ObjectMeta::default()
            },
            ..EndpointSlice::default()
        })
    }

    #[test]
    fn a_cache_is_stale_until_it_has_seen_every_write() {
        let (tracker, key) = (Tracker::default(), Key::new("ns", "web"));
        assert!(!tracker.is_stale(&key, &[slice("a", 1)]));
        tracker.wrote(&slice("a", 2));
        assert!(tracker.is_stale(&key, &[slice("a", 1)]));
        assert!(tracker.is_stale(&key, &[]));
        assert!(!tracker.is_stale(&key, &[slice("a", 2), slice("b", 1)]));
        tracker.deleted(&slice("a", 2));
        assert!(tracker.is_stale(&key, &[slice("a", 2)]));
        assert!(!tracker.is_stale(&key, &[]));
    }

    #[test]
    fn own_writes_do_not_wake_the_controller() {
        let tracker = Tracker::default();
        assert!(tracker.is_foreign(&slice("a", 1)));
        tracker.wrote(&slice("a", 1));
        assert!(!tracker.is_foreign(&slice("a", 1)));
        assert!(tracker.is_foreign(&slice("a", 2)));
        assert!(tracker.is_foreign_deletion(&slice("a", 1)));
        tracker.wrote(&slice("a", 1));
        tracker.deleted(&slice("a", 1));
        assert!(!tracker.is_foreign_deletion(&slice("a", 1)));
    }
}
