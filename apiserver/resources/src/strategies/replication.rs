//! Replication controllers, and what else the core group has of workloads: templates and revisions.
//!
//! Upstream: `pkg/registry/core/{replicationcontroller,podtemplate}`, `pkg/registry/apps/controllerrevision`,
//! `pkg/apis/core/validation` (`ValidateReplicationControllerSpec`).

use proto::catalogue::{messages::core_v1, names as n};
use proto::path::{Errors, FieldError, Reason, Show, Spot};
use proto::selector::LabelSelector;
use proto::view::apps_v1::ControllerRevision;
use proto::view::core_v1::{PodTemplate, ReplicationController, ReplicationControllerSpec};
use proto::view::{Node, View};
use proto::{Map, NameId, Value, meta};

use super::apps;
use super::pod_spec::{self, Options};
use crate::declarative;
use crate::equal;
use crate::rules;
use crate::strategy::{Part, Strategy, clear_status, keep_status};
use crate::table::{labels, row};
use crate::warnings::{Warnings, changed};

const TEMPLATE: [NameId; 2] = [n::SPEC, n::TEMPLATE];

pub static REPLICATION_CONTROLLER: Strategy = Strategy {
    warnings: |_, object, old| {
        // As upstream, an update is warned of the template that was there before it.
        let of = old.unwrap_or(object);
        let mut w = Warnings::new(of);
        if old.is_none() {
            w.name_of_pods(object);
        }
        let template = ReplicationController::of(Node::new(of)).spec().template();
        if let Some(template) = template.filter(|_| changed(object, old)) {
            pod_spec::warnings::template(&mut w, template);
        }
        w.into_vec()
    },
    default: |gates, object| {
        pod_spec::default_template(gates, object, &TEMPLATE);
        let of_pods = object.at(&TEMPLATE).map(meta::labels);
        let Some(of_pods) = of_pods.filter(|l| !l.is_empty()).cloned() else {
            return;
        };
        for way in [[n::SPEC, n::SELECTOR], [n::METADATA, n::LABELS]] {
            let given = object.at(&way).and_then(Value::as_map);
            if given.is_none_or(Map::is_empty) {
                object.set(&way, Value::Map(of_pods.clone()));
            }
        }
    },
    prepare_create: |cx, new| {
        clear_status(new);
        apps::drop_disabled(cx.gates, new, None, &TEMPLATE);
    },
    prepare_update: |cx, new, old| {
        keep_status(new, old);
        apps::drop_disabled(cx.gates, new, Some(old), &TEMPLATE);
    },
    validate: |cx, object, e| controller(object, e, &Options::of_template(cx, None)),
    validate_update: |cx, new, old, e| {
        let options = Options::of_template(cx, of(old).template());
        controller(new, e, &options);
        non_convertible(e, new, old);
    },
    // A declarative rule looks at the name.
    name: |_, _| Vec::new(),
    declarative: Some(declarative::NO_OPTIONS),
    status: Some(Part {
        validate_update: |_, new, _, e| status(new, e),
        ..Part::STATUS_AND_METADATA
    }),
    cells: Some(|object, now| {
        let view = ReplicationController::of(Node::new(object));
        let (spec, status) = (view.spec(), view.status());
        let (names, images) = spec.template().map(apps::images).unwrap_or_default();
        let mut cells = row(
            object,
            now,
            [
                spec.replicas().unwrap_or(0).into(),
                status.replicas().into(),
                status.ready_replicas().into(),
            ],
        );
        let wide = [names, images, labels(spec.selector())];
        cells.extend(wide.map(Value::from));
        cells
    }),
    ..Strategy::WITH_STATUS
};

fn of(object: &Value) -> ReplicationControllerSpec<'_> {
    ReplicationController::of(Node::new(object)).spec()
}

/// `ValidateReplicationControllerSpec`.
fn controller(object: &Value, e: &mut Errors<'_>, options: &Options<'_>) {
    let spec = of(object);
    e.covered(|e| rules::not_negative(e, spec, n::MIN_READY_SECONDS));
    let selector = spec.selector();
    if selector.is_empty() {
        e.required(Spot::of(spec).field(n::SELECTOR), "");
    }
    e.covered(|e| {
        rules::not_negative(e, spec, n::REPLICAS);
        if spec.replicas().is_none() {
            e.required(Spot::of(spec).field(n::REPLICAS), "");
        }
    });
    let Some(template) = spec.template() else {
        return e.required(Spot::of(spec).field(n::TEMPLATE), "");
    };
    if !selector.is_empty() {
        let selects = LabelSelector::from_map(selector);
        apps::matches_template(e, Some(&selects), template);
    }
    pod_spec::template(e, template, options);
    apps::lasting(e, template, "ReplicationController");
}

/// What was lost when an object of another version was converted cannot be changed.
fn non_convertible(e: &mut Errors<'_>, new: &Value, old: &Value) {
    for (key, value) in meta::annotations(old).iter() {
        let key = key.as_str();
        let mut parts = key.split('/');
        let (Some(_), Some(field), None) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if !key.starts_with("non-convertible.kubernetes.io") {
            continue;
        }
        if !field.contains("selector") {
            let value = value.as_str().unwrap_or_default().show();
            let detail = "unknown non-convertible field";
            e.push(FieldError::new(Reason::NotFound, field, value, detail));
        } else if !equal::same_at(new, old, &[n::SPEC, n::SELECTOR]) {
            let shown = rules::json(new.at(&[n::SPEC, n::SELECTOR]));
            let at = Spot::of(of(new)).field(n::SELECTOR);
            e.invalid(at, shown, "cannot update non-convertible selector");
        }
    }
}

fn status(object: &Value, e: &mut Errors<'_>) {
    let status = ReplicationController::of(Node::new(object)).status();
    let of_replicas = [
        n::FULLY_LABELED_REPLICAS,
        n::READY_REPLICAS,
        n::AVAILABLE_REPLICAS,
    ];
    apps::counters(e, status, &[n::REPLICAS]);
    apps::counters(e, status, &of_replicas);
    apps::counters(e, status, &[n::OBSERVED_GENERATION]);
    let text = "cannot be greater than status.replicas";
    apps::at_most(e, status, &of_replicas, n::REPLICAS, text);
    let text = "cannot be greater than readyReplicas";
    let available = [n::AVAILABLE_REPLICAS];
    apps::at_most(e, status, &available, n::READY_REPLICAS, text);
}

pub static POD_TEMPLATE: Strategy = Strategy {
    warnings: |_, object, old| {
        let mut w = Warnings::new(object);
        if changed(object, old) {
            let template = PodTemplate::of(Node::new(object)).template();
            pod_spec::warnings::template(&mut w, template);
        }
        w.into_vec()
    },
    default: |gates, object| pod_spec::default_template(gates, object, &[n::TEMPLATE]),
    prepare_create: |cx, new| {
        meta::metadata_mut(new).insert(n::GENERATION, 1);
        apps::drop_disabled(cx.gates, new, None, &[n::TEMPLATE]);
    },
    prepare_update: |cx, new, old| {
        apps::drop_disabled(cx.gates, new, Some(old), &[n::TEMPLATE]);
        if !equal::alike_at(new, old, &[n::TEMPLATE], core_v1::POD_TEMPLATE_SPEC) {
            let generation = meta::generation(old).unwrap_or(0) + 1;
            meta::metadata_mut(new).insert(n::GENERATION, generation);
        }
    },
    validate: |cx, object, e| {
        let template = PodTemplate::of(Node::new(object)).template();
        pod_spec::template(e, template, &Options::of_template(cx, None));
    },
    validate_update: |cx, new, old, e| {
        let template = |object| PodTemplate::of(Node::new(object)).template();
        let options = Options::of_template(cx, Some(template(old)));
        pod_spec::template(e, template(new), &options);
    },
    declarative: Some(declarative::NO_OPTIONS),
    cells: Some(|object, _| {
        let template = PodTemplate::of(Node::new(object)).template();
        let (names, images) = apps::images(template);
        vec![
            meta::name(object).into(),
            names.into(),
            images.into(),
            labels(meta::labels(template.node().value())).into(),
        ]
    }),
    ..Strategy::DEFAULT
};

pub static CONTROLLER_REVISION: Strategy = Strategy {
    validate: |_, object, e| {
        number(object, e);
        data(object, e);
    },
    validate_update: |_, new, old, e| {
        number(new, e);
        let of = |v| ControllerRevision::of(Node::new(v));
        rules::immutable(e, of(new), of(old), n::DATA);
    },
    declarative: Some(declarative::NO_OPTIONS),
    cells: Some(|object, now| {
        let revision = ControllerRevision::of(Node::new(object)).revision();
        row(object, now, [owner(object).into(), revision.into()])
    }),
    ..Strategy::DEFAULT
};

fn number(object: &Value, e: &mut Errors<'_>) {
    rules::not_negative(e, ControllerRevision::of(Node::new(object)), n::REVISION);
}

/// The state that is kept is some object.
fn data(object: &Value, e: &mut Errors<'_>) {
    let view = ControllerRevision::of(Node::new(object));
    let at = Spot::of(view).field(n::DATA);
    match view.data().map(proto::codec::json::parse) {
        None | Some(Ok(Value::Null)) => e.required(at, "data is mandatory"),
        Some(Ok(Value::Map(_))) => {}
        Some(Ok(_)) => e.required(at, "data must be a valid JSON object"),
        Some(Err(error)) => {
            let detail = format!("error parsing data: {error}");
            e.invalid(at, "<value omitted>", detail);
        }
    }
}

/// `kind.group/name` of the controller.
fn owner(object: &Value) -> String {
    let Some(owner) = meta::controller_of(object) else {
        return "<none>".into();
    };
    let part = |field| owner.get(field).and_then(Value::as_str).unwrap_or_default();
    let kind = part(n::KIND).to_lowercase();
    match meta::parse_api_version(part(n::API_VERSION)) {
        Some((group, _)) if !group.is_empty() => format!("{kind}.{group}/{}", part(n::NAME)),
        _ => format!("{kind}/{}", part(n::NAME)),
    }
}

#[cfg(test)]
mod tests {
    use proto::codec::json::{self, Strictness};

    use super::*;

    #[test]
    fn a_controller_selects_what_its_template_is_labelled() {
        let text = r#"{"metadata":{"name":"c"},"spec":{"replicas":1,"template":{"metadata":{"labels":{"a":"b"}},
            "spec":{"containers":[{"name":"c","image":"i","terminationMessagePolicy":"File","imagePullPolicy":"Always"}],
            "restartPolicy":"Always","dnsPolicy":"Default","terminationGracePeriodSeconds":30}}}}"#;
        let message = core_v1::REPLICATION_CONTROLLER;
        let decoded = json::decode(text.as_bytes(), message, Strictness::Strict);
        let mut object = decoded.expect("the test's JSON is valid").value;
        let problems = |object: &Value| -> Vec<String> {
            let mut errors = Errors::new(object);
            controller(object, &mut errors, &Options::default());
            errors.into_vec().iter().map(|e| e.field.clone()).collect()
        };
        assert_eq!(problems(&object), ["spec.selector"]);
        (REPLICATION_CONTROLLER.default)(proto::catalogue::Gates::defaults(), &mut object);
        assert!(problems(&object).is_empty(), "{:?}", problems(&object));
        assert_eq!(meta::label(&object, "a"), Some("b"));
        let cells = REPLICATION_CONTROLLER.cells.expect("it has cells")(&object, 0);
        assert_eq!(cells.last().and_then(Value::as_str), Some("a=b"));
        object.set(&[n::SPEC, n::SELECTOR], Value::object());
        let mut other = Map::new();
        other.insert("a", "c");
        object.set(&[n::SPEC, n::SELECTOR], Value::Map(other));
        assert_eq!(problems(&object), ["spec.template.metadata.labels"]);
    }
}
