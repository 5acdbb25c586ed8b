//! What an autoscaler must be, beyond what is declared: `pkg/apis/autoscaling/validation`.

use proto::catalogue::{Gates, gate, names as n};
use proto::meta::names;
use proto::path::{Errors, Named, Spot};
use proto::quantity::Quantity;
use proto::view::autoscaling_v2::{
    CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec, MetricTarget,
};
use proto::view::{Node, View};
use proto::{NameId, Value};

use crate::rules;

/// The longest period of a policy, and the longest time that is looked back.
const MAX_PERIOD: i64 = 1800;
const MAX_WINDOW: i64 = 3600;
const METRICS: [&str; 5] = [
    "ContainerResource",
    "External",
    "Object",
    "Pods",
    "Resource",
];

/// What an API version may be.
#[derive(Clone, Copy)]
struct Versions {
    no_group: bool,
    anything: bool,
}

fn spec(object: &Value) -> HorizontalPodAutoscalerSpec<'_> {
    HorizontalPodAutoscaler::of(Node::new(object)).spec()
}

/// Whether there may be no replicas: by a gate, or because there might be none already.
pub(super) fn scales_to_zero(gates: Gates, old: Option<&Value>) -> bool {
    gates.has(gate::HPA_SCALE_TO_ZERO) || old.is_some_and(|old| spec(old).min_replicas() == Some(0))
}

/// `ValidateHorizontalPodAutoscaler`. References that were there before and are not what is asked for
/// now may stay.
pub(super) fn autoscaler(gates: Gates, object: &Value, old: Option<&Value>, e: &mut Errors<'_>) {
    let (now, was) = (spec(object), old.map(spec));
    let at = |field| Spot::of(now).field(field);
    let (min, max) = (now.min_replicas(), now.max_replicas());
    e.covered(|e| {
        let bound = |least| format!("must be greater than or equal to {least}");
        let least = i64::from(!scales_to_zero(gates, old));
        if let Some(min) = min.filter(|min| *min < least) {
            e.invalid(at(n::MIN_REPLICAS), min, bound(least));
        }
        match max {
            0 => e.required(at(n::MAX_REPLICAS), "must be set and greater than 0"),
            ..0 => e.invalid(at(n::MAX_REPLICAS), max, bound(1)),
            _ => {}
        }
    });
    if min.is_some_and(|min| max < min) {
        let detail = "must be greater than or equal to `minReplicas`";
        e.invalid(at(n::MAX_REPLICAS), max, detail);
    }
    let target = now.scale_target_ref();
    let kept = was.map(|was| was.scale_target_ref()).is_some_and(|was| {
        (was.api_version(), was.kind()) == (target.api_version(), target.kind())
    });
    let versions = Versions {
        anything: kept,
        no_group: !kept && target.kind() == "ReplicationController",
    };
    reference(target, versions, e);
    metrics(now, was, e);
    if let Some(behavior) = now.behavior() {
        for way in [behavior.scale_up(), behavior.scale_down()] {
            way.into_iter().for_each(|way| scaling_rules(way, e));
        }
    }
}

/// `ValidateCrossVersionObjectReference`.
fn reference(to: CrossVersionObjectReference<'_>, versions: Versions, e: &mut Errors<'_>) {
    for field in [n::KIND, n::NAME] {
        if rules::required(e, to, field) {
            let text = to.node().str(field);
            rules::each(e, to, field, names::path_segment_problems(text));
        }
    }
    if let Some(why) = version_problem(to.api_version(), versions) {
        e.invalid(Spot::of(to).field(n::API_VERSION), to.api_version(), why);
    }
}

/// `ValidateAPIVersion`.
fn version_problem(version: &str, versions: Versions) -> Option<String> {
    if versions.anything {
        return None;
    }
    let group = match version.matches('/').count() {
        0 => "",
        1 => version.split('/').next().unwrap_or_default(),
        _ => return Some(format!("unexpected GroupVersion string: {version}")),
    };
    (group.is_empty() && !versions.no_group).then(|| "apiVersion must specify API group".into())
}

fn metrics(
    now: HorizontalPodAutoscalerSpec<'_>,
    was: Option<HorizontalPodAutoscalerSpec<'_>>,
    e: &mut Errors<'_>,
) {
    let strict = Versions {
        no_group: true,
        anything: false,
    };
    let mut before = was.into_iter().flat_map(|was| was.metrics());
    let lenient = before.any(|metric| {
        let object = metric.object().filter(|_| metric.r#type() == "Object");
        object
            .is_some_and(|o| version_problem(o.described_object().api_version(), strict).is_some())
    });
    let versions = Versions {
        anything: lenient,
        ..strict
    };
    for one in now.metrics() {
        metric(one, versions, e);
    }
    let mut kinds = now.metrics().iter().map(|metric| metric.r#type());
    if now.min_replicas() == Some(0) && !kinds.any(|kind| matches!(kind, "Object" | "External")) {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        e.forbidden(Spot::of(now).field(n::METRICS), detail);
    }
}

/// Sources in the order in which upstream looks at them; of several only the first is.
const SOURCES: [(&str, NameId); 5] = [
    ("Object", n::OBJECT),
    ("External", n::EXTERNAL),
    ("Pods", n::PODS),
    ("Resource", n::RESOURCE),
    ("ContainerResource", n::CONTAINER_RESOURCE),
];

/// `validateMetricSpec`.
fn metric(spec: MetricSpec<'_>, versions: Versions, e: &mut Errors<'_>) {
    let at = |field| Spot::of(spec).field(field);
    let kind = spec.r#type();
    if kind.is_empty() {
        e.required(at(n::TYPE), "must specify a metric source type");
    }
    let known = METRICS.contains(&kind);
    let unknown = |e: &mut Errors<'_>| e.not_supported(at(n::TYPE), Named(kind), &METRICS);
    if !known {
        unknown(e);
    }
    let given: Vec<NameId> = SOURCES
        .iter()
        .map(|(_, field)| *field)
        .filter(|field| spec.node().get(*field).is_some())
        .collect();
    match given.first() {
        Some(&n::OBJECT) => object_source(spec, versions, e),
        Some(&n::EXTERNAL) => external_source(spec, e),
        Some(&n::PODS) => pods_source(spec, e),
        Some(&n::RESOURCE) => resource_source(spec, e),
        Some(&n::CONTAINER_RESOURCE) => container_source(spec, e),
        _ => {}
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind);
    match expected.map(|(_, field)| *field) {
        Some(field) if !given.contains(&field) => {
            let detail = "must populate information for the given metric source";
            e.required(at(field), detail);
        }
        Some(_) => {}
        None => unknown(e),
    }
    if given.len() == 1 {
        return;
    }
    let mut others = given;
    others.retain(|field| expected.is_none_or(|(_, expected)| field != expected));
    others.sort_by_key(|field| field.text());
    for field in others {
        e.forbidden(at(field), "must populate the given metric source only");
    }
}

fn object_source(spec: MetricSpec<'_>, versions: Versions, e: &mut Errors<'_>) {
    let Some(source) = spec.object() else { return };
    reference(source.described_object(), versions, e);
    identifier(source.metric(), e);
    target(source.target(), e);
    if source.target().value().is_none() && source.target().average_value().is_none() {
        let at = Spot::of(source.target()).field(n::AVERAGE_VALUE);
        e.required(at, "must set either a target value or averageValue");
    }
}

fn external_source(spec: MetricSpec<'_>, e: &mut Errors<'_>) {
    let Some(source) = spec.external() else {
        return;
    };
    identifier(source.metric(), e);
    target(source.target(), e);
    let at = |field| Spot::of(source.target()).field(field);
    match (source.target().value(), source.target().average_value()) {
        (None, None) => {
            let detail = "must set either a target value for metric or a per-pod target";
            e.required(at(n::AVERAGE_VALUE), detail);
        }
        (Some(_), Some(_)) => {
            let detail = "may not set both a target value for metric and a per-pod target";
            e.forbidden(at(n::VALUE), detail);
        }
        _ => {}
    }
}

fn pods_source(spec: MetricSpec<'_>, e: &mut Errors<'_>) {
    let Some(source) = spec.pods() else { return };
    identifier(source.metric(), e);
    target(source.target(), e);
    if source.target().average_value().is_none() {
        let at = Spot::of(source.target()).field(n::AVERAGE_VALUE);
        e.required(at, "must specify a positive target averageValue");
    }
}

fn resource_source(spec: MetricSpec<'_>, e: &mut Errors<'_>) {
    let Some(source) = spec.resource() else {
        return;
    };
    if source.name().is_empty() {
        let at = Spot::of(source).field(n::NAME);
        e.required(at, "must specify a resource name");
    }
    share(source.target(), e);
}

fn container_source(spec: MetricSpec<'_>, e: &mut Errors<'_>) {
    let Some(source) = spec.container_resource() else {
        return;
    };
    let at = |field| Spot::of(source).field(field);
    if source.name().is_empty() {
        e.required(at(n::NAME), "must specify a resource name");
    } else {
        rules::container_resource_name(e, at(n::NAME), source.name());
    }
    if source.container().is_empty() {
        e.required(at(n::CONTAINER), "must specify a container");
    } else {
        let problems = names::dns_label_problems(source.container());
        rules::each(e, source, n::CONTAINER, problems);
    }
    share(source.target(), e);
}

/// A target that is an amount or a share of what was asked for.
fn share(of: MetricTarget<'_>, e: &mut Errors<'_>) {
    target(of, e);
    let at = |field| Spot::of(of).field(field);
    match (of.average_utilization(), of.average_value()) {
        (None, None) => {
            let detail = "must set either a target raw value or a target utilization";
            e.required(at(n::AVERAGE_UTILIZATION), detail);
        }
        (Some(_), Some(_)) => {
            let detail = "may not set both a target raw value and a target utilization";
            e.forbidden(at(n::AVERAGE_VALUE), detail);
        }
        _ => {}
    }
}

/// `validateMetricTarget`.
fn target(of: MetricTarget<'_>, e: &mut Errors<'_>) {
    let at = |field| Spot::of(of).field(field);
    if of.r#type().is_empty() {
        e.required(at(n::TYPE), "must specify a metric target type");
    }
    if !matches!(of.r#type(), "Utilization" | "Value" | "AverageValue") {
        let detail = "must be either Utilization, Value, or AverageValue";
        e.invalid(at(n::TYPE), Named(of.r#type()), detail);
    }
    for (field, amount) in [
        (n::VALUE, of.value()),
        (n::AVERAGE_VALUE, of.average_value()),
    ] {
        if let Some(text) = amount
            && text.parse::<Quantity>().is_ok_and(|q| q.signum() != 1)
        {
            e.invalid(at(field), text, "must be positive");
        }
    }
    if let Some(percent) = of.average_utilization()
        && percent < 1
    {
        e.invalid(
            at(n::AVERAGE_UTILIZATION),
            percent,
            "must be greater than 0",
        );
    }
}

fn identifier(of: MetricIdentifier<'_>, e: &mut Errors<'_>) {
    let at = Spot::of(of).field(n::NAME);
    if of.name().is_empty() {
        e.required(at, "must specify a metric name");
    } else {
        e.invalid_each(at, of.name(), names::path_segment_problems(of.name()));
    }
}

/// `validateScalingRules`.
fn scaling_rules(of: HPAScalingRules<'_>, e: &mut Errors<'_>) {
    const SELECTS: [&str; 3] = ["Disabled", "Max", "Min"];
    let at = |field| Spot::of(of).field(field);
    if let Some(window) = of.stabilization_window_seconds() {
        let at = at(n::STABILIZATION_WINDOW_SECONDS);
        if window < 0 {
            e.invalid(at, window, "must be greater than or equal to zero");
        }
        if window > MAX_WINDOW {
            let detail = format!("must be less than or equal to {MAX_WINDOW}");
            e.invalid(at, window, detail);
        }
    }
    if let Some(select) = of.select_policy()
        && !SELECTS.contains(&select)
    {
        e.not_supported(at(n::SELECT_POLICY), Named(select), &SELECTS);
    }
    if of.policies().is_empty() {
        e.required(at(n::POLICIES), "must specify at least one Policy");
    }
    for policy in of.policies() {
        scaling_policy(policy, e);
    }
    if let Some(tolerance) = of.tolerance()
        && tolerance.parse::<Quantity>().is_ok_and(|q| q.signum() < 0)
    {
        e.invalid(at(n::TOLERANCE), tolerance, rules::NOT_NEGATIVE);
    }
}

fn scaling_policy(policy: HPAScalingPolicy<'_>, e: &mut Errors<'_>) {
    const TYPES: [&str; 2] = ["Percent", "Pods"];
    let at = |field| Spot::of(policy).field(field);
    if !TYPES.contains(&policy.r#type()) {
        e.not_supported(at(n::TYPE), Named(policy.r#type()), &TYPES);
    }
    for (field, number) in [
        (n::VALUE, policy.value()),
        (n::PERIOD_SECONDS, policy.period_seconds()),
    ] {
        if number <= 0 {
            e.invalid(at(field), number, "must be greater than zero");
        }
    }
    if policy.period_seconds() > MAX_PERIOD {
        let detail = format!("must be less than or equal to {MAX_PERIOD}");
        e.invalid(at(n::PERIOD_SECONDS), policy.period_seconds(), detail);
    }
}

/// `ValidateHorizontalPodAutoscalerStatusUpdate`.
pub(super) fn status(object: &Value, e: &mut Errors<'_>) {
    let status = HorizontalPodAutoscaler::of(Node::new(object)).status();
    for condition in status.conditions() {
        rules::not_negative(e, condition, n::OBSERVED_GENERATION);
    }
    rules::not_negative(e, status, n::CURRENT_REPLICAS);
    rules::not_negative(e, status, n::DESIRED_REPLICAS);
}
