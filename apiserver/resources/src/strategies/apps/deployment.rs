//! Deployments.

use proto::catalogue::names as n;
use proto::convert::apps::ROLLBACK;
use proto::path::{Errors, FieldError, Spot};
use proto::view::apps_v1::{Deployment, DeploymentSpec};
use proto::view::{Node, View};
use proto::{Value, meta};

use super::{
    TEMPLATE, TERMINATING, WORKLOAD, amount, at_most, at_most_all, collisions_grow, counters,
    images, immutable_selector, number, percent, prepare_update, selector_and_template,
    selector_text,
};
use crate::gated;
use crate::rules;
use crate::shown::Internal;
use crate::strategies::pod_spec::{self, Options};
use crate::strategy::{Part, Strategy};
use crate::table::age;

pub static DEPLOYMENT: Strategy = Strategy {
    default: |gates, object| {
        pod_spec::default_template(gates, object, &TEMPLATE);
        settle_rollback(object);
        let strategy = object.ensure(&[n::SPEC, n::STRATEGY]).make_map();
        if strategy
            .get(n::TYPE)
            .and_then(Value::as_str)
            .is_none_or(|t| t == "RollingUpdate")
        {
            let rolling = strategy.entry(n::ROLLING_UPDATE).make_map();
            for field in [n::MAX_UNAVAILABLE, n::MAX_SURGE] {
                if !rolling.contains(field) {
                    rolling.insert(field, "25%");
                }
            }
        }
    },
    validate: |cx, object, e| validate(object, e, &Options::of_template(cx, None)),
    validate_update: |cx, new, old, e| {
        let spec = |object| Deployment::of(Node::new(object)).spec();
        let options = Options::of_template(cx, Some(spec(old).template()));
        validate(new, e, &options);
        immutable_selector(e, spec(new), spec(old));
    },
    prepare_update: |cx, new, old| {
        prepare_update(cx, new, old);
        // Its revision is an annotation: a controller that waits for it has to see that it was heard.
        if meta::annotations(new) != meta::annotations(old) {
            let generation = meta::generation(old).unwrap_or(0) + 1;
            meta::metadata_mut(new).insert(n::GENERATION, generation);
        }
    },
    warnings: |_, object, old| {
        let template = Deployment::of(Node::new(object)).spec().template();
        pod_spec::warnings::workload(object, old, template)
    },
    status: Some(Part {
        prepare_update: |cx, new, old| {
            (Part::STATUS.prepare_update)(cx, new, old);
            gated::drop_unused(cx.gates, new, Some(old), &[TERMINATING]);
        },
        validate_update: |_, new, old, e| status(new, old, e),
        ..Part::STATUS
    }),
    cells: Some(cells),
    ..WORKLOAD
};

/// Upstream makes a number of the revision, and the annotation of that: an empty one is none.
fn settle_rollback(object: &mut Value) {
    match meta::annotation(object, ROLLBACK) {
        None => {}
        Some("") => meta::remove_annotation(object, ROLLBACK),
        Some(text) => {
            if let Ok(revision) = text.parse::<i64>() {
                meta::set_annotation(object, ROLLBACK, &revision.to_string());
            }
        }
    }
}

fn validate(object: &Value, e: &mut Errors<'_>, options: &Options<'_>) {
    let spec = Deployment::of(Node::new(object)).spec();
    rules::not_negative(e, spec, n::REPLICAS);
    selector_and_template(e, spec.node(), spec.template(), options);
    strategy(e, spec);
    for field in [n::MIN_READY_SECONDS, n::REVISION_HISTORY_LIMIT] {
        rules::not_negative(e, spec, field);
    }
    let rollback = meta::annotation(object, ROLLBACK).and_then(|text| text.parse::<i64>().ok());
    if let Some(revision) = rollback.filter(|revision| *revision < 0) {
        let field = "spec.rollback.version";
        e.push(FieldError::invalid(field, revision, rules::NOT_NEGATIVE));
    }
    if let Some(deadline) = spec.progress_deadline_seconds() {
        rules::not_negative(e, spec, n::PROGRESS_DEADLINE_SECONDS);
        if deadline <= spec.min_ready_seconds() {
            let at = Spot::of(spec).field(n::PROGRESS_DEADLINE_SECONDS);
            e.invalid(at, deadline, "must be greater than minReadySeconds");
        }
    }
}

fn strategy(e: &mut Errors<'_>, spec: DeploymentSpec<'_>) {
    let strategy = spec.strategy();
    let at = Spot::of(strategy);
    match (strategy.r#type(), strategy.rolling_update()) {
        ("Recreate", Some(_)) => {
            let text = "may not be specified when strategy `type` is 'Recreate'";
            e.forbidden(at.field(n::ROLLING_UPDATE), text);
        }
        ("Recreate", None) => {}
        ("RollingUpdate", None) => {
            let text = "this should be defaulted and never be nil";
            e.required(at.field(n::ROLLING_UPDATE), text);
        }
        ("RollingUpdate", Some(rolling)) => {
            percent(e, rolling, n::MAX_UNAVAILABLE);
            percent(e, rolling, n::MAX_SURGE);
            if amount(rolling.max_unavailable()) == 0 && amount(rolling.max_surge()) == 0 {
                let at = Spot::of(rolling).field(n::MAX_UNAVAILABLE);
                let shown = rules::json(rolling.node().get(n::MAX_UNAVAILABLE));
                e.invalid(at, shown, "may not be 0 when `maxSurge` is 0");
            }
            at_most_all(e, rolling, n::MAX_UNAVAILABLE);
        }
        _ => e.not_supported(at, Internal::of(strategy), &["Recreate", "RollingUpdate"]),
    }
}

fn status(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let status = Deployment::of(Node::new(new)).status();
    let of_replicas = [
        n::UPDATED_REPLICAS,
        n::READY_REPLICAS,
        n::AVAILABLE_REPLICAS,
    ];
    counters(e, status, &[n::OBSERVED_GENERATION, n::REPLICAS]);
    counters(e, status, &of_replicas);
    counters(
        e,
        status,
        &[
            n::UNAVAILABLE_REPLICAS,
            n::TERMINATING_REPLICAS,
            n::COLLISION_COUNT,
        ],
    );
    let text = "cannot be greater than status.replicas";
    at_most(e, status, &of_replicas, n::REPLICAS, text);
    let text = "cannot be greater than readyReplicas";
    at_most(e, status, &[n::AVAILABLE_REPLICAS], n::READY_REPLICAS, text);
    collisions_grow(e, new, old);
}

fn cells(object: &Value, now: i64) -> Vec<Value> {
    let view = Deployment::of(Node::new(object));
    let (spec, status) = (view.spec(), view.status());
    let (names, images) = images(spec.template());
    vec![
        meta::name(object).into(),
        format!(
            "{}/{}",
            status.ready_replicas(),
            number(object.at(&[n::SPEC, n::REPLICAS]))
        )
        .into(),
        status.updated_replicas().into(),
        status.available_replicas().into(),
        age(meta::creation_timestamp(object), now).into(),
        names.into(),
        images.into(),
        selector_text(spec.node()).into(),
    ]
}
