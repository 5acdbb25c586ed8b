//! Workloads of before apps/v1: what was a field is an annotation.
//!
//! Upstream's `kubernetes/pkg/apis/apps/{v1,v1beta1}/conversion.go`; `extensions/v1beta1` goes the same way. Those versions
//! are stored and no longer served, so there is no way back.

use crate::catalogue::names as n;
use crate::name::NameId;
use crate::value::{Map, Value};

/// The revision that a Deployment is to go back to.
pub const ROLLBACK: &str = "deprecated.deployment.rollback.to";
/// Counts the changes of a DaemonSet's template.
pub const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(super) fn deployment(deployment: &mut Map) {
    let rollback = of_spec(deployment, n::ROLLBACK_TO);
    // A pointer to a number: none of it is 0.
    let revision = rollback.map(|to| to.get(n::REVISION).and_then(Value::as_int).unwrap_or(0));
    let annotations = annotations(deployment);
    match revision {
        Some(revision) => drop(annotations.insert(ROLLBACK, revision.to_string())),
        None => drop(annotations.remove(ROLLBACK)),
    }
    settle(deployment);
}

pub(super) fn daemon_set(set: &mut Map) {
    let generation = of_spec(set, n::TEMPLATE_GENERATION);
    let generation = generation.and_then(|g| g.as_int()).unwrap_or(0);
    annotations(set).insert(TEMPLATE_GENERATION, generation.to_string());
}

fn of_spec(object: &mut Map, field: NameId) -> Option<Value> {
    let spec = object.get_mut(n::SPEC).and_then(Value::as_map_mut)?;
    spec.remove(field).filter(|value| !value.is_null())
}

fn annotations(object: &mut Map) -> &mut Map {
    let metadata = object.entry(n::METADATA).make_map();
    metadata.entry(n::ANNOTATIONS).make_map()
}

/// No annotations are none.
fn settle(object: &mut Map) {
    if annotations(object).is_empty() {
        object.entry(n::METADATA).make_map().remove(n::ANNOTATIONS);
    }
}
