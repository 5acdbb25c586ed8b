//! Objects from one version of their kind to another.
//!
//! Most kinds have one shape in all their versions; what is here are the others: between each served version and the one
//! that is stored, and from each version that upstream's scheme still decodes to the one that is stored. Upstream goes
//! through internal types on the way, and what that does to an object shows: those round trips are part of the functions.
//!
//! Invariant, held by tests: every such pair of the catalogue has equal shapes, or an entry in [`PAIRS`].

pub mod apps;
mod autoscaling;
mod crd;
mod networking;
mod old;
mod resource;

pub use autoscaling::drop_annotations as drop_autoscaler_annotations;

use crate::catalogue::{MsgId, messages as m, names as n};
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
    (m::events_v1::EVENT, m::core_v1::EVENT, event_to_core),
    (m::events_v1beta1::EVENT, m::core_v1::EVENT, event_to_core),
    (m::core_v1::EVENT, m::events_v1::EVENT, event_from_core),
    (
        m::autoscaling_v1::HORIZONTAL_POD_AUTOSCALER,
        m::autoscaling_v2::HORIZONTAL_POD_AUTOSCALER,
        autoscaling::v1_to_v2,
    ),
    (
        m::autoscaling_v2::HORIZONTAL_POD_AUTOSCALER,
        m::autoscaling_v1::HORIZONTAL_POD_AUTOSCALER,
        autoscaling::v2_to_v1,
    ),
    (
        m::apiextensions_v1::CUSTOM_RESOURCE_DEFINITION,
        m::apiextensions_v1beta1::CUSTOM_RESOURCE_DEFINITION,
        crd::v1_to_v1beta1,
    ),
    (
        m::apiextensions_v1beta1::CUSTOM_RESOURCE_DEFINITION,
        m::apiextensions_v1::CUSTOM_RESOURCE_DEFINITION,
        crd::v1beta1_to_v1,
    ),
    (
        m::certificates_v1beta1::POD_CERTIFICATE_REQUEST,
        m::certificates_v1::POD_CERTIFICATE_REQUEST,
        pod_certificate_request_from_v1beta1,
    ),
    (
        m::certificates_v1beta1::CERTIFICATE_SIGNING_REQUEST,
        m::certificates_v1::CERTIFICATE_SIGNING_REQUEST,
        old::signing_request,
    ),
    (
        m::resource_v1beta1::RESOURCE_CLAIM,
        m::resource_v1::RESOURCE_CLAIM,
        resource::claim_from_v1beta1,
    ),
    (
        m::resource_v1::RESOURCE_CLAIM,
        m::resource_v1beta1::RESOURCE_CLAIM,
        resource::claim_to_v1beta1,
    ),
    (
        m::resource_v1beta1::RESOURCE_CLAIM_TEMPLATE,
        m::resource_v1::RESOURCE_CLAIM_TEMPLATE,
        resource::template_from_v1beta1,
    ),
    (
        m::resource_v1::RESOURCE_CLAIM_TEMPLATE,
        m::resource_v1beta1::RESOURCE_CLAIM_TEMPLATE,
        resource::template_to_v1beta1,
    ),
    (
        m::resource_v1beta1::RESOURCE_SLICE,
        m::resource_v1::RESOURCE_SLICE,
        resource::slice_from_v1beta1,
    ),
    (
        m::resource_v1::RESOURCE_SLICE,
        m::resource_v1beta1::RESOURCE_SLICE,
        resource::slice_to_v1beta1,
    ),
    (
        m::apps_v1beta1::DEPLOYMENT,
        m::apps_v1::DEPLOYMENT,
        apps::deployment,
    ),
    (
        m::extensions_v1beta1::DEPLOYMENT,
        m::apps_v1::DEPLOYMENT,
        apps::deployment,
    ),
    (
        m::extensions_v1beta1::DAEMON_SET,
        m::apps_v1::DAEMON_SET,
        apps::daemon_set,
    ),
    (
        m::networking_v1beta1::INGRESS,
        m::networking_v1::INGRESS,
        networking::ingress,
    ),
    (
        m::extensions_v1beta1::INGRESS,
        m::networking_v1::INGRESS,
        networking::ingress,
    ),
    (
        m::discovery_v1beta1::ENDPOINT_SLICE,
        m::discovery_v1::ENDPOINT_SLICE,
        networking::endpoint_slice,
    ),
    (
        m::node_v1alpha1::RUNTIME_CLASS,
        m::node_v1::RUNTIME_CLASS,
        old::runtime_class,
    ),
    (
        m::policy_v1beta1::POD_DISRUPTION_BUDGET,
        m::policy_v1::POD_DISRUPTION_BUDGET,
        old::disruption_budget,
    ),
    (
        m::rbac_v1alpha1::ROLE_BINDING,
        m::rbac_v1::ROLE_BINDING,
        old::binding,
    ),
    (
        m::rbac_v1alpha1::CLUSTER_ROLE_BINDING,
        m::rbac_v1::CLUSTER_ROLE_BINDING,
        old::binding,
    ),
    (
        m::flowcontrol_v1beta1::PRIORITY_LEVEL_CONFIGURATION,
        m::flowcontrol_v1::PRIORITY_LEVEL_CONFIGURATION,
        old::assured_shares,
    ),
    (
        m::flowcontrol_v1beta2::PRIORITY_LEVEL_CONFIGURATION,
        m::flowcontrol_v1::PRIORITY_LEVEL_CONFIGURATION,
        old::assured_shares,
    ),
    (
        m::flowcontrol_v1beta3::PRIORITY_LEVEL_CONFIGURATION,
        m::flowcontrol_v1::PRIORITY_LEVEL_CONFIGURATION,
        old::nominal_shares,
    ),
];

/// Converts an object. Its `kind` and `apiVersion`, if they are in the tree, stay as they are: the
/// caller knows what it will call the result.
///
/// # Errors
/// If the two are not versions of one kind.
pub fn convert(mut object: Value, from: MsgId, to: MsgId) -> Result<Value, Error> {
    if from == to {
        return Ok(object);
    }
    if let Some((_, _, change)) = PAIRS.iter().find(|(f, t, _)| (*f, *t) == (from, to)) {
        change(object.make_map());
        return Ok(object);
    }
    let kind = |m: MsgId| m.name().rsplit('.').next().unwrap_or_default();
    if kind(from) != kind(to) {
        return Err(Error {
            from: from.name(),
            to: to.name(),
        });
    }
    Ok(object)
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

/// Changes every map of a list.
fn each(list: Option<&mut Value>, change: impl FnMut(&mut Map)) {
    let items = list.and_then(Value::as_list_mut).into_iter().flatten();
    items.filter_map(Value::as_map_mut).for_each(change);
}

#[cfg(test)]
mod tests;
