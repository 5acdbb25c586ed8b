//! Taints that a pod tolerates.
//!
//! Upstream: `ValidateTolerations`.

use proto::Value;
use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, FieldError, Named, Spot, quote};
use proto::view::core_v1::Toleration;
use proto::view::{List, Node, View};

use super::Kept;
use crate::rules;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(in crate::strategies) fn tolerations(
    e: &mut Errors<'_>,
    all: List<'_, Toleration<'_>>,
    kept: Kept,
) {
    for toleration in all {
        one(e, toleration, kept);
    }
}

/// What is wrong with tolerations that no pod has yet; paths begin with `at`.
#[must_use]
pub fn problems(all: &[Value], at: &str) -> Vec<FieldError> {
    let mut problems = Vec::new();
    for (i, toleration) in all.iter().enumerate() {
        let mut errors = Errors::new(toleration);
        let view = Toleration::of(Node::new(toleration));
        one(&mut errors, view, Kept::default());
        problems.extend(errors.into_vec().into_iter().map(|error| FieldError {
            field: format!("{at}[{i}].{}", error.field),
            ..error
        }));
    }
    problems
}

fn one(e: &mut Errors<'_>, t: Toleration<'_>, kept: Kept) {
    let at = Spot::of(t);
    let (key, operator, value, effect) = (t.key(), t.operator(), t.value(), t.effect());
    if !key.is_empty() {
        rules::each(e, t, n::KEY, names::label_key_problems(key));
    }
    if key.is_empty() && operator != "Exists" {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        e.invalid(at.field(n::OPERATOR), Named(operator), detail);
    }
    if t.toleration_seconds().is_some() && effect != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        e.invalid(at.field(n::EFFECT), Named(effect), detail);
    }
    match operator {
        "" | "Equal" => {
            let problems = names::label_value_problems(value);
            if !problems.is_empty() {
                e.invalid(at.field(n::OPERATOR), value, problems.join(";"));
            }
        }
        "Exists" => {
            if !value.is_empty() {
                let detail = "value must be empty when `operator` is 'Exists'";
                e.invalid(at.field(n::OPERATOR), value, detail);
            }
        }
        "Lt" | "Gt" if kept.comparisons => number(e, at.field(n::VALUE), value),
        "Lt" | "Gt" => {
            let all = ["Equal", "Exists", "Lt", "Gt"];
            e.not_supported(at.field(n::OPERATOR), Named(operator), &all);
        }
        _ => e.not_supported(at.field(n::OPERATOR), Named(operator), &["Equal", "Exists"]),
    }
    if !effect.is_empty() {
        rules::known(e, at.field(n::EFFECT), effect, &EFFECTS);
    }
}

/// A number that taints are compared with, of a gate that is off: only pods that have one keep it.
fn number(e: &mut Errors<'_>, at: Spot<'_>, value: &str) {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let plain = digits == "0" && value == "0"
        || !digits.is_empty()
            && !digits.starts_with('0')
            && digits.bytes().all(|b| b.is_ascii_digit());
    if !plain {
        let detail = match value {
            "" => "must be non-empty",
            _ => "must be a valid decimal integer in canonical form",
        };
        e.invalid(at, value, detail);
    }
    if value.parse::<i64>().is_err() {
        let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
        let why = if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            "value out of range"
        } else {
            "invalid syntax"
        };
        e.invalid(
            at,
            value,
            format!("strconv.ParseInt: parsing {}: {why}", quote(value)),
        );
    }
}
