use super::*;

fn read(text: &str) -> Result<KubeSchedulerConfiguration, String> {
    let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
    let mut config: KubeSchedulerConfiguration =
        component::config::read(format!("{head}{text}").as_bytes()).map_err(|e| e.to_string())?;
    config.complete();
    let mut problems = Problems::new();
    config.validate(&mut problems);
    problems.or(config).map_err(|e| e.to_string())
}

#[test]
fn an_empty_file_is_the_default_scheduler() {
    let config = read("").unwrap();
    assert_eq!(config.profiles.len(), 1);
    assert_eq!(config.profiles[0].scheduler_name, "default-scheduler");
    assert_eq!(config.leader_election.resource_name, "kube-scheduler");
    let chosen = config.profiles[0].chosen();
    let weight = |name: &str| chosen.iter().find(|c| c.name == name).map(|c| c.weight);
    assert_eq!(weight("TaintToleration"), Some(3));
    assert_eq!(weight("NodeResourcesFit"), Some(1));
}

#[test]
fn unknown_and_missing_plugins_are_refused_by_name() {
    let said = |name: &str| {
        read(&format!(
            "profiles: [{{plugins: {{score: {{enabled: [{{name: {name}}}]}}}}}}]"
        ))
        .unwrap_err()
    };
    assert!(
        said("Nonsense").contains("profiles[0].plugins.score.enabled: unknown plugin \"Nonsense\"")
    );
    assert!(said("GangScheduling").contains("plugin \"GangScheduling\" is not available"));
}

#[test]
fn a_profile_changes_defaults_by_point() {
    let config = read(
        "profiles: [{plugins: {score: {disabled: [{name: '*'}], enabled: [{name: NodeResourcesFit, weight: 7}]}}}]",
    )
    .unwrap();
    let chosen = config.profiles[0].chosen();
    let scoring: Vec<_> = chosen
        .iter()
        .filter(|c| c.points.score)
        .map(|c| (c.name, c.weight))
        .collect();
    assert_eq!(scoring, [("NodeResourcesFit", 7)]);
    assert!(
        chosen
            .iter()
            .any(|c| c.name == "TaintToleration" && c.points.filter)
    );
}

#[test]
fn arguments_are_defaulted_and_checked() {
    let fit = |strategy: &str| {
        read(&format!(
            "profiles: [{{pluginConfig: [{{name: NodeResourcesFit, args: {{scoringStrategy: {strategy}}}}}]}}]"
        ))
    };
    assert!(fit("{type: MostAllocated, resources: [{name: cpu}]}").is_ok());
    assert!(
        fit("{type: Best}")
            .unwrap_err()
            .contains("Unsupported value: \"Best\"")
    );
    assert!(
        fit("{type: RequestedToCapacityRatio}")
            .unwrap_err()
            .contains("at least one point")
    );
    assert!(fit("{kind: x, color: blue}").unwrap_err().contains("color"));
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let said = read(
        "parallelism: 0\npodInitialBackoffSeconds: 5\npodMaxBackoffSeconds: 2\nprofiles: [{}, {}]",
    )
    .unwrap_err();
    for wanted in [
        "parallelism",
        "podMaxBackoffSeconds",
        "profiles[0].schedulerName",
        "profiles[1].schedulerName",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
}
