//! The order of merged lists.

use std::collections::{HashMap, HashSet};

use crate::name::NameId;
use crate::value::Value;

use super::{MAP, PATCH, go_type, printed};
use crate::patch::Error;

/// A value that elements of lists are compared by.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    /// By its bits; there are no NaNs in JSON.
    Float(u64),
    String(Box<str>),
}

impl Scalar {
    /// None for lists and maps.
    pub(super) fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Bool(*b),
            Value::Int(i) => Self::Int(*i),
            Value::Float(f) => Self::Float(f.to_bits()),
            Value::String(s) => Self::String(s.clone()),
            _ => return None,
        })
    }
}

/// The value of an element's merge key.
pub(super) fn key_of(element: &Value, key: NameId) -> Result<Scalar, Error> {
    element
        .get(key)
        .and_then(Scalar::of)
        .ok_or_else(|| match element {
            Value::Map(_) => Error::NoMergeKey {
                map: printed(element),
                key: key.text(),
            },
            other => Error::WrongType {
                expected: MAP,
                given: go_type(other),
            },
        })
}

fn comparable(element: &Value, key: Option<NameId>) -> Result<Scalar, Error> {
    match key {
        Some(key) => key_of(element, key),
        None => Scalar::of(element).ok_or(Error::ListOfLists),
    }
}

/// Where the elements of a list stand; of equal ones the first counts.
pub(super) struct Positions(HashMap<Scalar, usize>);

impl Positions {
    pub(super) fn of(list: &[Value], key: Option<NameId>) -> Result<Self, Error> {
        let mut positions = HashMap::with_capacity(list.len());
        for (i, element) in list.iter().enumerate() {
            positions.entry(comparable(element, key)?).or_insert(i);
        }
        Ok(Self(positions))
    }

    pub(super) fn contains(&self, value: &Scalar) -> bool {
        self.0.contains_key(value)
    }
}

/// The order that a list had, for a patch with `$setElementOrder`. Where the patch deletes elements,
/// upstream's list has room, into which it writes as many of the new ones: they count as if they had
/// stood there.
pub(super) fn server_order(original: &[Value], patch: &[Value], key: Option<NameId>) -> Vec<Value> {
    let Some(key) = key else {
        return original.to_vec();
    };
    let value = |e: &Value| e.get(key).and_then(Scalar::of);
    let directive = |e: &&Value| {
        e.get(PATCH)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    if patch.iter().any(|e| directive(&e) == "replace") {
        return original.to_vec();
    }
    let deleted: HashSet<Scalar> = patch
        .iter()
        .filter(|e| directive(e) == "delete")
        .filter_map(value)
        .collect();
    let mut order: Vec<Value> = original
        .iter()
        .filter(|e| value(e).is_none_or(|v| !deleted.contains(&v)))
        .cloned()
        .collect();
    let present: HashSet<Scalar> = order.iter().filter_map(value).collect();
    let new = patch
        .iter()
        .filter(|e| e.get(PATCH).is_none() && value(e).is_some_and(|v| !present.contains(&v)));
    let room = original.len() - order.len();
    order.extend(new.take(room).cloned());
    order
}

/// An element with its places in the order that the patch asks for and in the one that the list had.
struct Placed {
    patch: Option<usize>,
    server: Option<usize>,
    element: Value,
}

/// Puts the elements of a merged list in order: those that the patch names in its order, the others in
/// the server's; where the two meet, an element of the server that stood before the next one of the
/// patch goes first.
pub(super) fn arrange(
    merged: Vec<Value>,
    order: &Positions,
    server_order: &Positions,
    key: Option<NameId>,
) -> Result<Vec<Value>, Error> {
    let (mut patched, mut others) = (Vec::new(), Vec::new());
    for element in merged {
        let value = comparable(&element, key)?;
        let (patch, server) = (
            order.0.get(&value).copied(),
            server_order.0.get(&value).copied(),
        );
        let list = if patch.is_some() {
            &mut patched
        } else {
            &mut others
        };
        list.push(Placed {
            patch,
            server,
            element,
        });
    }
    patched.sort_by_key(|p| p.patch);
    sort_by_server_order(&mut others);
    let mut result = Vec::with_capacity(patched.len() + others.len());
    let (mut patched, mut others) = (
        patched.into_iter().peekable(),
        others.into_iter().peekable(),
    );
    while let (Some(patch), Some(other)) = (patched.peek(), others.peek()) {
        let stood_before = other
            .server
            .zip(patch.server)
            .is_some_and(|(other, patch)| other < patch);
        result.extend(if stood_before {
            others.next()
        } else {
            patched.next()
        });
    }
    result.extend(patched.chain(others));
    Ok(result.into_iter().map(|p| p.element).collect())
}

/// Sorts by the place an element had. New elements are here only if a patch brings elements and an
/// empty `$setElementOrder` at once: upstream's comparison then says "less" both ways, which its
/// insertion sort (for up to 20 elements) turns into this order.
fn sort_by_server_order(elements: &mut [Placed]) {
    if elements.iter().all(|e| e.server.is_some()) {
        elements.sort_by_key(|e| e.server);
        return;
    }
    if elements.len() > 20 {
        elements.sort_by_key(|e| (e.server.is_none(), e.server));
        return;
    }
    for i in 1..elements.len() {
        let less = |a: &Placed, b: &Placed| a.server.zip(b.server).is_none_or(|(a, b)| a < b);
        let mut j = i;
        while j > 0 && less(&elements[j], &elements[j - 1]) {
            elements.swap(j, j - 1);
            j -= 1;
        }
    }
}

/// Sees that the elements of a patch stand in the order of its `$setElementOrder` list. As upstream, an
/// element with another directive than `delete` passes only before the last element of that list.
pub(super) fn check_order(
    patch: &[Value],
    order: &[Value],
    key: Option<NameId>,
) -> Result<(), Error> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let deleted = |e: &Value| e.get(PATCH).and_then(Value::as_str) == Some("delete");
    let mut elements = patch.iter().filter(|e| !deleted(e)).peekable();
    let mut expected = order.iter();
    while let Some(element) = elements.peek() {
        if expected.as_slice().is_empty() {
            let (patch, order) = (Value::List(patch.to_vec()), Value::List(order.to_vec()));
            return Err(Error::Order {
                patch: printed(&patch),
                order: printed(&order),
            });
        }
        let passes = element.get(PATCH).is_some() || {
            let value = comparable(element, key)?;
            expected
                .next()
                .map(|next| comparable(next, key))
                .transpose()?
                == Some(value)
        };
        if passes {
            elements.next();
        }
    }
    Ok(())
}
