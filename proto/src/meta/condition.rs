//! Conditions: the entries of `status.conditions`.

use std::collections::HashMap;

use crate::catalogue::names as n;
use crate::path::{Errors, Named, Spot};
use crate::value::Value;

use super::names::{condition_reason_problems, label_key_problems};

/// A condition as it should be; empty texts and a generation of 0 are absent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Condition<'a> {
    pub kind: &'a str,
    /// `True`, `False` or `Unknown`.
    pub status: &'a str,
    pub reason: &'a str,
    pub message: &'a str,
    pub observed_generation: i64,
}

/// The condition of a type in a list of conditions.
#[must_use]
pub fn find_condition<'a>(conditions: &'a Value, kind: &str) -> Option<&'a Value> {
    conditions
        .as_list()?
        .iter()
        .find(|c| c.get(n::TYPE).and_then(Value::as_str) == Some(kind))
}

/// Puts a condition into a list, in the place of the one of its type or at the end, and tells whether
/// that changed anything. The time of the last transition is `now` (RFC 3339, UTC) if the status is
/// another one than before, else it stays. Other fields of the condition (`lastProbeTime`) stay too.
pub fn set_condition(conditions: &mut Value, condition: Condition<'_>, now: &str) -> bool {
    let list = conditions.make_list();
    let at = list
        .iter()
        .position(|c| c.get(n::TYPE).and_then(Value::as_str) == Some(condition.kind));
    let at = at.unwrap_or_else(|| {
        list.push(Value::object());
        list.len() - 1
    });
    let before = list[at].clone();
    let map = list[at].make_map();
    let same_status = map.get(n::STATUS).and_then(Value::as_str) == Some(condition.status);
    if !same_status || !map.contains(n::LAST_TRANSITION_TIME) {
        map.insert(n::LAST_TRANSITION_TIME, now);
    }
    let texts = [
        (n::TYPE, condition.kind),
        (n::STATUS, condition.status),
        (n::REASON, condition.reason),
        (n::MESSAGE, condition.message),
    ];
    for (field, text) in texts {
        if text.is_empty() {
            map.remove(field);
        } else {
            map.insert(field, text);
        }
    }
    if condition.observed_generation == 0 {
        map.remove(n::OBSERVED_GENERATION);
    } else {
        map.insert(n::OBSERVED_GENERATION, condition.observed_generation);
    }
    list[at] != before
}

const MAX_REASON: usize = 1024;
const MAX_MESSAGE: usize = 32 * 1024;

/// Upstream's `ValidateConditions`, for lists of `meta/v1.Condition`. Conditions of older kinds (of
/// pods, nodes, deployments) are not validated.
pub fn validate_conditions(conditions: &Value, errors: &mut Errors<'_>) {
    let mut first = HashMap::new();
    for (i, condition) in conditions.as_list().unwrap_or_default().iter().enumerate() {
        let kind = condition
            .get(n::TYPE)
            .and_then(Value::as_str)
            .unwrap_or_default();
        if first.insert(kind, i).is_some() {
            errors.duplicate(Spot::node(condition), kind);
        }
        validate(condition, errors);
    }
}

fn validate(condition: &Value, errors: &mut Errors<'_>) {
    let at = Spot::node(condition);
    let text = |field| {
        condition
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    match text(n::TYPE) {
        "" => errors.required(at.field(n::TYPE), "is required"),
        kind => errors.invalid_each(at.field(n::TYPE), kind, label_key_problems(kind)),
    }
    match text(n::STATUS) {
        "" => errors.required(at.field(n::STATUS), ""),
        "True" | "False" | "Unknown" => {}
        other => errors.not_supported(
            at.field(n::STATUS),
            Named(other),
            &["False", "True", "Unknown"],
        ),
    }
    let generation = condition
        .get(n::OBSERVED_GENERATION)
        .and_then(Value::as_int)
        .unwrap_or(0);
    if generation < 0 {
        errors.invalid(
            at.field(n::OBSERVED_GENERATION),
            generation,
            "must be greater than or equal to zero",
        );
    }
    if text(n::LAST_TRANSITION_TIME).is_empty() {
        errors.required(at.field(n::LAST_TRANSITION_TIME), "");
    }
    match text(n::REASON) {
        "" => errors.required(at.field(n::REASON), ""),
        reason => {
            errors.invalid_each(
                at.field(n::REASON),
                reason,
                condition_reason_problems(reason),
            );
            if reason.len() > MAX_REASON {
                errors.too_long(at.field(n::REASON), MAX_REASON);
            }
        }
    }
    if text(n::MESSAGE).len() > MAX_MESSAGE {
        errors.too_long(at.field(n::MESSAGE), MAX_MESSAGE);
    }
}
