//! Tests of workloads.

use crate::strategies::testing::Of;

const DEPLOYMENTS: Of = Of("apps", "v1", "deployments");
const REPLICA_SETS: Of = Of("apps", "v1", "replicasets");
const STATEFUL_SETS: Of = Of("apps", "v1", "statefulsets");
const DAEMON_SETS: Of = Of("apps", "v1", "daemonsets");

const SELECTOR: &str = r#""selector":{"matchLabels":{"a":"b"}}"#;
const TEMPLATE: &str = r#""template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;

/// A workload of these parts of a specification.
fn of(parts: &[&str]) -> String {
    let spec = parts.join(",");
    format!(r#"{{"metadata":{{"name":"w","namespace":"n"}},"spec":{{{spec}}}}}"#)
}

fn with(part: &str) -> String {
    of(&[SELECTOR, TEMPLATE, part])
}

fn status(status: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"w","namespace":"n"}},"spec":{{{SELECTOR},{TEMPLATE}}},"status":{{{status}}}}}"#
    )
}

#[test]
fn what_a_workload_needs_is_enough() {
    for resource in [DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS, DAEMON_SETS] {
        assert!(resource.refused(&of(&[SELECTOR, TEMPLATE])).is_empty());
    }
}

#[test]
fn a_selector_selects_the_template_and_no_others() {
    let mismatch = "`selector` does not match template `labels`";
    let labels =
        format!(r#"spec.template.metadata.labels: Invalid value: {{"a":"b"}}: {mismatch}"#);
    for (resource, named) in [
        (DEPLOYMENTS, "deployment"),
        (REPLICA_SETS, "deployment"),
        (STATEFUL_SETS, "statefulset"),
        (DAEMON_SETS, "daemonset"),
    ] {
        let other = r#""selector":{"matchLabels":{"a":"c"}}"#;
        assert_eq!(resource.refused(&of(&[other, TEMPLATE])), [labels.as_str()]);
        let empty = resource.refused(&of(&[r#""selector":{}"#, TEMPLATE]));
        let text =
            format!("spec.selector: Invalid value: {{}}: empty selector is invalid for {named}");
        assert_eq!(empty, [text]);
        let none = resource.refused(&of(&[TEMPLATE]));
        if named == "daemonset" {
            assert_eq!(none, [labels.as_str()]);
        } else {
            assert_eq!(
                none,
                ["spec.selector: Required value".into(), labels.clone()]
            );
        }
    }
}

#[test]
fn pods_of_a_workload_stay() {
    let template = r#""template":{"metadata":{"labels":{"a":"b"}},"spec":{"restartPolicy":"Never",
        "activeDeadlineSeconds":1,"containers":[{"name":"c","image":"i"}]}}"#;
    for (resource, of_kind) in [
        (DEPLOYMENTS, "ReplicaSet"),
        (REPLICA_SETS, "ReplicaSet"),
        (STATEFUL_SETS, "StatefulSet"),
        (DAEMON_SETS, "DaemonSet"),
    ] {
        let deadline = format!(
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in {of_kind} is not Supported"
        );
        assert_eq!(
            resource.refused(&of(&[SELECTOR, template])),
            [
                r#"spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always""#,
                deadline.as_str(),
            ]
        );
    }
}

#[test]
fn a_deployment_replaces_pods_in_steps_that_get_somewhere() {
    for (part, expected) in [
        (
            r#""strategy":{"type":"Recreate","rollingUpdate":{}}"#,
            vec![
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            ],
        ),
        (
            r#""strategy":{"type":"x","rollingUpdate":{}}"#,
            vec![
                r#"spec.strategy: Unsupported value: {"Type":"x","RollingUpdate":{"MaxUnavailable":0,"MaxSurge":0}}: supported values: "Recreate", "RollingUpdate""#,
            ],
        ),
        (
            r#""strategy":{"rollingUpdate":{"maxUnavailable":"0%","maxSurge":0}}"#,
            vec![
                r#"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0"#,
            ],
        ),
        (
            r#""strategy":{"rollingUpdate":{"maxUnavailable":"101%","maxSurge":-1}}"#,
            vec![
                "spec.strategy.rollingUpdate.maxSurge: Invalid value: -1: must be greater than or equal to 0",
                r#"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%"#,
            ],
        ),
        (
            r#""minReadySeconds":9,"progressDeadlineSeconds":9,"replicas":-1"#,
            vec![
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.progressDeadlineSeconds: Invalid value: 9: must be greater than minReadySeconds",
            ],
        ),
    ] {
        assert_eq!(DEPLOYMENTS.refused(&with(part)), expected, "{part}");
    }
}

#[test]
fn a_daemon_set_updates_by_one_of_two_ways() {
    for (part, expected) in [
        (r#""updateStrategy":{"type":"OnDelete"}"#, vec![]),
        (
            r#""updateStrategy":{"type":"x"}"#,
            vec![
                r#"spec.updateStrategy: Unsupported value: {"Type":"x","RollingUpdate":null}: supported values: "RollingUpdate", "OnDelete""#,
            ],
        ),
        (
            r#""updateStrategy":{"rollingUpdate":{"maxUnavailable":0}}"#,
            vec![
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
            ],
        ),
        (
            r#""updateStrategy":{"rollingUpdate":{"maxSurge":"10%"}}"#,
            vec![
                r#"spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: "10%": may not be set when maxUnavailable is non-zero"#,
            ],
        ),
    ] {
        assert_eq!(DAEMON_SETS.refused(&with(part)), expected, "{part}");
    }
}

#[test]
fn a_daemon_set_counts_the_changes_of_its_template() {
    let key = "deprecated.daemonset.template.generation";
    let made = DAEMON_SETS.create(&with(r#""minReadySeconds":1"#)).unwrap();
    assert_eq!(proto::meta::annotation(&made, key), Some("1"));
    let old = DAEMON_SETS.stored(&with(r#""minReadySeconds":1"#));
    let old = old.replace(&format!(r#""{key}":"1""#), &format!(r#""{key}":"3""#));
    let count = |new: &str| {
        let stored = DAEMON_SETS.update("", new, &old).unwrap();
        proto::meta::annotation(&stored, key).map(str::to_owned)
    };
    assert_eq!(count(&with(r#""minReadySeconds":2"#)).as_deref(), Some("3"));
    let changed = with(r#""minReadySeconds":1"#).replace(r#""image":"i""#, r#""image":"j""#);
    assert_eq!(count(&changed).as_deref(), Some("4"));
}

#[test]
fn a_stateful_set_makes_pods_with_claims_and_names() {
    let claim = r#"{"metadata":{"name":"d"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1"}}}}"#;
    let mounts = TEMPLATE.replace(
        r#""image":"i""#,
        r#""image":"i","volumeMounts":[{"name":"d","mountPath":"/d"}]"#,
    );
    let claims = format!(r#""volumeClaimTemplates":[{claim}]"#);
    assert_eq!(
        STATEFUL_SETS.refused(&of(&[SELECTOR, &mounts])),
        [r#"spec.template.spec.containers[0].volumeMounts[0].name: Not found: "d""#]
    );
    let set = of(&[SELECTOR, &mounts, &claims]);
    let made = STATEFUL_SETS.create(&set).unwrap();
    let claims = made.at(&["spec", "volumeClaimTemplates"]).unwrap();
    let kind = claims.as_list().unwrap()[0].get("kind").cloned();
    assert_eq!(kind, Some("PersistentVolumeClaim".into()));
    for (part, expected) in [
        (
            r#""podManagementPolicy":"x","updateStrategy":{"type":"OnDelete","rollingUpdate":{"maxUnavailable":2}}"#,
            vec![
                r#"spec.podManagementPolicy: Invalid value: "x": must be 'OrderedReady' or 'Parallel'"#,
                r#"spec.updateStrategy.rollingUpdate: Invalid value: {"Partition":0,"MaxUnavailable":2}: only allowed for updateStrategy 'RollingUpdate'"#,
            ],
        ),
        (
            r#""updateStrategy":{"rollingUpdate":{"partition":-1,"maxUnavailable":0}}"#,
            vec![
                "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
            ],
        ),
        (
            r#""persistentVolumeClaimRetentionPolicy":{"whenScaled":"x"},"ordinals":{"start":-1},"serviceName":"A""#,
            vec![
                r#"spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: "x": supported values: "Retain", "Delete""#,
                "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
                "spec.serviceName: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ],
        ),
    ] {
        assert_eq!(STATEFUL_SETS.refused(&with(part)), expected, "{part}");
    }
}

#[test]
fn a_stateful_set_keeps_what_its_pods_are_known_by() {
    let old = with(r#""serviceName":"a""#);
    let new = with(r#""serviceName":"b","podManagementPolicy":"Parallel","replicas":3"#);
    assert_eq!(
        STATEFUL_SETS.refused_update("", &new, &old),
        [
            r#"spec.serviceName: Invalid value: "b": field is immutable"#,
            r#"spec.podManagementPolicy: Invalid value: "Parallel": field is immutable"#,
        ]
    );
}

#[test]
fn a_way_of_updates_that_is_named_is_left_as_it_is() {
    let rolling = |part: &str| {
        let made = STATEFUL_SETS.create(&with(part)).unwrap();
        made.at(&["spec", "updateStrategy", "rollingUpdate"])
            .is_some()
    };
    assert!(rolling(r#""replicas":1"#));
    assert!(!rolling(r#""updateStrategy":{"type":"RollingUpdate"}"#));
}

#[test]
fn counters_of_a_status_fit_each_other() {
    let all = "cannot be greater than status.replicas";
    let ready = "cannot be greater than readyReplicas";
    let counts = status(r#""replicas":1,"readyReplicas":2,"availableReplicas":3"#);
    let expected = [
        format!("status.readyReplicas: Invalid value: 2: {all}"),
        format!("status.availableReplicas: Invalid value: 3: {all}"),
        format!("status.availableReplicas: Invalid value: 3: {ready}"),
    ];
    for resource in [DEPLOYMENTS, REPLICA_SETS] {
        assert_eq!(
            resource.refused_update("status", &counts, &status("")),
            expected
        );
    }
    for resource in [DEPLOYMENTS, STATEFUL_SETS, DAEMON_SETS] {
        let (new, old) = (
            status(r#""collisionCount":1"#),
            status(r#""collisionCount":2"#),
        );
        assert_eq!(
            resource.refused_update("status", &new, &old),
            ["status.collisionCount: Invalid value: 1: cannot be decremented"]
        );
    }
}
