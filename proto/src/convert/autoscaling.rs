//! HorizontalPodAutoscalers: version 1 knows CPU utilization only, and keeps the rest of version 2 as
//! JSON in annotations.
//!
//! Upstream's `kubernetes/pkg/apis/autoscaling/v1/conversion.go`. Metrics and conditions are written as
//! the Go types of version 1 print, behavior as upstream's internal type does (with Go's field names).
//! An annotation that cannot be read is ignored.

use crate::catalogue::{MsgId, messages, names as n};
use crate::codec::json::{self, Strictness};
use crate::quantity::Quantity;
use crate::value::{Map, Value};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
/// What upstream drops on every way.
const ANNOTATIONS: [&str; 6] = [
    METRICS,
    CURRENT_METRICS,
    CONDITIONS,
    BEHAVIOR,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];
const DEFAULT_CPU_UTILIZATION: i64 = 80;

/// One value of a metric: where version 2 has it, and its name in version 1.
struct Part {
    v2: &'static [&'static str],
    v1: &'static str,
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A string that version 1 always prints.
    Text,
    /// A quantity that version 1 holds by value.
    Amount,
    /// A pointer.
    Optional,
    Selector,
    /// A reference to an object.
    Reference,
}

const fn part(v1: &'static str, v2: &'static [&'static str], shape: Shape) -> Part {
    Part { v2, v1, shape }
}

use Shape::{Amount, Optional, Reference, Selector, Text};

/// A kind of metric, with its parts in the order in which version 1 prints them.
type Source = (&'static str, &'static [Part]);

const SPECS: &[Source] = &[
    (
        "object",
        &[
            part("target", &["describedObject"], Reference),
            part("metricName", &["metric", "name"], Text),
            part("targetValue", &["target", "value"], Amount),
            part("selector", &["metric", "selector"], Selector),
            part("averageValue", &["target", "averageValue"], Optional),
        ],
    ),
    (
        "pods",
        &[
            part("metricName", &["metric", "name"], Text),
            part("targetAverageValue", &["target", "averageValue"], Amount),
            part("selector", &["metric", "selector"], Selector),
        ],
    ),
    (
        "resource",
        &[
            part("name", &["name"], Text),
            part(
                "targetAverageUtilization",
                &["target", "averageUtilization"],
                Optional,
            ),
            part("targetAverageValue", &["target", "averageValue"], Optional),
        ],
    ),
    (
        "containerResource",
        &[
            part("name", &["name"], Text),
            part(
                "targetAverageUtilization",
                &["target", "averageUtilization"],
                Optional,
            ),
            part("targetAverageValue", &["target", "averageValue"], Optional),
            part("container", &["container"], Text),
        ],
    ),
    (
        "external",
        &[
            part("metricName", &["metric", "name"], Text),
            part("metricSelector", &["metric", "selector"], Selector),
            part("targetValue", &["target", "value"], Optional),
            part("targetAverageValue", &["target", "averageValue"], Optional),
        ],
    ),
];

const STATUSES: &[Source] = &[
    (
        "object",
        &[
            part("target", &["describedObject"], Reference),
            part("metricName", &["metric", "name"], Text),
            part("currentValue", &["current", "value"], Amount),
            part("selector", &["metric", "selector"], Selector),
            part("averageValue", &["current", "averageValue"], Optional),
        ],
    ),
    (
        "pods",
        &[
            part("metricName", &["metric", "name"], Text),
            part("currentAverageValue", &["current", "averageValue"], Amount),
            part("selector", &["metric", "selector"], Selector),
        ],
    ),
    (
        "resource",
        &[
            part("name", &["name"], Text),
            part(
                "currentAverageUtilization",
                &["current", "averageUtilization"],
                Optional,
            ),
            part("currentAverageValue", &["current", "averageValue"], Amount),
        ],
    ),
    (
        "containerResource",
        &[
            part("name", &["name"], Text),
            part(
                "currentAverageUtilization",
                &["current", "averageUtilization"],
                Optional,
            ),
            part("currentAverageValue", &["current", "averageValue"], Amount),
            part("container", &["container"], Text),
        ],
    ),
    (
        "external",
        &[
            part("metricName", &["metric", "name"], Text),
            part("metricSelector", &["metric", "selector"], Selector),
            part("currentValue", &["current", "value"], Amount),
            part(
                "currentAverageValue",
                &["current", "averageValue"],
                Optional,
            ),
        ],
    ),
];

/// Go names of the behavior's fields, in the order in which they print, and their names in JSON.
const RULES: &[(&str, &str)] = &[
    ("StabilizationWindowSeconds", "stabilizationWindowSeconds"),
    ("SelectPolicy", "selectPolicy"),
    ("Policies", "policies"),
    ("Tolerance", "tolerance"),
];
const POLICY: &[(&str, &str)] = &[
    ("Type", "type"),
    ("Value", "value"),
    ("PeriodSeconds", "periodSeconds"),
];
const DIRECTIONS: &[(&str, &str)] = &[("ScaleUp", "scaleUp"), ("ScaleDown", "scaleDown")];

pub(super) fn v1_to_v2(hpa: &mut Map) {
    let annotations = take_annotations(hpa);
    let read = |key: &str| {
        annotations
            .get(key)
            .and_then(Value::as_str)
            .and_then(|t| json::parse(t.as_bytes()).ok())
    };
    let spec = hpa.entry(n::SPEC).make_map();
    let cpu = spec.remove(n::TARGET_CPU_UTILIZATION_PERCENTAGE);
    let mut metrics = read(METRICS)
        .and_then(|m| metrics_to_v2(&m, SPECS, messages::autoscaling_v2::METRIC_SPEC))
        .unwrap_or_default();
    metrics.extend(cpu.map(cpu_metric));
    if metrics.is_empty() {
        metrics.push(cpu_metric(Value::Int(DEFAULT_CPU_UTILIZATION)));
    }
    spec.insert(n::METRICS, metrics);
    if let Some(behavior) = read(BEHAVIOR).as_ref().and_then(behavior_to_v2) {
        spec.insert(n::BEHAVIOR, behavior);
    }
    let status = hpa.entry(n::STATUS).make_map();
    let cpu = status
        .remove(n::CURRENT_CPU_UTILIZATION_PERCENTAGE)
        .map(|utilization| {
            let mut metric = Value::object();
            metric.set(&["type"], "Resource");
            metric.set(&["resource", "name"], "cpu");
            metric.set(&["resource", "current", "averageUtilization"], utilization);
            vec![metric]
        });
    let current = read(CURRENT_METRICS)
        .and_then(|m| metrics_to_v2(&m, STATUSES, messages::autoscaling_v2::METRIC_STATUS))
        .or(cpu);
    if let Some(current) = current {
        status.insert(n::CURRENT_METRICS, current);
    }
    let message = messages::autoscaling_v2::HORIZONTAL_POD_AUTOSCALER_CONDITION;
    let conditions = read(CONDITIONS)
        .and_then(|list| list.as_list()?.iter().map(|c| decode(c, message)).collect());
    if let Some(conditions) = conditions {
        let conditions: Vec<Value> = conditions;
        status.insert(n::CONDITIONS, conditions);
    }
}

pub(super) fn v2_to_v1(hpa: &mut Map) {
    take_annotations(hpa);
    let mut annotations = Vec::new();
    if let Some(spec) = hpa.get_mut(n::SPEC).and_then(Value::as_map_mut) {
        let metrics = spec.remove(n::METRICS).unwrap_or_default();
        let metrics = metrics.as_list().unwrap_or_default();
        if let Some(utilization) = metrics.iter().find_map(cpu_utilization) {
            spec.insert(n::TARGET_CPU_UTILIZATION_PERCENTAGE, utilization.clone());
        }
        let others: Vec<&Value> = metrics
            .iter()
            .filter(|m| cpu_utilization(m).is_none())
            .collect();
        if !others.is_empty() {
            annotations.push((METRICS, metrics_to_v1(&others, SPECS)));
        }
        if let Some(behavior) = spec.remove(n::BEHAVIOR).filter(|b| !b.is_null()) {
            annotations.push((BEHAVIOR, behavior_to_v1(&behavior)));
        }
    }
    if let Some(status) = hpa.get_mut(n::STATUS).and_then(Value::as_map_mut) {
        let current = status.remove(n::CURRENT_METRICS).unwrap_or_default();
        let current: Vec<&Value> = current.as_list().unwrap_or_default().iter().collect();
        let cpu = |m: &&&Value| {
            text(m, &["type"]) == "Resource" && text(m, &["resource", "name"]) == "cpu"
        };
        let utilization = current
            .iter()
            .filter(cpu)
            .filter_map(|m| m.at(&["resource", "current", "averageUtilization"]))
            .next_back();
        if let Some(utilization) = utilization {
            status.insert(n::CURRENT_CPU_UTILIZATION_PERCENTAGE, utilization.clone());
        }
        if !current.is_empty() {
            annotations.push((CURRENT_METRICS, metrics_to_v1(&current, STATUSES)));
        }
        if let Some(Value::List(conditions)) = status
            .remove(n::CONDITIONS)
            .filter(|c| c.as_list().is_some_and(|l| !l.is_empty()))
        {
            let message = messages::autoscaling_v2::HORIZONTAL_POD_AUTOSCALER_CONDITION;
            let printed: Vec<String> = conditions.iter().map(|c| encoded(c, message)).collect();
            annotations.push((CONDITIONS, format!("[{}]", printed.join(","))));
        }
    }
    if !annotations.is_empty() {
        let map = hpa
            .entry(n::METADATA)
            .make_map()
            .entry(n::ANNOTATIONS)
            .make_map();
        map.extend(
            annotations
                .into_iter()
                .map(|(key, json)| (key.into(), json.into())),
        );
    }
}

/// Version 2 needs none of the annotations of the round trip, and has none, whoever wrote them.
pub fn drop_annotations(hpa: &mut Map) {
    take_annotations(hpa);
}

/// Takes the annotations of the round trip out.
fn take_annotations(hpa: &mut Map) -> Map {
    let mut taken = Map::new();
    let Some(metadata) = hpa.get_mut(n::METADATA).and_then(Value::as_map_mut) else {
        return taken;
    };
    let Some(annotations) = metadata.get_mut(n::ANNOTATIONS).and_then(Value::as_map_mut) else {
        return taken;
    };
    for key in ANNOTATIONS {
        if let Some(value) = annotations.remove(key) {
            taken.insert(key, value);
        }
    }
    if annotations.is_empty() {
        metadata.remove(n::ANNOTATIONS);
    }
    taken
}

fn cpu_metric(utilization: Value) -> Value {
    let mut metric = Value::object();
    metric.set(&["type"], "Resource");
    metric.set(&["resource", "name"], "cpu");
    metric.set(&["resource", "target", "type"], "Utilization");
    metric.set(&["resource", "target", "averageUtilization"], utilization);
    metric
}

/// What version 1 has a field for.
fn cpu_utilization(metric: &Value) -> Option<&Value> {
    let cpu = text(metric, &["type"]) == "Resource" && text(metric, &["resource", "name"]) == "cpu";
    metric
        .at(&["resource", "target", "averageUtilization"])
        .filter(|v| cpu && !v.is_null())
}

fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    value.at(path).and_then(Value::as_str).unwrap_or_default()
}

/// `{"a":1,"b":2}` of printed values, in this order.
fn object(fields: impl Iterator<Item = (&'static str, String)>) -> String {
    let fields: Vec<String> = fields
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", fields.join(","))
}

fn printed(value: &Value) -> String {
    let mut out = Vec::new();
    json::write(value, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn encoded(value: &Value, message: MsgId) -> String {
    let mut out = Vec::new();
    json::encode(value, message, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn decode(value: &Value, message: MsgId) -> Option<Value> {
    json::decode(printed(value).as_bytes(), message, Strictness::Lenient)
        .ok()
        .map(|d| d.value)
}

fn metrics_to_v1(metrics: &[&Value], sources: &[Source]) -> String {
    let metrics: Vec<String> = metrics
        .iter()
        .map(|metric| {
            let kind = printed(&Value::from(text(metric, &["type"])));
            let sources = sources
                .iter()
                .filter_map(|(name, parts)| Some((*name, source_to_v1(metric.get(*name)?, parts))));
            object(std::iter::once(("type", kind)).chain(sources))
        })
        .collect();
    format!("[{}]", metrics.join(","))
}

fn source_to_v1(source: &Value, parts: &[Part]) -> String {
    object(parts.iter().filter_map(|part| {
        let value = source.at(part.v2).filter(|v| !v.is_null());
        let printed = match part.shape {
            Text => printed(&Value::from(text(source, part.v2))),
            Amount => value.map_or_else(|| "\"0\"".to_owned(), printed),
            Optional => printed(value?),
            Selector => encoded(value?, messages::meta_v1::LABEL_SELECTOR),
            Reference => {
                let reference = value.cloned().unwrap_or_else(Value::object);
                encoded(
                    &reference,
                    messages::autoscaling_v1::CROSS_VERSION_OBJECT_REFERENCE,
                )
            }
        };
        Some((part.v1, printed))
    }))
}

fn metrics_to_v2(metrics: &Value, sources: &[Source], message: MsgId) -> Option<Vec<Value>> {
    let one = |metric: &Value| {
        let mut converted = Value::object();
        converted.set(&["type"], text(metric, &["type"]));
        for (name, parts) in sources {
            if let Some(source) = metric.get(*name).filter(|s| !s.is_null()) {
                converted.set(&[*name], source_to_v2(name, source, parts));
            }
        }
        decode(&converted, message)
    };
    metrics.as_list()?.iter().map(one).collect()
}

fn source_to_v2(name: &str, source: &Value, parts: &[Part]) -> Value {
    let mut converted = Value::object();
    for part in parts {
        match source.get(part.v1).filter(|v| !v.is_null()) {
            Some(value) => converted.set(part.v2, value.clone()),
            None if part.shape == Amount => converted.set(part.v2, "0"),
            None => {}
        }
    }
    if parts.iter().any(|p| p.v2.first() == Some(&"current")) {
        return converted;
    }
    let has = |field: &str| converted.at(&["target", field]).is_some();
    let kind = match name {
        "object" if !has("averageValue") => "Value",
        "external" if has("value") => "Value",
        "resource" | "containerResource" if has("averageUtilization") => "Utilization",
        _ => "AverageValue",
    };
    // A value of 0 that only stands there because version 1 cannot leave it out would not be valid.
    let zero = |text: &str| text.parse::<Quantity>().is_ok_and(Quantity::is_zero);
    if name == "object" && kind == "AverageValue" && zero(text(&converted, &["target", "value"])) {
        converted.remove(&["target", "value"]);
    }
    converted.set(&["target", "type"], kind);
    converted
}

fn behavior_to_v1(behavior: &Value) -> String {
    let null = || "null".to_owned();
    let policy = |policy: &Value| {
        object(POLICY.iter().map(|(go, name)| {
            let zero = if *go == "Type" {
                Value::from("")
            } else {
                Value::Int(0)
            };
            (*go, printed(policy.get(*name).unwrap_or(&zero)))
        }))
    };
    let rules = |rules: &Value| {
        object(RULES.iter().map(|(go, name)| {
            let value = match rules.get(*name) {
                Some(Value::List(policies)) => {
                    format!(
                        "[{}]",
                        policies.iter().map(policy).collect::<Vec<_>>().join(",")
                    )
                }
                Some(value) => printed(value),
                None => null(),
            };
            (*go, value)
        }))
    };
    object(DIRECTIONS.iter().map(|(go, name)| {
        (
            *go,
            behavior
                .get(*name)
                .filter(|r| !r.is_null())
                .map_or_else(null, rules),
        )
    }))
}

fn behavior_to_v2(behavior: &Value) -> Option<Value> {
    let translated = translate(behavior, DIRECTIONS, |rules| {
        translate(rules, RULES, |value| match value {
            Value::List(policies) => policies
                .iter()
                .map(|p| translate(p, POLICY, Value::clone))
                .collect::<Vec<_>>()
                .into(),
            other => other.clone(),
        })
    });
    let decoded = decode(
        &translated,
        messages::autoscaling_v2::HORIZONTAL_POD_AUTOSCALER_BEHAVIOR,
    )?;
    decoded
        .as_map()
        .is_some_and(|m| !m.is_empty())
        .then_some(decoded)
}

/// An object with the JSON names of its fields in the place of the Go names.
fn translate(value: &Value, names: &[(&str, &str)], inner: impl Fn(&Value) -> Value) -> Value {
    let mut translated = Value::object();
    for (go, name) in names {
        if let Some(field) = value
            .get(*go)
            .or_else(|| value.get(*name))
            .filter(|v| !v.is_null())
        {
            translated.set(&[*name], inner(field));
        }
    }
    translated
}
