//! Objects from one version of their kind to another.
//!
//! Most kinds have one shape in all their versions; what is here are the others, between each served
//! version and the one that is stored. Upstream goes through internal types on the way, and what that
//! does to an object shows: those round trips are part of the functions.
//!
//! Invariant, held by a test: every pair of a served and a stored version of the catalogue has equal
//! shapes, or an entry in [`PAIRS`], or is refused by name.

mod autoscaling;
mod crd;

use crate::catalogue::{MsgId, messages, names as n};
use crate::name::NameId;
use crate::value::{Map, Value};

/// Versions between which there is no way.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
#[error("{from} cannot be converted to {to}")]
pub struct Error {
    pub from: &'static str,
    pub to: &'static str,
}

/// From, to, and what it does to the object.
type Pair = (MsgId, MsgId, fn(&mut Map));

const PAIRS: &[Pair] = &[
    (
        messages::events_v1::EVENT,
        messages::core_v1::EVENT,
        event_to_core,
    ),
    (
        messages::core_v1::EVENT,
        messages::events_v1::EVENT,
        event_from_core,
    ),
    (
        messages::autoscaling_v1::HORIZONTAL_POD_AUTOSCALER,
        messages::autoscaling_v2::HORIZONTAL_POD_AUTOSCALER,
        autoscaling::v1_to_v2,
    ),
    (
        messages::autoscaling_v2::HORIZONTAL_POD_AUTOSCALER,
        messages::autoscaling_v1::HORIZONTAL_POD_AUTOSCALER,
        autoscaling::v2_to_v1,
    ),
    (
        messages::apiextensions_v1::CUSTOM_RESOURCE_DEFINITION,
        messages::apiextensions_v1beta1::CUSTOM_RESOURCE_DEFINITION,
        crd::v1_to_v1beta1,
    ),
    (
        messages::apiextensions_v1beta1::CUSTOM_RESOURCE_DEFINITION,
        messages::apiextensions_v1::CUSTOM_RESOURCE_DEFINITION,
        crd::v1beta1_to_v1,
    ),
    (
        messages::certificates_v1beta1::POD_CERTIFICATE_REQUEST,
        messages::certificates_v1::POD_CERTIFICATE_REQUEST,
        pod_certificate_request_from_v1beta1,
    ),
];

/// Kinds of `resource.k8s.io/v1beta1` (off by default) that are stored as v1 in another shape.
const REFUSED: &[MsgId] = &[
    messages::resource_v1beta1::RESOURCE_CLAIM,
    messages::resource_v1beta1::RESOURCE_CLAIM_TEMPLATE,
    messages::resource_v1beta1::RESOURCE_SLICE,
];

/// Converts an object. Its `kind` and `apiVersion`, if they are in the tree, stay as they are: the
/// caller knows what it will call the result.
///
/// # Errors
/// If the two are not versions of one kind, or there is no conversion between them.
pub fn convert(mut object: Value, from: MsgId, to: MsgId) -> Result<Value, Error> {
    if from == to {
        return Ok(object);
    }
    if let Some((_, _, change)) = PAIRS.iter().find(|(f, t, _)| (*f, *t) == (from, to)) {
        change(object.make_map());
        return Ok(object);
    }
    let kind = |m: MsgId| m.name().rsplit('.').next().unwrap_or_default();
    if kind(from) != kind(to) || REFUSED.contains(&from) || REFUSED.contains(&to) {
        return Err(Error {
            from: from.name(),
            to: to.name(),
        });
    }
    Ok(object)
}

/// Writes the `stringData` of a Secret over its `data`, as upstream does on the way to its internal
/// type, and takes it away.
pub fn merge_string_data(secret: &mut Value) {
    let Some(secret) = secret.as_map_mut() else {
        return;
    };
    let Some(Value::Map(texts)) = secret.remove(n::STRING_DATA) else {
        return;
    };
    if texts.is_empty() {
        return;
    }
    let bytes = |v: Value| Value::Bytes(v.as_str().unwrap_or_default().as_bytes().into());
    secret
        .entry(n::DATA)
        .make_map()
        .extend(texts.into_iter().map(|(name, v)| (name, bytes(v))));
}

/// The names that events have in `events.k8s.io` and in the core group.
const EVENT_NAMES: &[(NameId, NameId)] = &[
    (n::REGARDING, n::INVOLVED_OBJECT),
    (n::NOTE, n::MESSAGE),
    (n::REPORTING_CONTROLLER, n::REPORTING_COMPONENT),
    (n::DEPRECATED_SOURCE, n::SOURCE),
    (n::DEPRECATED_FIRST_TIMESTAMP, n::FIRST_TIMESTAMP),
    (n::DEPRECATED_LAST_TIMESTAMP, n::LAST_TIMESTAMP),
    (n::DEPRECATED_COUNT, n::COUNT),
];

fn event_to_core(event: &mut Map) {
    for (events, core) in EVENT_NAMES {
        rename(event, *events, *core);
    }
}

fn event_from_core(event: &mut Map) {
    for (events, core) in EVENT_NAMES {
        rename(event, *core, *events);
    }
}

fn pod_certificate_request_from_v1beta1(request: &mut Map) {
    if let Some(spec) = request.get_mut(n::SPEC).and_then(Value::as_map_mut) {
        spec.remove(n::PKIX_PUBLIC_KEY);
        spec.remove(n::PROOF_OF_POSSESSION);
    }
}

fn rename(map: &mut Map, from: NameId, to: NameId) {
    if let Some(value) = map.remove(from) {
        map.insert(to, value);
    }
}

#[cfg(test)]
mod tests;
