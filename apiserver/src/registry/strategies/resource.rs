//! Devices that are claimed: slices, claims, taints, and what is asked of pools.
//!
//! Upstream: `pkg/registry/resource`, `pkg/printers/internalversion`.

use proto::catalogue::names as n;
use proto::view::{Node, View};
use proto::view::{resource_v1, resource_v1alpha3};
use proto::{NameId, Value, meta};

use crate::registry::generic::Clock;
use crate::registry::strategy::Strategy;
use crate::registry::warnings::Warnings;
use crate::table::{age, row};

/// Without a status; changes are counted all the same.
pub static DEVICE_CLASS: Strategy = Strategy {
    generation: true,
    ..Strategy::DEFAULT
};

pub static DEVICE_TAINT_RULE: Strategy = Strategy {
    default: |object| {
        if let Some(taint) = object.at_mut(&[n::SPEC, n::TAINT]) {
            stamp(taint);
        }
    },
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
    default: |object| count(object, &[n::SPEC]),
    generation: false,
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
    default: |object| count(object, &[n::SPEC, n::SPEC]),
    ..Strategy::DEFAULT
};

/// Without a status; changes are counted all the same.
pub static RESOURCE_SLICE: Strategy = Strategy {
    warnings: |object, _| {
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
    default: |object| {
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
    generation: true,
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
    generation: false,
    cells: Some(pool_status_cells),
    ..Strategy::WITH_STATUS
};

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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Value {
        proto::codec::json::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn whoever_asks_for_devices_asks_for_one_unless_more_are_named() {
        let counted = |request: &str| {
            let text = format!(r#"{{"spec":{{"devices":{{"requests":[{request}]}}}}}}"#);
            let mut claim = parse(&text);
            (RESOURCE_CLAIM.default)(&mut claim);
            let requests = claim.at(&[n::SPEC, n::DEVICES, n::REQUESTS]);
            requests.and_then(Value::as_list).unwrap()[0].clone()
        };
        for (request, wanted) in [
            (
                r#"{"exactly":{}}"#,
                r#"{"exactly":{"allocationMode":"ExactCount","count":1}}"#,
            ),
            (
                r#"{"exactly":{"allocationMode":"All"}}"#,
                r#"{"exactly":{"allocationMode":"All"}}"#,
            ),
            (
                r#"{"firstAvailable":[{"count":3},{"count":0}]}"#,
                r#"{"firstAvailable":[{"count":3,"allocationMode":"ExactCount"},
                    {"count":1,"allocationMode":"ExactCount"}]}"#,
            ),
            (
                r#"{"deviceClassName":"c"}"#,
                r#"{"deviceClassName":"c","allocationMode":"ExactCount","count":1}"#,
            ),
            (r#"{"deviceClassName":""}"#, r#"{"deviceClassName":""}"#),
        ] {
            assert_eq!(counted(request), parse(wanted), "{request}");
        }
    }

    #[test]
    fn a_taint_that_does_not_say_since_when_is_new() {
        let mut slice = parse(
            r#"{"spec":{"devices":[
                {"taints":[{"key":"a"},{"key":"b","timeAdded":"2020-01-01T00:00:00Z"}]},
                {"basic":{"taints":[{"key":"c"}]}}]}}"#,
        );
        (RESOURCE_SLICE.default)(&mut slice);
        let devices = slice.at(&[n::SPEC, n::DEVICES]).and_then(Value::as_list);
        let devices = devices.unwrap();
        let ages: Vec<_> = [&devices[0], devices[1].get(n::BASIC).unwrap()]
            .into_iter()
            .flat_map(|d| d.get(n::TAINTS).and_then(Value::as_list).unwrap())
            .map(|t| t.get(n::TIME_ADDED).and_then(Value::as_str).unwrap())
            .collect();
        assert_eq!(ages[1], "2020-01-01T00:00:00Z");
        assert!(ages[0] > ages[1] && ages[2] > ages[1], "{ages:?}");
    }
}
