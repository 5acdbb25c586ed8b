//! Sets and keyed lists (`x-kubernetes-list-type`): what they are equal to, and what `+` makes of them
//! (`apiserver/pkg/cel/common/{valuesunstructured,valuesreflect}.go`). Elements are found by their keys,
//! so that long lists need no time that grows with the square of their length.

use std::collections::{BTreeMap, BTreeSet};

use super::{Key, List, Map, Value, equal, read};
use crate::error::Error;
use crate::schema::ListKind;

/// What an element of a keyed list is known by.
type Keys<'a> = Vec<Option<Key<'a>>>;

/// The scalar that an element of a set is; nothing equals what has no key.
fn member<'a>(value: &Value<'a>) -> Result<Option<Key<'a>>, Error> {
    match value {
        Value::List(_) | Value::Map(_) => Err(Error::new(
            "listSet operations are only supported on lists of scalar values",
        )),
        value => Ok(Key::scalar(value)),
    }
}

/// All of a set, and what of another list it does not have.
pub(super) fn union<'a>(set: &List<'a>, other: &List<'a>) -> Result<Vec<Value<'a>>, Error> {
    let mut all = Vec::with_capacity(set.len());
    let mut known = BTreeSet::new();
    for value in set.iter() {
        let value = value?;
        known.extend(member(&value)?);
        all.push(value);
    }
    for value in other.iter() {
        let value = value?;
        if member(&value)?.is_none_or(|key| known.insert(key)) {
            all.push(value);
        }
    }
    Ok(all)
}

/// The elements of a keyed list, those of another list in their place or behind them.
pub(super) fn merge<'a>(
    list: &List<'a>,
    other: &List<'a>,
    names: &[String],
) -> Result<Vec<Value<'a>>, Error> {
    let mut all = list.iter().collect::<Result<Vec<_>, _>>()?;
    let places: BTreeMap<Keys<'a>, usize> = (0..)
        .zip(&all)
        .map(|(place, value)| (found(value, names), place))
        .collect();
    for value in other.iter() {
        let value = value?;
        match places.get(&found(&value, names)) {
            Some(place) => all[*place] = value,
            None => all.push(value),
        }
    }
    Ok(all)
}

/// The keys of an element, looked up as an expression looks them up.
fn found<'a>(value: &Value<'a>, names: &[String]) -> Keys<'a> {
    let key = |name: &String| match value {
        Value::Map(map) => match map.get(name) {
            Some(Ok(value)) => Key::scalar(&value),
            _ => None,
        },
        _ => None,
    };
    names.iter().map(key).collect()
}

/// The keys of an element as it came; none of what the expression made. Upstream looks for escaped names
/// here, by which nothing is called whose name has to be escaped.
fn written<'a>(value: &Value<'a>, names: &[String]) -> Option<Keys<'a>> {
    let Value::Map(Map::Tree(map) | Map::Typed(map, _)) = value else {
        return None;
    };
    let key = |name: &String| {
        map.get(name.as_str())
            .and_then(|n| Key::scalar(&read::plain(n)))
    };
    Some(names.iter().map(key).collect())
}

/// Equality of a list with a schema and another: a set in any order, a keyed list by its keys, others by
/// place.
pub(super) fn same(a: &List<'_>, b: &List<'_>) -> Result<bool, Error> {
    if a.len() != b.len() {
        return Ok(false);
    }
    match (a.kind(), a) {
        (ListKind::Atomic, _) => {
            for (a, b) in a.iter().zip(b.iter()) {
                if !equal(&a?, &b?)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (ListKind::Set, _) => Ok(match (members(a)?, members(b)?) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        }),
        (ListKind::Map(names), List::Keyed(..)) => by_keys(a, b, |v| Some(found(v, names))),
        (ListKind::Map(names), _) => by_keys(a, b, |v| written(v, names)),
    }
}

fn members<'a>(list: &List<'a>) -> Result<Option<BTreeSet<Key<'a>>>, Error> {
    list.iter().map(|value| member(&value?)).collect()
}

/// Whether every element of `b` equals the one of `a` with its keys, and all are found.
fn by_keys<'a>(
    a: &List<'a>,
    b: &List<'a>,
    keys_of: impl Fn(&Value<'a>) -> Option<Keys<'a>>,
) -> Result<bool, Error> {
    let mut known = BTreeMap::new();
    for value in a.iter() {
        let value = value?;
        let Some(keys) = keys_of(&value) else {
            return Ok(false);
        };
        known.insert(keys, (value, false));
    }
    let mut left = known.len();
    for value in b.iter() {
        let value = value?;
        let Some(keys) = keys_of(&value) else {
            return Ok(false);
        };
        let Some((own, is_seen)) = known.get_mut(&keys) else {
            return Ok(false);
        };
        if !equal(own, &value)? {
            return Ok(false);
        }
        if !std::mem::replace(is_seen, true) {
            left -= 1;
        }
    }
    Ok(left == 0)
}
