//! The object tree: what a handler of the API server works on.
//!
//! One tree serves built-in and custom resources. It carries no types; the catalogue (or a custom
//! resource's schema) walks beside it. A tree that a codec made for a message is *conformed*:
//!
//! - quantities, times and micro times are strings in canonical form,
//! - `[]byte` fields are [`Value::Bytes`], raw fields (`RawExtension`, `FieldsV1`, `JSON`) are
//!   [`Value::Raw`] with the bytes as they came,
//! - messages that Go holds by value are always there (an empty map if nothing was given), because
//!   upstream always prints and stores them; messages behind a pointer, lists, maps and scalars are
//!   there only if given,
//! - fields of embedded structs stand in the map of the embedding message, as in JSON.

use crate::name::{Key, Name};

/// One node of the tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(Box<str>),
    /// Decoded content of a base64 field.
    Bytes(Box<[u8]>),
    /// JSON text kept as it came.
    Raw(Box<[u8]>),
    List(Vec<Value>),
    Map(Map),
}

impl Value {
    /// An empty map.
    #[must_use]
    pub const fn object() -> Self {
        Self::Map(Map::new())
    }

    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) => Some(s),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(i) => Some(*i),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(m) => Some(m),
            _ => None,
        }
    }

    pub fn as_map_mut(&mut self) -> Option<&mut Map> {
        match self {
            Self::Map(m) => Some(m),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(l) => Some(l),
            _ => None,
        }
    }

    pub fn as_list_mut(&mut self) -> Option<&mut Vec<Value>> {
        match self {
            Self::List(l) => Some(l),
            _ => None,
        }
    }

    /// The entry `key`, if this is a map that has it.
    pub fn get(&self, key: impl Key) -> Option<&Value> {
        self.as_map()?.get(key)
    }

    pub fn get_mut(&mut self, key: impl Key) -> Option<&mut Value> {
        self.as_map_mut()?.get_mut(key)
    }

    /// Follows `keys` through nested maps.
    pub fn at<K: Key>(&self, keys: &[K]) -> Option<&Value> {
        keys.iter().try_fold(self, |v, k| v.get(*k))
    }

    pub fn at_mut<K: Key>(&mut self, keys: &[K]) -> Option<&mut Value> {
        keys.iter().try_fold(self, |v, k| v.get_mut(*k))
    }

    /// The map in this node. Anything else that stands here is replaced by an empty map.
    pub fn make_map(&mut self) -> &mut Map {
        if !matches!(self, Self::Map(_)) {
            *self = Self::object();
        }
        match self {
            Self::Map(m) => m,
            _ => unreachable!("made a map above"),
        }
    }

    /// The list in this node. Anything else that stands here is replaced by an empty list.
    pub fn make_list(&mut self) -> &mut Vec<Value> {
        if !matches!(self, Self::List(_)) {
            *self = Self::List(Vec::new());
        }
        match self {
            Self::List(l) => l,
            _ => unreachable!("made a list above"),
        }
    }

    /// The node at `keys`, made on the way (as maps, the last one null) if it is not there.
    pub fn ensure<K: Key>(&mut self, keys: &[K]) -> &mut Value {
        keys.iter().fold(self, |v, k| v.make_map().entry(*k))
    }

    /// Sets `keys` to `value`, making the maps on the way.
    pub fn set<K: Key>(&mut self, keys: &[K], value: impl Into<Value>) {
        *self.ensure(keys) = value.into();
    }

    /// Makes the node at `keys` what it is in another tree; what that does not have is taken out.
    pub fn copy<K: Key>(&mut self, from: &Value, keys: &[K]) {
        match from.at(keys) {
            Some(value) => self.set(keys, value.clone()),
            None => drop(self.remove(keys)),
        }
    }

    /// Takes the node at `keys` out of the tree.
    pub fn remove<K: Key>(&mut self, keys: &[K]) -> Option<Value> {
        let (last, way) = keys.split_last()?;
        self.at_mut(way)?.as_map_mut()?.remove(*last)
    }
}

impl From<bool> for Value {
    fn from(v: bool) -> Self {
        Self::Bool(v)
    }
}
impl From<i64> for Value {
    fn from(v: i64) -> Self {
        Self::Int(v)
    }
}
impl From<i32> for Value {
    fn from(v: i32) -> Self {
        Self::Int(v.into())
    }
}
impl From<u32> for Value {
    fn from(v: u32) -> Self {
        Self::Int(v.into())
    }
}
impl From<f64> for Value {
    fn from(v: f64) -> Self {
        Self::Float(v)
    }
}
impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Self::String(v.into())
    }
}
impl From<String> for Value {
    fn from(v: String) -> Self {
        Self::String(v.into_boxed_str())
    }
}
impl From<Map> for Value {
    fn from(v: Map) -> Self {
        Self::Map(v)
    }
}
impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(v: Vec<T>) -> Self {
        Self::List(v.into_iter().map(Into::into).collect())
    }
}

/// Entries sorted by name, without duplicates. Lookups are binary searches that compare ids while
/// names are known to the catalogue; memory is one vector.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    entries: Vec<(Name, Value)>,
}

impl Map {
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn search(&self, key: impl Key) -> Result<usize, usize> {
        self.entries
            .binary_search_by(|(name, _)| key.cmp_name(name).reverse())
    }

    pub fn get(&self, key: impl Key) -> Option<&Value> {
        self.search(key).ok().map(|i| &self.entries[i].1)
    }

    pub fn get_mut(&mut self, key: impl Key) -> Option<&mut Value> {
        self.search(key).ok().map(|i| &mut self.entries[i].1)
    }

    pub fn contains(&self, key: impl Key) -> bool {
        self.search(key).is_ok()
    }

    /// The value of `key`, null if it was not there before.
    pub fn entry(&mut self, key: impl Key) -> &mut Value {
        let i = self.search(key).unwrap_or_else(|i| {
            self.entries.insert(i, (key.to_name(), Value::Null));
            i
        });
        &mut self.entries[i].1
    }

    /// Sets `key`, returns what it replaces.
    pub fn insert(&mut self, key: impl Key, value: impl Into<Value>) -> Option<Value> {
        match self.search(key) {
            Ok(i) => Some(std::mem::replace(&mut self.entries[i].1, value.into())),
            Err(i) => {
                self.entries.insert(i, (key.to_name(), value.into()));
                None
            }
        }
    }

    pub fn remove(&mut self, key: impl Key) -> Option<Value> {
        self.search(key).ok().map(|i| self.entries.remove(i).1)
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&Name, &mut Value) -> bool) {
        self.entries.retain_mut(|(n, v)| keep(n, v));
    }

    /// By ascending name.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Name, &Value)> + ExactSizeIterator {
        self.entries.iter().map(|(n, v)| (n, v))
    }

    /// By ascending name, where the iterator's type must have a name.
    pub(crate) fn entries(&self) -> &[(Name, Value)] {
        &self.entries
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&Name, &mut Value)> {
        self.entries.iter_mut().map(|(n, v)| (&*n, v))
    }

    /// Builds a map from entries in any order: sorted once, so that a map of n keys costs
    /// O(n log n) however they come. Of equal names the last wins; the others are returned.
    #[must_use]
    pub fn from_entries(mut entries: Vec<(Name, Value)>) -> (Self, Vec<Name>) {
        let sorted = entries.is_sorted_by(|a, b| a.0 < b.0);
        let mut duplicates = Vec::new();
        if !sorted {
            // Stable, so that of equal names the later stays behind the earlier.
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            entries.dedup_by(|later, earlier| {
                let same = later.0 == earlier.0;
                if same {
                    earlier.1 = std::mem::take(&mut later.1);
                    duplicates.push(earlier.0.clone());
                }
                same
            });
        }
        (Self { entries }, duplicates)
    }
}

impl IntoIterator for Map {
    type Item = (Name, Value);
    type IntoIter = std::vec::IntoIter<(Name, Value)>;
    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl Extend<(Name, Value)> for Map {
    /// Sets many entries with one sort; of equal names the last wins.
    fn extend<I: IntoIterator<Item = (Name, Value)>>(&mut self, new: I) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.extend(new);
        *self = Self::from_entries(entries).0;
    }
}

impl FromIterator<(Name, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (Name, Value)>>(entries: I) -> Self {
        Self::from_entries(entries.into_iter().collect()).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_names_the_last_wins_and_is_reported() {
        let entries = vec![
            ("b".into(), Value::Int(1)),
            ("a".into(), Value::Int(2)),
            ("b".into(), Value::Int(3)),
        ];
        let (map, duplicates) = Map::from_entries(entries);
        assert_eq!(map.get("b"), Some(&Value::Int(3)));
        assert_eq!(map.get("a"), Some(&Value::Int(2)));
        assert_eq!(duplicates, vec![Name::new("b")]);
    }

    #[test]
    fn set_makes_the_maps_on_the_way_and_remove_takes_only_the_last() {
        let mut v = Value::Null;
        v.set(&["spec", "template", "x-own"], 3);
        assert_eq!(v.at(&["spec", "template", "x-own"]), Some(&Value::Int(3)));
        assert_eq!(
            v.remove(&["spec", "template"])
                .and_then(|t| t.get("x-own").cloned()),
            Some(Value::Int(3))
        );
        assert_eq!(v.get("spec"), Some(&Value::object()));
    }
}
