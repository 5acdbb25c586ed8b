//! Horizontal pod autoscalers.
//!
//! Upstream: `pkg/registry/autoscaling`, `pkg/printers/internalversion`.

use proto::catalogue::{Gates, gate, names as n};
use proto::convert::drop_autoscaler_annotations;
use proto::view::autoscaling_v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec, MetricStatus, MetricTarget,
    MetricValueStatus,
};
use proto::view::{List, Node, View};
use proto::{Map, NameId, Value, meta};

use crate::equal;
use crate::gated::drop_together;
use crate::strategy::{Generation, Part, Strategy, clear_status, keep_status};
use crate::table::row;

mod validation;

pub static AUTOSCALER: Strategy = Strategy {
    declarative: Some(|gates, _, old| {
        let to_zero = validation::scales_to_zero(gates, old);
        to_zero.then_some("HPAScaleToZero").into_iter().collect()
    }),
    default,
    prepare_create: |cx, new| {
        clear_status(new);
        // While it is off, who writes may count himself.
        if cx.gates.has(gate::HPA_GENERATION) {
            meta::metadata_mut(new).insert(n::GENERATION, 1);
        }
        drop_tolerance(cx.gates, new, None);
    },
    prepare_update: |cx, new, old| {
        keep_status(new, old);
        drop_tolerance(cx.gates, new, Some(old));
        let spec = HorizontalPodAutoscalerSpec::MESSAGE;
        if cx.gates.has(gate::HPA_GENERATION) && !equal::alike_at(new, old, &[n::SPEC], spec) {
            let generation = meta::generation(old).unwrap_or(0) + 1;
            meta::metadata_mut(new).insert(n::GENERATION, generation);
        }
    },
    generation: Generation::Ignored,
    validate: |cx, object, e| validation::autoscaler(cx.gates, object, None, e),
    validate_update: |cx, new, old, e| validation::autoscaler(cx.gates, new, Some(old), e),
    status: Some(Part {
        validate_update: |_, new, _, e| validation::status(new, e),
        ..Part::STATUS_AND_METADATA
    }),
    cells: Some(|object, now| {
        let view = HorizontalPodAutoscaler::of(Node::new(object));
        let (spec, status) = (view.spec(), view.status());
        let target = spec.scale_target_ref();
        let least = spec.min_replicas();
        row(
            object,
            now,
            [
                format!("{}/{}", target.kind(), target.name()).into(),
                metrics(spec.metrics(), status.current_metrics()).into(),
                least.map_or("<unset>".to_owned(), |l| l.to_string()).into(),
                spec.max_replicas().into(),
                status.current_replicas().into(),
            ],
        )
    }),
    ..Strategy::WITH_STATUS
};

/// How far from its target a metric may be, by a gate.
fn drop_tolerance(gates: Gates, new: &mut Value, old: Option<&Value>) {
    const fn of(rules: NameId) -> [NameId; 4] {
        [n::SPEC, n::BEHAVIOR, rules, n::TOLERANCE]
    }
    let gate = gate::HPA_CONFIGURABLE_TOLERANCE;
    drop_together(
        gates,
        new,
        old,
        gate,
        &[&of(n::SCALE_DOWN), &of(n::SCALE_UP)],
    );
}

/// `SetDefaults_HorizontalPodAutoscaler` of version 2. What the other versions leave open their
/// conversions fill in.
fn default(_: Gates, object: &mut Value) {
    drop_autoscaler_annotations(object.make_map());
    let spec = object.ensure(&[n::SPEC]).make_map();
    let metrics = spec.get(n::METRICS).and_then(Value::as_list);
    if metrics.is_none_or(<[Value]>::is_empty) {
        let mut cpu = Value::object();
        cpu.set(&[n::TYPE], "Resource");
        cpu.set(&[n::RESOURCE, n::NAME], "cpu");
        let target = [n::RESOURCE, n::TARGET];
        cpu.ensure(&target).set(&[n::TYPE], "Utilization");
        cpu.ensure(&target).set(&[n::AVERAGE_UTILIZATION], 80);
        spec.insert(n::METRICS, vec![cpu]);
    }
    let Some(behavior) = spec.get_mut(n::BEHAVIOR).filter(|b| !b.is_null()) else {
        return;
    };
    let behavior = behavior.make_map();
    scaling(
        behavior.entry(n::SCALE_UP),
        Some(0),
        &[("Pods", 4), ("Percent", 100)],
    );
    scaling(behavior.entry(n::SCALE_DOWN), None, &[("Percent", 100)]);
}

/// How fast to scale, where nothing is said. How long the controller looks back when it scales down is
/// the controller's own setting.
fn scaling(rules: &mut Value, window: Option<i64>, policies: &[(&str, i64)]) {
    const PERIOD: i64 = 15;
    let rules = rules.make_map();
    let absent = |rules: &Map, field| rules.get(field).is_none_or(Value::is_null);
    if absent(rules, n::SELECT_POLICY) {
        rules.insert(n::SELECT_POLICY, "Max");
    }
    if let Some(window) = window.filter(|_| absent(rules, n::STABILIZATION_WINDOW_SECONDS)) {
        rules.insert(n::STABILIZATION_WINDOW_SECONDS, window);
    }
    if absent(rules, n::POLICIES) {
        let policy = |(kind, value): &(&str, i64)| {
            let mut policy = Map::new();
            policy.insert(n::TYPE, *kind);
            policy.insert(n::VALUE, *value);
            policy.insert(n::PERIOD_SECONDS, PERIOD);
            Value::Map(policy)
        };
        rules.insert(n::POLICIES, policies.iter().map(policy).collect::<Vec<_>>());
    }
}

/// Metrics that are shown; more are counted.
const SHOWN: usize = 2;

/// `formatHPAMetrics`: what is measured, and what it should be.
fn metrics<'v>(wanted: List<'v, MetricSpec<'v>>, measured: List<'v, MetricStatus<'v>>) -> String {
    if wanted.is_empty() {
        return "<none>".into();
    }
    let all: Vec<String> = wanted
        .iter()
        .enumerate()
        .map(|(i, spec)| metric(spec, measured.get(i)))
        .collect();
    let shown = all[..all.len().min(SHOWN)].join(", ");
    match all.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

fn metric(spec: MetricSpec<'_>, status: Option<MetricStatus<'_>>) -> String {
    let unknown = || "<unknown>".to_owned();
    match spec.r#type() {
        "External" => {
            let current = status.and_then(|s| s.external()).map(|s| s.current());
            of_value(spec.external().map(|s| s.target()), current)
        }
        "Object" => {
            let current = status.and_then(|s| s.object()).map(|s| s.current());
            of_value(spec.object().map(|s| s.target()), current)
        }
        "Pods" => {
            let current = status.and_then(|s| s.pods()).map(|s| s.current());
            let target = spec.pods().map(|s| s.target());
            let current = current.map_or_else(unknown, |c| average(c).to_owned());
            let target = target.and_then(|t| t.average_value());
            format!("{current}/{}", target.unwrap_or("0"))
        }
        "Resource" => {
            let current = status.and_then(|s| s.resource()).map(|s| s.current());
            let named = spec.resource().map(|s| (s.name(), s.target()));
            of_resource(named, current)
        }
        "ContainerResource" => {
            let current = status
                .and_then(|s| s.container_resource())
                .map(|s| s.current());
            let named = spec.container_resource().map(|s| (s.name(), s.target()));
            of_resource(named, current)
        }
        _ => "<unknown type>".into(),
    }
}

fn average(current: MetricValueStatus<'_>) -> &str {
    current.average_value().unwrap_or("0")
}

/// A metric that is a value, or an average of it.
fn of_value(target: Option<MetricTarget<'_>>, current: Option<MetricValueStatus<'_>>) -> String {
    match target.and_then(|t| t.average_value()) {
        Some(wanted) => {
            let current = current.and_then(|c| c.average_value());
            format!("{}/{wanted} (avg)", current.unwrap_or("<unknown>"))
        }
        None => {
            let current = current.map(|c| c.value().unwrap_or("0"));
            let wanted = target.and_then(|t| t.value());
            let current = current.unwrap_or("<unknown>");
            format!("{current}/{}", wanted.unwrap_or("0"))
        }
    }
}

/// A metric that is a share of what was asked for, or an average amount.
fn of_resource(
    named: Option<(&str, MetricTarget<'_>)>,
    current: Option<MetricValueStatus<'_>>,
) -> String {
    let Some((name, target)) = named else {
        return "<unknown type>".into();
    };
    let percent = |p: i64| format!("{p}%");
    let unknown = || "<unknown>".to_owned();
    match target.average_value() {
        Some(wanted) => {
            let current = current.map_or_else(unknown, |c| average(c).to_owned());
            format!("{name}: {current}/{wanted}")
        }
        None => {
            let current = current.and_then(|c| c.average_utilization());
            let wanted = target.average_utilization();
            format!(
                "{name}: {}/{}",
                current.map_or_else(unknown, percent),
                wanted.map_or_else(|| "<auto>".to_owned(), percent)
            )
        }
    }
}

#[cfg(test)]
mod tests;
