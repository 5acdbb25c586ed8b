//! JSON merge patch (RFC 7386).
//!
//! Upstream's library (`evanphx/json-patch`) differs from the RFC in one point, and so does this: of a
//! list that is new, or stands where there was no object, members that are null are taken out too.

use crate::value::{Map, Value};

/// Applies `patch` to `document`.
pub fn apply(document: &mut Value, patch: &Value) {
    match (document, patch) {
        (Value::Map(document), Value::Map(patch)) => merge(document, patch),
        // A list in the place of an object is taken as it is.
        (document @ Value::Map(_), patch) => document.clone_from(patch),
        (document, patch) => *document = pruned(patch),
    }
}

fn merge(document: &mut Map, patch: &Map) {
    let new = patch
        .iter()
        .filter(|(name, value)| !value.is_null() && !document.contains(*name));
    let new: Vec<_> = new
        .map(|(name, value)| (name.clone(), pruned(value)))
        .collect();
    document.retain(|name, current| match patch.get(name) {
        Some(Value::Null) => false,
        Some(value) => {
            apply(current, value);
            true
        }
        None => true,
    });
    document.extend(new);
}

/// A copy without the members that are null.
fn pruned(value: &Value) -> Value {
    match value {
        Value::Map(map) => {
            let kept = map.iter().filter(|(_, v)| !v.is_null());
            Value::Map(kept.map(|(name, v)| (name.clone(), pruned(v))).collect())
        }
        Value::List(items) => Value::List(items.iter().map(pruned).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::json::parse;

    #[test]
    fn results_are_upstreams() {
        let mut n = 0;
        for line in include_str!("merge/cases.txt")
            .lines()
            .filter(|l| !l.starts_with('#'))
        {
            n += 1;
            let case = parse(line.as_bytes()).unwrap();
            let [document, patch, expected] = case.as_list().unwrap() else {
                panic!("{line}")
            };
            let mut document = document.clone();
            apply(&mut document, patch);
            assert_eq!(&document, expected, "{line}");
        }
        assert!(n > 30);
    }

    #[test]
    fn many_new_members_are_added_at_once() {
        let patch: Map = (0..300_000)
            .map(|i| (format!("k{i}").into(), Value::Int(i)))
            .collect();
        let old: Map = (0..300_000)
            .map(|i| (format!("k{i}x").into(), Value::Int(i)))
            .collect();
        let mut document = Value::Map(old);
        apply(&mut document, &Value::Map(patch));
        assert_eq!(document.as_map().unwrap().len(), 600_000);
    }
}
