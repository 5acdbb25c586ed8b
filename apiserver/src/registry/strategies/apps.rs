//! Deployments, replica sets, stateful sets, daemon sets.
//!
//! Upstream: `pkg/registry/apps`, `pkg/apis/apps/{v1/defaults.go,validation}`.

use proto::catalogue::names as n;
use proto::path::{Errors, Spot};
use proto::selector::LabelSelector;
use proto::view::apps_v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use proto::view::core_v1::PodTemplateSpec;
use proto::view::{IntOrStr, Node, View};
use proto::{NameId, Value, meta};

use super::pod_spec;
use crate::registry::before::changed_outside_metadata_and_status;
use crate::registry::rules;
use crate::registry::strategy::{Strategy, clear_status, keep_status};
use crate::registry::warnings::{Warnings, changed};
use crate::table::{age, labels};

const TEMPLATE: [NameId; 2] = [n::SPEC, n::TEMPLATE];

/// What the four have in common.
const WORKLOAD: Strategy = Strategy {
    default: |object| pod_spec::default_template(object, &TEMPLATE),
    prepare_create: |_, new| clear_status(new),
    prepare_update: |_, new, old| keep_status(new, old),
    ..Strategy::WITH_STATUS
};

pub static DEPLOYMENT: Strategy = Strategy {
    default: |object| {
        pod_spec::default_template(object, &TEMPLATE);
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
    validate: |_, object, e| deployment(object, e),
    validate_update: |_, new, old, e| {
        deployment(new, e);
        let (now, was) = (
            Deployment::of(Node::new(new)).spec(),
            Deployment::of(Node::new(old)).spec(),
        );
        rules::immutable(e, now, was, n::SELECTOR);
    },
    prepare_update: |_, new, old| {
        keep_status(new, old);
        // Its revision is an annotation: a controller that waits for it has to see that it was heard.
        if meta::annotations(new) != meta::annotations(old)
            && !changed_outside_metadata_and_status(new, old)
        {
            let generation = meta::generation(old).unwrap_or(0) + 1;
            meta::metadata_mut(new).insert(n::GENERATION, generation);
        }
    },
    warnings: |object, old| {
        let template = Deployment::of(Node::new(object)).spec().template();
        pod_spec::warnings::workload(object, old, template)
    },
    cells: Some(deployment_cells),
    ..WORKLOAD
};

fn number(value: Option<&Value>) -> i64 {
    value.and_then(Value::as_int).unwrap_or(0)
}

fn deployment(object: &Value, e: &mut Errors<'_>) {
    let spec = Deployment::of(Node::new(object)).spec();
    rules::not_negative(e, spec, n::REPLICAS);
    selector_and_template(e, spec.node(), spec.template(), &["Always"]);
    let strategy = spec.strategy();
    let at = Spot::of(strategy);
    match strategy.r#type() {
        "Recreate" => {
            if strategy.rolling_update().is_some() {
                e.forbidden(
                    at.field(n::ROLLING_UPDATE),
                    "may not be specified when strategy `type` is 'Recreate'",
                );
            }
        }
        "RollingUpdate" => match strategy.rolling_update() {
            None => e.required(
                at.field(n::ROLLING_UPDATE),
                "this should be defaulted and never be nil",
            ),
            Some(rolling) => {
                percent(e, rolling, n::MAX_UNAVAILABLE);
                percent(e, rolling, n::MAX_SURGE);
                let (unavailable, surge) = (rolling.max_unavailable(), rolling.max_surge());
                if is_zero(unavailable) && is_zero(surge) {
                    let shown = unavailable.unwrap_or(IntOrStr::Int(0));
                    e.invalid(
                        Spot::of(rolling).field(n::MAX_UNAVAILABLE),
                        shown,
                        "may not be 0 when `maxSurge` is 0",
                    );
                }
                at_most_all(e, rolling, n::MAX_UNAVAILABLE);
            }
        },
        other => e.not_supported(at.field(n::TYPE), other, &["Recreate", "RollingUpdate"]),
    }
    for field in [n::MIN_READY_SECONDS, n::REVISION_HISTORY_LIMIT] {
        rules::not_negative(e, spec, field);
    }
    if let Some(deadline) = spec.progress_deadline_seconds() {
        rules::not_negative(e, spec, n::PROGRESS_DEADLINE_SECONDS);
        if deadline <= spec.min_ready_seconds() {
            let at = Spot::of(spec).field(n::PROGRESS_DEADLINE_SECONDS);
            e.invalid(at, deadline, "must be greater than minReadySeconds");
        }
    }
}

fn is_zero(value: Option<IntOrStr<'_>>) -> bool {
    match value {
        None | Some(IntOrStr::Int(0)) => true,
        Some(IntOrStr::Int(_)) => false,
        Some(IntOrStr::Str(text)) => {
            text.strip_suffix('%').and_then(|p| p.parse::<i64>().ok()) == Some(0)
        }
    }
}

/// `ValidatePositiveIntOrPercent`.
fn percent<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, field: NameId) {
    let at = Spot::of(view).field(field);
    match view.node().int_or_string(field) {
        Some(IntOrStr::Str(text)) => e.invalid_each(at, text, meta::names::percent_problems(text)),
        Some(IntOrStr::Int(number)) if number < 0 => e.invalid(at, number, rules::NOT_NEGATIVE),
        _ => {}
    }
}

/// `IsNotMoreThan100Percent`.
fn at_most_all<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, field: NameId) {
    if let Some(IntOrStr::Str(text)) = view.node().int_or_string(field)
        && text
            .strip_suffix('%')
            .and_then(|p| p.parse::<i64>().ok())
            .is_some_and(|p| p > 100)
    {
        e.invalid(
            Spot::of(view).field(field),
            text,
            "must not be greater than 100%",
        );
    }
}

/// The selector is there, selects something, and selects the template's pods.
pub(super) fn selector_and_template(
    e: &mut Errors<'_>,
    spec: Node<'_>,
    template: PodTemplateSpec<'_>,
    policies: &[&str],
) {
    let at = Spot::node(spec.value());
    match spec.get(n::SELECTOR) {
        None => e.required(at.field(n::SELECTOR), ""),
        Some(selector) => {
            proto::selector::validate_label_selector(
                selector,
                proto::selector::SelectorRules::default(),
                e,
            );
            let empty = |name| {
                selector.get(name).is_none_or(|v| match v {
                    Value::Map(m) => m.is_empty(),
                    Value::List(l) => l.is_empty(),
                    _ => true,
                })
            };
            if empty(n::MATCH_LABELS) && empty(n::MATCH_EXPRESSIONS) {
                e.invalid(
                    at.field(n::SELECTOR),
                    selector,
                    "empty selector is invalid for deployment",
                );
            } else if let Ok(selects) = LabelSelector::from_object(selector) {
                let labels = meta::labels(template.node().value());
                if !selects.matches_map(labels) {
                    let shown = Value::Map(labels.clone());
                    let metadata = template
                        .node()
                        .get(n::METADATA)
                        .unwrap_or(template.node().value());
                    e.invalid(
                        Spot::node(metadata).field(n::LABELS),
                        &shown,
                        "`selector` does not match template `labels`",
                    );
                }
            }
        }
    }
    pod_spec::template(e, template);
    let pod = template.spec();
    if !policies.contains(&pod.restart_policy()) && !pod.restart_policy().is_empty() {
        e.not_supported(
            Spot::of(pod).field(n::RESTART_POLICY),
            pod.restart_policy(),
            policies,
        );
    }
    if pod.active_deadline_seconds().is_some() {
        let text = "activeDeadlineSeconds in ReplicaSet is not Supported";
        e.forbidden(Spot::of(pod).field(n::ACTIVE_DEADLINE_SECONDS), text);
    }
}

pub(super) fn images(template: PodTemplateSpec<'_>) -> (String, String) {
    let containers = template.spec().containers();
    let join = |of: Vec<&str>| of.join(",");
    (
        join(containers.iter().map(|c| c.name()).collect()),
        join(containers.iter().map(|c| c.image()).collect()),
    )
}

pub(super) fn selector_text(spec: Node<'_>) -> String {
    match spec.get(n::SELECTOR).map(LabelSelector::from_object) {
        Some(Ok(selector)) => {
            let text = selector.to_string();
            if text.is_empty() {
                "<none>".into()
            } else {
                text
            }
        }
        Some(Err(_)) => "<invalid>".into(),
        None => "<none>".into(),
    }
}

fn deployment_cells(object: &Value, now: i64) -> Vec<Value> {
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

pub static REPLICA_SET: Strategy = Strategy {
    validate: |_, object, e| replica_set(object, e),
    validate_update: |_, new, old, e| {
        replica_set(new, e);
        let (now, was) = (
            ReplicaSet::of(Node::new(new)).spec(),
            ReplicaSet::of(Node::new(old)).spec(),
        );
        rules::immutable(e, now, was, n::SELECTOR);
    },
    warnings: |object, old| {
        let template = ReplicaSet::of(Node::new(object)).spec().template();
        pod_spec::warnings::workload(object, old, template)
    },
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

fn replica_set(object: &Value, e: &mut Errors<'_>) {
    let spec = ReplicaSet::of(Node::new(object)).spec();
    rules::not_negative(e, spec, n::REPLICAS);
    rules::not_negative(e, spec, n::MIN_READY_SECONDS);
    selector_and_template(e, spec.node(), spec.template(), &["Always"]);
}

pub static STATEFUL_SET: Strategy = Strategy {
    warnings: stateful_set_warnings,
    name: meta::names::label_name,
    default: |object| {
        pod_spec::default_template(object, &TEMPLATE);
        let update = object.ensure(&[n::SPEC, n::UPDATE_STRATEGY]).make_map();
        if update
            .get(n::TYPE)
            .and_then(Value::as_str)
            .is_none_or(|t| t == "RollingUpdate")
        {
            let rolling = update.entry(n::ROLLING_UPDATE).make_map();
            if !rolling.contains(n::PARTITION) {
                rolling.insert(n::PARTITION, 0);
            }
            if !rolling.contains(n::MAX_UNAVAILABLE) {
                rolling.insert(n::MAX_UNAVAILABLE, 1);
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
    },
    validate: |_, object, e| stateful_set(object, e),
    validate_update: |_, new, _, e| stateful_set(new, e),
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

fn stateful_set(object: &Value, e: &mut Errors<'_>) {
    let spec = StatefulSet::of(Node::new(object)).spec();
    rules::not_negative(e, spec, n::REPLICAS);
    rules::not_negative(e, spec, n::MIN_READY_SECONDS);
    selector_and_template(e, spec.node(), spec.template(), &["Always"]);
}

fn stateful_set_warnings(object: &Value, old: Option<&Value>) -> Vec<String> {
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

pub static DAEMON_SET: Strategy = Strategy {
    warnings: |object, old| {
        let template = |object| DaemonSet::of(Node::new(object)).spec().template();
        let now = template(object);
        let mut w = Warnings::new(object);
        if old.is_none_or(|old| now.node().value() != template(old).node().value()) {
            pod_spec::warnings::template(&mut w, now);
        }
        w.into_vec()
    },
    default: |object| {
        pod_spec::default_template(object, &TEMPLATE);
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
        }
    },
    validate: |_, object, e| daemon_set(object, e),
    validate_update: |_, new, old, e| {
        daemon_set(new, e);
        let (now, was) = (
            DaemonSet::of(Node::new(new)).spec(),
            DaemonSet::of(Node::new(old)).spec(),
        );
        rules::immutable(e, now, was, n::SELECTOR);
    },
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

fn daemon_set(object: &Value, e: &mut Errors<'_>) {
    let spec = DaemonSet::of(Node::new(object)).spec();
    selector_and_template(e, spec.node(), spec.template(), &["Always"]);
    for field in [n::MIN_READY_SECONDS, n::REVISION_HISTORY_LIMIT] {
        rules::not_negative(e, spec, field);
    }
}
