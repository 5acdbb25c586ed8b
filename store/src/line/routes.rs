//! Which collection a key belongs to, by whole path segments: `services/specs/…` and
//! `services/endpoints/…` are two collections, `pods` does not own `podtemplates/…`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Batch, Epoch, PathTaken, RawEvent};
use crate::etcd::pb;

/// Where the line pushes to. Neither call blocks.
pub(crate) trait Sink: Send + Sync {
    /// Takes the next events.
    fn push(&self, batch: Batch);

    /// Stops answering until the collection has been listed again: the history begins anew. What was
    /// pushed before belongs to the old one.
    fn suspend(&self, epoch: Epoch);
}

/// The collections by path.
#[derive(Default)]
pub(super) struct Routes {
    by_path: HashMap<Box<str>, Arc<dyn Sink>>,
    /// Segments of the longest path.
    depth: usize,
}

/// The events of each collection, in order.
type Split = Vec<(Arc<dyn Sink>, Vec<RawEvent>)>;

impl Routes {
    pub(super) fn insert(&mut self, path: &str, sink: Arc<dyn Sink>) -> Result<(), PathTaken> {
        if self.by_path.contains_key(path) {
            return Err(PathTaken(path.to_owned()));
        }
        self.depth = self.depth.max(path.split('/').count());
        self.by_path.insert(path.into(), sink);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &str) {
        self.by_path.remove(path);
    }

    pub(super) fn sinks(&self) -> impl Iterator<Item = &Arc<dyn Sink>> {
        self.by_path.values()
    }

    /// The collection of a key below the store's prefix, and the key below the collection's. The
    /// longest path wins.
    fn find<'k>(&self, key: &'k str) -> Option<(&Arc<dyn Sink>, &'k str)> {
        let mut found = None;
        for (at, _) in key.match_indices('/').take(self.depth) {
            if let Some(sink) = self.by_path.get(&key[..at]) {
                found = Some((sink, &key[at + 1..]));
            }
        }
        found.filter(|(_, rest)| !rest.is_empty())
    }

    /// Splits events by collection; the rest goes to `foreign`.
    pub(super) fn split(
        &self,
        prefix: &str,
        events: Vec<pb::Event>,
        mut foreign: impl FnMut(&[u8], Option<&Bytes>),
    ) -> Split {
        let mut split: Split = Vec::new();
        for event in events {
            let deleted = event.r#type() == pb::event::EventType::Delete;
            let Some(kv) = event.kv else { continue };
            let value = (!deleted).then_some(kv.value);
            let below = std::str::from_utf8(&kv.key)
                .ok()
                .and_then(|key| key.strip_prefix(prefix));
            let Some((sink, key)) = below.and_then(|key| self.find(key)) else {
                foreign(&kv.key, value.as_ref());
                continue;
            };
            let event = RawEvent {
                key: key.into(),
                revision: kv.mod_revision,
                value: value.map(|value| Bytes::copy_from_slice(&value)),
            };
            // From the end: events of one collection tend to come together, and few come at once.
            let same = |(other, _): &&mut (Arc<dyn Sink>, _)| {
                std::ptr::addr_eq(Arc::as_ptr(other), Arc::as_ptr(sink))
            };
            match split.iter_mut().rev().find(same) {
                Some((_, events)) => events.push(event),
                None => split.push((Arc::clone(sink), vec![event])),
            }
        }
        split
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named;

    impl Sink for Named {
        fn push(&self, _: Batch) {}
        fn suspend(&self, _: Epoch) {}
    }

    fn put(key: &str) -> pb::Event {
        let kv = pb::KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            mod_revision: 1,
            ..Default::default()
        };
        pb::Event {
            r#type: 0,
            kv: Some(kv),
        }
    }

    #[test]
    fn keys_are_split_by_whole_segments() {
        let mut routes = Routes::default();
        let paths = [
            "pods",
            "services/specs",
            "services/endpoints",
            "minions",
            "example.com/widgets",
            "apps",
        ];
        for path in paths {
            routes.insert(path, Arc::new(Named)).unwrap();
        }
        let found = |key| routes.find(key).map(|(_, rest)| rest);
        assert_eq!(found("pods/default/web"), Some("default/web"));
        assert_eq!(found("podtemplates/default/web"), None);
        assert_eq!(found("services/specs/default/web"), Some("default/web"));
        assert_eq!(found("services/other/default/web"), None);
        assert_eq!(found("minions/n1"), Some("n1"));
        assert_eq!(found("example.com/widgets/a/b"), Some("a/b"));
        assert_eq!(found("example.com/widget/a/b"), None);
        assert_eq!(found("pods"), None);
        assert_eq!(found("pods/"), None);
        assert!(routes.insert("pods", Arc::new(Named)).is_err());
    }

    #[test]
    fn what_belongs_to_no_collection_is_told_apart() {
        let mut routes = Routes::default();
        routes.insert("pods", Arc::new(Named)).unwrap();
        let mut foreign = Vec::new();
        let events = [
            "/registry/pods/a/b",
            "/other/pods/a/b",
            "compact_rev_key",
            "/registry/pods/a/c",
        ]
        .map(put);
        let split = routes.split("/registry/", events.into(), |key, _| {
            foreign.push(key.to_vec())
        });
        let keys: Vec<_> = split[0].1.iter().map(|e| &*e.key).collect();
        assert_eq!((split.len(), keys), (1, vec!["a/b", "a/c"]));
        assert_eq!(
            foreign,
            [b"/other/pods/a/b".to_vec(), b"compact_rev_key".to_vec()]
        );
    }
}
