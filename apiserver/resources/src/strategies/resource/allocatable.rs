//! What devices take of a node's own resources, and which attribute tells their partitions apart:
//! `validateNodeAllocatableResources`, `validatePartitionTypeAttribute` in `pkg/apis/resource/validation`.

use proto::catalogue::messages::resource_v1::DEVICE_ATTRIBUTE;
use proto::catalogue::names as n;
use proto::path::{Errors, Spot};
use proto::view::resource_v1::{
    Device, NodeAllocatableMapping, NodeAllocatableOverhead, NodeAllocatableResource,
    ResourceSliceSpec,
};
use proto::view::{Node, View};
use proto::{Map, Value};

use super::names;
use crate::rules;
use crate::shown::Internal;

/// What a device takes, by the name of the node's resource.
pub(super) fn resources(e: &mut Errors<'_>, device: Device<'_>) {
    let Some(map) = device.node().get(n::NODE_ALLOCATABLE_RESOURCES) else {
        return;
    };
    e.keyed(map);
    for (name, value) in device.node_allocatable_resources().iter() {
        let of = NodeAllocatableResource::of(Node::new(value));
        let (name, at) = (name.as_str(), Spot::of(of));
        rules::node_allocatable(e, at, name);
        if of.mapping().is_none() && of.overhead().is_none() {
            e.required(at, "at least one of mapping or overhead must be set");
        }
        if let Some(of) = of.mapping() {
            mapping(e, of, device.capacity());
        }
        if let Some(of) = of.overhead() {
            overhead(e, of);
        }
    }
}

/// So much for each device, or for each unit of one of its capacities.
fn mapping(e: &mut Errors<'_>, of: NodeAllocatableMapping<'_>, capacities: &Map) {
    let at = Spot::of(of);
    let (key, multiplier) = (of.capacity_key(), of.capacity_multiplier());
    match key {
        Some("") => {
            let detail = "capacityKey must not be an empty string";
            e.invalid(at.field(n::CAPACITY_KEY), "", detail);
        }
        Some(key) if capacities.get(key).is_none() => {
            e.not_found(at.field(n::CAPACITY_KEY), key);
        }
        _ => {}
    }
    if key.is_some() {
        if multiplier.is_none() {
            let detail = "capacityMultiplier is required when capacityKey is set";
            e.covered(|e| e.required(at.field(n::CAPACITY_MULTIPLIER), detail));
        }
        rules::sign(e, of, n::CAPACITY_MULTIPLIER, 1, "must be positive");
    }
    rules::sign(e, of, n::DEVICE_MULTIPLIER, 1, "must be positive");
    if key.is_none() && multiplier.is_some() {
        let detail = "capacityKey is required when capacityMultiplier is set";
        e.covered(|e| e.required(at.field(n::CAPACITY_KEY), detail));
    }
}

fn overhead(e: &mut Errors<'_>, of: NodeAllocatableOverhead<'_>) {
    if of.per_pod().is_none() && of.per_container().is_none() {
        let detail = "at least one of perPod or perContainer must be set";
        return e.invalid(Spot::of(of), "", detail);
    }
    for field in [n::PER_POD, n::PER_CONTAINER] {
        rules::sign(e, of, field, 0, "must be non-negative");
    }
}

/// Every device that consumes counters has the attribute, as a text. In the domain of the driver it may go by its bare name.
pub(super) fn partition_type(e: &mut Errors<'_>, spec: ResourceSliceSpec<'_>) {
    let Some(name) = spec.partition_type_attribute() else {
        return;
    };
    let consumers = spec.devices().iter();
    let mut consumers = consumers
        .filter(|device| !device.consumes_counters().is_empty())
        .peekable();
    if consumers.peek().is_none() {
        let detail = "may only be set on a slice which declares devices that consume counters";
        return e.invalid(
            Spot::of(spec).field(n::PARTITION_TYPE_ATTRIBUTE),
            name,
            detail,
        );
    }
    if !is_fully_qualified(name) {
        return; // which is said by a declarative rule; no device can have it
    }
    let of_driver = name.strip_prefix(spec.driver());
    let bare = of_driver.and_then(|rest| rest.strip_prefix('/'));
    for device in consumers {
        let at = Spot::of(device).field(n::ATTRIBUTES).key(name);
        let attributes = device.attributes();
        let bare = || bare.filter(|bare| !bare.is_empty());
        match attributes
            .get(name)
            .or_else(|| attributes.get(bare()?))
        {
            None => e.required(
                at,
                "device consumes counters and `partitionTypeAttribute` names this attribute, so it must be set",
            ),
            Some(attribute) if Node::new(attribute).get(n::STRING).is_none() => e.invalid(
                at,
                Internal(Some(attribute), DEVICE_ATTRIBUTE),
                "must be a string value because `partitionTypeAttribute` names this attribute",
            ),
            Some(_) => {}
        }
    }
}

fn is_fully_qualified(name: &str) -> bool {
    const NOWHERE: &Value = &Value::Null;
    !rules::breaks(|e| names::fully_qualified(e, Spot::node(NOWHERE), name))
}
