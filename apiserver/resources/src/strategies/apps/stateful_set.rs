//! Stateful sets.

use proto::catalogue::messages::{apps_v1, core_v1, meta_v1};
use proto::catalogue::{gate, names as n};
use proto::meta::names;
use proto::path::{Errors, Named, Spot};
use proto::selector::LabelSelector;
use proto::view::apps_v1::{StatefulSet, StatefulSetSpec};
use proto::view::core_v1::PodTemplateSpec;
use proto::view::{Node, View};
use proto::{NameId, Value, meta};

use super::{
    TEMPLATE, WORKLOAD, amount, at_most, at_most_all, collisions_grow, counters, images, lasting,
    matches_template, number, percent, strict_selector,
};
use crate::equal;
use crate::gated::{self, Gated};
use crate::metadata;
use crate::rules;
use crate::shown::Internal;
use crate::strategies::pod_spec::{self, Options};
use crate::strategies::volumes;
use crate::strategy::{Part, Strategy};
use crate::table::age;
use crate::warnings::{Warnings, changed};

/// How many pods may be gone at once.
const UNAVAILABLE: Gated = (
    gate::MAX_UNAVAILABLE_STATEFUL_SET,
    &[
        n::SPEC,
        n::UPDATE_STRATEGY,
        n::ROLLING_UPDATE,
        n::MAX_UNAVAILABLE,
    ],
);

pub static STATEFUL_SET: Strategy = Strategy {
    warnings: |_, object, old| warnings(object, old),
    name: names::label_name,
    default: |gates, object| {
        pod_spec::default_template(gates, object, &TEMPLATE);
        let update = object.ensure(&[n::SPEC, n::UPDATE_STRATEGY]).make_map();
        let kind = update.get(n::TYPE).and_then(Value::as_str).unwrap_or("");
        let rolls = kind == "RollingUpdate" && update.contains(n::ROLLING_UPDATE);
        // Only who does not name the way of updates gets an object that says more of it.
        if kind.is_empty() || rolls {
            update.insert(n::TYPE, "RollingUpdate");
            let rolling = update.entry(n::ROLLING_UPDATE).make_map();
            for (field, value) in [(n::PARTITION, 0), (n::MAX_UNAVAILABLE, 1)] {
                let there = field == n::PARTITION || gates.has(gate::MAX_UNAVAILABLE_STATEFUL_SET);
                if there && !rolling.contains(field) {
                    rolling.insert(field, value);
                }
            }
        }
        let retention = object
            .ensure(&[n::SPEC, n::PERSISTENT_VOLUME_CLAIM_RETENTION_POLICY])
            .make_map();
        for field in [n::WHEN_DELETED, n::WHEN_SCALED] {
            if !retention.contains(field) {
                retention.insert(field, "Retain");
            }
        }
        name_claims(object);
    },
    prepare_create: |cx, new| {
        super::prepare_create(cx, new);
        gated::drop_unused(cx.gates, new, None, &[UNAVAILABLE]);
    },
    prepare_update: |cx, new, old| {
        super::prepare_update(cx, new, old);
        gated::drop_unused(cx.gates, new, Some(old), &[UNAVAILABLE]);
    },
    complete: Some(name_claims),
    validate: |cx, object, e| {
        let options = Options::of_template(cx, None);
        let lenient = Lenient {
            recreates: cx.gates.has(gate::STATEFUL_SET_RECREATE_STRATEGY),
            ..Lenient::default()
        };
        validate(object, e, &options, lenient);
    },
    validate_update: |cx, new, old, e| {
        let spec = |object| StatefulSet::of(Node::new(object)).spec();
        let options = Options::of_template(cx, Some(spec(old).template()));
        let mut lenient = Lenient {
            update: true,
            recreates: cx.gates.has(gate::STATEFUL_SET_RECREATE_STRATEGY)
                || spec(old).update_strategy().r#type() == RECREATE,
            ..Lenient::default()
        };
        // What was wrong with the template may stay so.
        let mut found = Errors::new(old);
        validate(old, &mut found, &options, lenient);
        lenient.template = !found.is_empty();
        validate(new, e, &options, lenient);
        for field in [
            n::SELECTOR,
            n::VOLUME_CLAIM_TEMPLATES,
            n::SERVICE_NAME,
            n::POD_MANAGEMENT_POLICY,
        ] {
            immutable(e, spec(new), spec(old), field);
        }
    },
    status: Some(Part {
        validate_update: |_, new, old, e| status(new, old, e),
        ..Part::STATUS_AND_METADATA
    }),
    cells: Some(|object, now| {
        let view = StatefulSet::of(Node::new(object));
        let (names, images) = images(view.spec().template());
        vec![
            meta::name(object).into(),
            format!(
                "{}/{}",
                view.status().ready_replicas(),
                number(object.at(&[n::SPEC, n::REPLICAS]))
            )
            .into(),
            age(meta::creation_timestamp(object), now).into(),
            names.into(),
            images.into(),
        ]
    }),
    ..WORKLOAD
};

/// All pods at once, by a gate.
const RECREATE: &str = "Recreate";

/// What a set may be that others may not: what an update need not mend, and what a gate allows.
#[derive(Clone, Copy, Default)]
struct Lenient {
    /// [`RECREATE`].
    recreates: bool,
    /// What an update cannot change anyway.
    update: bool,
    template: bool,
}

/// Claims in a template say what they are, as objects of their own do.
fn name_claims(object: &mut Value) {
    let claims = object.at_mut(&[n::SPEC, n::VOLUME_CLAIM_TEMPLATES]);
    let claims = claims.and_then(Value::as_list_mut);
    for claim in claims.into_iter().flatten() {
        for (field, value) in [(n::API_VERSION, "v1"), (n::KIND, "PersistentVolumeClaim")] {
            claim.set(&[field], value);
        }
    }
}

fn validate(object: &Value, e: &mut Errors<'_>, options: &Options<'_>, lenient: Lenient) {
    let spec = StatefulSet::of(Node::new(object)).spec();
    let at = Spot::of(spec);
    match spec.pod_management_policy() {
        "" => e.required(at.field(n::POD_MANAGEMENT_POLICY), ""),
        "OrderedReady" | "Parallel" => {}
        other => {
            let text = "must be 'OrderedReady' or 'Parallel'";
            e.invalid(at.field(n::POD_MANAGEMENT_POLICY), Named(other), text);
        }
    }
    update_strategy(e, spec, lenient.recreates);
    if let Some(policy) = spec.persistent_volume_claim_retention_policy() {
        for field in [n::WHEN_DELETED, n::WHEN_SCALED] {
            let value = policy.node().str(field);
            let at = Spot::of(policy).field(field);
            rules::known(e, at, value, &["Retain", "Delete"]);
        }
    }
    if !lenient.update {
        for claim in spec.volume_claim_templates() {
            volumes::claim_template_spec(e, claim.spec());
        }
    }
    rules::not_negative(e, spec, n::REPLICAS);
    rules::not_negative(e, spec, n::MIN_READY_SECONDS);
    if let Some(start) = spec.ordinals().map(|ordinals| ordinals.start())
        && start < 0
    {
        let at = at.field(n::ORDINALS).field(n::START);
        e.invalid(at, start, rules::NOT_NEGATIVE);
    }
    let service = spec.service_name();
    if !lenient.update && !service.is_empty() {
        let problems = names::dns_label_problems(service);
        e.invalid_each(at.field(n::SERVICE_NAME), service, problems);
    }
    strict_selector(e, spec.node(), "empty selector is invalid for statefulset");
    let selector = spec.node().get(n::SELECTOR);
    match selector.map(LabelSelector::from_object) {
        Some(Err(_)) => {
            let shown = Internal(selector, meta_v1::LABEL_SELECTOR);
            e.invalid(at.field(n::SELECTOR), shown, "");
        }
        selects => {
            let selects = selects.and_then(Result::ok);
            if !selects.as_ref().is_some_and(LabelSelector::is_everything) {
                matches_template(e, selects.as_ref(), spec.template());
            }
            template(e, object, options, lenient);
        }
    }
    lasting(e, spec.template(), "StatefulSet");
}

fn update_strategy(e: &mut Errors<'_>, spec: StatefulSetSpec<'_>, recreates: bool) {
    let strategy = spec.update_strategy();
    let at = Spot::of(strategy);
    let alone = |kind| kind == "OnDelete" || kind == RECREATE && recreates;
    match (strategy.r#type(), strategy.rolling_update()) {
        ("", _) => e.required(at, ""),
        (kind, None) if kind == "RollingUpdate" || alone(kind) => {}
        (kind, Some(rolling)) if alone(kind) => {
            let text = "only allowed for updateStrategy 'RollingUpdate'";
            e.invalid(Spot::of(rolling), Internal::of(rolling), text);
        }
        ("RollingUpdate", Some(rolling)) => {
            rules::not_negative(e, rolling, n::PARTITION);
            if rolling.max_unavailable().is_some() {
                percent(e, rolling, n::MAX_UNAVAILABLE);
                if amount(rolling.max_unavailable()) == 0 {
                    let at = Spot::of(rolling).field(n::MAX_UNAVAILABLE);
                    let shown = rules::json(rolling.node().get(n::MAX_UNAVAILABLE));
                    e.invalid(at, shown, "cannot be 0");
                }
                at_most_all(e, rolling, n::MAX_UNAVAILABLE);
            }
        }
        _ => {
            let text = if recreates {
                "must be 'RollingUpdate', 'OnDelete', or 'Recreate'"
            } else {
                "must be 'RollingUpdate' or 'OnDelete'"
            };
            e.invalid(at, Internal::of(strategy), text);
        }
    }
}

/// The template as the controller will have it: pods get the name of the set and their number, and
/// volumes of the claims.
fn template(e: &mut Errors<'_>, object: &Value, options: &Options<'_>, lenient: Lenient) {
    let spec = StatefulSet::of(Node::new(object)).spec();
    let pod = spec.template().spec();
    let claims = spec.volume_claim_templates();
    let as_it_is = pod.subdomain().is_empty() && pod.hostname().is_empty() && claims.is_empty();
    if as_it_is {
        return template_of(e, spec.template(), options, lenient);
    }
    let mut made = object.clone();
    if let Some(pod) = made.at_mut(&[n::SPEC, n::TEMPLATE, n::SPEC]) {
        pod.remove(&[n::SUBDOMAIN]);
        pod.remove(&[n::HOSTNAME]);
        if !claims.is_empty() {
            pod.set(&[n::VOLUMES], volumes_of(spec));
        }
    }
    let spec = StatefulSet::of(Node::new(&made)).spec();
    let mut found = Errors::new(&made);
    template_of(&mut found, spec.template(), options, lenient);
    for error in found.into_vec() {
        e.push(error);
    }
}

fn template_of(
    e: &mut Errors<'_>,
    template: PodTemplateSpec<'_>,
    options: &Options<'_>,
    lenient: Lenient,
) {
    if !lenient.template {
        pod_spec::template(e, template, options);
    }
    // As upstream, which looks at these twice.
    pod_spec::template_metadata(e, template, options);
}

/// The volumes of the claims, each once, and those of the template that have another name.
fn volumes_of(spec: StatefulSetSpec<'_>) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    let named = |all: &[Value], name: &str| {
        let mut names = all.iter().map(|v| v.get(n::NAME).and_then(Value::as_str));
        names.any(|other| other.unwrap_or_default() == name)
    };
    for claim in spec.volume_claim_templates() {
        let name = meta::name(claim.node().value());
        if !named(&all, name) {
            let mut volume = Value::object();
            volume.set(&[n::NAME], name);
            volume.set(&[n::PERSISTENT_VOLUME_CLAIM, n::CLAIM_NAME], name);
            all.push(volume);
        }
    }
    let of_claims = all.clone();
    for volume in spec.template().spec().volumes() {
        if !named(&of_claims, volume.name()) {
            all.push(volume.node().value().clone());
        }
    }
    all
}

fn immutable(
    e: &mut Errors<'_>,
    new: StatefulSetSpec<'_>,
    old: StatefulSetSpec<'_>,
    field: NameId,
) {
    let (now, was) = (new.node().value(), old.node().value());
    let of = apps_v1::STATEFUL_SET_SPEC.field(field);
    if of.is_none_or(|of| equal::alike_in(now, was, of)) {
        return;
    }
    let (at, now) = (Spot::of(new).field(field), new.node().get(field));
    match field {
        n::VOLUME_CLAIM_TEMPLATES => {
            let shown = Internal(now, core_v1::PERSISTENT_VOLUME_CLAIM);
            e.invalid(at, shown, rules::IMMUTABLE);
        }
        n::SELECTOR => {
            let shown = Internal(now, meta_v1::LABEL_SELECTOR);
            e.invalid(at, shown, rules::IMMUTABLE);
        }
        n::POD_MANAGEMENT_POLICY => {
            let shown = Named(new.pod_management_policy());
            e.invalid(at, shown, rules::IMMUTABLE);
        }
        _ => e.invalid(at, new.node().str(field), rules::IMMUTABLE),
    }
}

fn status(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let status = StatefulSet::of(Node::new(new)).status();
    let of_replicas = [
        n::READY_REPLICAS,
        n::CURRENT_REPLICAS,
        n::UPDATED_REPLICAS,
        n::AVAILABLE_REPLICAS,
    ];
    counters(e, status, &[n::REPLICAS]);
    counters(e, status, &of_replicas);
    counters(e, status, &[n::OBSERVED_GENERATION, n::COLLISION_COUNT]);
    let text = "cannot be greater than status.replicas";
    at_most(e, status, &of_replicas, n::REPLICAS, text);
    let text = "cannot be greater than status.readyReplicas";
    at_most(e, status, &[n::AVAILABLE_REPLICAS], n::READY_REPLICAS, text);
    metadata::finalizers(new, e);
    collisions_grow(e, new, old);
}

fn warnings(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut w = Warnings::new(object);
    let spec = StatefulSet::of(Node::new(object)).spec();
    if changed(object, old) {
        pod_spec::warnings::template(&mut w, spec.template());
    }
    // The paths are upstream's, which leave a step out or misspell it.
    let below = if old.is_some() { ".Spec" } else { "" };
    for claim in spec.volume_claim_templates() {
        let path = w.path(Spot::of(claim));
        pod_spec::warnings::claim_spec(&mut w, claim.spec(), &format!("{path}{below}"));
    }
    if spec.revision_history_limit().is_some_and(|limit| limit < 0) {
        w.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended");
    }
    w.into_vec()
}
