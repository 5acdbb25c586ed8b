//! Deployments, replica sets, stateful sets, daemon sets: what they have in common.
//!
//! Upstream: `pkg/registry/apps`, `pkg/apis/apps/{v1/defaults.go,validation}`.

mod daemon_set;
mod deployment;
mod replica_set;
mod stateful_set;

#[cfg(test)]
mod tests;

use proto::catalogue::{Gates, gate, messages::meta_v1, names as n};
use proto::meta::names;
use proto::path::{Errors, Named, Spot};
use proto::selector::{LabelSelector, SelectorRules, validate_label_selector};
use proto::view::core_v1::PodTemplateSpec;
use proto::view::{IntOrStr, Node, View};
use proto::{NameId, Value, meta};

use super::pod_spec::{self, Options, dropped};
use crate::declarative;
use crate::equal;
use crate::gated::Gated;
use crate::rules;
use crate::shown::Internal;
use crate::strategy::{Cx, Strategy, clear_status, keep_status};

pub use daemon_set::DAEMON_SET;
pub use deployment::DEPLOYMENT;
pub use replica_set::REPLICA_SET;
pub use stateful_set::STATEFUL_SET;

const TEMPLATE: [NameId; 2] = [n::SPEC, n::TEMPLATE];

/// How many pods are going, by a gate.
const TERMINATING: Gated = (
    gate::DEPLOYMENT_REPLICA_SET_TERMINATING_REPLICAS,
    &[n::STATUS, n::TERMINATING_REPLICAS],
);

/// What the four have in common.
const WORKLOAD: Strategy = Strategy {
    default: |gates, object| pod_spec::default_template(gates, object, &TEMPLATE),
    prepare_create: |cx, new| prepare_create(cx, new),
    prepare_update: |cx, new, old| prepare_update(cx, new, old),
    declarative: Some(declarative::NO_OPTIONS),
    ..Strategy::WITH_STATUS
};

fn prepare_create(cx: &Cx<'_>, new: &mut Value) {
    clear_status(new);
    drop_disabled(cx.gates, new, None, &TEMPLATE);
}

fn prepare_update(cx: &Cx<'_>, new: &mut Value, old: &Value) {
    keep_status(new, old);
    drop_disabled(cx.gates, new, Some(old), &TEMPLATE);
}

/// Drops from a template, by the way to it, what is behind gates that are off.
pub(super) fn drop_disabled(gates: Gates, new: &mut Value, old: Option<&Value>, way: &[NameId]) {
    if let Some(template) = new.at_mut(way) {
        dropped::from_spec(gates, template, old.and_then(|old| old.at(way)));
    }
}

fn number(value: Option<&Value>) -> i64 {
    value.and_then(Value::as_int).unwrap_or(0)
}

/// The selector is there, selects something, and selects the template's pods; the template of replica
/// sets and what makes them.
fn selector_and_template(
    e: &mut Errors<'_>,
    spec: Node<'_>,
    template: PodTemplateSpec<'_>,
    options: &Options<'_>,
) {
    let at = Spot::node(spec.value()).field(n::SELECTOR);
    let selector = spec.get(n::SELECTOR);
    strict_selector(e, spec, "empty selector is invalid for deployment");
    match selector.map(LabelSelector::from_object) {
        Some(Err(_)) => {
            let shown = Internal(selector, meta_v1::LABEL_SELECTOR);
            e.invalid(at, shown, "invalid label selector");
        }
        selects => {
            let selects = selects.and_then(Result::ok);
            if !selects.as_ref().is_some_and(LabelSelector::is_everything) {
                matches_template(e, selects.as_ref(), template);
            }
            pod_spec::template(e, template, options);
            lasting(e, template, "ReplicaSet");
        }
    }
}

/// A selector that must be given, whose values labels can have.
fn strict_selector(e: &mut Errors<'_>, spec: Node<'_>, empty: &str) {
    let at = Spot::node(spec.value()).field(n::SELECTOR);
    match spec.get(n::SELECTOR) {
        None => e.required(at, ""),
        Some(selector) => {
            validate_label_selector(selector, SelectorRules::default(), e);
            not_empty(e, selector, empty);
        }
    }
}

fn not_empty(e: &mut Errors<'_>, selector: &Value, text: &str) {
    let selector = Node::new(selector);
    if selector.dict(n::MATCH_LABELS).is_empty() && selector.items(n::MATCH_EXPRESSIONS).is_empty()
    {
        let shown = Internal(Some(selector.value()), meta_v1::LABEL_SELECTOR);
        e.invalid(Spot::node(selector.value()), shown, text);
    }
}

/// A selector is never changed.
fn immutable_selector<'a, V: View<'a>>(e: &mut Errors<'_>, new: V, old: V) {
    let of = |spec: V| spec.node().get(n::SELECTOR);
    let (now, was) = (of(new), of(old));
    if now.is_some() != was.is_some() || !equal::alike(now, was, meta_v1::LABEL_SELECTOR) {
        let shown = Internal(now, meta_v1::LABEL_SELECTOR);
        e.invalid(Spot::of(new).field(n::SELECTOR), shown, rules::IMMUTABLE);
    }
}

/// The selector selects the pods of the template; none selects nothing.
pub(super) fn matches_template(
    e: &mut Errors<'_>,
    selector: Option<&LabelSelector>,
    template: PodTemplateSpec<'_>,
) {
    let holder = template.node().value();
    if selector.is_some_and(|selector| selector.matches_map(meta::labels(holder))) {
        return;
    }
    let at = Spot::of(template).field(n::METADATA).field(n::LABELS);
    let labels = rules::json(holder.at(&[n::METADATA, n::LABELS]));
    e.invalid(at, labels, "`selector` does not match template `labels`");
}

/// A selector whose values need not be labels where an object has such already, and that selects the
/// pods of the template.
pub(super) fn lenient_selector(
    e: &mut Errors<'_>,
    selector: Option<&Value>,
    template: PodTemplateSpec<'_>,
    options: &Options<'_>,
) {
    if let Some(selector) = selector {
        let rules = SelectorRules {
            allow_invalid_values: options.kept.values_of_pods,
            ..SelectorRules::default()
        };
        validate_label_selector(selector, rules, e);
    }
    match selector.map(LabelSelector::from_object) {
        Some(Err(_)) => {}
        selects => {
            let selects = selects.and_then(Result::ok);
            matches_template(e, selects.as_ref(), template);
        }
    }
}

/// Pods that are there until they are deleted, whatever becomes of them.
pub(super) fn lasting(e: &mut Errors<'_>, template: PodTemplateSpec<'_>, of: &str) {
    let pod = template.spec();
    if pod.restart_policy() != "Always" {
        let at = Spot::of(pod).field(n::RESTART_POLICY);
        e.not_supported(at, Named(pod.restart_policy()), &["Always"]);
    }
    if pod.active_deadline_seconds().is_some() {
        let text = format!("activeDeadlineSeconds in {of} is not Supported");
        e.forbidden(Spot::of(pod).field(n::ACTIVE_DEADLINE_SECONDS), text);
    }
}

/// What stands for a number of pods: the number, or how many of a hundred.
fn amount(value: Option<IntOrStr<'_>>) -> i64 {
    match value {
        None => 0,
        Some(IntOrStr::Int(number)) => number,
        Some(IntOrStr::Str(text)) => percent_of(text).or_else(|| text.parse().ok()).unwrap_or(0),
    }
}

fn percent_of(text: &str) -> Option<i64> {
    if !names::percent_problems(text).is_empty() {
        return None;
    }
    let digits = text.strip_suffix('%')?;
    Some(digits.parse().unwrap_or(i64::MAX))
}

/// `ValidatePositiveIntOrPercent`.
pub(super) fn percent<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, field: NameId) {
    let at = Spot::of(view).field(field);
    match view.node().int_or_string(field) {
        Some(IntOrStr::Str(text)) => {
            for problem in names::percent_problems(text) {
                e.invalid(at, rules::json(view.node().get(field)), problem);
            }
        }
        Some(IntOrStr::Int(number)) if number < 0 => e.invalid(at, number, rules::NOT_NEGATIVE),
        _ => {}
    }
}

/// `IsNotMoreThan100Percent`.
pub(super) fn at_most_all<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, field: NameId) {
    if let Some(IntOrStr::Str(text)) = view.node().int_or_string(field)
        && percent_of(text).is_some_and(|percent| percent > 100)
    {
        let at = Spot::of(view).field(field);
        let shown = rules::json(view.node().get(field));
        e.invalid(at, shown, "must not be greater than 100%");
    }
}

/// Numbers of a status count something.
pub(super) fn counters<'a, V: View<'a>>(e: &mut Errors<'_>, status: V, fields: &[NameId]) {
    for field in fields {
        rules::not_negative(e, status, *field);
    }
}

/// Each of some counters of a status counts some of what another counts.
pub(super) fn at_most<'a, V: View<'a>>(
    e: &mut Errors<'_>,
    status: V,
    fields: &[NameId],
    all: NameId,
    text: &str,
) {
    let most = status.node().int(all);
    for field in fields {
        let number = status.node().int(*field);
        if number > most {
            e.invalid(Spot::of(status).field(*field), number, text);
        }
    }
}

/// Names collide more often as time goes by, never less.
fn collisions_grow(e: &mut Errors<'_>, new: &Value, old: &Value) {
    let count = |object: &Value| object.at(&[n::STATUS, n::COLLISION_COUNT])?.as_int();
    let (now, was) = (count(new), count(old));
    if was.is_some() && now.is_none_or(|now| was.is_some_and(|was| now < was)) {
        let at = Spot::node(new).field(n::STATUS).field(n::COLLISION_COUNT);
        e.invalid(at, now.unwrap_or(0), "cannot be decremented");
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
