//! What directs admission from objects of the cluster: webhooks, policies. As it is now, and what follows from it for each
//! kind of write.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use proto::catalogue::Resource;
use store::Entry;
use tokio::sync::watch;

use super::Operation;
use crate::registry::follow::Told;

/// How long a write waits for it to be known after a start; upstream's `timeToWaitForReady`.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is in force, and whether it is known yet.
pub(super) struct Live<T> {
    current: RwLock<Arc<T>>,
    known: watch::Sender<bool>,
}

impl<T: Default> Live<T> {
    /// Not known yet.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            current: RwLock::default(),
            known: watch::Sender::new(false),
        })
    }

    /// Nothing is and will be in force.
    pub(super) fn nothing() -> Arc<Self> {
        let live = Self::new();
        live.known.send_replace(true);
        live
    }
}

impl<T> Live<T> {
    pub(super) fn set(&self, now: T) {
        *self.current.write() = Arc::new(now);
        self.known
            .send_if_modified(|known| !std::mem::replace(known, true));
    }

    pub(super) fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read())
    }

    pub(super) fn is_known(&self) -> bool {
        *self.known.borrow()
    }

    /// Waits until it is known, for a while; false if it is not.
    pub(super) async fn wait_known(&self) -> bool {
        if self.is_known() {
            return true;
        }
        let mut known = self.known.subscribe();
        let waited = tokio::time::timeout(PATIENCE, known.wait_for(|known| *known));
        matches!(waited.await, Ok(Ok(_)))
    }
}

/// What a collection has told so far, by name.
pub(super) struct All<T> {
    pub(super) all: BTreeMap<Box<str>, Arc<T>>,
    /// What was known before a reset holds until the whole is known again.
    pub(super) complete: bool,
}

impl<T> Default for All<T> {
    fn default() -> Self {
        Self {
            all: BTreeMap::new(),
            complete: false,
        }
    }
}

impl<T> All<T> {
    /// Takes what is told; of what cannot be read stays what could be.
    pub(super) fn tell(&mut self, told: Told, read: impl Fn(&Entry) -> Option<T>) {
        match told {
            Told::Reset => {
                self.all.clear();
                self.complete = false;
            }
            Told::Put(entry) => {
                if let Some(read) = read(&entry) {
                    self.all.insert(entry.key.clone(), Arc::new(read));
                }
            }
            Told::Gone(entry) => drop(self.all.remove(&entry.key)),
            Told::Complete => self.complete = true,
        }
    }
}

/// What was found for kinds of writes, as long as what it was found in is in force.
pub(super) struct ByWrite<V> {
    /// By resource (there is one of each in the program) and operation, by subresource.
    found: RwLock<HashMap<(usize, Operation), Below<V>>>,
}

/// By subresource.
type Below<V> = Vec<(Box<str>, V)>;

impl<V> Default for ByWrite<V> {
    fn default() -> Self {
        Self {
            found: RwLock::default(),
        }
    }
}

impl<V: Clone> ByWrite<V> {
    /// What was found for such writes; `find` is asked the first time.
    pub(super) fn get(
        &self,
        (operation, resource, subresource): (Operation, &'static Resource, &str),
        find: impl FnOnce() -> V,
    ) -> V {
        let key = (std::ptr::from_ref(resource).addr(), operation);
        let known = |of: &Below<V>| {
            let mut all = of.iter();
            all.find(|(below, _)| **below == *subresource)
                .map(|(_, found)| found.clone())
        };
        if let Some(found) = self.found.read().get(&key).and_then(known) {
            return found;
        }
        let found = find();
        let mut all = self.found.write();
        let of = all.entry(key).or_default();
        if known(of).is_none() {
            of.push((subresource.into(), found.clone()));
        }
        found
    }
}
