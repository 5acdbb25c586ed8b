//! Horizontal pod autoscalers.
//!
//! Upstream: `pkg/registry/autoscaling`, `pkg/printers/internalversion`.

use proto::view::autoscaling_v2::{
    HorizontalPodAutoscaler, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus,
};
use proto::view::{List, Node, View};

use crate::registry::strategy::Strategy;
use crate::table::row;

pub static AUTOSCALER: Strategy = Strategy {
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
mod tests {
    use proto::Value;
    use proto::catalogue::messages::autoscaling_v2;
    use proto::codec::json::{self, Strictness};

    use super::*;

    #[test]
    fn metrics_are_shown_with_their_targets() {
        let text = r#"{"metadata":{"name":"h"},
            "spec":{"scaleTargetRef":{"kind":"Deployment","name":"d"},"minReplicas":2,"maxReplicas":9,"metrics":[
                {"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":80}}},
                {"type":"Pods","pods":{"metric":{"name":"m"},"target":{"type":"AverageValue","averageValue":"10"}}},
                {"type":"External","external":{"metric":{"name":"m"},"target":{"type":"Value","value":"5"}}}]},
            "status":{"currentReplicas":3,"currentMetrics":[
                {"type":"Resource","resource":{"name":"cpu","current":{"averageUtilization":42}}}]}}"#;
        let message = autoscaling_v2::HORIZONTAL_POD_AUTOSCALER;
        let object = json::decode(text.as_bytes(), message, Strictness::Strict)
            .expect("the test's JSON is valid")
            .value;
        let cells = AUTOSCALER.cells.expect("autoscalers have cells")(&object, 0);
        let text = |i: usize| cells[i].as_str().unwrap_or_default();
        assert_eq!(text(1), "Deployment/d");
        assert_eq!(text(2), "cpu: 42%/80%, <unknown>/10 + 1 more...");
        assert_eq!(text(3), "2");
        assert_eq!((cells[4].as_int(), cells[5].as_int()), (Some(9), Some(3)));
        let empty = AUTOSCALER.cells.expect("autoscalers have cells")(&Value::object(), 0);
        assert_eq!(empty[2].as_str(), Some("<none>"));
    }
}
