//! When a container that ended is started again: upstream's `pkg/api/v1/pod/util.go`.

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, PodSpec, PodStatus};

use super::seen::Seen;
use super::spec;
use crate::runtime::ContainerState;

/// The action that restarts a container, and the one that restarts all of its pod.
const RESTART: &str = "Restart";
const RESTART_ALL: &str = "RestartAllContainers";

/// The condition that says that all containers are being restarted.
pub(crate) const ALL_RESTARTING: &str = "AllContainersRestarting";

/// The first rule of the container that an exit code meets.
fn matching_rule(container: &Container, exit_code: i32) -> Option<&ContainerRestartRule> {
    let rules = container
        .restart_policy_rules
        .as_deref()
        .unwrap_or_default();
    rules.iter().find(|rule| {
        let Some(on) = &rule.exit_codes else {
            return false;
        };
        let listed = on
            .values
            .as_deref()
            .unwrap_or_default()
            .contains(&exit_code);
        match on.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    })
}

/// Whether an exit with this code restarts every container of the pod.
pub(crate) fn restarts_all(container: &Container, exit_code: i32) -> bool {
    matching_rule(container, exit_code).is_some_and(|rule| rule.action == RESTART_ALL)
}

/// Whether any container of the pod has a rule that restarts all.
pub(crate) fn could_restart_all(spec: &PodSpec) -> bool {
    let containers = spec::init_containers(spec).iter().chain(&spec.containers);
    let mut rules = containers.flat_map(|c| c.restart_policy_rules.as_deref().unwrap_or_default());
    rules.any(|rule| rule.action == RESTART_ALL)
}

/// Whether a container that exited with this code is started again.
pub(crate) fn after_exit(container: &Container, spec: &PodSpec, exit_code: i32) -> bool {
    let by_policy = |policy: &str| match policy {
        "Always" => Some(true),
        "OnFailure" => Some(exit_code != 0),
        "Never" => Some(false),
        _ => None,
    };
    if let Some(own) = &container.restart_policy {
        let rule = matching_rule(container, exit_code).map(|rule| rule.action.as_str());
        if matches!(rule, Some(RESTART | RESTART_ALL)) {
            return true;
        }
        if let Some(decided) = by_policy(own) {
            return decided;
        }
    }
    let of_pod = spec.restart_policy.as_deref().unwrap_or("Always");
    by_policy(of_pod).unwrap_or(true)
}

/// Whether a container that has to be killed (a failed probe) comes back.
pub(crate) fn after_kill(container: &Container, spec: &PodSpec) -> bool {
    let policy = container
        .restart_policy
        .as_deref()
        .or(spec.restart_policy.as_deref());
    policy != Some("Never")
}

/// Whether a container that is not running is to be started.
pub(crate) fn is_due(container: &Container, spec: &PodSpec, deleted: bool, seen: &Seen) -> bool {
    if deleted {
        return false;
    }
    let Some(last) = seen.last(&container.name) else {
        return true;
    };
    match last.status.state {
        ContainerState::Running => false,
        ContainerState::Unknown | ContainerState::Created => true,
        ContainerState::Exited => after_exit(container, spec, last.status.exit_code),
    }
}

/// Whether all containers are to be restarted: a rule said so and it is not done, as far as the
/// runtime or the status remembers.
pub(crate) fn is_restarting_all(spec: &PodSpec, seen: &Seen, status: &PodStatus) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    if conditions.any(|c| c.type_ == ALL_RESTARTING && c.status == "True") {
        return true;
    }
    let statuses = [&status.init_container_statuses, &status.container_statuses];
    let mut containers = spec::init_containers(spec).iter().chain(&spec.containers);
    containers.any(|container| {
        let last = seen.last(&container.name);
        let Some(last) = last.filter(|c| c.status.state == ContainerState::Exited) else {
            return false;
        };
        let mut told = statuses.iter().copied().flatten().flatten();
        let told = told.find(|s| s.name == container.name);
        let told = told.and_then(|s| s.state.as_ref()?.terminated.as_ref());
        restarts_all(container, last.status.exit_code)
            || told.is_some_and(|t| restarts_all(container, t.exit_code))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(yaml: serde_json::Value) -> Container {
        proto::typed::from_json_value(yaml).unwrap()
    }

    fn pod(policy: &str) -> PodSpec {
        PodSpec {
            restart_policy: Some(policy.into()),
            ..PodSpec::default()
        }
    }

    #[test]
    fn the_pods_policy_counts_where_the_container_has_none() {
        let plain = container(serde_json::json!({"name": "a"}));
        let restarted = |policy, code| after_exit(&plain, &pod(policy), code);
        assert!(restarted("Always", 0) && restarted("Always", 1));
        assert!(!restarted("OnFailure", 0) && restarted("OnFailure", 1));
        assert!(!restarted("Never", 0) && !restarted("Never", 1));
    }

    #[test]
    fn rules_come_before_the_containers_policy() {
        let rules = container(serde_json::json!({
            "name": "a", "restartPolicy": "Never",
            "restartPolicyRules": [
                {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}},
                {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [43]}},
            ],
        }));
        let spec = pod("Always");
        assert!(after_exit(&rules, &spec, 42) && after_exit(&rules, &spec, 43));
        assert!(!after_exit(&rules, &spec, 1));
        assert!(restarts_all(&rules, 43) && !restarts_all(&rules, 42));
        assert!(!after_kill(&rules, &spec));
    }

    #[test]
    fn a_rule_can_mean_all_other_codes() {
        let rules = container(serde_json::json!({
            "name": "a", "restartPolicy": "Never",
            "restartPolicyRules": [
                {"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [0]}},
            ],
        }));
        assert!(after_exit(&rules, &pod("Never"), 7) && !after_exit(&rules, &pod("Never"), 0));
    }
}
