//! Caches of the objects that a daemon works on, kept current by a watch.
//!
//! An [`Informers`] shares one watch per kind and selection in a daemon. An [`Informer`] starts when it
//! is first asked for; its [`Lister`] reads the cache, its subscribers are told what changed.
//!
//! Invariants: a cache has one writer, its reflector, and never goes back in time; the cache is
//! changed before the subscribers are told; subscribers are told in order, one event at a time, and
//! nothing between the objects that they found and the first event is lost. Managed fields are
//! dropped: no daemon reads them, and they are a third of an object.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::client::{Api, Client, Kind, Object, PartialObjectMetadata, Target};
use crate::supervisor::{Supervisor, Task};

mod cache;
mod key;
mod lister;
mod reflector;

pub use cache::Index;
pub use key::Key;
pub use lister::Lister;

use cache::Cache;
use reflector::Reflector;

/// What happened to an object.
#[derive(Debug)]
pub enum Event<K: ?Sized> {
    Added(Arc<K>),
    /// Both may be equal in content after a relist.
    Updated {
        old: Arc<K>,
        new: Arc<K>,
    },
    /// With the last state that is known.
    Deleted(Arc<K>),
}

impl<K: ?Sized> Event<K> {
    /// The newest state of the object.
    #[must_use]
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Added(object) | Self::Deleted(object) => object,
            Self::Updated { new, .. } => new,
        }
    }
}

impl Event<dyn Object> {
    fn typed<K: Kind>(&self) -> Event<K> {
        let object = |object: &Arc<dyn Object>| typed(Arc::clone(object));
        match self {
            Self::Added(new) => Event::Added(object(new)),
            Self::Updated { old, new } => Event::Updated {
                old: object(old),
                new: object(new),
            },
            Self::Deleted(last) => Event::Deleted(object(last)),
        }
    }
}

/// An object of a cache as what the informer's type says that all of them are.
fn typed<K: Kind>(object: Arc<dyn Object>) -> Arc<K> {
    object
        .into_kind()
        .expect("a reflector decodes the kind of its informer and no other")
}

/// Which objects of a kind; empty fields do not select.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Selection {
    pub namespace: String,
    pub labels: String,
    pub fields: String,
}

impl Selection {
    /// All objects of a namespace.
    #[must_use]
    pub fn namespace(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            ..Self::default()
        }
    }

    /// Objects that a field selector selects, such as `spec.nodeName=node-1`.
    #[must_use]
    pub fn fields(fields: &str) -> Self {
        Self {
            fields: fields.to_owned(),
            ..Self::default()
        }
    }

    /// Objects that a label selector selects.
    #[must_use]
    pub fn labels(labels: &str) -> Self {
        Self {
            labels: labels.to_owned(),
            ..Self::default()
        }
    }
}

/// The informers of a daemon; cheap to clone.
#[derive(Clone)]
pub struct Informers {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    tasks: Supervisor,
    running: Mutex<HashMap<Id, Running>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Id {
    kind: TypeId,
    target: Target,
    selection: Selection,
}

/// An informer whose kind the map does not know.
struct Running {
    informer: Box<dyn Any + Send + Sync>,
    synced: watch::Receiver<bool>,
    name: String,
}

impl Informers {
    /// Informers that watch through `client`.
    #[must_use]
    pub fn new(client: Client, tasks: Supervisor) -> Self {
        Self {
            shared: Arc::new(Shared {
                client,
                tasks,
                running: Mutex::default(),
            }),
        }
    }

    /// All objects of a kind.
    #[must_use]
    pub fn of<K: Kind>(&self) -> Informer<K> {
        self.select(Selection::default())
    }

    /// Some objects of a kind.
    #[must_use]
    pub fn select<K: Kind>(&self, selection: Selection) -> Informer<K> {
        self.get(Target::of::<K>(), selection)
    }

    /// The metadata of all objects of a kind that is not known when the program is built.
    #[must_use]
    pub fn metadata(&self, target: Target) -> Informer<PartialObjectMetadata> {
        self.get(target, Selection::default())
    }

    fn get<K: Kind>(&self, target: Target, selection: Selection) -> Informer<K> {
        let id = Id {
            kind: TypeId::of::<K>(),
            target,
            selection,
        };
        let mut running = self.shared.running.lock();
        if let Some(informer) = running
            .get(&id)
            .and_then(|r| r.informer.downcast_ref::<Informer<K>>())
        {
            return informer.clone();
        }
        let informer = Informer::start(&self.shared, &id);
        let known = Running {
            informer: Box::new(informer.clone()),
            synced: informer.core.synced.subscribe(),
            name: id.target.to_string(),
        };
        running.insert(id, known);
        informer
    }

    /// Waits until each informer that was asked for so far has all its objects.
    pub async fn synced(&self) {
        let waiting: Vec<_> = self
            .shared
            .running
            .lock()
            .values()
            .map(|r| (r.name.clone(), r.synced.clone()))
            .collect();
        for (name, mut synced) in waiting {
            // It fails only if the informer was stopped: nobody needs its objects then.
            let _ = synced.wait_for(|done| *done).await;
            tracing::debug!(resource = name, "Cache synced");
        }
    }

    /// The informers that do not have their objects yet.
    #[must_use]
    pub fn unsynced(&self) -> Vec<String> {
        let running = self.shared.running.lock();
        running
            .values()
            .filter(|r| !*r.synced.borrow())
            .map(|r| r.name.clone())
            .collect()
    }

    /// The client that they watch through.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.shared.client
    }
}

/// The cache of one kind and selection, and the watch that keeps it current; cheap to clone.
pub struct Informer<K> {
    core: Arc<Core>,
    kind: PhantomData<fn() -> K>,
}

/// What the handles and the reflector share.
struct Core {
    cache: Cache,
    /// Held while an event is applied and told, so that a new subscriber misses none.
    subscribers: Mutex<Vec<Subscriber>>,
    synced: watch::Sender<bool>,
    stop: CancellationToken,
    id: Id,
    shared: std::sync::Weak<Shared>,
}

type Subscriber = Box<dyn Fn(&Key, &Event<dyn Object>) + Send + Sync>;

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
            kind: PhantomData,
        }
    }
}

impl<K: Kind> Informer<K> {
    fn start(shared: &Arc<Shared>, id: &Id) -> Self {
        let stop = shared.tasks.stop_of(Task::Cache).child_token();
        let core = Arc::new(Core {
            cache: Cache::default(),
            subscribers: Mutex::default(),
            synced: watch::Sender::new(false),
            stop: stop.clone(),
            id: id.clone(),
            shared: Arc::downgrade(shared),
        });
        let namespace = Some(id.selection.namespace.as_str()).filter(|ns| !ns.is_empty());
        let api = Api::<K>::new(shared.client.clone(), id.target.clone(), namespace);
        let source = api.objects();
        let reflector = Reflector::new(source, id.selection.clone(), Arc::clone(&core));
        let name = format!("reflector {}", id.target);
        shared.tasks.spawn(Task::Cache, name, async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = reflector.run() => {}
            }
        });
        Self {
            core,
            kind: PhantomData,
        }
    }

    /// The reader of the cache.
    #[must_use]
    pub fn lister(&self) -> Lister<K> {
        Lister::new(Arc::clone(&self.core))
    }

    /// Calls `tell` for each object that is there (as added) and for each event after that. It runs on
    /// the watch's task: it must only note what to do, such as adding the key to a queue, and must not
    /// subscribe.
    pub fn subscribe(&self, tell: impl Fn(&Key, &Event<K>) + Send + Sync + 'static) {
        let mut subscribers = self.core.subscribers.lock();
        for item in &self.core.cache.snapshot() {
            tell(item.key(), &Event::Added(typed(Arc::clone(item.object()))));
        }
        subscribers.push(Box::new(move |key, event| tell(key, &event.typed())));
    }

    /// Keeps an index: the values under which objects are found with [`Lister::indexed`]. The same name
    /// always means the same function.
    #[must_use]
    pub fn index(
        &self,
        name: &'static str,
        values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static,
    ) -> Index {
        let values = move |object: &dyn Object| object.as_kind().map(&values).unwrap_or_default();
        self.core.cache.index(name, Box::new(values))
    }

    /// Waits until the cache holds all objects, and the subscribers were told of them.
    pub async fn synced(&self) {
        let mut synced = self.core.synced.subscribe();
        // The sender lives in the core, which this handle holds.
        let _ = synced.wait_for(|done| *done).await;
    }

    #[must_use]
    pub fn has_synced(&self) -> bool {
        *self.core.synced.borrow()
    }

    /// Ends the watch for everybody who shares it; the cache stays as it is.
    pub fn stop(&self) {
        self.core.stop.cancel();
        if let Some(shared) = self.core.shared.upgrade() {
            shared.running.lock().remove(&self.core.id);
        }
    }
}

impl<K> fmt::Debug for Informer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Informer")
            .field("target", &self.core.id.target)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
