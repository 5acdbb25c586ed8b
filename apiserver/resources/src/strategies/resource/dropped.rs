//! Fields behind gates that are off: who had one before may keep it.
//!
//! Upstream: `dropDisabledFields` of each strategy in `pkg/registry/resource`,
//! `pkg/api/resourceclaimspec`.

use proto::catalogue::{GateId, Gates, gate, names as n};
use proto::view::Node;
use proto::view::View;
use proto::view::resource_v1::ResourceClaim;
use proto::{NameId, Value};

use super::status;
use crate::gated::uses;

/// Says whether an object has what hides behind gates; drops it if it is told to.
type Rule = fn(&mut Value, bool) -> bool;

/// What is there only while all of some gates are on.
type Gated = (&'static [GateId], Rule);

/// `dropDisabledFields` of `pkg/api/resourceclaimspec`, of a claim's specification.
const CLAIM: &[Gated] = &[
    (&[gate::DRA_PRIORITIZED_LIST], |spec, drops| {
        any(requests(spec), |request| {
            take(request, &[n::FIRST_AVAILABLE], drops)
        })
    }),
    (&[gate::DRA_DEVICE_TAINTS], |spec, drops| {
        of_requests(spec, &[n::TOLERATIONS], drops)
    }),
    (&[gate::DRA_ADMIN_ACCESS], admin_access),
    (&[gate::DRA_CONSUMABLE_CAPACITY], consumable_capacity),
    (&[gate::DRA_DERIVED_ATTRIBUTES], |spec, drops| {
        of_requests(spec, &[n::DERIVED_ATTRIBUTES], drops)
    }),
];

/// `dropDisabledStatusFields`, of a whole claim: what its specification uses its status may use too.
const CLAIM_STATUS: &[Gated] = &[
    (&[gate::DRA_RESOURCE_CLAIM_DEVICE_STATUS], |claim, drops| {
        let status = claim.get_mut(n::STATUS);
        status.is_some_and(|status| take(status, &[n::DEVICES], drops))
    }),
    (&[gate::DRA_ADMIN_ACCESS], |claim, drops| {
        let spec = claim.get_mut(n::SPEC);
        let asked = spec.is_some_and(|spec| admin_access(spec, drops));
        asked | of_results(claim, &[n::ADMIN_ACCESS], drops)
    }),
    (&[gate::DRA_CONSUMABLE_CAPACITY], |claim, drops| {
        let spec = claim.get_mut(n::SPEC);
        let asked = spec.is_some_and(|spec| consumable_capacity(spec, drops));
        let given = of_results(claim, &[n::SHARE_ID, n::CONSUMED_CAPACITY], drops);
        let devices = below(claim, &[n::STATUS, n::DEVICES]);
        asked | given | any(devices, |device| take(device, &[n::SHARE_ID], drops))
    }),
    (&[gate::DRA_DEVICE_BINDING_CONDITIONS], |claim, drops| {
        let fields = [n::BINDING_CONDITIONS, n::BINDING_FAILURE_CONDITIONS];
        of_results(claim, &fields, drops)
    }),
    (&[gate::DRA_OPTIONAL_NODE_OPERATIONS], |claim, drops| {
        of_results(claim, &[n::SKIP_NODE_OPERATIONS], drops)
    }),
];

/// Attributes of which a device has several values: `DRAListTypeAttributes`.
const LISTS: [NameId; 4] = [n::BOOLS, n::INTS, n::STRINGS, n::VERSIONS];

/// `dropDisabledFields` of `pkg/registry/resource/resourceslice`, of a slice's specification.
const SLICE: &[Gated] = &[
    (&[gate::DRA_DEVICE_TAINTS], |spec, drops| {
        of_devices(spec, &[n::TAINTS], drops)
    }),
    (&[gate::DRA_PARTITIONABLE_DEVICES], |spec, drops| {
        let own = [n::SHARED_COUNTERS, n::PER_DEVICE_NODE_SELECTION];
        let of_each = [
            n::CONSUMES_COUNTERS,
            n::NODE_NAME,
            n::NODE_SELECTOR,
            n::ALL_NODES,
        ];
        take(spec, &own, drops) | of_devices(spec, &of_each, drops)
    }),
    (
        &[
            gate::DRA_DEVICE_BINDING_CONDITIONS,
            gate::DRA_RESOURCE_CLAIM_DEVICE_STATUS,
        ],
        |spec, drops| {
            let fields = [
                n::BINDING_CONDITIONS,
                n::BINDING_FAILURE_CONDITIONS,
                n::BINDS_TO_NODE,
            ];
            of_devices(spec, &fields, drops)
        },
    ),
    (&[gate::DRA_CONSUMABLE_CAPACITY], |spec, drops| {
        any(below(spec, &[n::DEVICES]), |device| {
            let shared = take(device, &[n::ALLOW_MULTIPLE_ALLOCATIONS], drops);
            shared | of_values(device, n::CAPACITY, &[n::REQUEST_POLICY], drops)
        })
    }),
    (&[gate::DRA_DEVICE_COMPATIBILITY_GROUPS], |spec, drops| {
        any(below(spec, &[n::DEVICES]), |device| {
            any(below(device, &[n::CONSUMES_COUNTERS]), |set| {
                take(set, &[n::COMPATIBILITY_GROUPS], drops)
            })
        })
    }),
    (&[gate::DRA_NODE_ALLOCATABLE_RESOURCES], |spec, drops| {
        of_devices(spec, &[n::NODE_ALLOCATABLE_RESOURCES], drops)
    }),
    (&[gate::DRA_LIST_TYPE_ATTRIBUTES], |spec, drops| {
        any(below(spec, &[n::DEVICES]), |device| {
            of_values(device, n::ATTRIBUTES, &LISTS, drops)
        })
    }),
    (&[gate::DRA_PARTITIONABLE_DEVICES_TYPE], |spec, drops| {
        take(spec, &[n::PARTITION_TYPE_ATTRIBUTE], drops)
    }),
    (&[gate::DRA_OPTIONAL_NODE_OPERATIONS], |spec, drops| {
        take(spec, &[n::SKIP_NODE_OPERATIONS], drops)
    }),
];

fn admin_access(spec: &mut Value, drops: bool) -> bool {
    any(requests(spec), |request| {
        let exactly = request.get_mut(n::EXACTLY);
        exactly.is_some_and(|exactly| take(exactly, &[n::ADMIN_ACCESS], drops))
    })
}

fn consumable_capacity(spec: &mut Value, drops: bool) -> bool {
    let constraints = below(spec, &[n::DEVICES, n::CONSTRAINTS]);
    let distinct = any(constraints, |constraint| {
        take(constraint, &[n::DISTINCT_ATTRIBUTE], drops)
    });
    distinct | of_requests(spec, &[n::CAPACITY], drops)
}

/// The items of a list.
fn below<'v>(of: &'v mut Value, way: &[NameId]) -> impl Iterator<Item = &'v mut Value> + use<'v> {
    let list = of.at_mut(way).and_then(Value::as_list_mut);
    list.into_iter().flatten()
}

fn requests(spec: &mut Value) -> impl Iterator<Item = &mut Value> {
    below(spec, &[n::DEVICES, n::REQUESTS])
}

/// Whether one of them has it, after all were looked at.
fn any<'v>(
    all: impl Iterator<Item = &'v mut Value>,
    mut has: impl FnMut(&'v mut Value) -> bool,
) -> bool {
    all.fold(false, |found, one| found | has(one))
}

/// Fields of what a claim asks for, be it exactly that or one of several.
fn of_requests(spec: &mut Value, fields: &[NameId], drops: bool) -> bool {
    any(requests(spec), |request| {
        let exactly = request.get_mut(n::EXACTLY);
        let found = exactly.is_some_and(|exactly| take(exactly, fields, drops));
        let alternatives = below(request, &[n::FIRST_AVAILABLE]);
        found | any(alternatives, |one| take(one, fields, drops))
    })
}

fn of_results(claim: &mut Value, fields: &[NameId], drops: bool) -> bool {
    let results = [n::STATUS, n::ALLOCATION, n::DEVICES, n::RESULTS];
    any(below(claim, &results), |result| take(result, fields, drops))
}

fn of_devices(spec: &mut Value, fields: &[NameId], drops: bool) -> bool {
    any(below(spec, &[n::DEVICES]), |device| {
        take(device, fields, drops)
    })
}

/// Fields of the values of a map.
fn of_values(owner: &mut Value, map: NameId, fields: &[NameId], drops: bool) -> bool {
    let map = owner.get_mut(map).and_then(Value::as_map_mut);
    let values = map.into_iter().flat_map(|map| map.iter_mut());
    any(values.map(|(_, value)| value), |value| {
        take(value, fields, drops)
    })
}

/// Whether one of the fields is there; an empty list is nothing.
fn take(owner: &mut Value, fields: &[NameId], drops: bool) -> bool {
    let mut found = false;
    for field in fields {
        found |= uses(owner, &[*field]);
        if drops {
            owner.remove(&[*field]);
        }
    }
    found
}

/// Drops what is behind gates that are off, unless the old object uses it.
fn drop_unused(gates: Gates, gated: &[Gated], new: &mut Value, old: Option<&Value>) {
    let is_off = |needed: &[GateId]| !needed.iter().all(|gate| gates.has(*gate));
    for (_, rule) in gated.iter().filter(|(needed, _)| is_off(needed)) {
        if !old.is_some_and(|old| rule(&mut old.clone(), false)) {
            rule(new, true);
        }
    }
}

pub(super) fn of_claim_spec(gates: Gates, spec: Option<&mut Value>, old: Option<&Value>) {
    if let Some(spec) = spec {
        drop_unused(gates, CLAIM, spec, old);
    }
}

/// And what is reported of devices that the claim no longer has.
pub(super) fn of_claim_status(gates: Gates, new: &mut Value, old: &Value) {
    drop_unused(gates, CLAIM_STATUS, new, Some(old));
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

pub(super) fn of_slice(gates: Gates, new: &mut Value, old: Option<&Value>) {
    if let Some(spec) = new.get_mut(n::SPEC) {
        drop_unused(gates, SLICE, spec, old.and_then(|old| old.get(n::SPEC)));
    }
}
