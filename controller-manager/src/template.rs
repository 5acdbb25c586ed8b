//! When two templates are the same. Pure.

use serde_json::Value;

/// A value without what is empty; none if that is all of it. Whether a client wrote an empty struct or none says nothing:
/// Go's encoder writes many, such as a container's `resources`.
#[must_use]
pub fn filled(value: &Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(map) => {
            let fields = map.iter();
            let fields = fields.filter_map(|(key, value)| Some((key.clone(), filled(value)?)));
            let map: serde_json::Map<_, _> = fields.collect();
            (!map.is_empty()).then_some(Value::Object(map))
        }
        Value::Array(list) if list.is_empty() => None,
        // An item keeps its place.
        Value::Array(list) => {
            let items = list.iter().map(|v| filled(v).unwrap_or_default());
            Some(Value::Array(items.collect()))
        }
        other => Some(other.clone()),
    }
}
