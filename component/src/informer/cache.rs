//! The objects of an informer and their indexes.
//!
//! It does not know their kind: its code is made once, and not for each kind.
//!
//! Readers take a snapshot in O(1) and never wait for a writer at work; what a write replaces is
//! dropped outside the lock.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;
use store::objects::{Keyed, Objects};

use super::{Event, Key};
use crate::client::Object;

/// An index of an informer's cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Index(usize);

/// An object under its key.
#[derive(Clone)]
pub(super) struct Item {
    key: Key,
    object: Arc<dyn Object>,
}

impl Item {
    pub(super) fn new(object: Arc<dyn Object>) -> Self {
        let key = Key::of(object.meta());
        Self { key, object }
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    pub(super) fn object(&self) -> &Arc<dyn Object> {
        &self.object
    }
}

impl Keyed for Item {
    fn key(&self) -> &str {
        self.key.as_str()
    }
}

pub(super) type Values = Box<dyn Fn(&dyn Object) -> Vec<String> + Send + Sync>;

/// The objects, as of a version.
#[derive(Default)]
pub(super) struct Cache {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    objects: Objects<Item>,
    indexes: Vec<IndexState>,
    resource_version: String,
}

struct IndexState {
    name: &'static str,
    values: Values,
    keys: HashMap<String, BTreeSet<Key>>,
}

impl Cache {
    pub(super) fn snapshot(&self) -> Objects<Item> {
        self.state.read().objects.clone()
    }

    pub(super) fn get(&self, key: &str) -> Option<Arc<dyn Object>> {
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
    pub(super) fn indexed(&self, index: Index, value: &str) -> Vec<Arc<dyn Object>> {
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
    pub(super) fn index(&self, name: &'static str, values: Values) -> Index {
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
    pub(super) fn put(&self, item: Item, version: &str) -> Event<dyn Object> {
        let object = Arc::clone(&item.object);
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

    /// Takes an object out, whose last state is `last`. None if it was not there.
    pub(super) fn remove(&self, last: Item, version: &str) -> Option<Event<dyn Object>> {
        let mut state = self.state.write();
        version.clone_into(&mut state.resource_version);
        let old = state.remove(&last.key);
        drop(state);
        old.map(|_| Event::Deleted(last.object))
    }

    /// Puts a whole list in the place of what is there, and says what changed: what is gone first.
    pub(super) fn replace(
        &self,
        list: Objects<Item>,
        version: &str,
        same: impl Fn(&dyn Object, &dyn Object) -> bool,
    ) -> Vec<(Key, Event<dyn Object>)> {
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
                Some(old) if same(&*old.object, &*new.object) => {}
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

impl State {
    fn put(&mut self, item: Item) -> Option<Item> {
        let old = self.objects.get(item.key.as_str()).cloned();
        for index in &mut self.indexes {
            index.change(old.as_ref(), Some(&item));
        }
        self.objects.insert(item)
    }

    fn remove(&mut self, key: &Key) -> Option<Item> {
        let old = self.objects.remove(key.as_str())?;
        for index in &mut self.indexes {
            index.change(Some(&old), None);
        }
        Some(old)
    }
}

impl IndexState {
    fn add(&mut self, item: &Item) {
        for value in (self.values)(&*item.object) {
            self.keys.entry(value).or_default().insert(item.key.clone());
        }
    }

    fn change(&mut self, old: Option<&Item>, new: Option<&Item>) {
        let before = old.map(|o| (self.values)(&*o.object)).unwrap_or_default();
        let after = new.map(|n| (self.values)(&*n.object)).unwrap_or_default();
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
