//! Fields behind gates that are off: who had one before may keep it.
//!
//! Upstream: `dropDisabledFields` of each strategy in `pkg/registry/resource`,
//! `pkg/api/resourceclaimspec`.

use proto::catalogue::names as n;
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

/// `DRADerivedAttributes`.
pub(super) fn of_claim_spec(spec: Option<&mut Value>, old: Option<&Value>) {
    let Some(spec) = spec else { return };
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
pub(super) fn of_claim_status(new: &mut Value, old: &Value) {
    let results = [n::STATUS, n::ALLOCATION, n::DEVICES, n::RESULTS];
    let skips = |result: &Value| !Node::new(result).items(n::SKIP_NODE_OPERATIONS).is_empty();
    let was = old.at(&results).and_then(Value::as_list);
    if !was.into_iter().flatten().any(skips) {
        let results = new.at_mut(&results).and_then(Value::as_list_mut);
        for result in results.into_iter().flatten() {
            result.remove(&[n::SKIP_NODE_OPERATIONS]);
        }
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
pub(super) fn of_slice(new: &mut Value, old: Option<&Value>) {
    let devices = |object: &'_ Value| {
        let list = object.at(&[n::SPEC, n::DEVICES]).and_then(Value::as_list);
        list.unwrap_or_default().to_vec()
    };
    let old_devices = old.map(devices).unwrap_or_default();
    let any = |test: &dyn Fn(Node<'_>) -> bool| old_devices.iter().any(|d| test(Node::new(d)));
    let groups = any(&|device| {
        let mut sets = device.items(n::CONSUMES_COUNTERS).iter();
        sets.any(|set| !Node::new(set).items(n::COMPATIBILITY_GROUPS).is_empty())
    });
    let node_resources = any(&|device| !device.dict(n::NODE_ALLOCATABLE_RESOURCES).is_empty());
    let lists = any(&|device| {
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
    for field in [n::PARTITION_TYPE_ATTRIBUTE, n::SKIP_NODE_OPERATIONS] {
        let kept = old.is_some_and(|old| {
            let value = old.at(&[n::SPEC, field]);
            value.is_some_and(|v| !v.is_null() && v.as_list().is_none_or(|l| !l.is_empty()))
        });
        if !kept {
            spec.remove(&[field]);
        }
    }
}
