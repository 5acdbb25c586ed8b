//! The objects of one resource: the store as the API server sees it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::cache::{self, Cache};
use crate::check;
use crate::entry::{Decoder, Entry, Transformer};
use crate::line::{Line, PathTaken, Sink};
use crate::metrics::CollectionMetrics;
use crate::read::{At, Page, Query, ReadError};
use crate::tasks::Tasks;
use crate::watch::{WatchQuery, Watcher};
use crate::write::{Change, UpdateError, WriteError, Written};

/// A resource, as the store needs to know it.
#[derive(Clone)]
pub struct ResourceConfig {
    /// Where its objects are below the store's prefix, without slashes at the ends: `pods`,
    /// `services/specs`, `minions`, `example.com/widgets`.
    pub path: String,
    /// Keys are `namespace/name`, not `name`. Keys of another shape are nobody's and are left alone.
    pub namespaced: bool,
    pub decoder: Arc<dyn Decoder>,
    /// Encryption at rest; `None` stores as it is.
    pub transformer: Option<Arc<dyn Transformer>>,
    /// Selectable fields by which lists are narrowed and watches woken, such as `spec.nodeName`.
    pub indexes: Vec<Box<str>>,
    /// Whether objects are kept with their bodies. Without, for resources that are written often and
    /// read seldom (events), lists come from etcd and only recent events hold bodies.
    pub keep_bodies: bool,
    /// Bytes of past objects that recent events may hold. Fewer, and slow watches expire earlier.
    pub ring_bytes: usize,
}

/// Recent events of one resource, unless told otherwise.
const RING_BYTES: usize = 32 << 20;

impl ResourceConfig {
    /// A resource with the usual settings: unencrypted, no indexes, bodies kept.
    #[must_use]
    pub fn new(path: &str, namespaced: bool, decoder: Arc<dyn Decoder>) -> Self {
        Self {
            path: path.to_owned(),
            namespaced,
            decoder,
            transformer: None,
            indexes: Vec::new(),
            keep_bodies: true,
            ring_bytes: RING_BYTES,
        }
    }

    /// Whether a key below the path is one of an object.
    pub(crate) fn has_shape(&self, key: &str) -> bool {
        match (key.split_once('/'), self.namespaced) {
            (Some((namespace, name)), true) => {
                !namespace.is_empty() && !name.is_empty() && !name.contains('/')
            }
            (None, false) => !key.is_empty(),
            _ => false,
        }
    }

    /// The entry as the collection holds it.
    pub(crate) fn kept(&self, entry: &Arc<Entry>) -> Arc<Entry> {
        if self.keep_bodies {
            Arc::clone(entry)
        } else {
            Arc::new(entry.without_body())
        }
    }
}

/// The collection is being listed from etcd, or not served any more: 429 with `Retry-After`.
#[derive(thiserror::Error, Clone, Debug)]
#[error("storage is (re)initializing: {path}{}", failure.as_ref().map(|f| format!(": {f}")).unwrap_or_default())]
pub struct NotReady {
    pub path: Box<str>,
    pub down_for: Duration,
    /// What the last try failed with.
    pub failure: Option<Arc<str>>,
}

impl NotReady {
    /// Seconds after which to try again; the longer it lasts, the longer, as upstream does
    /// (`storage/cacher/util.go`).
    #[must_use]
    pub fn retry_after(&self) -> u32 {
        (0.06 * self.down_for.as_secs_f64()).exp().clamp(1.0, 30.0) as u32
    }
}

/// The objects of one resource. Share it behind an `Arc`; dropping the last one keeps it served:
/// see [`Collection::close`].
pub struct Collection {
    cache: Arc<Cache>,
}

impl Collection {
    pub(crate) fn open(
        config: ResourceConfig,
        line: &Arc<Line>,
        tasks: &dyn Tasks,
    ) -> Result<Self, PathTaken> {
        let path = config.path.clone();
        let cache = Arc::new(Cache::new(config, Arc::clone(line)));
        line.route(&path, Arc::clone(&cache) as Arc<dyn Sink>)?;
        // Listed after it is routed: what the list is too old for is pushed.
        cache.run(tasks);
        Ok(Self { cache })
    }

    pub(crate) fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// The resource's path, from its configuration.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.cache.config.path
    }

    /// One object. `None` when it does not exist.
    ///
    /// # Errors
    /// See [`ReadError`]. A read at [`At::Latest`] does not need the cache and works while it is not
    /// ready.
    pub async fn get(&self, key: &str, at: At) -> Result<Option<Arc<Entry>>, ReadError> {
        self.cache.get(key, at).await
    }

    /// One object from the cache, without asking etcd how old that is; what is not there is looked up
    /// once in etcd. For authorizers and admission.
    ///
    /// # Errors
    /// When it is not in the cache and etcd does not answer.
    pub async fn cached(&self, key: &str) -> Result<Option<Arc<Entry>>, ReadError> {
        match self.peek(key) {
            Some(entry) => Ok(Some(entry)),
            None => Ok(self.cache.get_stored(key, 0).await?.0),
        }
    }

    /// One object if the cache has it now.
    #[must_use]
    pub fn peek(&self, key: &str) -> Option<Arc<Entry>> {
        let state = self.cache.state.read();
        state
            .objects
            .get(key)
            .filter(|_| self.cache.config.keep_bodies)
            .cloned()
    }

    /// All objects that the cache has now, and their revision.
    ///
    /// # Errors
    /// While the collection is being listed.
    pub fn snapshot(&self) -> Result<(cache::Entries, i64), NotReady> {
        let state = self.cache.state.read();
        state.ready(self.path())?;
        Ok((state.objects.clone(), self.cache.frontier(&state)))
    }

    /// A list, or a page of one.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn list(&self, query: Query) -> Result<Page, ReadError> {
        self.cache.list(query).await
    }

    /// Opens a watch.
    ///
    /// # Errors
    /// See [`ReadError`]; [`ReadError::Expired`] when the events after the wanted revision are not all
    /// known any more.
    pub async fn watch(&self, query: WatchQuery) -> Result<Watcher, ReadError> {
        Watcher::open(&self.cache, query).await
    }

    /// Creates an object: `value` is its stored form, before the transformer. With a `ttl` (seconds),
    /// etcd deletes it about that much later.
    ///
    /// # Errors
    /// [`WriteError::AlreadyExists`], and what etcd says. After [`etcd::Error::Unavailable`] the
    /// object may or may not exist.
    ///
    /// [`etcd::Error::Unavailable`]: crate::etcd::Error::Unavailable
    pub async fn create(
        &self,
        key: &str,
        value: Bytes,
        ttl: Option<i64>,
    ) -> Result<Written, WriteError> {
        self.cache.create(key, value, ttl).await
    }

    /// Changes an object, so that no write of others is lost: `change` sees the object as it is
    /// (`None`: it does not exist) and says what to do. It is called again whenever somebody else was
    /// faster.
    ///
    /// The first call usually sees the cache's object, which may be old. An error or
    /// [`Change::Nothing`] found on it counts only if etcd has that very object; otherwise `change` is
    /// called again with the newer one. A value that is sealed with an old key is written anew even if
    /// nothing changes.
    ///
    /// # Errors
    /// [`UpdateError::Refused`] with what `change` says, or what etcd says; as for
    /// [`Collection::create`], a write may have happened when etcd became unavailable.
    pub async fn update<E, F, Fut>(&self, key: &str, change: F) -> Result<Written, UpdateError<E>>
    where
        F: FnMut(Option<Arc<Entry>>) -> Fut,
        Fut: Future<Output = Result<Change, E>>,
    {
        self.cache.update(key, change).await
    }

    /// Deletes an object if `check` agrees; [`Collection::update`] with nothing to write.
    ///
    /// # Errors
    /// As [`Collection::update`]; [`WriteError::NotFound`] when there is none.
    pub async fn delete<E>(
        &self,
        key: &str,
        mut check: impl FnMut(&Arc<Entry>) -> Result<(), E>,
    ) -> Result<Written, UpdateError<E>> {
        self.update(key, |current| {
            let verdict = current.as_ref().map_or(Ok(()), &mut check);
            std::future::ready(verdict.map(|()| Change::Delete))
        })
        .await
    }

    /// Deletes an object that cannot be opened or decoded, whatever it is; with `dry_run` it is only looked at.
    ///
    /// # Errors
    /// [`WriteError::Decodable`] when it can, [`WriteError::NotFound`] when it does not exist.
    pub async fn delete_undecodable(&self, key: &str, dry_run: bool) -> Result<(), WriteError> {
        self.cache.delete_undecodable(key, dry_run).await
    }

    /// How many objects the cache holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cache.state.read().objects.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether reads and watches are answered from the cache.
    ///
    /// # Errors
    /// Says for how long not, and why.
    pub fn ready(&self) -> Result<(), NotReady> {
        self.cache.ready()
    }

    /// The key that the collection cannot get past, because it cannot be opened or decoded, and why.
    /// Reads that may be old are answered, fresh ones come from etcd, watches stand still.
    #[must_use]
    pub fn stalled(&self) -> Option<Arc<str>> {
        self.cache.stalled()
    }

    /// Waits until the collection is ready for the first time, or closed.
    pub async fn wait_ready(&self) {
        self.cache.wait_ready().await;
    }

    /// The revision up to which the cache has every event; 0 while it is not ready.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.cache.revision().unwrap_or(0)
    }

    /// Another decoder from now on, since a custom resource's schema changed. All watches end, what
    /// was decoded before is dropped, and the collection is listed again.
    pub fn redefine(&self, decoder: Arc<dyn Decoder>) {
        self.cache.redefine(decoder);
    }

    /// The resource is not served any more. All watches end, reads fail, and the path is free again.
    pub fn close(&self) {
        self.cache.line.unroute(self.path());
        self.cache.close();
    }

    /// Compares keys and versions with etcd now: `Some(true)` when they agree, `None` when it could not
    /// be told. A collection that differs is listed again.
    pub async fn check(&self) -> Option<bool> {
        check::check(&self.cache)
            .await
            .map(|difference| difference.is_none())
    }

    #[must_use]
    pub fn metrics(&self) -> &CollectionMetrics {
        &self.cache.metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_it_lasts_the_later_clients_come_back() {
        let after = |seconds| {
            NotReady {
                path: "pods".into(),
                down_for: Duration::from_secs(seconds),
                failure: None,
            }
            .retry_after()
        };
        assert_eq!([0, 12, 30, 60, 600].map(after), [1, 2, 6, 30, 30]);
    }
}
