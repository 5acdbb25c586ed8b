//! Devices: `resource.k8s.io/v1beta1` has what is asked for exactly beside the name of a request, and what a device is in a
//! part of its own.
//!
//! Upstream's `kubernetes/pkg/apis/resource/v1beta1/conversion.go`. The second beta has the shape of v1.

use super::each;
use crate::catalogue::names as n;
use crate::name::NameId;
use crate::value::{Map, Value};

/// What of a request asks for one kind of device.
const EXACTLY: &[NameId] = &[
    n::DEVICE_CLASS_NAME,
    n::SELECTORS,
    n::ALLOCATION_MODE,
    n::COUNT,
    n::ADMIN_ACCESS,
    n::TOLERATIONS,
    n::CAPACITY,
    n::DERIVED_ATTRIBUTES,
];

/// What a device is, besides its name.
const BASIC: &[NameId] = &[
    n::ATTRIBUTES,
    n::CAPACITY,
    n::CONSUMES_COUNTERS,
    n::NODE_NAME,
    n::NODE_SELECTOR,
    n::ALL_NODES,
    n::TAINTS,
    n::BINDS_TO_NODE,
    n::BINDING_CONDITIONS,
    n::BINDING_FAILURE_CONDITIONS,
    n::ALLOW_MULTIPLE_ALLOCATIONS,
    n::NODE_ALLOCATABLE_RESOURCES,
];

/// Fields that upstream copies element by element: of none there is nothing left.
const COPIED: &[NameId] = &[
    n::TOLERATIONS,
    n::ATTRIBUTES,
    n::CAPACITY,
    n::CONSUMES_COUNTERS,
    n::TAINTS,
];

pub(super) fn claim_from_v1beta1(claim: &mut Map) {
    requests(claim.get_mut(n::SPEC), request_from_v1beta1);
}

pub(super) fn claim_to_v1beta1(claim: &mut Map) {
    requests(claim.get_mut(n::SPEC), request_to_v1beta1);
}

pub(super) fn template_from_v1beta1(template: &mut Map) {
    let spec = template
        .get_mut(n::SPEC)
        .and_then(|spec| spec.get_mut(n::SPEC));
    requests(spec, request_from_v1beta1);
}

pub(super) fn template_to_v1beta1(template: &mut Map) {
    let spec = template
        .get_mut(n::SPEC)
        .and_then(|spec| spec.get_mut(n::SPEC));
    requests(spec, request_to_v1beta1);
}

fn requests(spec: Option<&mut Value>, change: fn(&mut Map)) {
    let devices = spec.and_then(|spec| spec.get_mut(n::DEVICES));
    each(
        devices.and_then(|devices| devices.get_mut(n::REQUESTS)),
        change,
    );
}

fn request_from_v1beta1(request: &mut Map) {
    let mut exactly = Map::new();
    // An empty list asks as well; it is only not kept where upstream copies it.
    let asks = take(request, EXACTLY, &mut exactly);
    if asks {
        request.insert(n::EXACTLY, exactly);
    }
}

fn request_to_v1beta1(request: &mut Map) {
    if let Some(Value::Map(mut exactly)) = request.remove(n::EXACTLY) {
        take(&mut exactly, EXACTLY, request);
    }
}

pub(super) fn slice_from_v1beta1(slice: &mut Map) {
    let spec = slice.get_mut(n::SPEC).and_then(Value::as_map_mut);
    let devices = spec.and_then(|spec| spec.get_mut(n::DEVICES));
    each(devices, |device| {
        if let Some(Value::Map(mut basic)) = device.remove(n::BASIC) {
            take(&mut basic, BASIC, device);
        }
    });
}

pub(super) fn slice_to_v1beta1(slice: &mut Map) {
    let Some(spec) = slice.get_mut(n::SPEC).and_then(Value::as_map_mut) else {
        return;
    };
    // Pointers there and no pointers here.
    if spec.get(n::NODE_NAME).and_then(Value::as_str) == Some("") {
        spec.remove(n::NODE_NAME);
    }
    if spec.get(n::ALL_NODES).and_then(Value::as_bool) == Some(false) {
        spec.remove(n::ALL_NODES);
    }
    each(spec.get_mut(n::DEVICES), |device| {
        let mut basic = Map::new();
        take(device, BASIC, &mut basic);
        device.insert(n::BASIC, basic);
    });
}

/// Moves fields; whether there were any.
fn take(from: &mut Map, fields: &[NameId], to: &mut Map) -> bool {
    let mut found = false;
    for field in fields {
        let Some(value) = from.remove(*field).filter(|value| !value.is_null()) else {
            continue;
        };
        found = true;
        let empty = match &value {
            Value::List(items) => items.is_empty(),
            // What a request asks of a device's capacity is a message behind a pointer, not a map.
            Value::Map(map) => map.is_empty() && fields == BASIC,
            _ => false,
        };
        if !empty || !COPIED.contains(field) {
            to.insert(*field, value);
        }
    }
    found
}
