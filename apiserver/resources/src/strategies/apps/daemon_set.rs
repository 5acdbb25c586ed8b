//! Daemon sets.

use proto::catalogue::{messages::core_v1, names as n};
use proto::convert::apps::TEMPLATE_GENERATION as GENERATION;
use proto::path::{Errors, Spot};
use proto::view::apps_v1::{DaemonSet, DaemonSetSpec};
use proto::view::{Node, View};
use proto::{Value, meta};

use super::{
    TEMPLATE, WORKLOAD, amount, at_most_all, collisions_grow, counters, images, immutable_selector,
    lasting, lenient_selector, not_empty, percent, prepare_create, prepare_update, selector_text,
};
use crate::equal;
use crate::rules;
use crate::shown::Internal;
use crate::strategies::pod_spec::{self, Options};
use crate::strategy::{Part, Strategy, keep_all_but_metadata_and_status};
use crate::table::{age, labels};
use crate::warnings::Warnings;

pub static DAEMON_SET: Strategy = Strategy {
    own_annotation: Some(GENERATION),
    default: |gates, object| {
        pod_spec::default_template(gates, object, &TEMPLATE);
        // Upstream makes a number of it, which is there in any case.
        if meta::annotation(object, GENERATION).is_none() {
            count(object, 0);
        }
        let update = object.ensure(&[n::SPEC, n::UPDATE_STRATEGY]).make_map();
        if update
            .get(n::TYPE)
            .and_then(Value::as_str)
            .is_none_or(|t| t == "RollingUpdate")
        {
            let rolling = update.entry(n::ROLLING_UPDATE).make_map();
            if !rolling.contains(n::MAX_UNAVAILABLE) {
                rolling.insert(n::MAX_UNAVAILABLE, 1);
            }
            if !rolling.contains(n::MAX_SURGE) {
                rolling.insert(n::MAX_SURGE, 0);
            }
        } else if let Some(rolling) = update.get_mut(n::ROLLING_UPDATE).filter(|r| !r.is_null()) {
            // Upstream stores numbers, not whether there were any.
            let rolling = rolling.make_map();
            for field in [n::MAX_UNAVAILABLE, n::MAX_SURGE] {
                if !rolling.contains(field) {
                    rolling.insert(field, 0);
                }
            }
        }
    },
    prepare_create: |cx, new| {
        prepare_create(cx, new);
        let asked = generation(new);
        count(new, asked.max(1));
    },
    prepare_update: |cx, new, old| {
        prepare_update(cx, new, old);
        let changed = !equal::alike_at(new, old, &TEMPLATE, core_v1::POD_TEMPLATE_SPEC);
        count(new, generation(old) + i64::from(changed));
    },
    validate: |cx, object, e| validate(object, e, &Options::of_template(cx, None)),
    validate_update: |cx, new, old, e| {
        let spec = |object| DaemonSet::of(Node::new(object)).spec();
        immutable_selector(e, spec(new), spec(old));
        let mut options = Options::of_template(cx, Some(spec(old).template()));
        options.kept.values_of_pods |= spec(old)
            .selector()
            .is_some_and(pod_spec::has_values_that_no_label_has);
        validate(new, e, &options);
    },
    warnings: |_, object, old| {
        let mut w = Warnings::new(object);
        let of = core_v1::POD_TEMPLATE_SPEC;
        if old.is_none_or(|old| !equal::alike_at(object, old, &TEMPLATE, of)) {
            let template = DaemonSet::of(Node::new(object)).spec().template();
            pod_spec::warnings::template(&mut w, template);
        }
        w.into_vec()
    },
    status: Some(Part {
        prepare_update: |_, new, old| {
            keep_all_but_metadata_and_status(new, old);
            count(new, generation(old));
        },
        validate_update: |_, new, old, e| status(new, old, e),
        ..Part::STATUS
    }),
    cells: Some(|object, now| {
        let view = DaemonSet::of(Node::new(object));
        let status = view.status();
        let (names, images) = images(view.spec().template());
        vec![
            meta::name(object).into(),
            status.desired_number_scheduled().into(),
            status.current_number_scheduled().into(),
            status.number_ready().into(),
            status.updated_number_scheduled().into(),
            status.number_available().into(),
            labels(view.spec().template().spec().node_selector()).into(),
            age(meta::creation_timestamp(object), now).into(),
            names.into(),
            images.into(),
            selector_text(view.spec().node()).into(),
        ]
    }),
    ..WORKLOAD
};

fn generation(object: &Value) -> i64 {
    let text = meta::annotation(object, GENERATION);
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn count(object: &mut Value, generation: i64) {
    let annotations = object.ensure(&[n::METADATA, n::ANNOTATIONS]).make_map();
    annotations.insert(GENERATION, generation.to_string());
}

fn validate(object: &Value, e: &mut Errors<'_>, options: &Options<'_>) {
    let spec = DaemonSet::of(Node::new(object)).spec();
    let template = spec.template();
    let selector = spec.node().get(n::SELECTOR);
    lenient_selector(e, selector, template, options);
    if let Some(selector) = selector {
        not_empty(e, selector, "empty selector is invalid for daemonset");
    }
    pod_spec::template(e, template, options);
    lasting(e, template, "DaemonSet");
    rules::not_negative(e, spec, n::MIN_READY_SECONDS);
    update_strategy(e, spec);
    rules::not_negative(e, spec, n::REVISION_HISTORY_LIMIT);
}

fn update_strategy(e: &mut Errors<'_>, spec: DaemonSetSpec<'_>) {
    let strategy = spec.update_strategy();
    let at = Spot::of(strategy);
    match (strategy.r#type(), strategy.rolling_update()) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => e.required(at.field(n::ROLLING_UPDATE), ""),
        ("RollingUpdate", Some(rolling)) => {
            let fields = [n::MAX_UNAVAILABLE, n::MAX_SURGE];
            for field in fields {
                percent(e, rolling, field);
            }
            for field in fields {
                at_most_all(e, rolling, field);
            }
            let at = Spot::of(rolling);
            let goes = amount(rolling.max_unavailable()) != 0;
            let comes = amount(rolling.max_surge()) != 0;
            if goes && comes {
                let shown = rules::json(rolling.node().get(n::MAX_SURGE));
                let text = "may not be set when maxUnavailable is non-zero";
                e.invalid(at.field(n::MAX_SURGE), shown, text);
            } else if !goes && !comes {
                let text = "cannot be 0 when maxSurge is 0";
                e.required(at.field(n::MAX_UNAVAILABLE), text);
            }
        }
        _ => e.not_supported(at, Internal::of(strategy), &["RollingUpdate", "OnDelete"]),
    }
}

fn status(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let status = DaemonSet::of(Node::new(new)).status();
    let fields = [
        n::CURRENT_NUMBER_SCHEDULED,
        n::NUMBER_MISSCHEDULED,
        n::DESIRED_NUMBER_SCHEDULED,
        n::NUMBER_READY,
        n::OBSERVED_GENERATION,
        n::UPDATED_NUMBER_SCHEDULED,
        n::NUMBER_AVAILABLE,
        n::NUMBER_UNAVAILABLE,
        n::COLLISION_COUNT,
    ];
    counters(e, status, &fields);
    collisions_grow(e, new, old);
}
