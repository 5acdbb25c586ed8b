//! Lists.

use std::sync::Arc;

use proto::Value as Tree;

use super::{Made, Outcome, Value, keyed, read};
use crate::error::Error;
use crate::schema::{ListKind, Schema, Shape};

/// More elements than this no list has that `+` or `flatten` makes, which cost nothing by length. An
/// object of the largest request has fewer.
pub(crate) const LONGEST: usize = 4_000_000;
/// How often lists are put one behind the other before their elements are copied: looking for one, and
/// dropping them, goes down from one to the next.
const HIGHEST: u16 = 256;

/// A list: made by the expression, or a node of an object.
#[derive(Clone, Debug)]
pub enum List<'a> {
    Owned(Arc<Made<Vec<Value<'a>>>>),
    Tree(&'a [Tree]),
    /// With the schema of the list, whose shape is a list.
    Typed(&'a [Tree], &'a Schema),
    /// What `+` makes of a set or a keyed list with its schema, which it stays.
    Keyed(Arc<Made<Vec<Value<'a>>>>, &'a Schema),
    /// One behind the other; neither is empty.
    Joined(Arc<Joined<'a>>),
}

/// Two lists, one behind the other.
#[derive(Debug)]
pub struct Joined<'a> {
    left: List<'a>,
    right: List<'a>,
    len: usize,
    height: u16,
    pub(super) depth: u16,
}

impl<'a> List<'a> {
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Owned(values) | Self::Keyed(values, _) => values.len(),
            Self::Tree(nodes) | Self::Typed(nodes, _) => nodes.len(),
            Self::Joined(both) => both.len,
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the expression made it, of nothing that has a schema.
    pub(crate) fn is_owned(&self) -> bool {
        matches!(self, Self::Owned(_) | Self::Joined(_))
    }

    /// The element at `index`, if there is one; what does not fit its schema is an error.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Outcome<'a>> {
        let mut list = self;
        let mut index = index;
        while let Self::Joined(both) = list {
            let left = both.left.len();
            if index < left {
                list = &both.left;
            } else {
                index -= left;
                list = &both.right;
            }
        }
        match list {
            Self::Owned(values) | Self::Keyed(values, _) => values.get(index).cloned().map(Ok),
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

    /// How elements compare, where a schema says so.
    pub(crate) fn kind(&self) -> &'a ListKind {
        match self.schema().map(|schema| &schema.shape) {
            Some(Shape::List { kind, .. }) => kind,
            _ => &ListKind::Atomic,
        }
    }

    fn schema(&self) -> Option<&'a Schema> {
        match self {
            Self::Typed(_, schema) | Self::Keyed(_, schema) => Some(schema),
            _ => None,
        }
    }

    fn height(&self) -> u16 {
        match self {
            Self::Joined(both) => both.height,
            _ => 0,
        }
    }

    /// The elements of both. A list with `x-kubernetes-list-type` takes over by its rule.
    pub(crate) fn join(self, other: Self) -> Result<Self, Error> {
        let (joined, schema) = match (self.kind(), self.schema()) {
            (ListKind::Set, Some(schema)) => (keyed::union(&self, &other)?, schema),
            (ListKind::Map(keys), Some(schema)) => (keyed::merge(&self, &other, keys)?, schema),
            _ => return self.append(other),
        };
        Ok(Self::Keyed(Arc::new(Made::new(joined)), schema))
    }

    fn append(self, other: Self) -> Result<Self, Error> {
        if self.is_empty() && self.is_owned() {
            return Ok(other);
        }
        if other.is_empty() {
            return Ok(self);
        }
        if self.is_empty() {
            return Ok(other);
        }
        let len = self.len() + other.len();
        if len > LONGEST {
            return Err(Error::OverBudget);
        }
        let height = self.height().max(other.height()) + 1;
        let depth = self.depth().max(other.depth());
        let both = Joined {
            left: self,
            right: other,
            len,
            height,
            depth,
        };
        let joined = Self::Joined(Arc::new(both));
        if height <= HIGHEST {
            return Ok(joined);
        }
        let values = joined.iter().collect::<Result<Vec<_>, _>>()?;
        Ok(Self::Owned(Arc::new(Made::new(values))))
    }
}
