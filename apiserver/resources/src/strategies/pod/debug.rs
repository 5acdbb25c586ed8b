//! `ephemeralcontainers`: containers that are added to a running pod to look into it.
//!
//! Upstream: `podEphemeralContainersStrategy`, `ValidatePodEphemeralContainersUpdate`.

use proto::catalogue::{messages, names as n};
use proto::meta::names;
use proto::path::{Errors, FieldError, Spot, quote};
use proto::view::View;
use proto::view::core_v1::PodSpec;
use proto::{Value, meta};

use super::{count_generation, validation, view};
use crate::equal;
use crate::shown;
use crate::strategies::pod_spec::{self, Options, dropped};
use crate::strategy::{Cx, keep_status, reset_metadata};

/// Everything but one list of containers stays.
pub(super) fn prepare(cx: &Cx<'_>, new: &mut Value, old: &Value) {
    let list = new.at(&[n::SPEC, n::EPHEMERAL_CONTAINERS]).cloned();
    if let Some(spec) = old.get(n::SPEC) {
        new.set(&[n::SPEC], spec.clone());
    }
    match list {
        Some(list) => new.set(&[n::SPEC, n::EPHEMERAL_CONTAINERS], list),
        None => drop(new.remove(&[n::SPEC, n::EPHEMERAL_CONTAINERS])),
    }
    keep_status(new, old);
    reset_metadata(new, old);
    dropped::from_spec(cx.gates, new, Some(old));
    count_generation(new, old);
}

/// Containers that were added stay as they are.
pub(super) fn validate(cx: &Cx<'_>, new: &Value, old: &Value, e: &mut Errors<'_>) {
    if validation::mirrors(old) {
        // Nothing else is said, and the path is upstream's.
        let detail = "static pods do not support ephemeral containers";
        e.push(FieldError::forbidden("[]", detail));
        return;
    }
    meta::validate_object_meta(new, true, names::subdomain_name, e);
    let options = Options::of_pod(cx, new, Some(old));
    validation::specified(new, &options, e);
    pod_spec::updated_annotations(e, new, old, &options);
    let (now, was) = (view(new).spec(), view(old).spec());
    let of = messages::core_v1::EPHEMERAL_CONTAINER;
    let alike = |a: &Value, b: &Value| equal::alike(Some(a), Some(b), of);
    let at = Spot::of(now).field(PodSpec::EPHEMERAL_CONTAINERS);
    for before in was.ephemeral_containers() {
        let name = before.node().str(n::NAME);
        let mut same_name = now
            .ephemeral_containers()
            .iter()
            .filter(|c| c.node().str(n::NAME) == name);
        match same_name.next_back() {
            None => {
                let quoted = quote(name);
                let detail = format!("existing ephemeral containers {quoted} may not be removed\n");
                e.forbidden(at, detail);
            }
            Some(after) if !alike(after.node().value(), before.node().value()) => {
                let diff = shown::difference(
                    before.node().value(),
                    after.node().value(),
                    messages::core_v1::EPHEMERAL_CONTAINER,
                );
                let quoted = quote(name);
                e.forbidden(
                    at,
                    format!("existing ephemeral containers {quoted} may not be changed\n{diff}"),
                );
            }
            Some(_) => {}
        }
    }
}
