//! How deep values lie inside one another.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use super::{Key, List, Map, Value};

/// Something made of values, with the number of levels of what is made that way. Everything walks values
/// by recursion, also when they are dropped, and expressions can put one into another over and over:
/// whoever makes one looks at [`Value::depth`].
#[derive(Clone, Debug)]
pub struct Made<T> {
    of: T,
    depth: u16,
}

impl<T> Deref for Made<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.of
    }
}

/// What holds values.
pub(crate) trait Holds {
    /// The levels of the deepest of them.
    fn depth(&self) -> u16;
}

impl Holds for Value<'_> {
    fn depth(&self) -> u16 {
        Value::depth(self)
    }
}

impl Holds for Vec<Value<'_>> {
    fn depth(&self) -> u16 {
        self.iter().map(Value::depth).max().unwrap_or(0)
    }
}

impl Holds for BTreeMap<Key<'_>, Value<'_>> {
    fn depth(&self) -> u16 {
        self.values().map(Value::depth).max().unwrap_or(0)
    }
}

impl Holds for BTreeMap<Arc<str>, Value<'_>> {
    fn depth(&self) -> u16 {
        self.values().map(Value::depth).max().unwrap_or(0)
    }
}

impl<T> Made<T> {
    pub(crate) fn new(of: T) -> Self
    where
        T: Holds,
    {
        let depth = of.depth().saturating_add(1);
        Self { of, depth }
    }
}

impl<'a> Made<Vec<Value<'a>>> {
    pub(crate) fn extend(&mut self, more: Vec<Value<'a>>) {
        self.depth = self.depth.max(more.depth().saturating_add(1));
        self.of.extend(more);
    }
}

impl<'a> Made<BTreeMap<Key<'a>, Value<'a>>> {
    pub(crate) fn insert(&mut self, key: Key<'a>, value: Value<'a>) {
        self.depth = self.depth.max(value.depth().saturating_add(1));
        self.of.insert(key, value);
    }
}

impl Value<'_> {
    /// How many levels of what an expression made there are, this one included. Nodes of objects count
    /// as none: their depth is limited where they are read.
    pub(crate) fn depth(&self) -> u16 {
        match self {
            Self::List(list) => list.depth(),
            Self::Map(Map::Owned(entries)) => entries.depth,
            Self::Optional(Some(value)) => value.depth,
            Self::Object(object) => object.fields.depth,
            _ => 0,
        }
    }
}

impl List<'_> {
    pub(super) fn depth(&self) -> u16 {
        match self {
            Self::Owned(values) | Self::Keyed(values, _) => values.depth,
            Self::Joined(both) => both.depth,
            Self::Tree(_) | Self::Typed(..) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_later_counts() {
        let mut list = Made::new(Vec::new());
        assert_eq!(list.depth, 1);
        list.extend(vec![Value::some(Value::Int(1))]);
        assert_eq!(list.depth, 2);
        list.extend(vec![Value::Int(1)]);
        assert_eq!(list.depth, 2);
    }
}
