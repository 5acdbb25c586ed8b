//! What claims, templates of claims and classes must be: `ValidateResourceClaim`,
//! `ValidateResourceClaimTemplate*`, `ValidateDeviceClass*` in `pkg/apis/resource/validation`.
//!
//! Whether the namespace allows administration comes as an objection.

use std::collections::{HashMap, HashSet};

use proto::Value;
use proto::catalogue::{Gates, gate, names as n};
use proto::meta::names as text;
use proto::path::{Errors, Named, Spot};
use proto::view::resource_v1::{
    DeviceClaim, DeviceClass, DeviceClassSpec, DeviceConstraint, DeviceRequest, DeviceSelector,
    DeviceToleration, OpaqueDeviceConfiguration, ResourceClaim, ResourceClaimSpec,
    ResourceClaimTemplate, ResourceClaimTemplateSpec,
};
use proto::view::{List, Node, View};

use super::expressions::Expressions;
use super::names;
use crate::equal::{alike, alike_in};
use crate::resource_names;
use crate::rules;
use crate::shown::Internal;
use crate::strategies::pod_spec::volumes;

const MOST: usize = 32;
const MOST_ALTERNATIVES: usize = 8;
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

pub(super) fn claim(gates: Gates, object: &Value, e: &mut Errors<'_>) {
    spec(gates, ResourceClaim::of(Node::new(object)).spec(), e);
}

pub(super) fn template(gates: Gates, object: &Value, e: &mut Errors<'_>) {
    let template = ResourceClaimTemplate::of(Node::new(object)).spec();
    volumes::template_metadata(e, template.node());
    spec(gates, template.spec(), e);
}

pub(super) fn template_update(gates: Gates, new: &Value, old: &Value, e: &mut Errors<'_>) {
    template(gates, new, e);
    let spec = |object| ResourceClaimTemplate::of(Node::new(object)).spec();
    let (spec, was) = (spec(new), spec(old));
    if !alike(
        Some(spec.node().value()),
        Some(was.node().value()),
        ResourceClaimTemplateSpec::MESSAGE,
    ) {
        e.invalid(Spot::of(spec), Internal::of(spec), rules::IMMUTABLE);
    }
}

/// Selectors and configurations that an update leaves as they are were valid when they were stored.
pub(super) fn class(gates: Gates, object: &Value, old: Option<&Value>, e: &mut Errors<'_>) {
    let spec = |object| DeviceClass::of(Node::new(object)).spec();
    let (spec, old) = (spec(object), old.map(spec));
    let stored = |name| {
        let (now, field) = (spec.node(), DeviceClassSpec::MESSAGE.field(name));
        matches!((field, old), (Some(field), Some(old)) if alike_in(now.value(), old.node().value(), field))
    };
    let expressions = (!stored(n::SELECTORS)).then(|| Expressions::of_class(gates));
    selectors(e, spec.node(), expressions.as_ref());
    let (at, config) = (Spot::of(spec).field(n::CONFIG), spec.config());
    if config.len() > MOST {
        e.covered(|e| e.too_many(at, config.len(), MOST));
    } else {
        let stored = stored(n::CONFIG);
        config
            .iter()
            .for_each(|of| configuration(e, of.node(), stored));
    }
    if let Some(name) = spec.extended_resource_name()
        && !resource_names::is_extended(name)
    {
        let at = Spot::of(spec).field(n::EXTENDED_RESOURCE_NAME);
        e.covered(|e| e.invalid(at, name, "must be a valid extended resource name"));
    }
}

fn spec(gates: Gates, spec: ResourceClaimSpec<'_>, e: &mut Errors<'_>) {
    let claim = spec.devices();
    let mut expressions = Expressions::of_claim(gates, claim);
    let (at, requests) = (Spot::of(claim).field(n::REQUESTS), claim.requests());
    let known = Requests::of(claim);
    if requests.len() > MOST {
        e.covered(|e| e.too_many(at, requests.len(), MOST));
    } else {
        for of in requests {
            request(e, of, &mut expressions);
        }
        repeated(e, requests, |of| of.name());
    }
    let (at, constraints) = (Spot::of(claim).field(n::CONSTRAINTS), claim.constraints());
    if constraints.len() > MOST {
        e.covered(|e| e.too_many(at, constraints.len(), MOST));
    } else {
        let distinct = gates.has(gate::DRA_CONSUMABLE_CAPACITY);
        constraints
            .iter()
            .for_each(|of| constraint(e, of, &known, distinct));
    }
    let (at, config) = (Spot::of(claim).field(n::CONFIG), claim.config());
    if config.len() > MOST {
        e.covered(|e| e.too_many(at, config.len(), MOST));
    } else {
        for of in config {
            references(e, of.node(), &known);
            configuration(e, of.node(), false);
        }
    }
    expressions.finish(e, Spot::of(claim));
}

/// Elements with the key of an earlier one, which declarative validation finds, too.
pub(super) fn repeated<'a, V: View<'a>>(
    e: &mut Errors<'_>,
    list: List<'a, V>,
    key: impl Fn(V) -> &'a str,
) {
    let mut seen = HashSet::new();
    for of in list {
        let key = key(of);
        if !seen.insert(key) {
            e.covered(|e| e.duplicate(Spot::of(of), key));
        }
    }
}

/// Names of requests, with those of their alternatives.
pub(super) struct Requests<'a>(HashMap<&'a str, HashSet<&'a str>>);

impl<'a> Requests<'a> {
    pub(super) fn of(claim: DeviceClaim<'a>) -> Self {
        let alternatives = |request: DeviceRequest<'a>| {
            request
                .first_available()
                .iter()
                .map(|sub| sub.name())
                .collect()
        };
        let requests = claim.requests().iter();
        Self(requests.map(|of| (of.name(), alternatives(of))).collect())
    }

    fn has(&self, name: &str) -> bool {
        match name.split_once('/') {
            None => self.0.contains_key(name),
            Some((request, alternative)) => {
                let alternatives = self.0.get(request);
                alternatives.is_some_and(|known| known.contains(alternative))
            }
        }
    }
}

fn request<'a>(e: &mut Errors<'_>, request: DeviceRequest<'a>, expressions: &mut Expressions<'a>) {
    const ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
    let at = Spot::of(request);
    names::label(e, at.field(n::NAME), request.name());
    let alternatives = request.first_available();
    match (request.exactly(), alternatives.is_empty()) {
        (None, true) => e.required(at, ONE),
        (Some(_), false) => {
            let detail = format!("{ONE}, but multiple fields are set");
            e.invalid(at, &Value::Null, detail);
        }
        (Some(exactly), true) => {
            device_class(e, exactly.node());
            one(e, exactly.node(), request.name(), expressions);
        }
        (None, false) if alternatives.len() > MOST_ALTERNATIVES => {
            let at = at.field(n::FIRST_AVAILABLE);
            e.covered(|e| e.too_many(at, alternatives.len(), MOST_ALTERNATIVES));
        }
        (None, false) => {
            for of in alternatives {
                names::label(e, Spot::of(of).field(n::NAME), of.name());
                e.covered(|e| device_class(e, of.node()));
                let name = format!("{}/{}", request.name(), of.name());
                one(e, of.node(), &name, expressions);
            }
            repeated(e, alternatives, |of| of.name());
        }
    }
}

fn device_class(e: &mut Errors<'_>, request: Node<'_>) {
    let at = Spot::node(request.value()).field(n::DEVICE_CLASS_NAME);
    match request.str(n::DEVICE_CLASS_NAME) {
        "" => e.required(at, ""),
        name => e.invalid_each(at, name, text::dns_subdomain_problems(name)),
    }
}

/// What both forms of a request share, beside the class. `name` is what constraints call it.
fn one<'a>(e: &mut Errors<'_>, request: Node<'a>, name: &str, expressions: &mut Expressions<'a>) {
    selectors(e, request, Some(expressions));
    expressions.derived(e, request, name);
    let at = Spot::node(request.value());
    let (mode, count) = (request.str(n::ALLOCATION_MODE), request.int(n::COUNT));
    match mode {
        "All" => {
            if count != 0 {
                let detail = format!("must not be specified when allocationMode is '{mode}'");
                e.invalid(at.field(n::COUNT), count, detail);
            }
        }
        "ExactCount" => {
            if count <= 0 {
                e.invalid(at.field(n::COUNT), count, "must be greater than zero");
            }
        }
        _ => {
            let at = at.field(n::ALLOCATION_MODE);
            e.covered(|e| e.not_supported(at, Named(mode), &["All", "ExactCount"]));
        }
    }
    for of in request.list::<DeviceToleration<'_>>(n::TOLERATIONS) {
        toleration(e, of);
    }
}

/// Without `expressions` they are those that are stored.
fn selectors(e: &mut Errors<'_>, holder: Node<'_>, expressions: Option<&Expressions<'_>>) {
    let selectors = holder.list::<DeviceSelector<'_>>(n::SELECTORS);
    if selectors.len() > MOST {
        let at = Spot::node(holder.value()).field(n::SELECTORS);
        return e.covered(|e| e.too_many(at, selectors.len(), MOST));
    }
    for selector in selectors {
        match (selector.cel(), expressions) {
            (None, _) => e.required(Spot::of(selector).field(n::CEL), ""),
            (Some(cel), Some(expressions)) => expressions.selector(e, cel),
            (Some(_), None) => {}
        }
    }
}

pub(super) fn toleration(e: &mut Errors<'_>, toleration: DeviceToleration<'_>) {
    let at = Spot::of(toleration);
    let (key, value) = (toleration.key(), toleration.value());
    if !key.is_empty() {
        e.covered(|e| rules::each(e, toleration, n::KEY, text::label_key_problems(key)));
    }
    match toleration.operator() {
        "Exists" => {
            if !value.is_empty() {
                let detail = "must be empty for operator `Exists`";
                e.invalid(at.field(n::VALUE), value, detail);
            }
        }
        "Equal" => names::label_value(e, at.field(n::VALUE), value),
        other => e.covered(|e| {
            rules::choice(e, at.field(n::OPERATOR), other, &["Equal", "Exists"]);
        }),
    }
    let effect = toleration.effect();
    if !effect.is_empty() {
        e.covered(|e| rules::known(e, at.field(n::EFFECT), effect, &EFFECTS));
    }
}

/// Two versions have the type.
pub(super) fn taint(e: &mut Errors<'_>, taint: Node<'_>, old: Option<Node<'_>>) {
    let at = Spot::node(taint.value());
    let (key, effect) = (taint.str(n::KEY), taint.str(n::EFFECT));
    e.invalid_each(at.field(n::KEY), key, text::label_key_problems(key));
    let value = taint.str(n::VALUE);
    if !value.is_empty() {
        names::label_value(e, at.field(n::VALUE), value);
    }
    if old.is_none_or(|old| old.str(n::EFFECT) != effect) {
        e.covered(|e| rules::choice(e, at.field(n::EFFECT), effect, &EFFECTS));
    }
}

fn constraint(
    e: &mut Errors<'_>,
    constraint: DeviceConstraint<'_>,
    known: &Requests<'_>,
    distinct: bool,
) {
    references(e, constraint.node(), known);
    let at = Spot::of(constraint);
    let fields = [n::MATCH_ATTRIBUTE, n::DISTINCT_ATTRIBUTE];
    let given = |field| constraint.node().opt_str(field).map(|name| (field, name));
    match fields.into_iter().find_map(given) {
        Some((field, name)) => {
            e.covered(|e| names::fully_qualified(e, at.field(field), name));
        }
        None if !distinct => e.required(at.field(n::MATCH_ATTRIBUTE), ""),
        None => {
            let detail = r#"exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set"#;
            e.required(at, detail);
        }
    }
}

/// The requests that something is about.
pub(super) fn references(e: &mut Errors<'_>, holder: Node<'_>, known: &Requests<'_>) {
    let items = holder.items(n::REQUESTS);
    if items.len() > MOST {
        let at = Spot::node(holder.value()).field(n::REQUESTS);
        return e.covered(|e| e.too_many(at, items.len(), MOST));
    }
    for item in items {
        reference(
            e,
            Spot::node(item),
            item.as_str().unwrap_or_default(),
            known,
        );
    }
    for (i, item) in items.iter().enumerate() {
        if items[..i].contains(item) {
            let name = item.as_str().unwrap_or_default();
            e.covered(|e| e.duplicate(Spot::node(item), name));
        }
    }
}

pub(super) fn reference(e: &mut Errors<'_>, at: Spot<'_>, name: &str, known: &Requests<'_>) {
    const RULE: &str = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() > 2 {
        return e.invalid(at, name, RULE);
    }
    for part in parts {
        names::label(e, at, part);
    }
    if !known.has(name) {
        e.invalid(at, name, RULE);
    }
}

/// What a driver is told.
pub(super) fn configuration(e: &mut Errors<'_>, holder: Node<'_>, stored: bool) {
    let opaque = holder.opt_message::<OpaqueDeviceConfiguration<'_>>(n::OPAQUE);
    let Some(opaque) = opaque else {
        return e.required(Spot::node(holder.value()).field(n::OPAQUE), "");
    };
    let at = Spot::of(opaque);
    e.covered(|e| names::driver(e, at.field(n::DRIVER), opaque.driver()));
    let raw = opaque.node().opt_bytes(n::PARAMETERS).unwrap_or_default();
    names::object(e, at.field(n::PARAMETERS), raw, stored);
}
