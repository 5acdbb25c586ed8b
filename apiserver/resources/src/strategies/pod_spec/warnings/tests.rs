use proto::codec::json;
use proto::view::core_v1::PodTemplate;

use super::*;

fn parse(text: &str) -> Value {
    json::parse(text.as_bytes()).expect("JSON")
}

/// What a new pod with a spec is told.
fn of_spec(spec: &str) -> Vec<String> {
    pod(&parse(&format!(
        r#"{{"metadata":{{"name":"p"}},"spec":{spec}}}"#
    )))
}

fn check(cases: &[(&str, &[&str])]) {
    for (spec, texts) in cases {
        assert_eq!(of_spec(spec), *texts, "{spec}");
    }
}

#[test]
fn labels_of_nodes_that_go_away_should_be_named() {
    check(&[
        (r#"{"nodeSelector":{"kubernetes.io/os":"linux"}}"#, &[]),
        (
            r#"{"nodeSelector":{"beta.kubernetes.io/os":"linux"}}"#,
            &[
                r#"spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead"#,
            ],
        ),
        (
            r#"{"affinity":{"nodeAffinity":{
                "requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[
                    {"matchExpressions":[{"key":"beta.kubernetes.io/arch","operator":"In","values":["-"]}]}]},
                "preferredDuringSchedulingIgnoredDuringExecution":[
                    {"weight":1,"preference":{"matchExpressions":[
                        {"key":"a","operator":"Exists"},
                        {"key":"node-role.kubernetes.io/master","operator":"Exists"}]}}]}}}"#,
            &[
                r#"spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/arch is deprecated since v1.14; use "kubernetes.io/arch" instead"#,
                r#"spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[1].key: node-role.kubernetes.io/master is use "node-role.kubernetes.io/control-plane" instead"#,
            ],
        ),
        (
            r#"{"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"app.kubernetes.io/created-by"}]}"#,
            &[
                "spec.topologySpreadConstraints[0].topologyKey: app.kubernetes.io/created-by is deprecated since v1.9",
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
            ],
        ),
    ]);
    let preferred = r#"{"affinity":{"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[
        {"weight":1,"preference":{"matchExpressions":[{"key":"a","operator":"In","values":["b","-c"]}]}}]}}}"#;
    let found = of_spec(preferred);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values[1]: -c is invalid, "),
        "{found:?}"
    );
}

#[test]
fn volumes_should_be_of_kinds_that_work() {
    check(&[
        (
            r#"{"volumes":[{"name":"a","emptyDir":{}},{"name":"b","gitRepo":{"repository":"r"}}]}"#,
            &["spec.volumes[1].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"],
        ),
        (
            r#"{"volumes":[{"name":"a","storageos":{}},{"name":"b","cephfs":{"monitors":["m"]}},{"name":"c","rbd":{}}]}"#,
            &[
                "spec.volumes[0].storageOS: deprecated in v1.22, non-functional in v1.25+",
                "spec.volumes[1].cephfs: deprecated in v1.28, non-functional in v1.31+",
                "spec.volumes[2].rbd: deprecated in v1.28, non-functional in v1.31+",
            ],
        ),
        (
            r#"{"volumes":[{"name":"a","ephemeral":{"volumeClaimTemplate":{"spec":{"resources":{
                "requests":{"storage":"200m"},"limits":{"storage":"1"}}}}}}]}"#,
            &[
                r#"spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources.requests[storage]: fractional byte value "200m" is invalid, must be an integer"#,
            ],
        ),
    ]);
}

#[test]
fn files_should_not_be_where_others_are() {
    check(&[
        (
            r#"{"volumes":[{"name":"v","configMap":{"name":"m","items":[
                {"key":"a","path":"x"},{"key":"b","path":"xy"},{"key":"c","path":"x/y"},{"key":"d","path":"x/"}]}}]}"#,
            &[
                r#"volume "v" (ConfigMap "m"): overlapping paths: "x/y" with "x""#,
                r#"volume "v" (ConfigMap "m"): overlapping paths: "x" with "x""#,
                r#"volume "v" (ConfigMap "m"): overlapping paths: "x" with "x/y""#,
            ],
        ),
        (
            r#"{"volumes":[{"name":"v","projected":{"sources":[
                {"serviceAccountToken":{"path":"t"}},
                {},
                {"clusterTrustBundle":{"signerName":"s","path":"t/b"}},
                {"podCertificate":{"keyPath":"t/b/k"}},
                {"downwardAPI":{"items":[{"path":"other"}]}}]}}]}"#,
            &[
                r#"volume "v" (Projected) has no sources provided"#,
                r#"volume "v" (Projected): overlapping paths: "t/b" (ClusterTrustBundle "s") with "t" (ServiceAccountToken)"#,
                r#"volume "v" (Projected): overlapping paths: "t/b/k" (PodCertificate key) with "t" (ServiceAccountToken)"#,
                r#"volume "v" (Projected): overlapping paths: "t/b/k" (PodCertificate key) with "t/b" (ClusterTrustBundle "s")"#,
            ],
        ),
    ]);
}

#[test]
fn what_is_there_twice_should_be_named() {
    check(&[
        (
            r#"{"hostAliases":[{"ip":"1.1.1.1"},{"ip":"1.1.1.1"}],
                "imagePullSecrets":[{"name":"s"},{"name":"s"},{}]}"#,
            &[
                r#"spec.hostAliases[1].ip: duplicate ip "1.1.1.1""#,
                r#"spec.imagePullSecrets[1].name: duplicate name "s""#,
                r#"spec.imagePullSecrets[2].name: invalid empty name """#,
            ],
        ),
        (
            r#"{"containers":[{"name":"c","env":[
                {"name":"A","value":"1"},{"name":"A","value":"$(A)2"},{"name":"A","value":"$(A)"},
                {"name":"A","value":"3"},{"name":"A","valueFrom":{}}]}]}"#,
            &[
                r#"spec.containers[0].env[2]: hides previous definition of "A", which may be dropped when using apply"#,
                r#"spec.containers[0].env[3]: hides previous definition of "A", which may be dropped when using apply"#,
                r#"spec.containers[0].env[4]: hides previous definition of "A", which may be dropped when using apply"#,
            ],
        ),
    ]);
}

#[test]
fn ports_should_be_apart() {
    check(&[
        (
            r#"{"initContainers":[{"name":"i","ports":[{"containerPort":80,"protocol":"TCP"}]}],
                "containers":[{"name":"c","ports":[
                    {"containerPort":80,"protocol":"UDP"},
                    {"containerPort":80,"protocol":"TCP"},
                    {"containerPort":80,"hostPort":80,"protocol":"TCP"}]}]}"#,
            &[
                "spec.containers[0].ports[1]: duplicate port definition with spec.initContainers[0].ports[0]",
                "spec.containers[0].ports[2]: overlapping port definition with spec.initContainers[0].ports[0]",
                "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[1]",
            ],
        ),
        (
            r#"{"containers":[{"name":"c","ports":[
                {"containerPort":80,"hostPort":8,"protocol":"TCP"},
                {"containerPort":80,"hostPort":8,"hostIP":"1.1.1.1","protocol":"TCP"},
                {"containerPort":80,"hostPort":8,"hostIP":"2.2.2.2","protocol":"TCP"}]}]}"#,
            &[
                "spec.containers[0].ports[1]: dangerously ambiguous port definition with spec.containers[0].ports[0]",
                "spec.containers[0].ports[2]: dangerously ambiguous port definition with spec.containers[0].ports[0]",
            ],
        ),
        (
            r#"{"containers":[{"name":"c","ports":[{"name":"x","containerPort":80,"hostIP":"1.1.1.1","protocol":"TCP"}]}]}"#,
            &[
                "spec.containers[0].ports[0]: hostIP set without hostPort: {Name:x HostPort:0 ContainerPort:80 Protocol:TCP HostIP:1.1.1.1}",
            ],
        ),
        (
            r#"{"containers":[{"name":"c","ports":[{"name":"x","containerPort":1}]},{"name":"d","ports":[{"name":"x","containerPort":2}]}]}"#,
            &[
                r#"spec.containers[1].ports[0]: duplicate port name "x" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]"#,
            ],
        ),
    ]);
}

#[test]
fn amounts_of_bytes_should_be_whole() {
    check(&[(
        r#"{"overhead":{"memory":"1500m","cpu":"1500m"},
            "containers":[{"name":"c","resources":{
                "requests":{"ephemeral-storage":"0.1","memory":"0.5Gi"},"limits":{"memory":"0.5"}}}]}"#,
        &[
            r#"spec.overhead[memory]: fractional byte value "1500m" is invalid, must be an integer"#,
            r#"spec.containers[0].resources.limits[memory]: fractional byte value "500m" is invalid, must be an integer"#,
            r#"spec.containers[0].resources.requests[ephemeral-storage]: fractional byte value "100m" is invalid, must be an integer"#,
        ],
    )]);
}

#[test]
fn the_rest_of_a_spec_should_be_told_too() {
    check(&[
        (
            r#"{"terminationGracePeriodSeconds":-1}"#,
            &[
                "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
            ],
        ),
        (
            r#"{"affinity":{
                "podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":"k","labelSelector":{}},{"topologyKey":"k"}]},
                "podAntiAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":1,"podAffinityTerm":{"topologyKey":"k"}}]}}}"#,
            &[
                "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[1].labelSelector: a null labelSelector results in matching no pod",
                "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector: a null labelSelector results in matching no pod",
            ],
        ),
        (
            r#"{"dnsConfig":{"nameservers":["1.1.1.1","FD00::1"]},"hostAliases":[{"ip":"::ffff:1.1.1.1"}]}"#,
            &[
                r#"spec.dnsConfig.nameservers[1]: IPv6 address "FD00::1" should be in RFC 5952 canonical format ("fd00::1")"#,
                r#"spec.hostAliases[0].ip: non-standard IP address "::ffff:1.1.1.1" is invalid: use "1.1.1.1""#,
            ],
        ),
    ]);
}

#[test]
fn annotations_should_give_way_to_fields() {
    let object = |metadata: &str, context: &str, of_container: &str| {
        parse(&format!(
            r#"{{"metadata":{{"name":"p.q","annotations":{metadata}}},
                "spec":{{"securityContext":{context},"containers":[{{"name":"c","securityContext":{of_container}}}]}}}}"#
        ))
    };
    let all = r#"{
        "scheduler.alpha.kubernetes.io/critical-pod":"",
        "seccomp.security.alpha.kubernetes.io/pod":"x",
        "container.seccomp.security.alpha.kubernetes.io/c":"x",
        "container.apparmor.security.beta.kubernetes.io/c":"localhost/x"}"#;
    // It becomes a field before the other warnings are looked for.
    let early = |object: &Value| app_armor_of_pod(object);
    let found = pod(&object(all, "{}", "{}"));
    let app_armor = r#"metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the "appArmorProfile" field instead"#;
    let name = "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [";
    assert_eq!(early(&object(all, "{}", "{}")), [app_armor]);
    assert!(found[0].starts_with(name), "{found:?}");
    assert_eq!(
        found[1..],
        [
            r#"metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the "priorityClassName" field instead"#,
            r#"metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the "seccompProfile" field instead"#,
            r#"metadata.annotations[container.seccomp.security.alpha.kubernetes.io/c]: non-functional in v1.27+; use the "seccompProfile" field instead"#,
        ]
    );
    // Fields say the same: of the pod's profile only if it is the annotation's.
    let seccomp = r#"{"seccompProfile":{"type":"RuntimeDefault"},
        "appArmorProfile":{"type":"Localhost","localhostProfile":"x"}}"#;
    let said = object(all, seccomp, seccomp);
    assert_eq!(pod(&said).len(), 2);
    assert!(early(&said).is_empty());
    let said = object(all, seccomp, r#"{"seccompProfile":{}}"#);
    assert!(early(&said).is_empty());
}

#[test]
fn templates_should_be_told_at_their_own_paths() {
    let object = parse(
        r#"{"template":{"metadata":{"annotations":{"container.apparmor.security.beta.kubernetes.io/c":"odd"}},
            "spec":{"hostAliases":[{"ip":"FD00::1"}],"containers":[{"name":"c"}]}}}"#,
    );
    let mut w = Warnings::new(&object);
    template(&mut w, PodTemplate::of(Node::new(&object)).template());
    assert_eq!(
        w.into_vec(),
        [
            r#"template.metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the "appArmorProfile" field instead"#,
            r#"template.spec.hostAliases[0].ip: IPv6 address "FD00::1" should be in RFC 5952 canonical format ("fd00::1")"#,
        ]
    );
}
