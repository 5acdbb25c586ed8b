//! `pods/binding`: the scheduler's decision, written into the pod.
//!
//! Upstream: `pkg/registry/core/pod/storage/storage.go`, `assignPod`.

use http::Response;
use hyper::body::Incoming;
use proto::Value;
use proto::catalogue::{Gates, gate, names as n};
use proto::path::{FieldError, Reason, quote};
use proto::{Map, meta};
use resources::negotiate::{self, Offers};
use resources::object::{self, Type};
use resources::options::{FieldValidation, WriteOptions};
use resources::status::Failure;
use resources::strategy::Part;

use super::{manager, read_body, write};
use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::dispatch;
use crate::registry::Endpoint;
use crate::registry::generic::Update;
use crate::render;

/// The part of a pod that a binding may change.
const PART: Part = Part {
    prepare_update: |_, _, _| {},
    validate_update: |_, _, _, _| {},
    ..Part::STATUS
};

/// POST to a pod's `binding`, or to the `bindings` of a namespace, which name their pod themselves.
pub async fn serve(
    x: &mut Exchange,
    pods: &Endpoint,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    let media = negotiate::output(&x.headers, &x.query, Offers::Plain)?;
    let encoding = negotiate::input(&x.headers)?;
    let body = read_body(&x.headers, incoming).await?;
    let options = WriteOptions::read(&x.query, "CreateOptions")?;
    let message = proto::catalogue::messages::core_v1::BINDING;
    let expected = Type {
        group: "",
        version: "v1",
        kind: "Binding",
        message,
    };
    let decoded = object::decode(&body, encoding, &expected, options.field_validation)?;
    if options.field_validation == FieldValidation::Warn {
        x.warnings.extend(decoded.problems);
    }
    let mut binding = decoded.object;
    x.record_object(&binding, &expected);
    resources::before::match_namespace(&mut binding, &x.info.namespace)?;
    let name = match x.info.subresource.as_str() {
        "" => meta::name(&binding).to_owned(),
        _ => x.info.name.clone(),
    };
    check(&name, &binding)?;
    let manager = manager(x, &options.field_manager);
    let mut asking = write(x, pods, &manager);
    match x.info.subresource.as_str() {
        "" => asking.resource = dispatch::bindings().unwrap_or(asking.resource),
        _ => asking.subresource = "binding",
    }
    let admitted = asking.admit_body(&name, &mut binding, &options).await;
    let mut warnings = asking.into_warnings();
    x.warnings.append(&mut warnings);
    admitted?;
    let change = |pod: Option<&Value>| match pod {
        Some(pod) => bind(pods.gates, pod, &binding),
        None => Err(Failure::not_found("", "pods", &name)),
    };
    let how = Update {
        part: Some(PART),
        // A binding is not recorded: nobody applies one.
        recorded: true,
        admitted: true,
        ..Update::default()
    };
    let outcome = write(x, pods, &manager)
        .update(&name, &options, how, change)
        .await;
    outcome?;
    let mut status = Value::object();
    status.set(&[n::METADATA], Value::object());
    status.set(&[n::STATUS], "Success");
    status.set(&[n::CODE], 201);
    x.record_status(&status);
    let message = proto::catalogue::messages::meta_v1::STATUS;
    let bytes = render::encode(&status, message, "Status", "v1", media);
    Ok(body::answer(201, media.content_type(), body::full(bytes)))
}

/// The binding itself: it names this pod and a node. What is wrong with it has no code of its own upstream, so that it is
/// answered with 500.
fn check(name: &str, binding: &Value) -> Result<(), Failure> {
    if name != meta::name(binding) {
        return Err(Failure::bad_request(
            "name in URL does not match name in Binding object",
        ));
    }
    let kind = binding
        .at(&[n::TARGET, n::KIND])
        .and_then(Value::as_str)
        .unwrap_or_default();
    let is_node = matches!(kind, "" | "Node");
    let mut errors = Vec::new();
    if !is_node {
        errors.push(FieldError::new(
            Reason::NotSupported,
            "target.kind",
            quote(kind),
            "supported values: \"Node\", \"<empty>\"",
        ));
    }
    let node = target(binding);
    if node.is_empty() {
        errors.push(FieldError::required("target.name", ""));
    } else if is_node {
        let problems = meta::names::subdomain_name(node, false).into_iter();
        let invalid = |why| FieldError::new(Reason::Invalid, "target.name", quote(node), why);
        errors.extend(problems.map(invalid));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Failure::new(500, "", proto::path::aggregate(&errors)))
}

fn target(binding: &Value) -> &str {
    binding
        .at(&[n::TARGET, n::NAME])
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The bound pod.
fn bind(features: Gates, pod: &Value, binding: &Value) -> Result<Value, Failure> {
    let name = meta::name(pod);
    let conflict = |why: &str| Err(Failure::conflict("", "pods/binding", name, why));
    for (asked, have, what) in [
        (meta::uid(binding), meta::uid(pod), "UID"),
        (
            meta::resource_version(binding),
            meta::resource_version(pod),
            "ResourceVersion",
        ),
    ] {
        if !asked.is_empty() && asked != have {
            let why = format!(
                "Precondition failed: {what} in precondition: {asked}, {what} in object meta: {have}"
            );
            return conflict(&why);
        }
    }
    if meta::is_deleting(pod) {
        return conflict(&format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ));
    }
    let bound = pod
        .at(&[n::SPEC, n::NODE_NAME])
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !bound.is_empty() {
        return conflict(&format!(
            "pod {name} is already assigned to node {}",
            quote(bound)
        ));
    }
    let gates = pod
        .at(&[n::SPEC, n::SCHEDULING_GATES])
        .and_then(Value::as_list)
        .unwrap_or_default();
    if !gates.is_empty() {
        return conflict(&format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut new = pod.clone();
    new.set(&[n::SPEC, n::NODE_NAME], target(binding));
    if features.has(gate::CLEARING_NOMINATED_NODE_NAME_AFTER_BINDING) {
        // The nomination has come true; left there, it would mislead whoever counts on room.
        new.remove(&["status", "nominatedNodeName"]);
    }
    merge(&mut new, binding, n::ANNOTATIONS);
    merge(&mut new, binding, n::LABELS);
    scheduled(&mut new);
    Ok(new)
}

/// Annotations and labels of the binding go onto the pod.
fn merge(pod: &mut Value, binding: &Value, field: proto::NameId) {
    let Some(given) = binding.at(&[n::METADATA, field]).and_then(Value::as_map) else {
        return;
    };
    if given.is_empty() {
        return;
    }
    let there: &mut Map = pod.ensure(&[n::METADATA, field]).make_map();
    for (key, value) in given.iter() {
        there.insert(key, value.clone());
    }
}

/// Sets the condition `PodScheduled`.
fn scheduled(pod: &mut Value) {
    let now = resources::clock::Clock::now().text;
    let condition = meta::Condition {
        kind: "PodScheduled",
        status: "True",
        ..meta::Condition::default()
    };
    meta::set_condition(pod.ensure(&[n::STATUS, n::CONDITIONS]), condition, &now);
}
