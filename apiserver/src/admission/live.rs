//! What directs admission from objects of the cluster: webhooks, policies. As it is now, and what follows from it for each
//! kind of write.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use proto::catalogue::Resource;
use store::Entry;
use tokio::runtime::{Handle, RuntimeFlavor};
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
    pub(super) fn take(&mut self, change: Change<T>) {
        match change {
            Change::Reset => {
                self.all.clear();
                self.complete = false;
            }
            Change::Put(_, None) => {}
            Change::Put(key, Some(read)) => drop(self.all.insert(key, read)),
            Change::Gone(key) => drop(self.all.remove(&key)),
            Change::Complete => self.complete = true,
        }
    }
}

/// What a collection tells, read.
pub(super) enum Change<T> {
    Reset,
    /// None if it cannot be read.
    Put(Box<str>, Option<Arc<T>>),
    Gone(Box<str>),
    Complete,
}

impl<T> Change<T> {
    /// Reads what is told. Compiling takes long, and there may be many objects at once: the other work of the thread goes on.
    pub(super) fn read(told: Told, read: impl FnOnce(&Entry) -> Option<T>) -> Self {
        match told {
            Told::Reset => Self::Reset,
            Told::Put(entry) => {
                let read = aside(|| read(&entry));
                Self::Put(entry.key.clone(), read.map(Arc::new))
            }
            Told::Gone(entry) => Self::Gone(entry.key.clone()),
            Told::Complete => Self::Complete,
        }
    }
}

/// Does what takes long while other threads take over the tasks of this one; where there are none (in tests), it does it anyway.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    let runtime = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    match runtime {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// What was found for kinds of writes, as long as what it was found in is in force.
pub(super) struct ByWrite<V> {
    found: RwLock<Found<V>>,
}

struct Found<V> {
    /// Of what is served.
    generation: u64,
    /// By resource (there is one of each in the program) and operation, by subresource.
    by: HashMap<(usize, Operation), Below<V>>,
}

/// By subresource.
type Below<V> = Vec<(Box<str>, V)>;

impl<V> Default for ByWrite<V> {
    fn default() -> Self {
        Self {
            found: RwLock::new(Found {
                generation: 0,
                by: HashMap::new(),
            }),
        }
    }
}

impl<V: Clone> ByWrite<V> {
    /// What was found for such writes; `find` is asked the first time, and the first time in a later generation of what is
    /// served ([`Registry::generation`](crate::registry::Registry::generation)).
    pub(super) fn get(
        &self,
        generation: u64,
        (operation, resource, subresource): (Operation, &'static Resource, &str),
        find: impl FnOnce() -> V,
    ) -> V {
        let key = (std::ptr::from_ref(resource).addr(), operation);
        let known = |of: &Below<V>| {
            let mut all = of.iter();
            all.find(|(below, _)| **below == *subresource)
                .map(|(_, found)| found.clone())
        };
        let remembered = {
            let all = self.found.read();
            let current = all.generation == generation;
            { all.by.get(&key) }.filter(|_| current).and_then(known)
        };
        if let Some(found) = remembered {
            return found;
        }
        let found = find();
        let mut all = self.found.write();
        if all.generation < generation {
            all.generation = generation;
            all.by.clear();
        }
        // Somebody may have been slow.
        if all.generation == generation {
            let of = all.by.entry(key).or_default();
            if known(of).is_none() {
                of.push((subresource.into(), found.clone()));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use store::{Fields, Labels};

    use super::super::testing::resource;
    use super::*;

    /// One thread for two tasks, the first of which waits for what the second does.
    #[test]
    fn what_is_read_keeps_no_other_task_waiting() {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).build().unwrap();
        let entry = Arc::new(Entry::new(
            "p",
            1,
            Bytes::new(),
            Labels::default(),
            Fields::default(),
        ));
        let (done, waits) = std::sync::mpsc::channel();
        let reading = runtime.spawn(async move {
            let read = |_: &Entry| waits.recv_timeout(PATIENCE).ok();
            matches!(
                Change::read(Told::Put(entry), read),
                Change::Put(_, Some(_))
            )
        });
        runtime.spawn(async move { done.send(()) });
        assert!(runtime.block_on(reading).unwrap(), "the second never ran");
    }

    #[test]
    fn what_was_found_holds_for_one_generation_of_what_is_served() {
        let by_write = ByWrite::default();
        let get = |generation, found| {
            let write = (Operation::Create, resource("pods"), "");
            by_write.get(generation, write, || found)
        };
        assert_eq!((get(0, "a"), get(0, "b")), ("a", "a"));
        assert_eq!((get(1, "c"), get(1, "d")), ("c", "c"));
        assert_eq!(get(0, "slow"), "slow", "it is found for whoever was slow");
        assert_eq!(get(1, "e"), "c", "and forgotten");
    }
}
