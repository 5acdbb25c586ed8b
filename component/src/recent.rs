//! A map of bounded size that forgets what was used longest ago.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Entries of upstream's caches of events.
pub(crate) const ENTRIES: usize = 4096;

/// A least-recently-used map.
pub struct Recent<K, V> {
    entries: HashMap<K, (u64, V)>,
    by_use: BTreeMap<u64, K>,
    uses: u64,
    most: usize,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            entries: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
            most,
        }
    }

    /// The value of a key, made if it is not there.
    pub fn entry(&mut self, key: &K, make: impl FnOnce() -> V) -> &mut V {
        if !self.entries.contains_key(key) {
            if self.entries.len() >= self.most
                && let Some((_, oldest)) = self.by_use.pop_first()
            {
                self.entries.remove(&oldest);
            }
            self.uses += 1;
            self.by_use.insert(self.uses, key.clone());
            self.entries.insert(key.clone(), (self.uses, make()));
        }
        self.touch(key)
            .expect("it was there or was put there above")
    }

    /// The value of a key, if it is there; that is a use.
    pub fn touch(&mut self, key: &K) -> Option<&mut V> {
        let (used, value) = self.entries.get_mut(key)?;
        self.uses += 1;
        let before = std::mem::replace(used, self.uses);
        if let Some(key) = self.by_use.remove(&before) {
            self.by_use.insert(self.uses, key);
        }
        Some(value)
    }

    /// The value of a key, if it is there; looking is not using.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    pub fn insert(&mut self, key: K, value: V) {
        self.remove(&key);
        self.entry(&key, || value);
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (used, value) = self.entries.remove(key)?;
        self.by_use.remove(&used);
        Some(value)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.entries
            .iter_mut()
            .map(|(key, (_, value))| (key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_is_forgotten() {
        let mut recent = Recent::new(2);
        *recent.entry(&"a", || 1) += 0;
        *recent.entry(&"b", || 2) += 0;
        assert_eq!(*recent.entry(&"a", || 9), 1);
        recent.entry(&"c", || 3);
        assert_eq!(*recent.entry(&"a", || 9), 1);
        assert_eq!(*recent.entry(&"b", || 9), 9, "b was forgotten");
        assert_eq!(recent.remove(&"a"), Some(1));
        assert_eq!(recent.iter_mut().count(), 1);
    }

    #[test]
    fn a_touch_is_a_use_and_a_look_is_none() {
        let mut recent = Recent::new(2);
        recent.insert("a", 1);
        recent.insert("b", 2);
        assert_eq!(recent.get(&"b"), Some(&2));
        assert_eq!(recent.touch(&"a"), Some(&mut 1));
        assert_eq!(recent.get(&"b"), Some(&2));
        recent.insert("c", 3);
        assert_eq!((recent.get(&"a"), recent.get(&"b")), (Some(&1), None));
        assert_eq!(recent.touch(&"b"), None);
        recent.insert("d", 4);
        assert_eq!((recent.get(&"a"), recent.len()), (None, 2));
    }
}
