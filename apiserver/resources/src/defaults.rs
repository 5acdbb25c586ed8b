//! Constant defaults, from the catalogue.
//!
//! Upstream's defaulting functions set most fields to a constant when they are absent; those are facts
//! of the catalogue (`Field::default`) and applied here to every message of a tree. What depends on
//! other fields is in the strategies' `default`.

use std::collections::HashMap;
use std::sync::OnceLock;

use proto::catalogue::{Flags, GateId, Gates, Kind, Shape, gate, messages as m, names as n};
use proto::quantity::{MILLI, Quantity};
use proto::{MsgId, NameId, Value, codec};

use super::Strategy;
use crate::object::Type;
use crate::status::Failure;

/// What one message has to default: own constants, and the fields below which there are some.
#[derive(Default)]
struct Plan {
    constants: Vec<Constant>,
    /// Amounts by name, which are kept in thousandths.
    amounts: Vec<NameId>,
    below: Vec<(NameId, Shape, MsgId)>,
}

struct Constant {
    field: NameId,
    value: Value,
    /// Whether an empty string is something else than none.
    pointer: bool,
    /// Nothing is set while it is off.
    gate: Option<GateId>,
}

type Plans = HashMap<MsgId, Plan>;

/// The plans of all messages below `root`, made once a root.
fn plans(root: MsgId) -> &'static Plans {
    static ALL: OnceLock<parking_lot::RwLock<HashMap<MsgId, &'static Plans>>> = OnceLock::new();
    let all = ALL.get_or_init(Default::default);
    if let Some(plans) = all.read().get(&root) {
        return plans;
    }
    let mut plans = Plans::new();
    build(root, &mut plans);
    prune(&mut plans);
    // One leak per root kind, as many as the catalogue has.
    all.write()
        .entry(root)
        .or_insert_with(|| Box::leak(Box::new(plans)))
}

fn build(message: MsgId, plans: &mut Plans) {
    if plans.contains_key(&message) {
        return;
    }
    plans.insert(message, Plan::default());
    let mut plan = Plan::default();
    for field in message.fields() {
        if let Some(json) = field.default() {
            let value =
                codec::json::parse(json.as_bytes()).expect("defaults of the catalogue are JSON");
            plan.constants.push(Constant {
                field: field.name,
                value,
                pointer: field.has(Flags::POINTER),
                gate: gate_of(message, field.name),
            });
        }
        if (field.shape, field.kind) == (Shape::Map, Kind::Quantity) {
            plan.amounts.push(field.name);
        }
        if let Kind::Message(below) = field.kind {
            build(below, plans);
            plan.below.push((field.name, field.shape, below));
        }
    }
    plans.insert(message, plan);
}

fn gate_of(message: MsgId, field: NameId) -> Option<GateId> {
    let mut gated = GATED.iter();
    gated
        .find(|(m, f, _)| (*m, *f) == (message, field))
        .map(|(.., gate)| *gate)
}

/// Drops ways that lead to no default.
fn prune(plans: &mut Plans) {
    loop {
        let barren: Vec<MsgId> = plans
            .iter()
            .filter(|(_, p)| p.constants.is_empty() && p.amounts.is_empty() && p.below.is_empty())
            .map(|(m, _)| *m)
            .collect();
        if barren.is_empty() {
            return;
        }
        for message in &barren {
            plans.remove(message);
        }
        for plan in plans.values_mut() {
            plan.below.retain(|(_, _, m)| !barren.contains(m));
        }
    }
}

/// Defaults an object in the version that a request has it in, then brings it into the hub's.
///
/// # Errors
/// As [`into_hub`].
pub fn complete(
    gates: Gates,
    strategy: &Strategy,
    served: &Type,
    hub: &Type,
    object: Value,
) -> Result<Value, Failure> {
    into_hub(gates, strategy, served.message, hub.message, object)
        .map_err(|e| Failure::internal(&e))
}

/// Defaults an object in the version that it is in, and brings it into the hub's.
///
/// # Errors
/// If the two are not versions of one kind.
pub fn into_hub(
    gates: Gates,
    strategy: &Strategy,
    from: MsgId,
    hub: MsgId,
    mut object: Value,
) -> Result<Value, proto::convert::Error> {
    apply(gates, &mut object, from);
    if from != hub {
        object = proto::convert::convert(object, from, hub)?;
        if CONVERTED_WHOLE.contains(&from) {
            return Ok(object);
        }
        // The old version of definitions defaults what the new one asks for.
        if hub != m::apiextensions_v1beta1::CUSTOM_RESOURCE_DEFINITION {
            apply(gates, &mut object, hub);
        }
    }
    (strategy.default)(gates, &mut object);
    Ok(object)
}

/// Versions whose conversion sets what they leave open. Upstream applies the hub's defaults to what comes in the hub's version
/// only; here it shows, since annotations of the old version hold fields of the new one: what they leave open is stored as
/// open, and filled in whenever it is read.
const CONVERTED_WHOLE: &[MsgId] = &[m::autoscaling_v1::HORIZONTAL_POD_AUTOSCALER];

/// Sets every absent field that has a constant default, in the whole tree.
pub fn apply(gates: Gates, object: &mut Value, message: MsgId) {
    walk(gates, object, message, plans(message));
}

/// Constants that upstream sets only while a gate is on.
const GATED: &[(MsgId, NameId, GateId)] = &[
    (
        m::storage_v1::CSI_DRIVER_SPEC,
        n::PREVENT_POD_SCHEDULING_IF_MISSING,
        gate::VOLUME_LIMIT_SCALING,
    ),
    (
        m::storage_v1::CSI_DRIVER_SPEC,
        n::SE_LINUX_MOUNT,
        gate::SE_LINUX_MOUNT_READ_WRITE_ONCE_POD,
    ),
];

fn walk(gates: Gates, object: &mut Value, message: MsgId, plans: &Plans) {
    let (Some(plan), Some(map)) = (plans.get(&message), object.as_map_mut()) else {
        return;
    };
    for constant in &plan.constants {
        if constant.gate.is_some_and(|gate| !gates.has(gate)) {
            continue;
        }
        let there = map.entry(constant.field);
        // To upstream's functions an empty string is "not set" as well, unless they look at a pointer.
        if there.is_null() || there.as_str() == Some("") && !constant.pointer {
            *there = constant.value.clone();
        }
    }
    for name in &plan.amounts {
        let amounts = map.get_mut(*name).and_then(Value::as_map_mut);
        for (_, amount) in amounts.into_iter().flat_map(proto::Map::iter_mut) {
            round_up(amount);
        }
    }
    for (name, shape, below) in &plan.below {
        let Some(value) = map.get_mut(*name) else {
            continue;
        };
        match (shape, value) {
            (Shape::One, value) => walk(gates, value, *below, plans),
            (Shape::List, Value::List(items)) => {
                items.iter_mut().for_each(|v| walk(gates, v, *below, plans))
            }
            (Shape::Map, Value::Map(entries)) => entries
                .iter_mut()
                .for_each(|(_, v)| walk(gates, v, *below, plans)),
            _ => {}
        }
    }
}

/// Rounds an amount up to thousandths (`SetDefaults_ResourceList`).
fn round_up(amount: &mut Value) {
    let parsed = amount.as_str().and_then(|text| text.parse().ok());
    if let Some((rounded, false)) = parsed.map(|q: Quantity| q.round_up(MILLI)) {
        *amount = rounded.to_string().into();
    }
}

#[cfg(test)]
mod tests {
    use proto::catalogue::messages::core_v1::RESOURCE_REQUIREMENTS;

    use super::*;

    #[test]
    fn amounts_are_kept_in_thousandths() {
        let parse = |text: &str| codec::json::parse(text.as_bytes()).unwrap();
        let mut value = parse(r#"{"limits":{"a":"1n","b":"1500u","c":"1500m","d":"1Gi"}}"#);
        apply(Gates::defaults(), &mut value, RESOURCE_REQUIREMENTS);
        let rounded = r#"{"limits":{"a":"1m","b":"2m","c":"1500m","d":"1Gi"}}"#;
        assert_eq!(value, parse(rounded));
    }

    #[test]
    fn what_is_behind_a_gate_has_no_default_while_it_is_off() {
        for (message, field, gate) in GATED {
            assert!(message.field(*field).is_some_and(|f| f.default().is_some()));
            for on in [true, false] {
                let mut value = Value::object();
                apply(Gates::defaults().with(*gate, on), &mut value, *message);
                assert_eq!(value.get(*field).is_some(), on, "{}", message.name());
            }
        }
    }
}
