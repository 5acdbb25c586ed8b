//! Constant defaults, from the catalogue.
//!
//! Upstream's defaulting functions set most fields to a constant when they are absent; those are facts
//! of the catalogue (`Field::default`) and applied here to every message of a tree. What depends on
//! other fields is in the strategies' `default`.

use std::collections::HashMap;
use std::sync::OnceLock;

use proto::catalogue::{Kind, Shape};
use proto::{MsgId, NameId, Value, codec};

/// What one message has to default: own constants, and the fields below which there are some.
#[derive(Default)]
struct Plan {
    constants: Vec<(NameId, Value)>,
    below: Vec<(NameId, Shape, MsgId)>,
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
            plan.constants.push((field.name, value));
        }
        if let Kind::Message(below) = field.kind {
            build(below, plans);
            plan.below.push((field.name, field.shape, below));
        }
    }
    plans.insert(message, plan);
}

/// Drops ways that lead to no default.
fn prune(plans: &mut Plans) {
    loop {
        let barren: Vec<MsgId> = plans
            .iter()
            .filter(|(_, p)| p.constants.is_empty() && p.below.is_empty())
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

/// Sets every absent field that has a constant default, in the whole tree.
pub fn apply(object: &mut Value, message: MsgId) {
    walk(object, message, plans(message));
}

fn walk(object: &mut Value, message: MsgId, plans: &Plans) {
    let (Some(plan), Some(map)) = (plans.get(&message), object.as_map_mut()) else {
        return;
    };
    for (name, value) in &plan.constants {
        let there = map.entry(*name);
        // An empty string is "not set" to upstream's functions as well.
        if there.is_null() || there.as_str() == Some("") {
            *there = value.clone();
        }
    }
    for (name, shape, below) in &plan.below {
        let Some(value) = map.get_mut(*name) else {
            continue;
        };
        match (shape, value) {
            (Shape::One, value) => walk(value, *below, plans),
            (Shape::List, Value::List(items)) => {
                items.iter_mut().for_each(|v| walk(v, *below, plans))
            }
            (Shape::Map, Value::Map(entries)) => {
                entries.iter_mut().for_each(|(_, v)| walk(v, *below, plans))
            }
            _ => {}
        }
    }
}
