//! Fields behind feature gates: who writes an object while a gate is off writes it without them, unless they were in use
//! before.
//!
//! Upstream: `dropDisabledFields` of the strategies.

use proto::catalogue::{GateId, Gates};
use proto::{NameId, Value};

/// A gate, and the way to what is behind it.
pub type Gated = (GateId, &'static [NameId]);

/// Drops what is behind gates that are off, unless the old object uses it. A list that is empty is not used.
pub fn drop_unused(gates: Gates, new: &mut Value, old: Option<&Value>, fields: &[Gated]) {
    for (gate, way) in fields {
        drop_together(gates, new, old, *gate, &[*way]);
    }
}

/// The same of what is behind one gate in several places: who uses one of them may use all.
pub fn drop_together(
    gates: Gates,
    new: &mut Value,
    old: Option<&Value>,
    gate: GateId,
    ways: &[&[NameId]],
) {
    let used = |old: &Value| ways.iter().any(|way| uses(old, way));
    if !gates.has(gate) && !old.is_some_and(used) {
        for way in ways {
            new.remove(way);
        }
    }
}

/// Whether an object has something at the end of a way.
#[must_use]
pub fn uses(object: &Value, way: &[NameId]) -> bool {
    object.at(way).is_some_and(|value| match value {
        Value::Null => false,
        Value::List(items) => !items.is_empty(),
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use proto::catalogue::{gate, names as n};
    use proto::codec::json::parse;

    use super::*;

    #[test]
    fn what_is_behind_a_gate_that_is_off_stays_where_it_was_used() {
        const FIELDS: &[Gated] = &[(gate::CSI_VOLUME_HEALTH, &[n::SPEC, n::KEY])];
        let object = |text: &str| parse(text.as_bytes()).unwrap();
        let full = object(r#"{"spec":{"key":["a"]}}"#);
        let left = |on: bool, old: Option<&str>| {
            let mut new = full.clone();
            let gates = Gates::default().with(gate::CSI_VOLUME_HEALTH, on);
            drop_unused(gates, &mut new, old.map(object).as_ref(), FIELDS);
            new == full
        };
        assert!(left(true, None) && !left(false, None));
        assert!(left(false, Some(r#"{"spec":{"key":["b"]}}"#)));
        assert!(!left(false, Some(r#"{"spec":{"key":[]}}"#)));
        assert!(!left(false, Some(r#"{"spec":{"key":null}}"#)));
    }
}
