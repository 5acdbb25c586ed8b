//! Fields behind gates that are off: who had one before may keep it.
//!
//! Upstream: `dropDisabledFields` of each strategy in `pkg/registry/resource`,
//! `pkg/api/resourceclaimspec`.

use proto::catalogue::{GateId, Gates, gate, names as n};
use proto::view::Node;
use proto::{NameId, Value};

use super::status;
use proto::view::View;
use proto::view::resource_v1::ResourceClaim;

/// Attributes of which a device has several values: `DRAListTypeAttributes`.
const LISTS: [NameId; 4] = [n::BOOLS, n::INTS, n::STRINGS, n::VERSIONS];

fn each<'v>(of: &'v mut Value, field: NameId) -> impl Iterator<Item = &'v mut Value> + use<'v> {
    let list = of.get_mut(field).and_then(Value::as_list_mut);
    list.into_iter().flatten()
}

/// Says whether a claim's specification has what hides behind a gate; drops it if it is told to.
type Rule = fn(&mut Value, bool) -> bool;

/// `dropDisabledFields` of `pkg/api/resourceclaimspec`, but for what is told by the class of a device.
const CLAIM_RULES: &[(GateId, Rule)] = &[
    (gate::DRA_PRIORITIZED_LIST, |spec, drops| {
        let mut found = false;
        for request in requests(spec) {
            found |= take(request, n::FIRST_AVAILABLE, drops);
        }
        found
    }),
    (gate::DRA_DEVICE_TAINTS, |spec, drops| {
        let mut found = false;
        for request in requests(spec) {
            if let Some(exactly) = request.get_mut(n::EXACTLY) {
                found |= take(exactly, n::TOLERATIONS, drops);
            }
            for alternative in each(request, n::FIRST_AVAILABLE) {
                found |= take(alternative, n::TOLERATIONS, drops);
            }
        }
        found
    }),
    (gate::DRA_ADMIN_ACCESS, |spec, drops| {
        let mut found = false;
        for request in requests(spec) {
            if let Some(exactly) = request.get_mut(n::EXACTLY) {
                found |= take(exactly, n::ADMIN_ACCESS, drops);
            }
        }
        found
    }),
    (gate::DRA_CONSUMABLE_CAPACITY, |spec, drops| {
        let mut found = false;
        for constraint in spec
            .get_mut(n::DEVICES)
            .into_iter()
            .flat_map(|devices| each(devices, n::CONSTRAINTS))
        {
            found |= take(constraint, n::DISTINCT_ATTRIBUTE, drops);
        }
        for request in requests(spec) {
            if let Some(exactly) = request.get_mut(n::EXACTLY) {
                found |= take(exactly, n::CAPACITY, drops);
            }
            for alternative in each(request, n::FIRST_AVAILABLE) {
                found |= take(alternative, n::CAPACITY, drops);
            }
        }
        found
    }),
];

fn requests(spec: &mut Value) -> impl Iterator<Item = &mut Value> {
    let devices = spec.get_mut(n::DEVICES);
    devices
        .into_iter()
        .flat_map(|devices| each(devices, n::REQUESTS))
}

/// Whether there is something, which is dropped or not; an empty list is nothing.
fn take(owner: &mut Value, field: NameId, drops: bool) -> bool {
    let there = owner.get(field).is_some_and(|v| match v {
        Value::List(list) => !list.is_empty(),
        other => !other.is_null(),
    });
    if there && drops {
        owner.remove(&[field]);
    }
    there
}

/// `DRADerivedAttributes`, and the gates that are on by default.
pub(super) fn of_claim_spec(gates: Gates, spec: Option<&mut Value>, old: Option<&Value>) {
    let Some(spec) = spec else { return };
    for (_, rule) in CLAIM_RULES.iter().filter(|(gate, _)| !gates.has(*gate)) {
        let used = old.is_some_and(|old| rule(&mut old.clone(), false));
        if !used {
            rule(spec, true);
        }
    }
    if gates.has(gate::DRA_DERIVED_ATTRIBUTES) {
        return;
    }
    let derives = |request: &Value| !Node::new(request).items(n::DERIVED_ATTRIBUTES).is_empty();
    let uses = |old: &Value| {
        let requests = old.at(&[n::DEVICES, n::REQUESTS]).and_then(Value::as_list);
        requests.into_iter().flatten().any(|request| {
            let request = Node::new(request);
            request.get(n::EXACTLY).is_some_and(derives)
                || request.items(n::FIRST_AVAILABLE).iter().any(derives)
        })
    };
    if old.is_some_and(uses) {
        return;
    }
    let Some(devices) = spec.get_mut(n::DEVICES) else {
        return;
    };
    for request in each(devices, n::REQUESTS) {
        if let Some(exactly) = request.get_mut(n::EXACTLY).and_then(Value::as_map_mut) {
            exactly.remove(n::DERIVED_ATTRIBUTES);
        }
        for alternative in each(request, n::FIRST_AVAILABLE) {
            alternative.remove(&[n::DERIVED_ATTRIBUTES]);
        }
    }
}

/// `DRAOptionalNodeOperations`; and what is reported of devices that the claim no longer has.
pub(super) fn of_claim_status(gates: Gates, new: &mut Value, old: &Value) {
    let results = [n::STATUS, n::ALLOCATION, n::DEVICES, n::RESULTS];
    let skips = |result: &Value| !Node::new(result).items(n::SKIP_NODE_OPERATIONS).is_empty();
    let was = old.at(&results).and_then(Value::as_list);
    if !gates.has(gate::DRA_OPTIONAL_NODE_OPERATIONS) && !was.into_iter().flatten().any(skips) {
        let results = new.at_mut(&results).and_then(Value::as_list_mut);
        for result in results.into_iter().flatten() {
            result.remove(&[n::SKIP_NODE_OPERATIONS]);
        }
    }
    let reports = [n::STATUS, n::DEVICES];
    let reported = old.at(&reports).and_then(Value::as_list);
    if !gates.has(gate::DRA_RESOURCE_CLAIM_DEVICE_STATUS)
        && reported.is_none_or(<[Value]>::is_empty)
    {
        new.remove(&reports);
    }
    let gone = {
        let (now, was) = (
            ResourceClaim::of(Node::new(new)).status(),
            ResourceClaim::of(Node::new(old)).status(),
        );
        let (still, before) = (status::allocated(now), status::allocated(was));
        let devices = now.devices().iter().map(status::reported);
        devices
            .map(|device| before.contains(&device) && !still.contains(&device))
            .collect::<Vec<bool>>()
    };
    let way = [n::STATUS, n::DEVICES];
    let Some(devices) = new.at_mut(&way).and_then(Value::as_list_mut) else {
        return;
    };
    let mut gone = gone.into_iter();
    devices.retain(|_| !gone.next().unwrap_or(false));
    if devices.is_empty() {
        new.remove(&way);
    }
}

/// `DRADeviceCompatibilityGroups`, `DRANodeAllocatableResources`, `DRAListTypeAttributes`,
/// `DRAPartitionableDevicesType`, `DRAOptionalNodeOperations`.
pub(super) fn of_slice(gates: Gates, new: &mut Value, old: Option<&Value>) {
    let devices = |object: &'_ Value| {
        let list = object.at(&[n::SPEC, n::DEVICES]).and_then(Value::as_list);
        list.unwrap_or_default().to_vec()
    };
    let old_devices = old.map(devices).unwrap_or_default();
    let any = |test: &dyn Fn(Node<'_>) -> bool| old_devices.iter().any(|d| test(Node::new(d)));
    let groups = gates.has(gate::DRA_DEVICE_COMPATIBILITY_GROUPS)
        || any(&|device| {
            let mut sets = device.items(n::CONSUMES_COUNTERS).iter();
            sets.any(|set| !Node::new(set).items(n::COMPATIBILITY_GROUPS).is_empty())
        });
    let node_resources = gates.has(gate::DRA_NODE_ALLOCATABLE_RESOURCES)
        || any(&|device| !device.dict(n::NODE_ALLOCATABLE_RESOURCES).is_empty());
    let lists = gates.has(gate::DRA_LIST_TYPE_ATTRIBUTES)
        || any(&|device| {
            let mut attributes = device.dict(n::ATTRIBUTES).iter();
            attributes.any(|(_, a)| LISTS.iter().any(|list| Node::new(a).get(*list).is_some()))
        });
    let Some(spec) = new.get_mut(n::SPEC) else {
        return;
    };
    for device in each(spec, n::DEVICES) {
        if !groups {
            for set in each(device, n::CONSUMES_COUNTERS) {
                set.remove(&[n::COMPATIBILITY_GROUPS]);
            }
        }
        if !node_resources {
            device.remove(&[n::NODE_ALLOCATABLE_RESOURCES]);
        }
        if !lists
            && let Some(attributes) = device.get_mut(n::ATTRIBUTES).and_then(Value::as_map_mut)
        {
            for (_, attribute) in attributes.iter_mut() {
                for list in LISTS {
                    attribute.remove(&[list]);
                }
            }
        }
    }
    for (field, by) in [
        (
            n::PARTITION_TYPE_ATTRIBUTE,
            gate::DRA_PARTITIONABLE_DEVICES_TYPE,
        ),
        (n::SKIP_NODE_OPERATIONS, gate::DRA_OPTIONAL_NODE_OPERATIONS),
    ] {
        let kept = gates.has(by)
            || old.is_some_and(|old| {
                let value = old.at(&[n::SPEC, field]);
                value.is_some_and(|v| !v.is_null() && v.as_list().is_none_or(|l| !l.is_empty()))
            });
        if !kept {
            spec.remove(&[field]);
        }
    }
}
