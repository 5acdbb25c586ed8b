//! Disruption budgets and classes of container runtimes.
//!
//! Upstream: `pkg/registry/{policy/poddisruptionbudget,node/runtimeclass}`.

use std::collections::HashSet;

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Named, Spot};
use proto::selector::{SelectorRules, validate_label_selector};
use proto::view::node_v1::RuntimeClass;
use proto::view::policy_v1::PodDisruptionBudget;
use proto::view::{IntOrStr, Node, View};
use proto::{Map, Value, meta};

use super::pod_spec::{Kept, resources, tolerations};
use crate::declarative::NO_OPTIONS;
use crate::equal::same_at;
use crate::rules;
use crate::shown::Internal;
use crate::strategy::{Part, Strategy, clear_status, keep_status};
use crate::table::row;
use crate::warnings::deprecated_label;

pub static DISRUPTION_BUDGET: Strategy = Strategy {
    declarative: Some(NO_OPTIONS),
    // Upstream asks nothing more of it.
    name: names::path_segment_name,
    prepare_create: |_, new| {
        clear_status(new);
        drop_reserved(new, None);
    },
    prepare_update: |_, new, old| {
        keep_status(new, old);
        drop_reserved(new, Some(old));
    },
    validate: |_, object, e| budget(object, None, e),
    validate_update: |_, new, old, e| budget(new, Some(old), e),
    status: Some(Part {
        validate_update: |_, new, _, e| budget_status(new, e),
        ..Part::STATUS_AND_METADATA
    }),
    cells: Some(|object, now| {
        let view = PodDisruptionBudget::of(Node::new(object));
        let spec = view.spec();
        let shown = |bound: Option<IntOrStr<'_>>| match bound {
            None => Value::from("N/A"),
            Some(IntOrStr::Int(number)) => number.to_string().into(),
            Some(IntOrStr::Str(text)) => text.into(),
        };
        row(
            object,
            now,
            [
                shown(spec.min_available()),
                shown(spec.max_unavailable()),
                view.status().disruptions_allowed().into(),
            ],
        )
    }),
    ..Strategy::WITH_STATUS
};

/// A key that version 1beta1 used for selectors that match everything or nothing.
const RESERVED: &str = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match";

/// `dropDisabledFields`: the reserved key stands alone, where it means what it says, or not at all.
fn drop_reserved(new: &mut Value, old: Option<&Value>) {
    let way = [n::SPEC, n::SELECTOR];
    if old.is_some_and(|old| same_at(new, old, &way)) {
        return;
    }
    let Some(selector) = new.at_mut(&way).and_then(Value::as_map_mut) else {
        return;
    };
    let labels = selector.get(n::MATCH_LABELS).and_then(Value::as_map);
    let is_reserved = |e: &Value| e.get(n::KEY).and_then(Value::as_str) == Some(RESERVED);
    let no_labels = labels.is_none_or(Map::is_empty);
    let Some(expressions) = selector
        .get_mut(n::MATCH_EXPRESSIONS)
        .and_then(Value::as_list_mut)
    else {
        return;
    };
    if let [only] = expressions.as_slice() {
        let none = only.get(n::VALUES).and_then(Value::as_list);
        let exists = only.get(n::OPERATOR).and_then(Value::as_str) == Some("Exists");
        let bare = none.is_none_or(<[Value]>::is_empty);
        if no_labels && is_reserved(only) && exists && bare {
            return;
        }
    }
    expressions.retain(|expression| !is_reserved(expression));
}

/// `ValidatePodDisruptionBudget`. Values of labels that a stored selector has wrong may stay wrong.
fn budget(object: &Value, old: Option<&Value>, e: &mut Errors<'_>) {
    let spec = PodDisruptionBudget::of(Node::new(object)).spec();
    let at = Spot::of(spec);
    if spec.min_available().is_some() && spec.max_unavailable().is_some() {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        e.invalid(at, Internal::of(spec), detail);
    }
    for field in [n::MIN_AVAILABLE, n::MAX_UNAVAILABLE] {
        if let Some(bound) = spec.node().int_or_string(field) {
            number_or_percent(bound, at.field(field), e);
        }
    }
    if let Some(selector) = spec.node().get(n::SELECTOR) {
        let lenient = old.is_some_and(|old| {
            let mut found = Errors::new(old);
            if let Some(selector) = old.at(&[n::SPEC, n::SELECTOR]) {
                validate_label_selector(selector, SelectorRules::default(), &mut found);
            }
            !found.is_empty()
        });
        let rules = SelectorRules {
            allow_invalid_values: lenient,
            ..SelectorRules::default()
        };
        validate_label_selector(selector, rules, e);
    }
    const EVICTIONS: [&str; 2] = ["AlwaysAllow", "IfHealthyBudget"];
    if let Some(policy) = spec.unhealthy_pod_eviction_policy()
        && !EVICTIONS.contains(&policy)
    {
        let at = at.field(n::UNHEALTHY_POD_EVICTION_POLICY);
        e.not_supported(at, Named(policy), &EVICTIONS);
    }
}

/// `ValidatePositiveIntOrPercent`, `IsNotMoreThan100Percent`.
fn number_or_percent(bound: IntOrStr<'_>, at: Spot<'_>, e: &mut Errors<'_>) {
    match bound {
        IntOrStr::Int(number) if number < 0 => e.invalid(at, number, rules::NOT_NEGATIVE),
        IntOrStr::Int(_) => {}
        IntOrStr::Str(text) => {
            let problems = names::percent_problems(text);
            let digits = text.strip_suffix('%').unwrap_or_default();
            let most = digits.parse::<u64>().is_ok_and(|percent| percent <= 100);
            if problems.is_empty() && !most {
                e.invalid(at, Named(text), "must not be greater than 100%");
            }
            e.invalid_each(at, Named(text), problems);
        }
    }
}

/// `ValidatePodDisruptionBudgetStatusUpdate`.
fn budget_status(object: &Value, e: &mut Errors<'_>) {
    let status = PodDisruptionBudget::of(Node::new(object)).status();
    if let Some(conditions) = status.node().get(n::CONDITIONS) {
        meta::validate_conditions(conditions, e);
    }
    for field in [
        n::DISRUPTIONS_ALLOWED,
        n::CURRENT_HEALTHY,
        n::DESIRED_HEALTHY,
        n::EXPECTED_PODS,
    ] {
        rules::not_negative(e, status, field);
    }
}

pub static RUNTIME_CLASS: Strategy = Strategy {
    validate: |_, object, e| runtime_class(object, e),
    validate_update: |_, new, old, e| {
        runtime_class(new, e);
        rules::immutable_fields(e, new, old, &[n::HANDLER]);
    },
    declarative: Some(NO_OPTIONS),
    warnings: |_, object, _| {
        let scheduling = RuntimeClass::of(Node::new(object)).scheduling();
        let labels = scheduling
            .into_iter()
            .flat_map(|s| s.node_selector().iter());
        labels
            .filter_map(|(label, _)| deprecated_label(label.as_str()))
            .map(|text| format!("scheduling.nodeSelector: {text}"))
            .collect()
    },
    cells: Some(|object, now| {
        let handler = RuntimeClass::of(Node::new(object)).handler();
        row(object, now, [handler.into()])
    }),
    ..Strategy::DEFAULT
};

/// `ValidateRuntimeClass`. That the handler has a name, and keeps it, declarative validation asks for.
fn runtime_class(object: &Value, e: &mut Errors<'_>) {
    let class = RuntimeClass::of(Node::new(object));
    let handler = class.handler();
    e.covered(|e| {
        if rules::required(e, class, n::HANDLER) {
            rules::each(e, class, n::HANDLER, names::label_name(handler, false));
        }
    });
    if let Some(overhead) = class.overhead() {
        // Upstream takes them for the limits of a container.
        resources::fixed(e, Spot::of(overhead), overhead.pod_fixed());
    }
    let Some(scheduling) = class.scheduling() else {
        return;
    };
    let at = Spot::of(scheduling).field(n::NODE_SELECTOR);
    meta::validate_labels(scheduling.node_selector(), at, e);
    let tolerations = scheduling.tolerations();
    e.covered(|e| tolerations::tolerations(e, tolerations, Kept::default()));
    let mut seen = HashSet::new();
    for t in tolerations {
        if !seen.insert((t.key(), t.operator(), t.value(), t.effect())) {
            e.duplicate(Spot::of(t), Internal::of(t));
        }
    }
}
