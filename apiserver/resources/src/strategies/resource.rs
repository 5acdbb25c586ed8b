//! Devices that are claimed: slices, claims, taints, and what is asked of pools.
//!
//! Upstream: `pkg/registry/resource`, `pkg/apis/resource`, `pkg/printers/internalversion`.

use proto::catalogue::{gate, names as n};
use proto::view::{Node, View};
use proto::view::{resource_v1, resource_v1alpha3};
use proto::{NameId, Value, meta};

use crate::clock::Clock;
use crate::declarative::{NO_OPTIONS, of_gates};
use crate::equal;
use crate::gated::{self, Gated};
use crate::strategy::{Cx, Generation, Part, Strategy, clear_status, keep_status};
use crate::table::{age, row};
use crate::warnings::Warnings;

mod allocatable;
mod capacity;
mod claim;
mod dropped;
mod expressions;
mod names;
mod slice;
mod status;

#[cfg(test)]
mod tests;

/// Without a status; changes are counted all the same.
pub static DEVICE_CLASS: Strategy = Strategy {
    // What is wrong with a name, declarative validation finds.
    name: |_, _| Vec::new(),
    validate: |cx, object, e| claim::class(cx.gates, object, None, e),
    validate_update: |cx, new, old, e| claim::class(cx.gates, new, Some(old), e),
    declarative: Some(NO_OPTIONS),
    prepare_create: |cx, new| gated::drop_unused(cx.gates, new, None, &[EXTENDED_RESOURCE]),
    prepare_update: |cx, new, old| {
        gated::drop_unused(cx.gates, new, Some(old), &[EXTENDED_RESOURCE]);
    },
    generation: Generation::Counted,
    ..Strategy::DEFAULT
};

const EXTENDED_RESOURCE: Gated = (
    gate::DRA_EXTENDED_RESOURCE,
    &[n::SPEC, n::EXTENDED_RESOURCE_NAME],
);

pub static DEVICE_TAINT_RULE: Strategy = Strategy {
    default: |_, object| {
        if let Some(taint) = object.at_mut(&[n::SPEC, n::TAINT]) {
            stamp(taint);
        }
    },
    prepare_update: taint_rule_update,
    validate: |_, object, e| slice::taint_rule(object, None, e),
    validate_update: |_, new, old, e| slice::taint_rule(new, Some(old), e),
    declarative: Some(NO_OPTIONS),
    status: Some(Part {
        validate_update: |_, new, _, e| slice::taint_rule_status(new, e),
        ..Part::STATUS_ALONE
    }),
    cells: Some(|object, now| {
        let taint = object.at(&[n::SPEC, n::TAINT]);
        let taint = taint.unwrap_or(&Value::Null);
        let part = |field| taint.get(field).and_then(Value::as_str).unwrap_or_default();
        let added = Some(part(n::TIME_ADDED)).filter(|at| !at.is_empty());
        row(
            object,
            now,
            [
                part(n::KEY).into(),
                part(n::VALUE).into(),
                part(n::EFFECT).into(),
                added.map_or_else(String::new, |at| age(at, now)).into(),
            ],
        )
    }),
    ..Strategy::WITH_STATUS
};

pub static RESOURCE_CLAIM: Strategy = Strategy {
    default: |_, object| count(object, &[n::SPEC]),
    prepare_create: |cx, new| {
        clear_status(new);
        dropped::of_claim_spec(cx.gates, new.get_mut(n::SPEC), None);
    },
    prepare_update: |cx, new, old| {
        keep_status(new, old);
        dropped::of_claim_spec(cx.gates, new.get_mut(n::SPEC), old.get(n::SPEC));
    },
    validate: |cx, object, e| claim::claim(cx.gates, object, e),
    // The spec does not change: that is all that declarative validation has to say.
    declarative: Some(NO_OPTIONS),
    status: Some(Part {
        prepare_update: |cx, new, old| {
            (Part::STATUS_ALONE.prepare_update)(cx, new, old);
            dropped::of_claim_status(cx.gates, new, old);
        },
        validate_update: |_, new, old, e| status::update(new, old, e),
        ..Part::STATUS
    }),
    generation: Generation::Ignored,
    cells: Some(|object, now| {
        let status = resource_v1::ResourceClaim::of(Node::new(object)).status();
        let deleting = meta::is_deleting(object);
        let mut states = Vec::new();
        if deleting {
            states.push("deleted");
        }
        if status.allocation().is_some() {
            states.push("allocated");
            if !status.reserved_for().is_empty() {
                states.push("reserved");
            }
        } else if !deleting {
            states.push("pending");
        }
        row(object, now, [states.join(",").into()])
    }),
    ..Strategy::WITH_STATUS
};

pub static RESOURCE_CLAIM_TEMPLATE: Strategy = Strategy {
    default: |_, object| count(object, &[n::SPEC, n::SPEC]),
    prepare_create: |cx, new| {
        dropped::of_claim_spec(cx.gates, new.at_mut(&[n::SPEC, n::SPEC]), None);
    },
    prepare_update: |cx, new, old| {
        let was = old.at(&[n::SPEC, n::SPEC]);
        dropped::of_claim_spec(cx.gates, new.at_mut(&[n::SPEC, n::SPEC]), was);
    },
    validate: |cx, object, e| claim::template(cx.gates, object, e),
    validate_update: |cx, new, old, e| claim::template_update(cx.gates, new, old, e),
    declarative: Some(NO_OPTIONS),
    ..Strategy::DEFAULT
};

/// Without a status; changes are counted all the same.
pub static RESOURCE_SLICE: Strategy = Strategy {
    prepare_create: |cx, new| dropped::of_slice(cx.gates, new, None),
    prepare_update: |cx, new, old| {
        // What is dropped afterwards counts as a change all the same.
        if !equal::alike_at(
            new,
            old,
            &[n::SPEC],
            resource_v1::ResourceSliceSpec::MESSAGE,
        ) {
            let generation = meta::generation(old).unwrap_or(0) + 1;
            meta::metadata_mut(new).insert(n::GENERATION, generation);
        }
        dropped::of_slice(cx.gates, new, Some(old));
    },
    validate: |cx, object, e| slice::slice(cx.gates, object, None, e),
    validate_update: |cx, new, old, e| slice::slice(cx.gates, new, Some(old), e),
    declarative: Some(|gates, _, _| of_gates(gates, &[gate::DRA_PARTITIONABLE_DEVICES_TYPE])),
    warnings: |_, object, _| {
        let driver = resource_v1::ResourceSlice::of(Node::new(object))
            .spec()
            .driver();
        let mut w = Warnings::new(object);
        if driver != driver.to_lowercase() {
            w.push(format!(
                "spec.driver: driver names should be lowercase; {} contains uppercase characters",
                proto::path::quote(driver)
            ));
        }
        w.into_vec()
    },
    default: |_, object| {
        let devices = object.at_mut(&[n::SPEC, n::DEVICES]);
        for device in devices.and_then(Value::as_list_mut).into_iter().flatten() {
            // The first beta has what a device is in a part of its own.
            let way: &[NameId] = if device.get(n::BASIC).is_some() {
                &[n::BASIC, n::TAINTS]
            } else {
                &[n::TAINTS]
            };
            let taints = device.at_mut(way).and_then(Value::as_list_mut);
            taints.into_iter().flatten().for_each(stamp);
        }
    },
    generation: Generation::Counted,
    cells: Some(|object, now| {
        let spec = resource_v1::ResourceSlice::of(Node::new(object)).spec();
        row(
            object,
            now,
            [
                spec.node_name().unwrap_or_default().into(),
                spec.driver().into(),
                spec.pool().name().into(),
            ],
        )
    }),
    ..Strategy::DEFAULT
};

pub static POOL_STATUS_REQUEST: Strategy = Strategy {
    prepare_create: |cx, new| {
        // None is another than one that says nothing.
        new.remove(&[n::STATUS]);
        gated::drop_unused(cx.gates, new, None, &[PARTITION_TYPE]);
    },
    prepare_update: |cx, new, old| {
        keep_status(new, old);
        gated::drop_unused(cx.gates, new, Some(old), &[PARTITION_TYPE]);
    },
    declarative: Some(|gates, _, _| of_gates(gates, &[gate::DRA_PARTITIONABLE_DEVICES_TYPE])),
    status: Some(Part {
        validate_update: |_, new, old, e| status::pool(new, old, e),
        ..Part::STATUS_ALONE
    }),
    generation: Generation::Ignored,
    cells: Some(pool_status_cells),
    ..Strategy::WITH_STATUS
};

const PARTITION_TYPE: Gated = (
    gate::DRA_PARTITIONABLE_DEVICES_TYPE,
    &[n::SPEC, n::DEFAULT_PARTITION_TYPE_ATTRIBUTE],
);

/// Whose effect changes is as old as that.
fn taint_rule_update(cx: &Cx<'_>, new: &mut Value, old: &Value) {
    keep_status(new, old);
    let way = |field| [n::SPEC, n::TAINT, field];
    let same = |field| new.at(&way(field)) == old.at(&way(field));
    if !same(n::EFFECT) && same(n::TIME_ADDED) {
        new.set(&way(n::TIME_ADDED), cx.now);
    }
}

/// A taint is as old as the first server that saw it.
fn stamp(taint: &mut Value) {
    if taint.get(n::TIME_ADDED).is_none_or(Value::is_null) {
        taint.set(&[n::TIME_ADDED], Clock::now().text);
    }
}

/// Who asks for devices and does not say how many, asks for one.
fn count(object: &mut Value, spec: &[NameId]) {
    let devices = object.at_mut(spec).and_then(|s| s.get_mut(n::DEVICES));
    let requests = devices.and_then(|d| d.get_mut(n::REQUESTS));
    for request in requests.and_then(Value::as_list_mut).into_iter().flatten() {
        // In the first beta, the request itself is what later versions have in `exactly`.
        let class = request.get(n::DEVICE_CLASS_NAME).and_then(Value::as_str);
        if class.is_some_and(|class| !class.is_empty()) {
            count_of(request);
        }
        if let Some(exactly) = request.get_mut(n::EXACTLY).filter(|e| !e.is_null()) {
            count_of(exactly);
        }
        let choices = request.get_mut(n::FIRST_AVAILABLE);
        let choices = choices.and_then(Value::as_list_mut);
        choices.into_iter().flatten().for_each(count_of);
    }
}

fn count_of(request: &mut Value) {
    const EXACT: &str = "ExactCount";
    let mode = request.get(n::ALLOCATION_MODE).and_then(Value::as_str);
    let mode = mode.unwrap_or_default();
    if mode.is_empty() {
        request.set(&[n::ALLOCATION_MODE], EXACT);
    } else if mode != EXACT {
        return;
    }
    if request.get(n::COUNT).is_none_or(|c| c.as_int() == Some(0)) {
        request.set(&[n::COUNT], 1);
    }
}

fn pool_status_cells(object: &Value, now: i64) -> Vec<Value> {
    let view = resource_v1alpha3::ResourcePoolStatusRequest::of(Node::new(object));
    let mut sums = std::array::from_fn::<_, 5, _>(|_| "-".to_owned());
    let (mut state, mut completed, mut pools) = ("Pending".to_owned(), None, 0);
    if let Some(status) = view.status() {
        let ended = status
            .conditions()
            .into_iter()
            .find(|c| c.status() == "True" && matches!(c.r#type(), "Complete" | "Failed"));
        pools = status.pool_count().unwrap_or(0);
        let listed = i64::try_from(status.pools().len()).unwrap_or(i64::MAX);
        if let Some(condition) = ended {
            condition.r#type().clone_into(&mut state);
            if state == "Complete" {
                completed = condition.last_transition_time();
            }
            if state == "Complete" && pools > listed {
                state = format!("Complete ({listed}/{pools} pools)");
            }
        }
        if state != "Failed" {
            let mut totals = [0; 5];
            for pool in status.pools() {
                let counts = [
                    pool.total_devices(),
                    pool.available_devices(),
                    pool.allocated_devices(),
                    pool.unavailable_devices(),
                    pool.validation_error().map(|_| 1),
                ];
                for (total, count) in totals.iter_mut().zip(counts) {
                    *total += count.unwrap_or(0);
                }
            }
            sums = totals.map(|t| t.to_string());
        }
    }
    let mut cells: Vec<Value> = vec![meta::name(object).into(), view.spec().driver().into()];
    cells.extend(sums.map(Value::from));
    cells.push(pools.into());
    cells.push(state.into());
    let completed = completed.map_or_else(|| "<none>".to_owned(), |at| age(at, now));
    cells.push(completed.into());
    cells
}
