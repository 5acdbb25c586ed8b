//! Replica sets.

use proto::catalogue::names as n;
use proto::path::Errors;
use proto::view::apps_v1::ReplicaSet;
use proto::view::{Node, View};
use proto::{Value, meta};

use super::{
    TERMINATING, WORKLOAD, at_most, counters, images, immutable_selector, number,
    selector_and_template, selector_text,
};
use crate::gated;
use crate::rules;
use crate::strategies::pod_spec::{self, Options};
use crate::strategy::{Part, Strategy};
use crate::table::age;

pub static REPLICA_SET: Strategy = Strategy {
    validate: |cx, object, e| validate(object, e, &Options::of_template(cx, None)),
    validate_update: |cx, new, old, e| {
        let spec = |object| ReplicaSet::of(Node::new(object)).spec();
        let options = Options::of_template(cx, Some(spec(old).template()));
        validate(new, e, &options);
        immutable_selector(e, spec(new), spec(old));
    },
    warnings: |_, object, old| {
        let template = ReplicaSet::of(Node::new(object)).spec().template();
        pod_spec::warnings::workload(object, old, template)
    },
    status: Some(Part {
        prepare_update: |cx, new, old| {
            (Part::STATUS_AND_METADATA.prepare_update)(cx, new, old);
            gated::drop_unused(cx.gates, new, Some(old), &[TERMINATING]);
        },
        validate_update: |_, new, _, e| status(new, e),
        ..Part::STATUS_AND_METADATA
    }),
    cells: Some(|object, now| {
        let view = ReplicaSet::of(Node::new(object));
        let (names, images) = images(view.spec().template());
        vec![
            meta::name(object).into(),
            number(object.at(&[n::SPEC, n::REPLICAS])).into(),
            view.status().replicas().into(),
            view.status().ready_replicas().into(),
            age(meta::creation_timestamp(object), now).into(),
            names.into(),
            images.into(),
            selector_text(view.spec().node()).into(),
        ]
    }),
    ..WORKLOAD
};

fn validate(object: &Value, e: &mut Errors<'_>, options: &Options<'_>) {
    let spec = ReplicaSet::of(Node::new(object)).spec();
    rules::not_negative(e, spec, n::REPLICAS);
    rules::not_negative(e, spec, n::MIN_READY_SECONDS);
    selector_and_template(e, spec.node(), spec.template(), options);
}

fn status(object: &Value, e: &mut Errors<'_>) {
    let status = ReplicaSet::of(Node::new(object)).status();
    let of_replicas = [
        n::FULLY_LABELED_REPLICAS,
        n::READY_REPLICAS,
        n::AVAILABLE_REPLICAS,
    ];
    counters(e, status, &[n::REPLICAS]);
    counters(e, status, &of_replicas);
    counters(
        e,
        status,
        &[n::OBSERVED_GENERATION, n::TERMINATING_REPLICAS],
    );
    let text = "cannot be greater than status.replicas";
    at_most(e, status, &of_replicas, n::REPLICAS, text);
    let text = "cannot be greater than readyReplicas";
    at_most(e, status, &[n::AVAILABLE_REPLICAS], n::READY_REPLICAS, text);
}
