//! Which objects a quota is about: scopes of pods and of claims.

use proto::catalogue::names as n;
use proto::view::core_v1::{PersistentVolumeClaim, Pod, PodSpec, ResourceQuota};
use proto::view::{Node, View};
use proto::{Map, NameId, Value};

use super::usage::Measure;

/// A scope: its name, how its values are meant, and the values.
pub(super) type Requirement<'a> = (&'a str, &'a str, &'a [Value]);

/// The scopes of a quota.
pub(super) fn of(quota: &Value) -> impl Iterator<Item = Requirement<'_>> {
    let spec = ResourceQuota::of(Node::new(quota)).spec();
    let plain = spec
        .scopes()
        .iter()
        .filter_map(Value::as_str)
        .map(|name| (name, "Exists", &[][..]));
    let selected = spec
        .scope_selector()
        .into_iter()
        .flat_map(|s| s.match_expressions().iter());
    let selected = selected.map(|r| (r.scope_name(), r.operator(), r.values()));
    plain.chain(selected)
}

/// Whether all scopes of a quota hold for an object.
pub(super) fn matches(quota: &Value, measure: &Measure, object: &Value) -> bool {
    of(quota).all(|scope| holds(scope, measure, object))
}

/// Whether a scope holds for an object. One that is not about its kind never does.
pub(super) fn holds(
    (name, operator, values): Requirement<'_>,
    measure: &Measure,
    object: &Value,
) -> bool {
    match measure {
        Measure::Pods { .. } => of_pod(name, operator, values, Pod::of(Node::new(object)).spec()),
        Measure::Claims => {
            name == "VolumeAttributesClass"
                && of_classes(operator, values, &attributes_classes(object))
        }
        _ => false,
    }
}

/// Whether a pod has a deadline and ends by itself.
pub(super) fn is_terminating(pod: &Value) -> bool {
    Pod::of(Node::new(pod))
        .spec()
        .active_deadline_seconds()
        .is_some_and(|s| s >= 0)
}

fn of_pod(name: &str, operator: &str, values: &[Value], spec: PodSpec<'_>) -> bool {
    let terminating = spec.active_deadline_seconds().is_some_and(|s| s >= 0);
    match name {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => is_best_effort(spec),
        "NotBestEffort" => !is_best_effort(spec),
        "PriorityClass" => {
            let class = Some(spec.priority_class_name()).filter(|c| !c.is_empty());
            of_classes(operator, values, &class.into_iter().collect::<Vec<_>>())
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(spec),
        _ => false,
    }
}

/// A selector over the classes of an object, one of which must be selected.
fn of_classes(operator: &str, values: &[Value], classes: &[&str]) -> bool {
    let listed = |class: &str| values.iter().any(|v| v.as_str() == Some(class));
    match operator {
        "Exists" => !classes.is_empty(),
        "DoesNotExist" => classes.is_empty(),
        "In" => classes.iter().any(|c| listed(c)),
        "NotIn" => classes.is_empty() || classes.iter().any(|c| !listed(c)),
        _ => false,
    }
}

/// The classes of volume attributes that a claim has, had or should have.
pub(super) fn attributes_classes(claim: &Value) -> Vec<&str> {
    let view = PersistentVolumeClaim::of(Node::new(claim));
    let status = view.status();
    let target = status
        .modify_volume_status()
        .map(|m| m.target_volume_attributes_class_name());
    let all = [
        view.spec().volume_attributes_class_name(),
        status.current_volume_attributes_class_name(),
        target,
    ];
    let mut classes: Vec<&str> = all
        .into_iter()
        .flatten()
        .filter(|c| !c.is_empty())
        .collect();
    classes.sort_unstable();
    classes.dedup();
    classes
}

/// Whether nothing of a pod asks for processor or memory: its quality of service is the least.
fn is_best_effort(spec: PodSpec<'_>) -> bool {
    let asks = |list: &Map| {
        ["cpu", "memory"].iter().any(|r| {
            list.get(*r)
                .and_then(Value::as_str)
                .is_some_and(|q| q != "0")
        })
    };
    let either = |node: Node<'_>| {
        [n::REQUESTS, n::LIMITS]
            .iter()
            .any(|which: &NameId| asks(node.dict(*which)))
    };
    let mut containers = spec
        .containers()
        .iter()
        .chain(spec.init_containers().iter());
    let whole = spec.resources().is_some_and(|r| either(r.node()));
    !whole && !containers.any(|c| either(c.resources().node()))
}

fn crosses_namespaces(spec: PodSpec<'_>) -> bool {
    let Some(affinity) = spec.affinity() else {
        return false;
    };
    let with = affinity.pod_affinity().map(|a| {
        (
            a.required_during_scheduling_ignored_during_execution(),
            a.preferred_during_scheduling_ignored_during_execution(),
        )
    });
    let without = affinity.pod_anti_affinity().map(|a| {
        (
            a.required_during_scheduling_ignored_during_execution(),
            a.preferred_during_scheduling_ignored_during_execution(),
        )
    });
    let terms = [with, without]
        .into_iter()
        .flatten()
        .flat_map(|(required, preferred)| {
            required.iter().chain(
                preferred
                    .iter()
                    .map(|weighted| weighted.pod_affinity_term()),
            )
        });
    terms
        .into_iter()
        .any(|t| !t.namespaces().is_empty() || t.namespace_selector().is_some())
}
