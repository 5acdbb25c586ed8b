//! Lists of tolerations: which covers which, and two lists as one.
//!
//! Upstream: `pkg/util/tolerations`.

use proto::Value;
use proto::catalogue::names as n;
use proto::view::core_v1::Toleration;
use proto::view::{Node, View};
use resources::equal::same;

/// Both lists, without what another one of them tolerates as well.
pub(super) fn merge(own: &[Value], more: &[Value]) -> Vec<Value> {
    let all: Vec<&Value> = own.iter().chain(more).collect();
    let mut merged: Vec<Value> = Vec::new();
    for (i, t) in all.iter().enumerate() {
        let before = merged.iter().any(|other| covers(other, t));
        // Of equal ones the first stays.
        let after = all[i + 1..]
            .iter()
            .any(|other| !same(t, other) && covers(other, t));
        if !before && !after {
            merged.push((*t).clone());
        }
    }
    merged
}

/// Whether each toleration is covered by one of a list, which allows everything if it is empty.
pub(super) fn allowed(tolerations: &[Value], list: &[Value]) -> bool {
    let covered = |t: &Value| list.iter().any(|wide| covers(wide, t));
    list.is_empty() || tolerations.iter().all(covered)
}

/// Whether one toleration tolerates everything that another does.
fn covers(wide: &Value, narrow: &Value) -> bool {
    if same(wide, narrow) {
        return true;
    }
    let seconds = |v: &Value| v.get(n::TOLERATION_SECONDS).and_then(Value::as_int);
    let (most, asked) = (seconds(wide), seconds(narrow));
    let (wide, narrow) = (
        Toleration::of(Node::new(wide)),
        Toleration::of(Node::new(narrow)),
    );
    let any_key = wide.key().is_empty() && wide.operator() == "Exists";
    if wide.key() != narrow.key() && !any_key {
        return false;
    }
    if wide.effect() != narrow.effect() && !wide.effect().is_empty() {
        return false;
    }
    if let Some(most) = most.filter(|_| wide.effect() == "NoExecute")
        && asked.is_none_or(|s| s > most)
    {
        return false;
    }
    match wide.operator() {
        "Equal" | "" => narrow.operator() == "Equal" && wide.value() == narrow.value(),
        "Exists" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toleration(key: &str, operator: &str, effect: &str, seconds: Option<i64>) -> Value {
        let mut toleration = Value::object();
        for (field, text) in [(n::KEY, key), (n::OPERATOR, operator), (n::EFFECT, effect)] {
            toleration.set(&[field], text);
        }
        if let Some(seconds) = seconds {
            toleration.set(&[n::TOLERATION_SECONDS], seconds);
        }
        toleration
    }

    #[test]
    fn the_wider_toleration_stands_for_the_narrower() {
        let everything = toleration("", "Exists", "", None);
        let any = toleration("a", "Exists", "", None);
        let long = toleration("a", "Exists", "NoExecute", Some(60));
        let short = toleration("a", "Exists", "NoExecute", Some(30));
        let ever = toleration("a", "Exists", "NoExecute", None);
        let other = toleration("b", "Exists", "NoSchedule", None);
        for (wide, narrow, expected) in [
            (&everything, &other, true),
            (&any, &long, true),
            (&any, &other, false),
            (&long, &short, true),
            (&short, &long, false),
            (&long, &ever, false),
            (&ever, &long, true),
            (&long, &any, false),
        ] {
            assert_eq!(covers(wide, narrow), expected, "{wide:?} {narrow:?}");
        }
        let merged = merge(
            &[short.clone(), other.clone()],
            &[long.clone(), other.clone()],
        );
        assert_eq!(merged, [other.clone(), long.clone()]);
        assert!(allowed(&[short, long], std::slice::from_ref(&any)));
        assert!(!allowed(std::slice::from_ref(&other), &[any]));
        assert!(allowed(&[other], &[]));
    }
}
