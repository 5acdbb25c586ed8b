//! What a device has to share, and how much of it a claim may ask for (KEP-5075):
//! `validateRequestPolicy` and below in `pkg/apis/resource/validation`.

use std::collections::HashSet;

use proto::NameId;
use proto::catalogue::{Gates, gate, names as n};
use proto::path::{Errors, Spot};
use proto::quantity::Quantity;
use proto::view::resource_v1::{
    CapacityRequestPolicy, CapacityRequestPolicyRange, Device, DeviceCapacity,
};
use proto::view::{Node, View};

use super::names;
use crate::rules;

const MOST_VALUES: usize = 10;

fn quantity(node: Node<'_>, field: NameId) -> Option<Quantity> {
    node.opt_str(field).and_then(|text| text.parse().ok())
}

/// `validateMultiAllocatableDeviceCapacity`, `validateSingleAllocatableDeviceCapacity`.
pub(super) fn capacities(gates: Gates, e: &mut Errors<'_>, device: Device<'_>) {
    let fractions = gates.has(gate::DRA_FRACTIONAL_CAPACITY_RANGE);
    let shared = device.allow_multiple_allocations() == Some(true);
    for (name, value) in device.capacity().iter() {
        let at = Spot::of(device).field(n::CAPACITY);
        names::qualified(e, at, name.as_str());
        let capacity = DeviceCapacity::of(Node::new(value));
        let Some(of) = capacity.request_policy() else {
            continue;
        };
        if shared {
            let most = quantity(capacity.node(), n::VALUE).unwrap_or_default();
            policy(e, most, of, fractions);
        } else {
            let detail = "allowMultipleAllocations must be true";
            let key = names::shortened(name.as_str(), names::LONGEST_KEY);
            e.forbidden(at.key(&key).field(n::REQUEST_POLICY), detail);
        }
    }
}

/// Amounts are whole numbers, or may have fractions.
fn policy(e: &mut Errors<'_>, most: Quantity, policy: CapacityRequestPolicy<'_>, fractions: bool) {
    let at = Spot::of(policy);
    let default = quantity(policy.node(), n::DEFAULT);
    let needs = |e: &mut Errors<'_>, what: &str| {
        let detail = format!("required when {what} is defined");
        e.required(at.field(n::DEFAULT), detail);
    };
    match (policy.valid_values().is_empty(), policy.valid_range()) {
        (false, Some(_)) => {
            let detail = r#"exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time"#;
            e.forbidden(at, detail);
        }
        (false, None) => match default {
            Some(default) => values(e, default, most, policy, fractions),
            None => needs(e, "validValues"),
        },
        (true, Some(of)) => match default {
            Some(default) => range(e, default, most, of, fractions),
            None => needs(e, "validRange"),
        },
        (true, None) => {}
    }
}

/// Values in ascending order, of which one is the default.
fn values(
    e: &mut Errors<'_>,
    default: Quantity,
    most: Quantity,
    policy: CapacityRequestPolicy<'_>,
    fractions: bool,
) {
    let at = Spot::of(policy).field(n::VALID_VALUES);
    let texts = rules::texts(policy.valid_values());
    let values: Vec<Quantity> = texts.map(|text| text.parse().unwrap_or_default()).collect();
    for (i, pair) in values.windows(2).enumerate() {
        if pair[0] > pair[1] {
            let detail = "values must be sorted in ascending order";
            e.invalid(at.index(i + 1), pair[1].to_string(), detail);
        }
    }
    if names::fits(e, at, values.len(), MOST_VALUES) {
        for (i, value) in values.iter().enumerate() {
            if *value > most {
                let detail = format!("option is larger than capacity value: {most}");
                e.invalid(at.index(i), value.to_string(), detail);
            }
        }
        let mut seen = HashSet::new();
        for (i, value) in values.iter().enumerate() {
            let key = match fractions {
                true => decimal(*value),
                false => value.value().to_string(),
            };
            if seen.contains(&key) {
                e.duplicate(at.index(i), key.as_str());
            }
            seen.insert(key);
        }
    }
    if !values.contains(&default) || values.len() > MOST_VALUES {
        let detail = "default value is not valid according to the requestPolicy";
        e.invalid(at, default.to_string(), detail);
    }
}

/// The number without a suffix.
fn decimal(value: Quantity) -> String {
    if value.is_whole() {
        return value.value().to_string();
    }
    let milli = value.milli_value();
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').to_owned()
}

fn range(
    e: &mut Errors<'_>,
    default: Quantity,
    most: Quantity,
    range: CapacityRequestPolicyRange<'_>,
    fractions: bool,
) {
    let at = |field| Spot::of(range).field(field);
    let number = |field| quantity(range.node(), field);
    let Some(min) = number(n::MIN) else {
        return e.required(at(n::MIN), "required when validRange is defined");
    };
    let (max, step) = (number(n::MAX), number(n::STEP));
    if min > most {
        let detail = format!("min is larger than capacity value: {most}");
        e.invalid(at(n::MIN), min.to_string(), detail);
    }
    if default < min {
        let detail = format!("default is less than min: {min}");
        e.invalid(at(n::DEFAULT), default.to_string(), detail);
    }
    if let Some(max) = max {
        if min > max {
            let detail = format!("min is larger than max: {max}");
            e.invalid(at(n::MAX), min.to_string(), detail);
        }
        if max > most {
            let detail = format!("max is larger than capacity value: {most}");
            e.invalid(at(n::MAX), max.to_string(), detail);
        }
        if default > max {
            let detail = format!("default is more than max: {max}");
            e.invalid(at(n::DEFAULT), default.to_string(), detail);
        }
    }
    let all = [
        (n::DEFAULT, Some(default)),
        (n::MIN, Some(min)),
        (n::MAX, max),
        (n::STEP, step),
    ];
    let given = all.iter().filter_map(|(field, q)| q.map(|q| (*field, q)));
    let given: Vec<(NameId, Quantity)> = given.collect();
    let fractions = fractions && given.iter().any(|(_, q)| !q.is_whole());
    if fractions && !exact(e, range, &given) {
        return;
    }
    let Some(step) = step else { return };
    if step.signum() <= 0 {
        return e.invalid(at(n::STEP), step.to_string(), "must be greater than zero");
    }
    let one = min.plus(step);
    if one > most {
        let detail = format!("one step {one} is larger than capacity value: {most}");
        e.invalid(at(n::STEP), step.to_string(), detail);
    }
    if !fractions && !bounded(e, range, &given) {
        return;
    }
    for value in std::iter::once(default).chain(max) {
        if !is_multiple(value, min, step, fractions) {
            let detail = format!("value is not a multiple of a given step ({step}) from ({min})");
            e.invalid(at(n::STEP), value.to_string(), detail);
        }
    }
}

/// Whether all amounts are thousandths that fit in 64 bits.
fn exact(
    e: &mut Errors<'_>,
    range: CapacityRequestPolicyRange<'_>,
    given: &[(NameId, Quantity)],
) -> bool {
    let before = e.len();
    for (field, value) in given {
        if value.round_up(-3).0 != *value || value.checked_scaled_value(-3).is_none() {
            let at = Spot::of(range).field(*field);
            let detail = "value cannot be represented as a milli value";
            e.invalid(at, value.to_string(), detail);
        }
    }
    e.len() == before
}

/// Whether all amounts are numbers of 63 bits.
fn bounded(
    e: &mut Errors<'_>,
    range: CapacityRequestPolicyRange<'_>,
    given: &[(NameId, Quantity)],
) -> bool {
    let before = e.len();
    for (field, value) in given {
        let at = Spot::of(range).field(*field);
        if value.signum() < 0 {
            e.invalid(at, value.to_string(), rules::NOT_NEGATIVE);
        } else if value.checked_scaled_value(0).is_none() {
            let detail = format!("must not be larger than {}", i64::MAX);
            e.invalid(at, value.to_string(), detail);
        }
    }
    e.len() == before
}

fn is_multiple(value: Quantity, min: Quantity, step: Quantity, fractions: bool) -> bool {
    let of = |q: Quantity| {
        if fractions {
            q.milli_value()
        } else {
            q.value()
        }
    };
    let step = of(step);
    step != 0 && of(value).wrapping_sub(of(min)) % step == 0
}
