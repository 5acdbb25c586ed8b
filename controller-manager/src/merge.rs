//! The merge patch that turns one state of an object into another.
//!
//! Controllers compute the object that they want from the one they saw; what is sent is the difference,
//! bound to the version that was seen. Fields that these structs do not know are in neither state, so
//! they stay as they are, except inside of lists, which a merge patch replaces whole.

use component::client::{Error, Patch};
use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The patch from `old` to `new`; none if they are equal. It fails with `Conflict` if `old` is not the
/// current state.
///
/// # Errors
/// If an object cannot be encoded.
pub fn between<K>(old: &K, new: &K) -> Result<Option<Patch>, Error>
where
    K: Serialize + Metadata<Ty = ObjectMeta>,
{
    let value = |k: &K| serde_json::to_value(k).map_err(Error::Encode);
    let Some(mut change) = difference(&value(old)?, &value(new)?) else {
        return Ok(None);
    };
    if let Some(version) = &old.metadata().resource_version {
        change["metadata"]["resourceVersion"] = json!(version);
    }
    Patch::merge(&change).map(Some)
}

/// The merge patch (RFC 7386) from one value to another; none if they are equal. What is empty and what
/// is absent is the same, as it is to the API.
fn difference(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut change = Map::new();
            for key in old.keys().filter(|key| !new.contains_key(*key)) {
                if !is_empty(&old[key]) {
                    change.insert(key.clone(), Value::Null);
                }
            }
            for (key, value) in new {
                match old.get(key) {
                    Some(before) => {
                        if let Some(inner) = difference(before, value) {
                            change.insert(key.clone(), inner);
                        }
                    }
                    None if is_empty(value) => {}
                    None => {
                        change.insert(key.clone(), value.clone());
                    }
                }
            }
            (!change.is_empty()).then_some(Value::Object(change))
        }
        (old, new) if old == new || (is_empty(old) && is_empty(new)) => None,
        (_, new) => Some(new.clone()),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_sent() {
        let old = json!({"a": 1, "b": {"c": 1, "d": 2}, "e": [1], "f": [], "g": "x"});
        let new = json!({"a": 1, "b": {"c": 1, "d": 3, "n": 4}, "e": [1, 2], "h": {}});
        assert_eq!(
            difference(&old, &new),
            Some(json!({"b": {"d": 3, "n": 4}, "e": [1, 2], "g": null}))
        );
        assert_eq!(difference(&new, &new), None);
    }

    #[test]
    fn empty_and_absent_are_the_same() {
        assert_eq!(difference(&json!({"a": []}), &json!({})), None);
        assert_eq!(difference(&json!({}), &json!({"a": {}})), None);
        assert_eq!(difference(&json!({"a": null}), &json!({"a": []})), None);
    }
}
