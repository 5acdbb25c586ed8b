//! `SelfSubjectRulesReview`: what may whoever asks do in a namespace.

use proto::Value;
use proto::catalogue::names as n;
use resources::status::Failure;

use super::with_status;
use crate::authz::rbac::Rule;
use crate::chain::Exchange;

pub(super) fn own(x: &Exchange, object: Value) -> Result<Value, Failure> {
    let namespace = object
        .at(&[n::SPEC, n::NAMESPACE])
        .and_then(Value::as_str)
        .unwrap_or_default();
    if namespace.is_empty() {
        return Err(Failure::bad_request("no namespace on request"));
    }
    let found = x.server.authorizers.rules_for(&x.user, namespace);
    let mut status = Value::object();
    let resources = found.rules.iter().filter(|r| !r.resources.is_empty());
    let resources = resources.map(|r| {
        Rule {
            paths: Vec::new(),
            ..r.clone()
        }
        .to_value()
    });
    status.set(&[n::RESOURCE_RULES], Value::List(resources.collect()));
    let paths = found.rules.iter().filter(|r| !r.paths.is_empty());
    let paths = paths.map(|r| {
        Rule {
            verbs: r.verbs.clone(),
            paths: r.paths.clone(),
            ..Rule::default()
        }
        .to_value()
    });
    status.set(&[n::NON_RESOURCE_RULES], Value::List(paths.collect()));
    status.set(&[n::INCOMPLETE], found.incomplete);
    if !found.errors.is_empty() {
        status.set(
            &[n::EVALUATION_ERROR],
            proto::path::aggregate(&found.errors),
        );
    }
    // What was asked does not come back; upstream's answer is a new object.
    let mut answer = Value::object();
    answer.set(&[n::METADATA], Value::object());
    answer.set(&[n::SPEC], Value::object());
    Ok(with_status(answer, status))
}
