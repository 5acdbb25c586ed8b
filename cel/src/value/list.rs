//! Lists.

use std::sync::Arc;

use proto::Value as Tree;

use super::read;
use super::{Outcome, Value};
use crate::error::Error;
use crate::schema::{ListKind, Schema, Shape};

/// A list: made by the expression, or a node of an object.
#[derive(Clone, Debug)]
pub enum List<'a> {
    Owned(Arc<Vec<Value<'a>>>),
    Tree(&'a [Tree]),
    /// With the schema of the list, whose shape is a list.
    Typed(&'a [Tree], &'a Schema),
    /// One behind the other, with the length of both; neither is empty.
    Joined(Arc<(List<'a>, List<'a>)>, usize),
}

impl<'a> List<'a> {
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Owned(values) => values.len(),
            Self::Tree(nodes) | Self::Typed(nodes, _) => nodes.len(),
            Self::Joined(_, len) => *len,
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the expression made it.
    pub(crate) fn is_owned(&self) -> bool {
        !matches!(self, Self::Tree(_) | Self::Typed(..))
    }

    /// The element at `index`, if there is one; what does not fit its schema is an error.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Outcome<'a>> {
        let mut list = self;
        let mut index = index;
        while let Self::Joined(both, _) = list {
            let left = both.0.len();
            if index < left {
                list = &both.0;
            } else {
                index -= left;
                list = &both.1;
            }
        }
        match list {
            Self::Owned(values) => values.get(index).cloned().map(Ok),
            Self::Tree(nodes) => nodes.get(index).map(|node| Ok(read::plain(node))),
            Self::Typed(nodes, schema) => {
                let Shape::List { item, .. } = &schema.shape else {
                    return None;
                };
                nodes.get(index).map(|node| read::typed(node, item))
            }
            Self::Joined(..) => None,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Outcome<'a>> + '_ {
        (0..self.len()).filter_map(|i| self.get(i))
    }

    /// `index` as an index into a list (cel-go's `IndexOrError`): any number that is whole.
    pub(crate) fn index(index: &Value<'_>) -> Result<i64, Error> {
        let whole = match index {
            Value::Int(i) => return Ok(*i),
            Value::Uint(u) => i64::try_from(*u).ok(),
            Value::Double(d) => super::double_to_int(*d)
                .ok()
                .filter(|i| super::compare::int_double(*i, *d).is_eq()),
            other => {
                return Err(Error::new(format!(
                    "unsupported index type '{}' in list",
                    other.type_name()
                )));
            }
        };
        whole.ok_or_else(|| {
            Error::new(format!(
                "unsupported index value {} in list",
                super::brief(index)
            ))
        })
    }

    /// How elements compare, where the schema says so.
    pub(crate) fn kind(&self) -> &'a ListKind {
        match self {
            Self::Typed(_, schema) => match &schema.shape {
                Shape::List { kind, .. } => kind,
                _ => &ListKind::Atomic,
            },
            _ => &ListKind::Atomic,
        }
    }

    /// The elements of both. A list with `x-kubernetes-list-type` takes over by its rule.
    pub(crate) fn join(self, other: Self) -> Result<Self, Error> {
        match self.kind() {
            ListKind::Set => return self.union(&other),
            ListKind::Map(keys) => return self.merge(&other, keys),
            ListKind::Atomic => {}
        }
        if self.is_empty() && self.is_owned() {
            return Ok(other);
        }
        if other.is_empty() && self.is_owned() {
            return Ok(self);
        }
        if self.is_empty() || other.is_empty() {
            let left = if other.is_empty() { self } else { other };
            return Ok(left);
        }
        let len = self.len() + other.len();
        Ok(Self::Joined(Arc::new((self, other)), len))
    }

    /// All of a set, and what of another list it does not have.
    fn union(&self, other: &Self) -> Result<Self, Error> {
        let mut all = self.iter().collect::<Result<Vec<_>, _>>()?;
        for value in other.iter() {
            let value = value?;
            let mut known = false;
            for have in &all {
                known = known || super::equal(have, &value)?;
            }
            if !known {
                all.push(value);
            }
        }
        Ok(Self::Owned(Arc::new(all)))
    }

    /// The elements of a keyed list, those of another list in their place or behind them.
    fn merge(&self, other: &Self, keys: &[String]) -> Result<Self, Error> {
        let mut all = self.iter().collect::<Result<Vec<_>, _>>()?;
        for value in other.iter() {
            let value = value?;
            let key = key_of(&value, keys)?;
            let mut place = None;
            for (i, have) in all.iter().enumerate() {
                if same_key(&key_of(have, keys)?, &key)? {
                    place = Some(i);
                }
            }
            match place {
                Some(i) => all[i] = value,
                None => all.push(value),
            }
        }
        Ok(Self::Owned(Arc::new(all)))
    }
}

/// What an element of a keyed list is known by.
fn key_of<'a>(value: &Value<'a>, keys: &[String]) -> Result<Vec<Option<Value<'a>>>, Error> {
    let Value::Map(map) = value else {
        return Err(Error::new(
            "unexpected data format for element of array with x-kubernetes-list-type=map",
        ));
    };
    keys.iter().map(|key| map.get(key).transpose()).collect()
}

fn same_key(a: &[Option<Value<'_>>], b: &[Option<Value<'_>>]) -> Result<bool, Error> {
    for (a, b) in a.iter().zip(b) {
        let same = match (a, b) {
            (Some(a), Some(b)) => super::equal(a, b)?,
            (None, None) => true,
            _ => false,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Equality of lists with a schema: a set in any order, a keyed list by its keys, others by place.
pub(super) fn typed_equal(a: &List<'_>, b: &List<'_>) -> Result<bool, Error> {
    if a.len() != b.len() {
        return Ok(false);
    }
    match a.kind() {
        ListKind::Atomic => {
            for (a, b) in a.iter().zip(b.iter()) {
                if !super::equal(&a?, &b?)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        ListKind::Set => contains_all(a, b),
        ListKind::Map(keys) => {
            for value in b.iter() {
                let value = value?;
                let key = key_of(&value, keys)?;
                let mut found = false;
                for have in a.iter() {
                    let have = have?;
                    if same_key(&key_of(&have, keys)?, &key)? {
                        found = super::equal(&have, &value)?;
                        break;
                    }
                }
                if !found {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

/// Both hold the same elements. Their lengths are equal.
fn contains_all(a: &List<'_>, b: &List<'_>) -> Result<bool, Error> {
    let have = sorted(a)?;
    let want = sorted(b)?;
    Ok(match (have, want) {
        (Some(have), Some(want)) => have == want,
        _ => false,
    })
}

/// The scalars of a set, sorted, each once; none if something in it is no scalar.
fn sorted<'a>(list: &List<'a>) -> Result<Option<Vec<super::Key<'a>>>, Error> {
    let mut keys = Vec::with_capacity(list.len());
    for value in list.iter() {
        match super::Key::of(&value?) {
            Some(key) => keys.push(key),
            None => return Ok(None),
        }
    }
    keys.sort();
    keys.dedup();
    Ok(Some(keys))
}
