//! Objects of one kind, for as long as pods refer to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use component::client::Kind;
use component::informer::{Informer, Informers, Selection};
use component::supervisor::chain;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Changed, Strategy};
use crate::volume::ObjectError;

/// How long a reader waits for a watch to bring the object; upstream's figure.
const PATIENCE: Duration = Duration::from_secs(1);

/// A kind that pods refer to.
pub(super) trait Referred:
    Kind + k8s_openapi::Resource<Scope = NamespaceResourceScope>
{
    /// It never changes, so there is nothing to watch.
    fn is_immutable(&self) -> bool;
}

impl Referred for ConfigMap {
    fn is_immutable(&self) -> bool {
        self.immutable.unwrap_or_default()
    }
}

impl Referred for Secret {
    fn is_immutable(&self) -> bool {
        self.immutable.unwrap_or_default()
    }
}

pub(super) struct Store<K> {
    kind: &'static str,
    informers: Informers,
    strategy: Strategy,
    ttl: Arc<AtomicU64>,
    changed: Changed,
    items: Mutex<Items<K>>,
}

/// By namespace and name.
type Items<K> = BTreeMap<(String, String), Arc<Item<K>>>;

/// An object, there or not, and the pods that want it.
struct Item<K> {
    pods: Mutex<BTreeSet<String>>,
    state: Mutex<State<K>>,
    /// Held while the object is read, so that those who want it at once share the answer.
    reading: tokio::sync::Mutex<()>,
}

struct State<K> {
    watch: Option<Informer<K>>,
    /// Immutable, or as it was last read.
    object: Option<Arc<K>>,
    read_at: Option<Instant>,
}

impl<K> Item<K> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            pods: Mutex::default(),
            state: Mutex::new(State {
                watch: None,
                object: None,
                read_at: None,
            }),
            reading: tokio::sync::Mutex::default(),
        })
    }
}

impl<K: Referred> Store<K> {
    pub(super) fn new(
        kind: &'static str,
        informers: &Informers,
        strategy: Strategy,
        ttl: &Arc<AtomicU64>,
        changed: &Changed,
    ) -> Self {
        Self {
            kind,
            informers: informers.clone(),
            strategy,
            ttl: Arc::clone(ttl),
            changed: Arc::clone(changed),
            items: Mutex::default(),
        }
    }

    /// A pod refers to an object from now on.
    pub(super) fn refer(&self, namespace: &str, name: &str, uid: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut items = self.items.lock();
        let item = items.entry(key).or_insert_with(Item::new);
        item.pods.lock().insert(uid.to_owned());
        let mut state = item.state.lock();
        // A new pod may have been made because of a change that is not known here yet.
        state.read_at = None;
        if self.strategy == Strategy::Watch && state.watch.is_none() && state.object.is_none() {
            state.watch = Some(self.watch(namespace, name, item));
        }
    }

    fn watch(&self, namespace: &str, name: &str, item: &Arc<Item<K>>) -> Informer<K> {
        let informer = self.informers.select::<K>(Selection {
            namespace: namespace.to_owned(),
            fields: format!("metadata.name={name}"),
            ..Selection::default()
        });
        let (changed, item) = (Arc::clone(&self.changed), Arc::downgrade(item));
        informer.subscribe(move |_, _| {
            let pods = item.upgrade().map(|item| item.pods.lock().clone());
            for uid in pods.iter().flatten() {
                changed(uid);
            }
        });
        informer
    }

    /// A pod does so no longer. With the last one the object goes.
    pub(super) fn release(&self, namespace: &str, name: &str, uid: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut items = self.items.lock();
        let Some(item) = items.get(&key) else { return };
        let mut pods = item.pods.lock();
        pods.remove(uid);
        if pods.is_empty() {
            drop(pods);
            if let Some(watch) = item.state.lock().watch.take() {
                watch.stop();
            }
            items.remove(&key);
        }
    }

    /// The object as it is now, or was a moment ago.
    pub(super) async fn get(&self, namespace: &str, name: &str) -> Result<Arc<K>, ObjectError> {
        let key = (namespace.to_owned(), name.to_owned());
        let item = self.items.lock().get(&key).cloned();
        let item = item.ok_or_else(|| {
            ObjectError::Failed(format!("object {namespace:?}/{name:?} not registered"))
        })?;
        match self.strategy {
            Strategy::Watch => self.watched(&item, namespace, name).await,
            Strategy::Cache => self.cached(&item, namespace, name).await,
            Strategy::Get => self.read(namespace, name).await,
        }
    }

    fn not_found(&self, name: &str) -> ObjectError {
        ObjectError::NotFound {
            kind: self.kind,
            name: name.to_owned(),
        }
    }

    async fn watched(
        &self,
        item: &Item<K>,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<K>, ObjectError> {
        let watch = {
            let state = item.state.lock();
            if let Some(object) = &state.object {
                return Ok(Arc::clone(object));
            }
            state.watch.clone()
        };
        // Released since: whoever still asks is about to end.
        let watch = watch.ok_or_else(|| self.not_found(name))?;
        if tokio::time::timeout(PATIENCE, watch.synced())
            .await
            .is_err()
        {
            return Err(ObjectError::Failed(format!(
                "failed to sync {} cache: timed out waiting for the condition",
                self.kind
            )));
        }
        let object = watch.lister().get(namespace, name);
        let object = object.ok_or_else(|| self.not_found(name))?;
        if object.is_immutable() {
            let mut state = item.state.lock();
            state.object = Some(Arc::clone(&object));
            if let Some(watch) = state.watch.take() {
                watch.stop();
            }
        }
        Ok(object)
    }

    async fn cached(
        &self,
        item: &Item<K>,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<K>, ObjectError> {
        let _reading = item.reading.lock().await;
        let ttl = Duration::from_secs(self.ttl.load(Ordering::Relaxed));
        let old = {
            let state = item.state.lock();
            let fresh = state.read_at.is_some_and(|at| at.elapsed() < ttl);
            match &state.object {
                Some(object) if fresh || object.is_immutable() => return Ok(Arc::clone(object)),
                old => old.clone(),
            }
        };
        let read = self.read(namespace, name).await;
        let mut state = item.state.lock();
        match (read, old) {
            (Ok(new), _) => {
                state.object = Some(Arc::clone(&new));
                state.read_at = Some(Instant::now());
                Ok(new)
            }
            (Err(gone @ ObjectError::NotFound { .. }), _) => {
                state.object = None;
                Err(gone)
            }
            // The server cannot be asked: what is known is better than nothing.
            (Err(_), Some(old)) => Ok(old),
            (Err(e), None) => Err(e),
        }
    }

    async fn read(&self, namespace: &str, name: &str) -> Result<Arc<K>, ObjectError> {
        let api = self.informers.client().namespaced::<K>(namespace);
        match api.get(name).await {
            Ok(object) => Ok(Arc::new(object)),
            Err(e) if e.is_not_found() => Err(self.not_found(name)),
            Err(e) => Err(ObjectError::Failed(chain(&e))),
        }
    }
}
