//! How many watches a write is told to.
//!
//! Counted by what they watch, under a hash of it: a write looks up three numbers and allocates nothing.
//! Watches that select pods of one node are left out, since a write is told to one of them at most.
//! Upstream: `util/flowcontrol/watch_tracker.go`.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::RwLock;
use proto::selector::FieldSelector;

use resources::request::{Query, RequestInfo};

/// The field by which watches of pods are woken.
const INDEXED: (&str, &str) = ("pods", "spec.nodeName");

/// Open watches; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Watches {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    hash: RandomState,
    counts: RwLock<HashMap<u64, u32>>,
}

/// A watch, until it is dropped.
pub(super) struct Watching {
    of: Option<(Watches, u64)>,
}

impl Watches {
    /// Counts a watch from now on.
    #[must_use]
    pub(super) fn register(&self, info: &RequestInfo, query: &Query) -> Watching {
        if is_of_one_node(info, query) {
            return Watching { of: None };
        }
        let key = self.key(info, &info.namespace, &info.name);
        *self.inner.counts.write().entry(key).or_default() += 1;
        Watching {
            of: Some((self.clone(), key)),
        }
    }

    /// How many watches may be interested in what a request writes.
    #[must_use]
    pub(super) fn interested(&self, info: &RequestInfo) -> u32 {
        let counts = self.inner.counts.read();
        if counts.is_empty() {
            return 0;
        }
        let of = |namespace: &str, name: &str| {
            let found = counts.get(&self.key(info, namespace, name));
            found.copied().unwrap_or_default()
        };
        let mut all = of("", "");
        if !info.namespace.is_empty() {
            all += of(&info.namespace, "");
        }
        if !info.name.is_empty() {
            all += of(&info.namespace, &info.name);
        }
        all
    }

    fn key(&self, info: &RequestInfo, namespace: &str, name: &str) -> u64 {
        self.inner
            .hash
            .hash_one((&*info.group, &*info.resource, namespace, name))
    }
}

fn is_of_one_node(info: &RequestInfo, query: &Query) -> bool {
    let (resource, field) = INDEXED;
    if info.resource != resource {
        return false;
    }
    let selector = query.get("fieldSelector").map(FieldSelector::parse);
    let selector = selector.and_then(Result::ok);
    let node = selector.as_ref().and_then(|s| s.requires_exact(field));
    node.is_some_and(|node| !node.is_empty())
}

impl Drop for Watching {
    fn drop(&mut self) {
        let Some((watches, key)) = self.of.take() else {
            return;
        };
        let mut counts = watches.inner.counts.write();
        if let Some(count) = counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Uri};

    use super::*;

    fn read(method: &Method, path: &str) -> (RequestInfo, Query) {
        let uri: Uri = path.parse().unwrap();
        let query = Query::parse(&uri);
        (RequestInfo::read(method, &uri, &query).unwrap(), query)
    }

    #[test]
    fn a_write_is_told_to_those_who_watch_all_its_namespace_or_itself() {
        let watches = Watches::default();
        let open: Vec<Watching> = [
            "/api/v1/configmaps?watch=1",
            "/api/v1/namespaces/a/configmaps?watch=1",
            "/api/v1/namespaces/a/configmaps?watch=1",
            "/api/v1/namespaces/a/configmaps?watch=1&fieldSelector=metadata.name%3Dx",
            "/api/v1/namespaces/b/configmaps?watch=1",
            "/api/v1/secrets?watch=1",
        ]
        .iter()
        .map(|path| {
            let (info, query) = read(&Method::GET, path);
            assert_eq!(info.verb, "watch");
            watches.register(&info, &query)
        })
        .collect();
        let interested = |method: Method, path: &str| watches.interested(&read(&method, path).0);
        assert_eq!(
            interested(Method::PUT, "/api/v1/namespaces/a/configmaps/x"),
            4
        );
        assert_eq!(
            interested(Method::PUT, "/api/v1/namespaces/a/configmaps/y"),
            3
        );
        assert_eq!(
            interested(Method::POST, "/api/v1/namespaces/a/configmaps"),
            3
        );
        assert_eq!(
            interested(Method::POST, "/api/v1/namespaces/c/configmaps"),
            1
        );
        assert_eq!(interested(Method::PUT, "/api/v1/nodes/n"), 0);
        drop(open);
        assert_eq!(
            interested(Method::PUT, "/api/v1/namespaces/a/configmaps/x"),
            0
        );
        assert!(watches.inner.counts.read().is_empty());
    }

    #[test]
    fn watches_of_one_nodes_pods_are_left_out() {
        let watches = Watches::default();
        let open: Vec<Watching> = [
            "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn1",
            "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3D",
            "/api/v1/pods?watch=1",
        ]
        .iter()
        .map(|path| {
            let (info, query) = read(&Method::GET, path);
            watches.register(&info, &query)
        })
        .collect();
        let (info, _) = read(&Method::POST, "/api/v1/namespaces/a/pods");
        assert_eq!(watches.interested(&info), 2);
        drop(open);
        assert_eq!(watches.interested(&info), 0);
    }
}
