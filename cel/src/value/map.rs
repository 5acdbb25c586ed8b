//! Maps.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use proto::Map as TreeMap;

use super::{Made, Octets, Outcome, Text, Timestamp, Value, read};
use crate::error::Error;
use crate::schema::{Schema, Shape};
use crate::types::Type;

/// Values that are computed when they are asked for, as `variables` of admission policies. An
/// implementation remembers what it has computed.
pub trait Fields: Send + Sync {
    /// The value of a field by its name in the object (not escaped); none if there is no such field.
    fn get(&self, name: &str) -> Option<Outcome<'_>>;

    /// All names, in the order in which a comprehension visits them.
    fn names(&self) -> Vec<Box<str>>;

    /// What `type(x)` says and functions are chosen by.
    fn type_name(&self) -> &str;
}

impl fmt::Debug for dyn Fields + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// A map: made by the expression, a node of an object, or computed.
#[derive(Clone, Debug)]
pub enum Map<'a> {
    Owned(Arc<Made<BTreeMap<Key<'a>, Value<'a>>>>),
    Tree(&'a TreeMap),
    /// With the schema of the map or object.
    Typed(&'a TreeMap, &'a Schema),
    Lazy(&'a dyn Fields),
}

/// What a map made by an expression may be keyed by; and bytes, which may stand in sets.
#[derive(Clone, Debug)]
pub enum Key<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Duration(i64),
    Timestamp(Timestamp),
    Type(Type),
    Bytes(Octets<'a>),
}

impl<'a> Key<'a> {
    /// A scalar as a member of a set.
    pub(crate) fn scalar(value: &Value<'a>) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => Some(Self::Bytes(bytes.clone())),
            other => Self::of(other),
        }
    }

    /// A scalar as a key of a map.
    pub(crate) fn of(value: &Value<'a>) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Bool(*b),
            Value::Int(i) => Self::Int(*i),
            Value::Uint(u) => Self::Uint(*u),
            Value::Double(d) => Self::Double(*d),
            Value::String(text) => Self::String(text.clone()),
            Value::Duration(nanos) => Self::Duration(*nanos),
            Value::Timestamp(time) => Self::Timestamp(*time),
            Value::Type(ty) => Self::Type(ty.clone()),
            _ => return None,
        })
    }

    pub(crate) fn value(&self) -> Value<'a> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(b) => Value::Bool(*b),
            Self::Int(i) => Value::Int(*i),
            Self::Uint(u) => Value::Uint(*u),
            Self::Double(d) => Value::Double(*d),
            Self::String(text) => Value::String(text.clone()),
            Self::Duration(nanos) => Value::Duration(*nanos),
            Self::Timestamp(time) => Value::Timestamp(*time),
            Self::Type(ty) => Value::Type(ty.clone()),
            Self::Bytes(bytes) => Value::Bytes(bytes.clone()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Int(_) => 2,
            Self::Uint(_) => 3,
            Self::Double(_) => 4,
            Self::String(_) => 5,
            Self::Duration(_) => 6,
            Self::Timestamp(_) => 7,
            Self::Type(_) => 8,
            Self::Bytes(_) => 9,
        }
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) | (Self::Duration(a), Self::Duration(b)) => a.cmp(b),
            (Self::Uint(a), Self::Uint(b)) => a.cmp(b),
            // Negative zero is the same key as zero.
            (Self::Double(a), Self::Double(b)) => (a + 0.0).total_cmp(&(b + 0.0)),
            (Self::String(a), Self::String(b)) => (**a).cmp(&**b),
            (Self::Timestamp(a), Self::Timestamp(b)) => a.instant().cmp(&b.instant()),
            (Self::Type(a), Self::Type(b)) => a.name().cmp(b.name()),
            (Self::Bytes(a), Self::Bytes(b)) => (**a).cmp(&**b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key<'_> {}

impl<'a> Map<'a> {
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Owned(entries) => entries.len(),
            Self::Tree(map) | Self::Typed(map, _) => map.len(),
            Self::Lazy(fields) => fields.names().len(),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the expression made it.
    pub(crate) fn is_owned(&self) -> bool {
        matches!(self, Self::Owned(_))
    }

    pub(crate) fn ty(&self) -> Type {
        match self {
            Self::Lazy(fields) => Type::object(fields.type_name()),
            _ => Type::map(Type::Dyn, Type::Dyn),
        }
    }

    pub(crate) fn type_name(&self) -> &str {
        match self {
            Self::Lazy(fields) => fields.type_name(),
            _ => "map",
        }
    }

    /// The schema's fields, if it is an object's.
    fn object(&self) -> Option<&'a crate::schema::Fields> {
        match self {
            Self::Typed(_, schema) => match &schema.shape {
                Shape::Object { fields } => Some(fields),
                _ => None,
            },
            _ => None,
        }
    }

    /// The value of a string key: of an object, the field as it is written in expressions.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Outcome<'a>> {
        match self {
            Self::Owned(entries) => {
                let key = Key::String(Text::Borrowed(key));
                entries.get(&key).cloned().map(Ok)
            }
            Self::Tree(map) => map.get(key).map(|node| Ok(read::plain(node))),
            Self::Typed(map, schema) => match &schema.shape {
                Shape::Object { fields } => {
                    let name = crate::escape::unescape(key)?;
                    let node = map.get(&*name)?;
                    // A null field of an object is an absent one.
                    if node.is_null() {
                        return None;
                    }
                    let field = fields.get(&*name)?;
                    Some(read::typed(node, &field.schema))
                }
                Shape::Map { value } | Shape::Bounded { value, .. } => {
                    Some(read::typed(map.get(key)?, value))
                }
                _ => None,
            },
            Self::Lazy(fields) => fields.get(&crate::escape::unescape(key)?),
        }
    }

    /// The value of a key, of whatever type. Numbers find each other by value.
    ///
    /// # Errors
    /// If such maps have no such keys, or the value does not fit its schema.
    pub fn find(&self, key: &Value<'_>) -> Result<Option<Value<'a>>, Error> {
        if let Value::String(text) = key {
            return self.get(text).transpose();
        }
        let entries = match self {
            Self::Owned(entries) => entries,
            Self::Tree(_) => return Ok(None),
            _ => return Err(Error::no_such_overload()),
        };
        // What is not a number is not even itself.
        if entries.is_empty() || matches!(key, Value::Double(d) if d.is_nan()) {
            return Ok(None);
        }
        let found = |key: Key<'_>| entries.get(&shorten(key)).cloned();
        let own = Key::of(key).and_then(found);
        if own.is_some() {
            return Ok(own);
        }
        Ok(match key {
            Value::Double(d) => {
                let int = super::double_to_int(*d).ok();
                let int = int.filter(|i| super::compare::int_double(*i, *d).is_eq());
                let uint = super::convert::double_to_uint(*d).ok();
                let uint = uint.filter(|u| super::compare::uint_double(*u, *d).is_eq());
                int.and_then(|i| found(Key::Int(i)))
                    .or_else(|| uint.and_then(|u| found(Key::Uint(u))))
            }
            Value::Int(i) => u64::try_from(*i).ok().and_then(|u| found(Key::Uint(u))),
            Value::Uint(u) => i64::try_from(*u).ok().and_then(|i| found(Key::Int(i))),
            _ => None,
        })
    }

    /// The keys that a comprehension visits: of an object the fields that its schema knows, escaped.
    #[must_use]
    pub fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Self::Owned(entries) => entries.keys().map(Key::value).collect(),
            Self::Tree(map) => map.iter().map(|(k, _)| Value::text(k.as_str())).collect(),
            Self::Typed(map, _) => match self.object() {
                None => map.iter().map(|(k, _)| Value::text(k.as_str())).collect(),
                Some(fields) => map
                    .iter()
                    .filter(|(k, _)| fields.contains_key(k.as_str()))
                    .map(|(k, _)| match crate::escape::escape(k.as_str()) {
                        Some(escaped) => Value::owned(escaped),
                        None => Value::text(k.as_str()),
                    })
                    .collect(),
            },
            Self::Lazy(fields) => fields.names().into_iter().map(Value::owned).collect(),
        }
    }

    pub(crate) fn first(&self) -> Option<Result<(Value<'a>, Value<'a>), Error>> {
        if let Self::Owned(entries) = self {
            let (key, value) = entries.first_key_value()?;
            return Some(Ok((key.value(), value.clone())));
        }
        if let Self::Tree(map) = self {
            let (key, node) = map.iter().next()?;
            return Some(Ok((Value::text(key.as_str()), read::plain(node))));
        }
        let key = self.keys().into_iter().next()?;
        let value = self.find(&key).transpose()?;
        Some(value.map(|value| (key, value)))
    }

    /// The nodes of an object or map with a schema.
    pub(super) fn tree(&self) -> Option<&'a TreeMap> {
        match self {
            Self::Tree(map) | Self::Typed(map, _) => Some(map),
            _ => None,
        }
    }
}

/// A key to look up with, of any lifetime.
pub(crate) fn shorten<'b, 'a: 'b>(key: Key<'a>) -> Key<'b> {
    key
}

/// Equality of a map with a schema and another map. What the schema does not know compares as JSON.
pub(super) fn typed_equal(a: &Map<'_>, b: &Map<'_>) -> Result<bool, Error> {
    if a.len() != b.len() {
        return Ok(false);
    }
    let Some(tree) = a.tree() else {
        return Err(Error::no_such_overload());
    };
    let fields = a.object();
    for (name, node) in tree.iter() {
        if fields.is_some_and(|fields| !fields.contains_key(name.as_str())) {
            let Some(other) = b.tree() else {
                return Err(Error::no_such_overload());
            };
            if other.get(name).is_some_and(|other| other != node) {
                return Ok(false);
            }
            continue;
        }
        let key = match fields {
            Some(_) => match crate::escape::escape(name.as_str()) {
                Some(escaped) => Cow::Owned(escaped),
                None => Cow::Borrowed(name.as_str()),
            },
            None => Cow::Borrowed(name.as_str()),
        };
        // Other maps know the field by its own name.
        let theirs = match b {
            Map::Typed(..) => b.get(&key),
            _ => b.get(name.as_str()),
        };
        match (a.get(&key), theirs) {
            (None, None) => {}
            (Some(a), Some(b)) => {
                if !super::equal(&a?, &b?)? {
                    return Ok(false);
                }
            }
            _ => return Ok(false),
        }
    }
    Ok(true)
}
