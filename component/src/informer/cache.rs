//! The objects of an informer and their indexes.
//!
//! Readers take a snapshot in O(1) and never wait for a writer at work; what a write replaces is
//! dropped outside the lock.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;
use store::objects::{Keyed, Objects};

use super::{Event, Key};

/// An index of an informer's cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Index(usize);

/// An object under its key.
pub(super) struct Item<K> {
    key: Key,
    object: Arc<K>,
}

impl<K> Item<K> {
    pub(super) fn new(key: Key, object: Arc<K>) -> Self {
        Self { key, object }
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    pub(super) fn object(&self) -> &Arc<K> {
        &self.object
    }
}

impl<K> Clone for Item<K> {
    fn clone(&self) -> Self {
        Self {
            key: self.key.clone(),
            object: Arc::clone(&self.object),
        }
    }
}

impl<K> Keyed for Item<K> {
    fn key(&self) -> &str {
        self.key.as_str()
    }
}

pub(super) type Values<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;

/// The objects, as of a version.
pub(super) struct Cache<K> {
    state: RwLock<State<K>>,
}

struct State<K> {
    objects: Objects<Item<K>>,
    indexes: Vec<IndexState<K>>,
    resource_version: String,
}

struct IndexState<K> {
    name: &'static str,
    values: Values<K>,
    keys: HashMap<String, BTreeSet<Key>>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        let state = State {
            objects: Objects::default(),
            indexes: Vec::new(),
            resource_version: String::new(),
        };
        Self {
            state: RwLock::new(state),
        }
    }
}

impl<K> Cache<K> {
    pub(super) fn snapshot(&self) -> Objects<Item<K>> {
        self.state.read().objects.clone()
    }

    pub(super) fn get(&self, key: &str) -> Option<Arc<K>> {
        self.state
            .read()
            .objects
            .get(key)
            .map(|item| Arc::clone(&item.object))
    }

    pub(super) fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    /// The objects that an index has under a value, by key.
    pub(super) fn indexed(&self, index: Index, value: &str) -> Vec<Arc<K>> {
        let state = self.state.read();
        let keys = state.indexes.get(index.0).and_then(|i| i.keys.get(value));
        let object = |key: &Key| {
            state
                .objects
                .get(key.as_str())
                .map(|item| Arc::clone(&item.object))
        };
        keys.into_iter().flatten().filter_map(object).collect()
    }

    pub(super) fn resource_version(&self) -> String {
        self.state.read().resource_version.clone()
    }

    pub(super) fn set_resource_version(&self, version: &str) {
        version.clone_into(&mut self.state.write().resource_version);
    }

    /// Adds an index over what is there, or finds the one of that name.
    pub(super) fn index(&self, name: &'static str, values: Values<K>) -> Index {
        let mut state = self.state.write();
        if let Some(known) = state.indexes.iter().position(|i| i.name == name) {
            return Index(known);
        }
        let mut index = IndexState {
            name,
            values,
            keys: HashMap::new(),
        };
        for item in &state.objects {
            index.add(item);
        }
        state.indexes.push(index);
        Index(state.indexes.len() - 1)
    }

    /// Puts an object in its place and says what that means.
    pub(super) fn put(&self, key: &Key, object: Arc<K>, version: &str) -> Event<K> {
        let item = Item::new(key.clone(), Arc::clone(&object));
        let mut state = self.state.write();
        version.clone_into(&mut state.resource_version);
        let old = state.put(item);
        drop(state);
        match old {
            Some(old) => Event::Updated {
                old: old.object,
                new: object,
            },
            None => Event::Added(object),
        }
    }

    /// Takes an object out; `last` is its last state. None if it was not there.
    pub(super) fn remove(&self, key: &Key, last: Arc<K>, version: &str) -> Option<Event<K>> {
        let mut state = self.state.write();
        version.clone_into(&mut state.resource_version);
        let old = state.remove(key);
        drop(state);
        old.map(|_| Event::Deleted(last))
    }

    /// Puts a whole list in the place of what is there, and says what changed: what is gone first.
    pub(super) fn replace(
        &self,
        list: Objects<Item<K>>,
        version: &str,
        same: impl Fn(&K, &K) -> bool,
    ) -> Vec<(Key, Event<K>)> {
        let before = self.snapshot();
        let mut events = Vec::new();
        for old in &before {
            if list.get(old.key.as_str()).is_none() {
                events.push((old.key.clone(), Event::Deleted(Arc::clone(&old.object))));
            }
        }
        for new in &list {
            match before.get(new.key.as_str()) {
                None => events.push((new.key.clone(), Event::Added(Arc::clone(&new.object)))),
                Some(old) if same(&old.object, &new.object) => {}
                Some(old) => {
                    let event = Event::Updated {
                        old: Arc::clone(&old.object),
                        new: Arc::clone(&new.object),
                    };
                    events.push((new.key.clone(), event));
                }
            }
        }
        let mut state = self.state.write();
        for index in &mut state.indexes {
            index.keys.clear();
            for item in &list {
                index.add(item);
            }
        }
        let old = std::mem::replace(&mut state.objects, list);
        version.clone_into(&mut state.resource_version);
        drop(state);
        drop(old);
        events
    }
}

impl<K> State<K> {
    fn put(&mut self, item: Item<K>) -> Option<Item<K>> {
        let old = self.objects.get(item.key.as_str()).cloned();
        for index in &mut self.indexes {
            index.change(old.as_ref(), Some(&item));
        }
        self.objects.insert(item)
    }

    fn remove(&mut self, key: &Key) -> Option<Item<K>> {
        let old = self.objects.remove(key.as_str())?;
        for index in &mut self.indexes {
            index.change(Some(&old), None);
        }
        Some(old)
    }
}

impl<K> IndexState<K> {
    fn add(&mut self, item: &Item<K>) {
        for value in (self.values)(&item.object) {
            self.keys.entry(value).or_default().insert(item.key.clone());
        }
    }

    fn change(&mut self, old: Option<&Item<K>>, new: Option<&Item<K>>) {
        let before = old.map(|o| (self.values)(&o.object)).unwrap_or_default();
        let after = new.map(|n| (self.values)(&n.object)).unwrap_or_default();
        if before == after {
            return;
        }
        for value in before {
            if let (Some(keys), Some(old)) = (self.keys.get_mut(&value), old) {
                keys.remove(&old.key);
                if keys.is_empty() {
                    self.keys.remove(&value);
                }
            }
        }
        if let Some(new) = new {
            for value in after {
                self.keys.entry(value).or_default().insert(new.key.clone());
            }
        }
    }
}
