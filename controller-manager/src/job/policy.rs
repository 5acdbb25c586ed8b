//! What a failed pod means to its job, and which successes are enough.
//!
//! Sources: `pod_failure_policy.go` and `success_policy.go` in `pkg/controller/job`.

use k8s_openapi::api::batch::v1::{
    PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern, SuccessPolicy,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::indexes::Indexes;

/// What a failed pod means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// One failure more.
    Count,
    Ignore,
    /// Its index has failed for good.
    FailIndex,
    /// The job has, for this reason.
    FailJob(String),
}

/// The first rule that matches decides; without one the failure counts.
pub(super) fn verdict(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Verdict {
    let rules = policy.iter().flat_map(|p| &p.rules);
    for (number, rule) in rules.enumerate() {
        let Some(what) = matched(
            rule.on_exit_codes.as_ref(),
            rule.on_pod_conditions.as_deref(),
            pod,
        ) else {
            continue;
        };
        match rule.action.as_str() {
            "Ignore" => return Verdict::Ignore,
            "FailIndex" => return Verdict::FailIndex,
            "Count" => return Verdict::Count,
            "FailJob" => {
                let text = format!("{what} matching FailJob rule at index {number}");
                return Verdict::FailJob(text);
            }
            _ => {}
        }
    }
    Verdict::Count
}

/// What of a pod matches, in words.
fn matched(
    codes: Option<&PodFailurePolicyOnExitCodesRequirement>,
    conditions: Option<&[PodFailurePolicyOnPodConditionsPattern]>,
    pod: &Pod,
) -> Option<String> {
    let status = pod.status.as_ref()?;
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(codes) = codes {
        let containers = status.container_statuses.iter().flatten();
        let all = containers.chain(status.init_container_statuses.iter().flatten());
        let (container, code) = all.into_iter().find_map(|c| exit_code(codes, c))?;
        return Some(format!(
            "Container {container} for pod {namespace}/{name} failed with exit code {code}"
        ));
    }
    let patterns = conditions.unwrap_or_default();
    let has = |kind: &str, is: &str| {
        let wanted = |p: &PodFailurePolicyOnPodConditionsPattern| {
            p.status.as_deref().unwrap_or("True") == is
        };
        patterns.iter().any(|p| p.type_ == kind && wanted(p))
    };
    let mut all = status.conditions.iter().flatten();
    let condition = all.find(|c| has(&c.type_, &c.status))?;
    Some(format!(
        "Pod {namespace}/{name} has condition {}",
        condition.type_
    ))
}

fn exit_code<'c>(
    wanted: &PodFailurePolicyOnExitCodesRequirement,
    container: &'c ContainerStatus,
) -> Option<(&'c str, i32)> {
    let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
    let meant = wanted
        .container_name
        .as_ref()
        .is_none_or(|name| *name == container.name);
    let listed = wanted.values.contains(&code);
    let matches = match wanted.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    };
    (meant && code != 0 && matches).then_some((container.name.as_str(), code))
}

/// The rule that says that these successes are enough, in words.
pub(super) fn enough(
    policy: Option<&SuccessPolicy>,
    completions: i32,
    succeeded: &Indexes,
) -> Option<String> {
    if succeeded.is_empty() {
        return None;
    }
    let mut rules = policy?.rules.iter();
    let number = rules.position(|rule| match &rule.succeeded_indexes {
        Some(text) => {
            let wanted = Indexes::parse(text, completions);
            let there = succeeded.common(&wanted);
            let count = rule.succeeded_count;
            !wanted.is_empty()
                && (there == wanted.count() || count.is_some_and(|count| there >= count))
        }
        None => rule
            .succeeded_count
            .is_some_and(|count| succeeded.count() >= count),
    })?;
    Some(format!("Matched rules at index {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(code: i32, condition: &str) -> Pod {
        proto::typed::from_json_value(
            json!({"metadata": {"name": "p", "namespace": "ns"}, "status": {
                "conditions": [{"type": condition, "status": "True"}],
                "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false,
                    "restartCount": 0, "state": {"terminated": {"exitCode": code}}}],
            }}),
        )
        .unwrap()
    }

    fn policy(rules: Value) -> PodFailurePolicy {
        proto::typed::from_json_value(json!({ "rules": rules })).unwrap()
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let policy = policy(json!([
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1]}},
        ]));
        let of = |code, condition| verdict(Some(&policy), &pod(code, condition));
        assert_eq!(of(42, "DisruptionTarget"), Verdict::Ignore);
        let text =
            "Container c for pod ns/p failed with exit code 42 matching FailJob rule at index 1";
        assert_eq!(of(42, "Ready"), Verdict::FailJob(text.to_owned()));
        assert_eq!(of(7, "Ready"), Verdict::FailIndex);
        assert_eq!(of(1, "Ready"), Verdict::Count);
        assert_eq!(of(0, "Ready"), Verdict::Count);
        assert_eq!(verdict(None, &pod(42, "Ready")), Verdict::Count);
    }

    #[test]
    fn some_successes_may_be_enough() {
        let policy = |rules: Value| -> SuccessPolicy {
            proto::typed::from_json_value(json!({ "rules": rules })).unwrap()
        };
        let done = Indexes::parse("0,2-3", 9);
        for (rules, is) in [
            (json!([{"succeededIndexes": "0,3"}]), true),
            (json!([{"succeededIndexes": "0-1"}]), false),
            (
                json!([{"succeededIndexes": "0-1", "succeededCount": 1}]),
                true,
            ),
            (json!([{"succeededCount": 4}]), false),
            (json!([{"succeededCount": 3}]), true),
        ] {
            let said = enough(Some(&policy(rules.clone())), 9, &done);
            assert_eq!(said.is_some(), is, "{rules}");
        }
        assert_eq!(enough(None, 9, &done), None);
    }
}
