//! How rules read a tree without spelling field names as strings.
//!
//! For every message the build generates a *view*: a newtype over a node of the tree with one
//! accessor per field (`pod.spec().containers()`) and one constant per field (`PodSpec::CONTAINERS`)
//! for naming it in an error or setting it. Nothing is decoded and nothing is copied; a view is one
//! pointer. Accessors follow Go: a scalar held by value reads as its zero value when it is absent, a
//! pointer as `Option`; a message held by value is always there.
//!
//! A view does not carry its path. [`crate::path::Errors`] finds the path of a node by its address
//! when, and only when, an error is reported, so rules cost what the comparisons cost.

use std::marker::PhantomData;

use crate::catalogue::MsgId;
use crate::name::{Key, NameId};
use crate::value::{Map, Value};

static EMPTY: Value = Value::object();

/// The node under a view. It may be a map, or (for a message that is absent although Go holds it by
/// value, which conformed trees do not have) a shared empty map.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a>(&'a Value);

impl<'a> Node<'a> {
    #[must_use]
    pub fn new(value: &'a Value) -> Self {
        Self(value)
    }

    #[must_use]
    pub fn value(self) -> &'a Value {
        self.0
    }

    #[must_use]
    pub fn map(self) -> Option<&'a Map> {
        self.0.as_map()
    }

    /// The field, unless it is absent or null.
    pub fn get(self, key: impl Key) -> Option<&'a Value> {
        self.0.get(key).filter(|v| !v.is_null())
    }

    #[must_use]
    pub fn str(self, key: NameId) -> &'a str {
        self.opt_str(key).unwrap_or("")
    }
    #[must_use]
    pub fn opt_str(self, key: NameId) -> Option<&'a str> {
        self.get(key).and_then(Value::as_str)
    }
    #[must_use]
    pub fn int(self, key: NameId) -> i64 {
        self.opt_int(key).unwrap_or(0)
    }
    #[must_use]
    pub fn opt_int(self, key: NameId) -> Option<i64> {
        self.get(key).and_then(Value::as_int)
    }
    #[must_use]
    pub fn bool(self, key: NameId) -> bool {
        self.opt_bool(key).unwrap_or(false)
    }
    #[must_use]
    pub fn opt_bool(self, key: NameId) -> Option<bool> {
        self.get(key).and_then(Value::as_bool)
    }
    #[must_use]
    pub fn opt_float(self, key: NameId) -> Option<f64> {
        match self.get(key) {
            Some(Value::Float(f)) => Some(*f),
            #[allow(
                clippy::cast_precision_loss,
                reason = "JSON numbers in schemas are doubles"
            )]
            Some(Value::Int(i)) => Some(*i as f64),
            _ => None,
        }
    }
    #[must_use]
    pub fn opt_bytes(self, key: NameId) -> Option<&'a [u8]> {
        match self.get(key) {
            Some(Value::Bytes(b) | Value::Raw(b)) => Some(b),
            _ => None,
        }
    }
    #[must_use]
    pub fn int_or_string(self, key: NameId) -> Option<IntOrStr<'a>> {
        self.get(key).and_then(IntOrStr::of)
    }
    /// A message held by value.
    #[must_use]
    pub fn message<V: View<'a>>(self, key: NameId) -> V {
        V::of(Self(self.get(key).unwrap_or(&EMPTY)))
    }
    /// A message behind a pointer.
    #[must_use]
    pub fn opt_message<V: View<'a>>(self, key: NameId) -> Option<V> {
        self.get(key).map(|v| V::of(Self(v)))
    }
    #[must_use]
    pub fn list<V: View<'a>>(self, key: NameId) -> List<'a, V> {
        List {
            items: self.get(key).and_then(Value::as_list).unwrap_or(&[]),
            of: PhantomData,
        }
    }
    /// A list of strings, or of anything else that is not a message: the raw items.
    #[must_use]
    pub fn items(self, key: NameId) -> &'a [Value] {
        self.get(key).and_then(Value::as_list).unwrap_or(&[])
    }
    /// A map with string keys.
    #[must_use]
    pub fn dict(self, key: NameId) -> &'a Map {
        static NONE: Map = Map::new();
        self.get(key).and_then(Value::as_map).unwrap_or(&NONE)
    }
}

/// A generated newtype over [`Node`].
pub trait View<'a>: Copy {
    const MESSAGE: MsgId;
    fn of(node: Node<'a>) -> Self;
    fn node(self) -> Node<'a>;
}

/// A list of messages.
pub struct List<'a, V> {
    items: &'a [Value],
    of: PhantomData<V>,
}

impl<V> Clone for List<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<V> Copy for List<'_, V> {}

impl<'a, V: View<'a>> List<'a, V> {
    #[must_use]
    pub fn len(self) -> usize {
        self.items.len()
    }
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.items.is_empty()
    }
    #[must_use]
    pub fn get(self, i: usize) -> Option<V> {
        self.items.get(i).map(|v| V::of(Node(v)))
    }
    #[must_use]
    pub fn first(self) -> Option<V> {
        self.get(0)
    }
    pub fn iter(
        self,
    ) -> impl DoubleEndedIterator<Item = V> + ExactSizeIterator + Clone + use<'a, V> {
        self.items.iter().map(|v| V::of(Node(v)))
    }
}

impl<'a, V: View<'a>> IntoIterator for List<'a, V> {
    type Item = V;
    type IntoIter = std::iter::Map<std::slice::Iter<'a, Value>, fn(&'a Value) -> V>;
    fn into_iter(self) -> Self::IntoIter {
        self.items.iter().map(|v| V::of(Node(v)))
    }
}

/// A port or a count that may be a name or a percentage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IntOrStr<'a> {
    Int(i64),
    Str(&'a str),
}

impl<'a> IntOrStr<'a> {
    #[must_use]
    pub fn of(value: &'a Value) -> Option<Self> {
        match value {
            Value::Int(i) => Some(Self::Int(*i)),
            Value::String(s) => Some(Self::Str(s)),
            _ => None,
        }
    }
}

/// A new object beside the one it replaces, for rules on updates.
#[derive(Clone, Copy)]
pub struct Was<V> {
    pub new: V,
    pub old: V,
}

impl<V: Copy> Was<V> {
    pub fn map<W>(self, f: impl Fn(V) -> W) -> Was<W> {
        Was {
            new: f(self.new),
            old: f(self.old),
        }
    }
}

include!(concat!(env!("OUT_DIR"), "/views.rs"));
