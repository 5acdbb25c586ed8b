//! Tests of the rules of pods: what is wrong, and where.

use crate::strategies::testing::Of;

const PODS: Of = Of("", "v1", "pods");

/// A pod whose specification has these parts, its container those.
fn pod(container: &str, parts: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"p","namespace":"n"}},"spec":{{"containers":[{{"name":"c","image":"i"{container}}}]{parts}}}}}"#
    )
}

fn refused(container: &str, parts: &str) -> Vec<String> {
    PODS.refused(&pod(container, parts))
}

#[test]
fn containers_are_named_and_ask_for_what_there_is() {
    for (container, expected) in [
        ("", vec![]),
        (
            r#","imagePullPolicy":"x","terminationMessagePolicy":"y""#,
            vec![
                r#"spec.containers[0].terminationMessagePolicy: Unsupported value: "y": supported values: "File", "FallbackToLogsOnError""#,
                r#"spec.containers[0].imagePullPolicy: Unsupported value: "x": supported values: "Always", "IfNotPresent", "Never""#,
            ],
        ),
        (
            r#","resources":{"requests":{"cpu":"2","a":"1"},"limits":{"cpu":"1"}}"#,
            vec![
                "spec.containers[0].resources.requests[a]: Invalid value: \"a\": must be a standard resource type or fully qualified",
                "spec.containers[0].resources.requests[a]: Invalid value: \"a\": must be a standard resource for containers",
                r#"spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1"#,
            ],
        ),
        (
            r#","ports":[{"containerPort":0},{"name":"a","containerPort":80},{"name":"a","containerPort":81,"protocol":"x"}]"#,
            vec![
                "spec.containers[0].ports[0].containerPort: Required value",
                r#"spec.containers[0].ports[2].name: Duplicate value: "a""#,
                r#"spec.containers[0].ports[2].protocol: Unsupported value: "x": supported values: "SCTP", "TCP", "UDP""#,
            ],
        ),
        (
            r#","env":[{"name":"","value":"x"},{"name":"A","value":"b","valueFrom":{"fieldRef":{"fieldPath":"metadata.x"}}}]"#,
            vec![
                "spec.containers[0].env[0].name: Required value",
                r#"spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Invalid value: "metadata.x": error converting fieldPath: field label not supported: metadata.x"#,
                r#"spec.containers[0].env[1].valueFrom: Invalid value: "": may not be specified when `value` is not empty"#,
            ],
        ),
        (
            r#","volumeMounts":[{"name":"v","mountPath":"/a"},{"name":"","mountPath":"/a","subPath":"../b"}]"#,
            vec![
                r#"spec.containers[0].volumeMounts[0].name: Not found: "v""#,
                "spec.containers[0].volumeMounts[1].name: Required value",
                r#"spec.containers[0].volumeMounts[1].name: Not found: """#,
                r#"spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique"#,
                r#"spec.containers[0].volumeMounts.subPath: Invalid value: "../b": must not contain '..'"#,
            ],
        ),
        (
            r#","livenessProbe":{"successThreshold":2,"tcpSocket":{"port":0}},"readinessProbe":{}"#,
            vec![
                "spec.containers[0].livenessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
                "spec.containers[0].readinessProbe: Required value: must specify a handler type",
            ],
        ),
        (
            r#","securityContext":{"runAsUser":-1,"procMount":"x","privileged":true,"allowPrivilegeEscalation":false}"#,
            vec![
                "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                r#"spec.containers[0].securityContext.procMount: Unsupported value: "x": supported values: "Default", "Unmasked""#,
                r#"spec.containers[0].securityContext: Invalid value: {"Capabilities":null,"Privileged":true,"SELinuxOptions":null,"WindowsOptions":null,"RunAsUser":-1,"RunAsGroup":null,"RunAsNonRoot":null,"ReadOnlyRootFilesystem":null,"AllowPrivilegeEscalation":false,"ProcMount":"x","SeccompProfile":null,"AppArmorProfile":null}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"#,
            ],
        ),
    ] {
        assert_eq!(refused(container, ""), expected, "{container}");
    }
    let nameless = pod("", "").replace(r#""name":"c","image":"i""#, r#""name":"","image":"""#);
    assert_eq!(
        PODS.refused(&nameless),
        [
            "spec.containers[0].name: Required value",
            "spec.containers[0].image: Required value",
        ]
    );
    let none = r#"{"metadata":{"name":"p","namespace":"n"},"spec":{"containers":[]}}"#;
    assert_eq!(PODS.refused(none), ["spec.containers: Required value"]);
}

#[test]
fn a_volume_has_a_name_and_one_source() {
    for (volume, expected) in [
        (r#"{"name":"v"}"#, vec![]),
        (
            r#"{"name":"v","emptyDir":{},"hostPath":{"path":"/a/../b"}}"#,
            vec!["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            r#"{"name":"v","hostPath":{"path":"/a/../b","type":"x"}}"#,
            vec![
                r#"spec.volumes[0].hostPath.path: Invalid value: "/a/../b": must not contain '..'"#,
                r#"spec.volumes[0].hostPath.type: Unsupported value: "x": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket""#,
            ],
        ),
        (
            r#"{"name":"V","secret":{}}"#,
            vec![
                "spec.volumes[0].secret.secretName: Required value",
                "spec.volumes[0].name: Invalid value: \"V\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ],
        ),
        (
            r#"{"name":"v","nfs":{"path":"a"}}"#,
            vec![
                "spec.volumes[0].nfs.server: Required value",
                r#"spec.volumes[0].nfs.path: Invalid value: "a": must be an absolute path"#,
            ],
        ),
        (
            r#"{"name":"v","configMap":{"name":"m","items":[{"key":"","path":"/x"}],"defaultMode":512}}"#,
            vec![
                "spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
                "spec.volumes[0].configMap.items[0].key: Required value",
                r#"spec.volumes[0].configMap.items[0].path: Invalid value: "/x": must be a relative path"#,
            ],
        ),
    ] {
        let parts = format!(r#","volumes":[{volume}]"#);
        assert_eq!(refused("", &parts), expected, "{volume}");
    }
    let twice = r#","volumes":[{"name":"v"},{"name":"v"}]"#;
    assert_eq!(
        refused("", twice),
        [r#"spec.volumes[1].name: Duplicate value: "v""#]
    );
}

#[test]
fn a_pod_says_where_and_how_it_runs() {
    for (parts, expected) in [
        (
            r#","restartPolicy":"x","dnsPolicy":"y""#,
            vec![
                r#"spec.restartPolicy: Unsupported value: "x": supported values: "Always", "OnFailure", "Never""#,
                r#"spec.dnsPolicy: Unsupported value: "y": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None""#,
            ],
        ),
        (
            r#","tolerations":[{"key":"a","operator":"Exists","value":"x"},{"operator":"Equal"},{"key":"a","effect":"x"}]"#,
            vec![
                r#"spec.tolerations[0].operator: Invalid value: "x": value must be empty when `operator` is 'Exists'"#,
                r#"spec.tolerations[1].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys""#,
                r#"spec.tolerations[2].effect: Unsupported value: "x": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#,
            ],
        ),
        (
            r#","dnsConfig":{"nameservers":["x","1.1.1.1","1.1.1.1","1.1.1.1"]},"dnsPolicy":"None""#,
            vec![
                r#"spec.dnsConfig.nameservers: Invalid value: ["x","1.1.1.1","1.1.1.1","1.1.1.1"]: must not have more than 3 nameservers"#,
                r#"spec.dnsConfig.nameservers[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
            ],
        ),
        (
            r#","topologySpreadConstraints":[{"maxSkew":0,"topologyKey":"","whenUnsatisfiable":"x"}]"#,
            vec![
                "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
                "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
                r#"spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "x": supported values: "DoNotSchedule", "ScheduleAnyway""#,
            ],
        ),
        (
            r#","affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[]}}}"#,
            vec![
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term",
            ],
        ),
        (
            r#","activeDeadlineSeconds":0,"hostname":"A_""#,
            vec![
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
                "spec.hostname: Invalid value: \"A_\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ],
        ),
        (
            r#","os":{"name":"x"},"preemptionPolicy":"y""#,
            vec![
                r#"spec.preemptionPolicy: Unsupported value: "y": supported values: "PreemptLowerPriority", "Never""#,
                r#"spec.os: Unsupported value: "x": supported values: "linux", "windows""#,
            ],
        ),
        (
            r#","readinessGates":[{"conditionType":"a b"}],"schedulingGates":[{"name":"a"},{"name":"a"}]"#,
            vec![
                "spec.readinessGates[0].conditionType: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                r#"spec.schedulingGates[1]: Duplicate value: "a""#,
            ],
        ),
        (
            r#","securityContext":{"sysctls":[{"name":"a"},{"name":"a"}],"fsGroup":-1}"#,
            vec![
                "spec.securityContext.fsGroup: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                r#"spec.securityContext.sysctls[1].name: Duplicate value: "a""#,
            ],
        ),
        (
            r#","initContainers":[{"name":"c","image":"i"},{"name":"d","image":"i","restartPolicy":"x"}]"#,
            vec![
                r#"spec.initContainers[0].name: Duplicate value: "c""#,
                r#"spec.initContainers[1].restartPolicy: Unsupported value: "x": supported values: "Always", "Never", "OnFailure""#,
            ],
        ),
    ] {
        assert_eq!(refused("", parts), expected, "{parts}");
    }
}

#[test]
fn a_pod_that_is_there_keeps_nearly_everything() {
    let old = PODS.stored(&pod("", ""));
    let image = pod("", "").replace(r#""image":"i""#, r#""image":"j""#);
    assert!(PODS.refused_update("", &image, &old).is_empty());
    let deadline = PODS.stored(&pod("", r#","activeDeadlineSeconds":5"#));
    assert!(PODS.refused_update("", &deadline, &old).is_empty());
    assert_eq!(
        PODS.refused_update("", &old, &deadline),
        [
            r"spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value"
        ]
    );
    let moved = pod("", r#","nodeName":"n""#);
    let refused = PODS.refused_update("", &moved, &old);
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(
        refused[0].starts_with(
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"
        ),
        "{}",
        refused[0]
    );
    assert!(refused[0].contains("\n- \"NodeName\": \"\",\n+ \"NodeName\": \"n\",\n"));
}
