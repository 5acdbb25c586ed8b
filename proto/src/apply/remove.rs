//! An explicit tree without the fields of a set.

use super::element::Element;
use super::schema::{Merge, Treat, Type, element_of};
use super::set::Set;
use crate::catalogue::MsgId;
use crate::value::{Map, Value};

/// What is left of an object. Lists and maps that end up empty are gone.
pub(super) fn remove(object: &Value, fields: &Set, message: MsgId) -> Value {
    below(Type::Message(message), object, fields)
}

fn below(of: Type, value: &Value, fields: &Set) -> Value {
    match (of.treat([Some(value), None]), value) {
        (Treat::Scalar(_), value) => value.clone(),
        (Treat::List(merge @ (Merge::Set | Merge::Keys(_))), Value::List(items)) => {
            list(of, merge, items, fields)
        }
        (Treat::Map { atomic: false }, Value::Map(map)) => entries(of, map, fields),
        // One value, and something in it shall go.
        _ => Value::Null,
    }
}

fn list(of: Type, merge: Merge, items: &[Value], fields: &Set) -> Value {
    let mut left = Vec::with_capacity(items.len());
    for item in items {
        let node = element_of(of, merge, item)
            .ok()
            .and_then(|element| fields.get(&element));
        match node {
            Some(node) if node.member => {}
            Some(node) => left.push(below(of.element(), item, &node.below)),
            None => left.push(item.clone()),
        }
    }
    if left.is_empty() {
        Value::Null
    } else {
        Value::List(left)
    }
}

fn entries(of: Type, map: &Map, fields: &Set) -> Value {
    let mut left = Vec::with_capacity(map.len());
    for (name, value) in map.iter() {
        match fields.get(&Element::Field(name.clone())) {
            Some(node) if node.member => {}
            Some(node) => {
                let of = of.entry(name).unwrap_or(Type::Deduced);
                left.push((name.clone(), below(of, value, &node.below)));
            }
            None => left.push((name.clone(), value.clone())),
        }
    }
    if left.is_empty() {
        Value::Null
    } else {
        Value::Map(Map::from_entries(left).0)
    }
}
