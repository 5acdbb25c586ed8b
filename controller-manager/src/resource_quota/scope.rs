//! Which pods a quota is about. Pure. Source: `pkg/quota/v1/evaluator/core/pods.go`.

use k8s_openapi::api::core::v1::{
    Pod, PodAffinityTerm, ResourceQuota, ResourceRequirements, ScopedResourceSelectorRequirement,
};

/// The scopes of a quota, all of which a pod has to be in. A plain scope stands for that it exists.
pub(super) fn of(quota: &ResourceQuota) -> Vec<ScopedResourceSelectorRequirement> {
    let Some(spec) = &quota.spec else {
        return Vec::new();
    };
    let plain = spec.scopes.iter().flatten();
    let plain = plain.map(|scope| ScopedResourceSelectorRequirement {
        scope_name: scope.clone(),
        operator: "Exists".to_owned(),
        values: None,
    });
    let selector = spec.scope_selector.as_ref();
    let selected = selector.and_then(|s| s.match_expressions.clone());
    plain.chain(selected.unwrap_or_default()).collect()
}

pub(super) fn takes_pod(scopes: &[ScopedResourceSelectorRequirement], pod: &Pod) -> bool {
    scopes.iter().all(|scope| is_in(scope, pod))
}

fn is_in(scope: &ScopedResourceSelectorRequirement, pod: &Pod) -> bool {
    match scope.scope_name.as_str() {
        "Terminating" => is_limited_in_time(pod),
        "NotTerminating" => !is_limited_in_time(pod),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => has_class(scope, pod),
        "CrossNamespacePodAffinity" => looks_elsewhere(pod),
        _ => false,
    }
}

fn is_limited_in_time(pod: &Pod) -> bool {
    let deadline = pod.spec.as_ref().and_then(|s| s.active_deadline_seconds);
    deadline.is_some_and(|seconds| seconds >= 0)
}

/// It asks for neither CPU nor memory.
fn is_best_effort(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let asks = |resources: Option<&ResourceRequirements>| {
        let lists = resources.map(|r| [r.requests.as_ref(), r.limits.as_ref()]);
        let mut named = lists.into_iter().flatten().flatten().flatten();
        named.any(|(name, amount)| {
            let amount = amount.0.parse::<proto::quantity::Quantity>();
            matches!(name.as_str(), "cpu" | "memory") && amount.is_ok_and(|a| !a.is_zero())
        })
    };
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let mut containers = containers.map(|c| asks(c.resources.as_ref()));
    !asks(spec.resources.as_ref()) && !containers.any(|asks| asks)
}

fn has_class(scope: &ScopedResourceSelectorRequirement, pod: &Pod) -> bool {
    let class = pod
        .spec
        .as_ref()
        .and_then(|s| s.priority_class_name.as_ref())
        .filter(|c| !c.is_empty());
    let listed = class.is_some_and(|c| scope.values.iter().flatten().any(|v| v == c));
    match scope.operator.as_str() {
        "Exists" => class.is_some(),
        "DoesNotExist" => class.is_none(),
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    }
}

/// Its affinity names other namespaces.
fn looks_elsewhere(pod: &Pod) -> bool {
    let affinity = pod.spec.as_ref().and_then(|s| s.affinity.as_ref());
    let near = affinity.and_then(|a| a.pod_affinity.as_ref());
    let far = affinity.and_then(|a| a.pod_anti_affinity.as_ref());
    let required = |terms: Option<&Vec<PodAffinityTerm>>| {
        let mut terms = terms.into_iter().flatten();
        terms.any(names_namespaces)
    };
    required(near.and_then(|a| {
        a.required_during_scheduling_ignored_during_execution
            .as_ref()
    })) || required(far.and_then(|a| {
        a.required_during_scheduling_ignored_during_execution
            .as_ref()
    })) || near
        .and_then(|a| {
            a.preferred_during_scheduling_ignored_during_execution
                .as_ref()
        })
        .into_iter()
        .flatten()
        .chain(
            far.and_then(|a| {
                a.preferred_during_scheduling_ignored_during_execution
                    .as_ref()
            })
            .into_iter()
            .flatten(),
        )
        .any(|weighted| names_namespaces(&weighted.pod_affinity_term))
}

fn names_namespaces(term: &PodAffinityTerm) -> bool {
    term.namespaces.as_ref().is_some_and(|n| !n.is_empty()) || term.namespace_selector.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;

    fn scope(name: &str, operator: &str, values: &[&str]) -> ScopedResourceSelectorRequirement {
        ScopedResourceSelectorRequirement {
            scope_name: name.to_owned(),
            operator: operator.to_owned(),
            values: Some(values.iter().map(|v| (*v).to_owned()).collect()),
        }
    }

    fn pod(class: &str, deadline: Option<i64>) -> Pod {
        Pod {
            spec: Some(PodSpec {
                priority_class_name: Some(class.to_owned()),
                active_deadline_seconds: deadline,
                ..PodSpec::default()
            }),
            ..Pod::default()
        }
    }

    #[test]
    fn a_pod_has_to_be_in_all_scopes() {
        let scopes = [
            scope("Terminating", "Exists", &[]),
            scope("PriorityClass", "In", &["high"]),
        ];
        assert!(takes_pod(&scopes, &pod("high", Some(5))));
        assert!(!takes_pod(&scopes, &pod("low", Some(5))));
        assert!(!takes_pod(&scopes, &pod("high", None)));
        assert!(takes_pod(&[], &pod("", None)));
    }

    #[test]
    fn best_effort_asks_for_nothing() {
        assert!(takes_pod(
            &[scope("BestEffort", "Exists", &[])],
            &pod("", None)
        ));
        assert!(!takes_pod(
            &[scope("NotBestEffort", "Exists", &[])],
            &pod("", None)
        ));
    }
}
