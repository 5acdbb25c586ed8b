//! What a class of ingresses must be: `ValidateIngressClass*` in `pkg/apis/networking/validation`.

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::view::networking_v1::{IngressClass, IngressClassParametersReference};
use proto::view::{Node, View};
use proto::{Value, meta};

use crate::rules;

const LONGEST_CONTROLLER: usize = 250;

pub(super) fn update(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let (now, was) = (
        IngressClass::of(Node::new(new)).spec(),
        IngressClass::of(Node::new(old)).spec(),
    );
    if now.controller() != was.controller() {
        let at = Spot::of(now).field(n::CONTROLLER);
        e.invalid(at, now.controller(), rules::IMMUTABLE);
    }
    meta::validate_object_meta(new, false, names::subdomain_name, e);
    class(new, e);
}

pub(super) fn class(object: &Value, e: &mut Errors<'_>) {
    let spec = IngressClass::of(Node::new(object)).spec();
    let at = Spot::of(spec).field(n::CONTROLLER);
    if spec.controller().len() > LONGEST_CONTROLLER {
        e.too_long(at, LONGEST_CONTROLLER);
    }
    rules::domain_prefixed_path(e, at, spec.controller());
    if let Some(of) = spec.parameters() {
        parameters(e, of);
    }
}

/// `validateIngressClassParametersReference`.
fn parameters(e: &mut Errors<'_>, parameters: IngressClassParametersReference<'_>) {
    const SCOPES: [&str; 2] = ["Cluster", "Namespace"];
    let at = Spot::of(parameters);
    if let Some(group) = parameters.api_group() {
        let problems = names::dns_subdomain_problems(group);
        rules::each(e, parameters, n::API_GROUP, problems);
    }
    for field in [n::KIND, n::NAME] {
        e.covered(|e| {
            rules::required(e, parameters, field);
        });
        let problems = names::path_segment_problems(parameters.node().str(field));
        rules::each(e, parameters, field, problems);
    }
    match (parameters.scope(), parameters.namespace()) {
        (None, _) => e.required(at.field(n::SCOPE), ""),
        (Some("Namespace"), None) => {
            let detail = "`parameters.scope` is set to 'Namespace'";
            e.required(at.field(n::NAMESPACE), detail);
        }
        (Some("Namespace"), Some(namespace)) => {
            let problems = names::label_name(namespace, false);
            rules::each(e, parameters, n::NAMESPACE, problems);
        }
        (Some("Cluster"), Some(_)) => {
            let detail = "`parameters.scope` is set to 'Cluster'";
            e.forbidden(at.field(n::NAMESPACE), detail);
        }
        (Some("Cluster"), None) => {}
        (Some(other), _) => e.not_supported(at.field(n::SCOPE), other, &SCOPES),
    }
}
