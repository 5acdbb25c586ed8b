//! What the strategies of all kinds say, by example.

use proto::catalogue::Gates;
use proto::codec::json;

use crate::strategies;

/// Warnings about an object, which may have been another before.
fn of(group: &str, name: &str, object: &str, old: Option<&str>) -> Vec<String> {
    let resource = proto::catalogue::resources()
        .iter()
        .find(|r| (r.group, r.name) == (group, name))
        .expect("a resource");
    let parse = |text: &str| json::parse(text.as_bytes()).expect("JSON");
    let (object, old) = (parse(object), old.map(parse));
    (strategies::of(resource).warnings)(Gates::defaults(), &object, old.as_ref())
}

/// Warnings about the new object of an update.
fn check(group: &str, name: &str, object: &str, old: Option<&str>, texts: &[&str]) {
    assert_eq!(of(group, name, object, old), texts, "{name}: {object}");
}

const TEMPLATE: &str = r#"{"spec":{"terminationGracePeriodSeconds":-1}}"#;
const OF_TEMPLATE: &str = "terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1";

#[test]
fn workloads_should_be_told_of_names_and_templates() {
    for (group, name) in [
        ("apps", "deployments"),
        ("apps", "replicasets"),
        ("batch", "jobs"),
        ("", "replicationcontrollers"),
    ] {
        let object = |name: &str, generation: u8| {
            format!(
                r#"{{"metadata":{{"name":"{name}","generation":{generation}}},"spec":{{"template":{TEMPLATE}}}}}"#
            )
        };
        let of_template = format!("spec.template.spec.{OF_TEMPLATE}");
        let found = of(group, name, &object("a.b", 1), None);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: ["),
            "{found:?}"
        );
        assert_eq!(found[1], of_template);
        check(group, name, &object("a", 1), None, &[&of_template]);
        check(group, name, &object("a.b", 2), Some(&object("a.b", 2)), &[]);
        check(
            group,
            name,
            &object("a.b", 2),
            Some(&object("a.b", 1)),
            &[&of_template],
        );
    }
}

#[test]
fn daemon_sets_should_be_told_of_templates_that_change() {
    let object = |template: &str| {
        format!(r#"{{"metadata":{{"name":"a.b"}},"spec":{{"template":{template}}}}}"#)
    };
    let told = format!("spec.template.spec.{OF_TEMPLATE}");
    check("apps", "daemonsets", &object(TEMPLATE), None, &[&told]);
    check(
        "apps",
        "daemonsets",
        &object(TEMPLATE),
        Some(&object("{}")),
        &[&told],
    );
    check(
        "apps",
        "daemonsets",
        &object(TEMPLATE),
        Some(&object(TEMPLATE)),
        &[],
    );
}

#[test]
fn stateful_sets_should_be_told_of_claims_and_history() {
    let object = r#"{"spec":{"revisionHistoryLimit":-1,"volumeClaimTemplates":[{},
        {"spec":{"resources":{"requests":{"storage":"1m"},"limits":{"storage":"1"}}}}]}}"#;
    let history = "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended";
    let text = r#"fractional byte value "1m" is invalid, must be an integer"#;
    let made = format!("spec.volumeClaimTemplates[1].resources.requests[storage]: {text}");
    check("apps", "statefulsets", object, None, &[&made, history]);
    let changed = format!("spec.volumeClaimTemplates[1].Spec.resources.requests[storage]: {text}");
    check(
        "apps",
        "statefulsets",
        object,
        Some(object),
        &[&changed, history],
    );
}

#[test]
fn jobs_should_be_told_at_their_own_paths() {
    let large = r#""completionMode":"Indexed","completions":100001,"parallelism":10001"#;
    let text = "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail";
    let job = format!(r#"{{"metadata":{{"name":"a"}},"spec":{{{large}}}}}"#);
    check("batch", "jobs", &job, None, &[&format!("spec: {text}")]);
    let cron = format!(
        r#"{{"metadata":{{"name":"a"}},"spec":{{"schedule":"TZ=UTC * * * * *","jobTemplate":{{"spec":{{{large},"template":{TEMPLATE}}}}}}}}}"#
    );
    let told = [
        format!("spec.jobTemplate.spec: {text}"),
        format!("spec.jobTemplate.spec.template.spec.{OF_TEMPLATE}"),
    ];
    check("batch", "cronjobs", &cron, None, &[&told[0], &told[1]]);
    let zone = "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details";
    check("batch", "cronjobs", &cron, Some(&cron), &[zone]);
}

#[test]
fn services_should_be_told_of_what_they_ignore() {
    for (object, texts) in [
        (
            r#"{"metadata":{"annotations":{"service.kubernetes.io/topology-aware-hints":"Auto"}},
                "spec":{"type":"ClusterIP","clusterIP":"None","clusterIPs":["None"],"sessionAffinity":"ClientIP",
                    "externalIPs":["1.1.1.1"],"loadBalancerIP":"::ffff:1.1.1.1"}}"#,
            &[
                "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead",
                "spec.loadBalancerIP is ignored for headless services",
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services",
                r#"spec.loadBalancerIP: non-standard IP address "::ffff:1.1.1.1" is invalid: use "1.1.1.1""#,
            ][..],
        ),
        (
            r#"{"spec":{"type":"ExternalName","externalName":"x","sessionAffinity":"None","externalIPs":["1.1.1.1"]}}"#,
            &[r#"spec.externalIPs is ignored when spec.type is "ExternalName""#],
        ),
        (
            r#"{"spec":{"type":"ClusterIP","clusterIP":"FD00::1","clusterIPs":["FD00::1"],"externalName":"x",
                "sessionAffinity":"None","loadBalancerSourceRanges":["1.1.1.1/8"],"trafficDistribution":"PreferClose"}}"#,
            &[
                r#"spec.clusterIPs[0]: IPv6 address "FD00::1" should be in RFC 5952 canonical format ("fd00::1")"#,
                r#"spec.loadBalancerSourceRanges[0]: CIDR value "1.1.1.1/8" is ambiguous in this context (should be "1.0.0.0/8" or "1.1.1.1/32"?)"#,
                r#"spec.externalName is ignored when spec.type is not "ExternalName""#,
                r#"spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone""#,
            ],
        ),
    ] {
        check("", "services", object, None, texts);
        check("", "services", object, Some(object), texts);
    }
}

#[test]
fn volumes_and_claims_should_be_told_of_old_ways() {
    let class = r#"deprecated since v1.8; use "storageClassName" attribute instead"#;
    check(
        "",
        "persistentvolumes",
        r#"{"metadata":{"annotations":{"volume.beta.kubernetes.io/mount-options":"","volume.beta.kubernetes.io/storage-class":""}},
            "spec":{"persistentVolumeReclaimPolicy":"Recycle","rbd":{},"nodeAffinity":{"required":{"nodeSelectorTerms":[
                {"matchExpressions":[{"key":"beta.kubernetes.io/os","operator":"Exists"}]}]}}}}"#,
        None,
        &[
            &format!("metadata.annotations[volume.beta.kubernetes.io/storage-class]: {class}"),
            r#"metadata.annotations[volume.beta.kubernetes.io/mount-options]: deprecated since v1.31; use "mountOptions" attribute instead"#,
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
            r#"spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use "kubernetes.io/os" instead"#,
            "spec.rbd: deprecated in v1.28, non-functional in v1.31+",
        ],
    );
    check(
        "",
        "persistentvolumeclaims",
        r#"{"metadata":{"annotations":{"volume.beta.kubernetes.io/storage-class":""}},
            "spec":{"resources":{"limits":{"storage":"0.5"}}}}"#,
        None,
        &[
            &format!("metadata.annotations[volume.beta.kubernetes.io/storage-class]: {class}"),
            r#"spec.resources.limits[storage]: fractional byte value "500m" is invalid, must be an integer"#,
        ],
    );
}

#[test]
fn storage_should_be_told_of_labels_and_tokens() {
    let zone = r#"deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#;
    check(
        "storage.k8s.io",
        "storageclasses",
        r#"{"allowedTopologies":[{"matchLabelExpressions":[{"key":"failure-domain.beta.kubernetes.io/zone"}]}]}"#,
        None,
        &[&format!(
            "allowedTopologies[0].matchLabelExpressions[0].key: {zone}"
        )],
    );
    check(
        "storage.k8s.io",
        "csistoragecapacities",
        r#"{"nodeTopology":{"matchLabels":{"failure-domain.beta.kubernetes.io/zone":"z"},
            "matchExpressions":[{"key":"failure-domain.beta.kubernetes.io/zone"}]}}"#,
        None,
        &[
            &format!(
                "nodeTopology.matchExpressions[0].key: failure-domain.beta.kubernetes.io/zone is {zone}"
            ),
            &format!("nodeTopology.matchLabels.failure-domain.beta.kubernetes.io/zone: {zone}"),
        ],
    );
    check(
        "node.k8s.io",
        "runtimeclasses",
        r#"{"scheduling":{"nodeSelector":{"failure-domain.beta.kubernetes.io/zone":"z"}}}"#,
        None,
        &[&format!("scheduling.nodeSelector: {zone}")],
    );
    let driver = r#"{"spec":{"tokenRequests":[{"audience":"a"}]}}"#;
    let token = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";
    check("storage.k8s.io", "csidrivers", driver, None, &[token]);
    check("storage.k8s.io", "csidrivers", driver, Some(driver), &[]);
    check("storage.k8s.io", "csidrivers", driver, Some("{}"), &[token]);
    let set =
        r#"{"spec":{"tokenRequests":[{"audience":"a"}],"serviceAccountTokenInSecrets":false}}"#;
    check("storage.k8s.io", "csidrivers", set, None, &[]);
}

#[test]
fn addresses_of_all_kinds_should_be_told_of() {
    let address = r#"IPv6 address "FD00::1" should be in RFC 5952 canonical format ("fd00::1")"#;
    let range = r#"CIDR value "1.1.1.1/8" is ambiguous in this context (should be "1.0.0.0/8" or "1.1.1.1/32"?)"#;
    check(
        "",
        "nodes",
        r#"{"spec":{"configSource":{},"externalID":"x","podCIDRs":["1.1.1.1/8"]}}"#,
        None,
        &[
            "spec.configSource: the feature is removed",
            "spec.externalID: this field is deprecated, and is unused by Kubernetes",
            &format!("spec.podCIDRs[0]: {range}"),
        ],
    );
    let subsets =
        r#""subsets":[{"addresses":[{"ip":"FD00::1"}],"notReadyAddresses":[{"ip":"FD00::1"}]}]"#;
    check(
        "",
        "endpoints",
        &format!("{{{subsets}}}"),
        None,
        &[
            &format!("subsets[0].addresses[0].ip: {address}"),
            &format!("subsets[0].notReadyAddresses[0].ip: {address}"),
        ],
    );
    let managed =
        r#""metadata":{"labels":{"endpoints.kubernetes.io/managed-by":"endpoint-controller"}}"#;
    check(
        "",
        "endpoints",
        &format!("{{{managed},{subsets}}}"),
        None,
        &[],
    );
    let slice = r#"{"addressType":"FQDN","endpoints":[{"addresses":["FD00::1"]}]}"#;
    let of_slice = format!("endpoints[0].addresses[0]: {address}");
    let group = "discovery.k8s.io";
    check(
        group,
        "endpointslices",
        slice,
        None,
        &["spec.addressType: FQDN endpoints are deprecated", &of_slice],
    );
    check(group, "endpointslices", slice, Some(slice), &[&of_slice]);
    check(
        "networking.k8s.io",
        "networkpolicies",
        r#"{"spec":{"egress":[{"to":[{"ipBlock":{"cidr":"1.1.1.1/8","except":["1.1.1.1/8"]}}]}],
            "ingress":[{},{"from":[{},{"ipBlock":{"cidr":"1.1.1.1/8"}}]}]}}"#,
        None,
        &[
            &format!("spec.ingress[1].from[1].ipBlock.cidr: {range}"),
            &format!("spec.egress[0].to[0].ipBlock.cidr: {range}"),
            &format!("spec.egress[0].to[0].ipBlock.except[0]: {range}"),
        ],
    );
}

#[test]
fn single_texts_should_be_said_when_they_apply() {
    let ingress = r#"{"metadata":{"annotations":{"kubernetes.io/ingress.class":"x"}}}"#;
    let text = r#"annotation "kubernetes.io/ingress.class" is deprecated, please use 'spec.ingressClassName' instead"#;
    check("networking.k8s.io", "ingresses", ingress, None, &[text]);
    check(
        "networking.k8s.io",
        "ingresses",
        ingress,
        Some(ingress),
        &[],
    );
    let account =
        r#"{"metadata":{"annotations":{"kubernetes.io/enforce-mountable-secrets":"true"}}}"#;
    let text = "metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets";
    check("", "serviceaccounts", account, Some("{}"), &[text]);
    check("", "serviceaccounts", account, Some(account), &[]);
    let quota = r#"{"spec":{"hard":{"cpu":"2","limits.cpu":"1","requests.memory":"1Gi","limits.memory":"2Gi"}}}"#;
    check(
        "",
        "resourcequotas",
        quota,
        None,
        &["ResourceQuota cpu (2) should be less than limits.cpu (1)"],
    );
    check("", "resourcequotas", quota, Some(quota), &[]);
    check(
        "resource.k8s.io",
        "resourceslices",
        r#"{"spec":{"driver":"Example.com"}}"#,
        None,
        &[
            r#"spec.driver: driver names should be lowercase; "Example.com" contains uppercase characters"#,
        ],
    );
    let hooks = r#"{"metadata":{"name":"a.static.k8s.io"},"webhooks":[{"rules":[
        {"apiGroups":["*"],"resources":["tokenreviews"]},
        {"apiGroups":["authentication.k8s.io",""],"resources":["tokenreviews","tokenreviews","pods"]}]}]}"#;
    let group = "admissionregistration.k8s.io";
    let excluded = "webhooks[0].rules[1]: tokenreviews.authentication.k8s.io is excluded from admission webhooks; this rule will have no effect";
    let reserved = r#"metadata.name: names ending with ".static.k8s.io" are reserved for static manifest-based configurations and cannot be managed via the API"#;
    for name in [
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
    ] {
        check(group, name, hooks, None, &[excluded]);
        check(group, name, hooks, Some(hooks), &[reserved, excluded]);
    }
    check(
        group,
        "validatingadmissionpolicies",
        hooks,
        Some(hooks),
        &[reserved],
    );
}

#[test]
fn statuses_should_be_told_of_addresses() {
    let status = |group: &str, name: &str, object: &str| {
        let mut all = proto::catalogue::resources().iter();
        let resource = all.find(|r| (r.group, r.name) == (group, name));
        let status = strategies::of(resource.expect("a resource")).status;
        (status.expect("a status").warnings)(&json::parse(object.as_bytes()).expect("JSON"))
    };
    let text = r#"IPv6 address "FD00::1" should be in RFC 5952 canonical format ("fd00::1")"#;
    assert_eq!(
        status(
            "",
            "pods",
            r#"{"status":{"hostIPs":[{"ip":"FD00::1"}],"podIPs":[{"ip":"FD00::1"}]}}"#
        ),
        [
            format!("status.podIPs[0].ip: {text}"),
            format!("status.hostIPs[0].ip: {text}")
        ]
    );
    for (group, name) in [("", "services"), ("networking.k8s.io", "ingresses")] {
        assert_eq!(
            status(
                group,
                name,
                r#"{"status":{"loadBalancer":{"ingress":[{"hostname":"h"},{"ip":"FD00::1"}]}}}"#
            ),
            [format!("status.loadBalancer.ingress[1]: {text}")]
        );
    }
}
