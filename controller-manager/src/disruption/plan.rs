//! The status of a budget: how many pods may be disrupted now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use proto::view::IntOrStr;

use crate::members::is_ready;

/// How long a pod that was allowed to go counts as going.
pub(super) const DELETION: Duration = Duration::from_secs(120);
const ALLOWED: &str = "DisruptionAllowed";

/// What a budget counts against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Basis {
    /// The pods that there are.
    Pods,
    /// What their controllers want.
    Controllers,
    /// Nothing is asked for.
    Nothing,
}

/// What a budget counts against.
#[must_use]
pub(super) fn basis(budget: &PodDisruptionBudget) -> Basis {
    let spec = budget.spec.as_ref();
    let minimum = spec.and_then(|s| s.min_available.as_ref());
    match (spec.and_then(|s| s.max_unavailable.as_ref()), minimum) {
        (Some(_), _) | (None, Some(IntOrString::String(_))) => Basis::Controllers,
        (None, Some(IntOrString::Int(_))) => Basis::Pods,
        (None, None) => Basis::Nothing,
    }
}

/// How many of the expected pods have to be healthy.
///
/// # Errors
/// If the budget's number is neither a number nor a percentage.
pub(super) fn desired(budget: &PodDisruptionBudget, expected: i32) -> Result<i32, String> {
    let scaled = |value: &IntOrString| {
        let value = match value {
            IntOrString::Int(n) => IntOrStr::Int((*n).into()),
            IntOrString::String(text) => IntOrStr::Str(text),
        };
        let scaled = value
            .scaled(expected.into(), true)
            .map_err(|e| e.to_string())?;
        Ok::<_, String>(i32::try_from(scaled).unwrap_or(i32::MAX))
    };
    let spec = budget.spec.as_ref();
    if let Some(most) = spec.and_then(|s| s.max_unavailable.as_ref()) {
        return Ok(expected.saturating_sub(scaled(most)?).max(0));
    }
    match spec.and_then(|s| s.min_available.as_ref()) {
        Some(least) => scaled(least),
        None => Ok(0),
    }
}

/// What becomes of a budget.
#[derive(Debug)]
pub(super) struct Plan {
    pub status: PodDisruptionBudgetStatus,
    /// When a pod that was allowed to go should have gone.
    pub recheck: Option<Timestamp>,
    /// Pods that should have gone.
    pub not_deleted: Vec<Arc<Pod>>,
}

/// Makes the status.
#[must_use]
pub(super) fn plan(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    expected: i32,
    desired: i32,
    now: Timestamp,
) -> Plan {
    let old = budget.status.clone().unwrap_or_default();
    let allowed_to_go = old.disrupted_pods.clone().unwrap_or_default();
    let mut plan = Plan {
        status: old,
        recheck: None,
        not_deleted: Vec::new(),
    };
    let mut disrupted = BTreeMap::<String, Time>::new();
    let mut healthy = 0_i32;
    for pod in pods
        .iter()
        .filter(|p| p.metadata.deletion_timestamp.is_none())
    {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        if let Some(since) = allowed_to_go.get(name) {
            let until = since.0 + DELETION;
            if until < now {
                plan.not_deleted.push(Arc::clone(pod));
            } else {
                plan.recheck = Some(plan.recheck.map_or(until, |r| r.min(until)));
                disrupted.insert(name.to_owned(), since.clone());
                continue;
            }
        }
        healthy += i32::from(is_ready(pod));
    }
    let allowed = if expected <= 0 {
        0
    } else {
        healthy.saturating_sub(desired).max(0)
    };
    let status = &mut plan.status;
    status.current_healthy = Some(healthy);
    status.desired_healthy = Some(desired);
    status.expected_pods = Some(expected);
    status.disruptions_allowed = Some(allowed);
    status.disrupted_pods = (!disrupted.is_empty()).then_some(disrupted);
    status.observed_generation = budget.metadata.generation;
    let (value, reason) = if allowed > 0 {
        ("True", "SufficientPods")
    } else {
        ("False", "InsufficientPods")
    };
    set(status, value, reason, "", now);
    plan
}

/// The status when pods cannot be counted: nobody may go.
#[must_use]
pub(super) fn fail_safe(
    budget: &PodDisruptionBudget,
    why: &str,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let mut status = budget.status.clone().unwrap_or_default();
    status.disruptions_allowed = Some(0);
    set(&mut status, "False", "SyncFailed", why, now);
    status
}

fn set(
    status: &mut PodDisruptionBudgetStatus,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let generation = status.observed_generation;
    let conditions = status.conditions.get_or_insert_default();
    let wanted = Condition {
        type_: ALLOWED.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: Time(now),
    };
    match conditions.iter_mut().find(|c| c.type_ == ALLOWED) {
        None => conditions.push(wanted),
        Some(known) if known.status == wanted.status => {
            let last_transition_time = known.last_transition_time.clone();
            *known = Condition {
                last_transition_time,
                ..wanted
            };
        }
        Some(known) => *known = wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn budget(spec: serde_json::Value, disrupted: serde_json::Value) -> PodDisruptionBudget {
        proto::typed::from_json_value(json!({
            "metadata": {"name": "b", "generation": 2}, "spec": spec,
            "status": {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0,
                       "disruptedPods": disrupted}
        }))
        .unwrap()
    }

    fn pods(ready: usize) -> Vec<Arc<Pod>> {
        let pod = |i| {
            json!({"metadata": {"name": format!("p{i}")},
                             "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
        };
        (0..ready)
            .map(|i| Arc::new(proto::typed::from_json_value(pod(i)).unwrap()))
            .collect()
    }

    #[test]
    fn percentages_round_against_disruption_only_for_minimums() {
        let desired_of = |spec: serde_json::Value| desired(&budget(spec, json!({})), 7).unwrap();
        assert_eq!(desired_of(json!({"maxUnavailable": "30%"})), 4);
        assert_eq!(desired_of(json!({"maxUnavailable": 10})), 0);
        assert_eq!(desired_of(json!({"minAvailable": "50%"})), 4);
        assert_eq!(desired_of(json!({"minAvailable": 3})), 3);
        assert!(desired(&budget(json!({"minAvailable": "x"}), json!({})), 7).is_err());
    }

    #[test]
    fn pods_that_are_allowed_to_go_do_not_count_for_a_while() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let budget = budget(
            json!({"minAvailable": 1}),
            json!({"p0": "2026-01-01T00:00:00Z"}),
        );
        let soon = plan(&budget, &pods(3), 3, 1, at("2026-01-01T00:01:00Z"));
        assert_eq!(
            (soon.status.current_healthy, soon.status.disruptions_allowed),
            (Some(2), Some(1))
        );
        assert_eq!(soon.recheck, Some(at("2026-01-01T00:02:00Z")));
        assert_eq!(soon.status.disrupted_pods.as_ref().unwrap().len(), 1);
        let late = plan(&budget, &pods(3), 3, 1, at("2026-01-01T00:03:00Z"));
        assert_eq!(
            (late.status.current_healthy, late.status.disruptions_allowed),
            (Some(3), Some(2))
        );
        assert_eq!(
            (late.not_deleted.len(), late.status.disrupted_pods),
            (1, None)
        );
        let condition = &late.status.conditions.unwrap()[0];
        assert_eq!(
            (condition.reason.as_str(), condition.observed_generation),
            ("SufficientPods", Some(2))
        );
    }

    #[test]
    fn without_pods_nothing_is_allowed() {
        let budget = budget(json!({"maxUnavailable": 1}), json!({}));
        let none = plan(&budget, &[], 0, 0, Timestamp::UNIX_EPOCH);
        assert_eq!(none.status.disruptions_allowed, Some(0));
        assert_eq!(
            none.status.conditions.unwrap()[0].reason,
            "InsufficientPods"
        );
    }
}
