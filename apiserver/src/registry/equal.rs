//! Equality as Go's semantic comparison has it: what is empty is absent.

use proto::{NameId, Value};

const NOTHING: &Value = &Value::Null;

/// Whether two objects are equal at a path.
#[must_use]
pub fn same_at(a: &Value, b: &Value, path: &[NameId]) -> bool {
    same(a.at(path).unwrap_or(NOTHING), b.at(path).unwrap_or(NOTHING))
}

/// Whether two trees say the same.
#[must_use]
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Map(a), Value::Map(b)) => {
            a.iter()
                .all(|(name, value)| same(value, b.get(name).unwrap_or(NOTHING)))
                && b.iter()
                    .all(|(name, value)| a.contains(name) || is_nothing(value))
        }
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (a, b) => a == b || is_nothing(a) && is_nothing(b),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.iter().all(|(_, v)| is_nothing(v)),
        _ => false,
    }
}
