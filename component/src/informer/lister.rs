//! Reading an informer's cache.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::{Core, Index, Key, typed};
use crate::client::Kind;

/// The reader of an informer's cache; cheap to clone. Every answer is of one point in time.
pub struct Lister<K> {
    core: Arc<Core>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Lister<K> {
    fn clone(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
            kind: PhantomData,
        }
    }
}

impl<K: Kind> Lister<K> {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            kind: PhantomData,
        }
    }

    /// The object with this namespace and name; the namespace is empty for cluster scope.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.by_key(&Key::new(namespace, name))
    }

    #[must_use]
    pub fn by_key(&self, key: &Key) -> Option<Arc<K>> {
        self.core.cache.get(key.as_str()).map(typed)
    }

    /// All objects, by key.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<K>> {
        self.core
            .cache
            .snapshot()
            .iter()
            .map(|item| typed(Arc::clone(item.object())))
            .collect()
    }

    /// All objects of a namespace, by name.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let snapshot = self.core.cache.snapshot();
        let prefix = format!("{namespace}/");
        snapshot
            .prefix(&prefix)
            .map(|item| typed(Arc::clone(item.object())))
            .collect()
    }

    /// The objects that an index of this informer has under a value, by key.
    #[must_use]
    pub fn indexed(&self, index: Index, value: &str) -> Vec<Arc<K>> {
        let found = self.core.cache.indexed(index, value);
        found.into_iter().map(typed).collect()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.core.cache.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The version that the cache is of; empty before it has synced.
    #[must_use]
    pub fn resource_version(&self) -> String {
        self.core.cache.resource_version()
    }

    /// Whether the cache has seen the write that gave an object this version. Versions are numbers
    /// that grow (KEP-5504).
    #[must_use]
    pub fn has_reached(&self, version: &str) -> bool {
        let number = |text: &str| text.parse::<u64>().ok();
        match (number(&self.resource_version()), number(version)) {
            (Some(at), Some(wanted)) => at >= wanted,
            _ => false,
        }
    }
}

impl<K> fmt::Debug for Lister<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lister")
            .field("target", &self.core.id.target)
            .finish_non_exhaustive()
    }
}
