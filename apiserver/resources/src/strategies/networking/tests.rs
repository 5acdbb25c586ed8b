use super::*;

#[test]
fn hosts_are_those_of_the_first_rules() {
    for (rules, shown) in [
        (&[""][..], "*"),
        (&["a", "", "b"][..], "a,b"),
        (&["", "a", "b", "c"][..], "a,b,c"),
        (&["a", "b", "c", "d", "e"][..], "a,b,c + 2 more..."),
    ] {
        assert_eq!(hosts(rules.iter().copied()), shown);
    }
}

#[test]
fn a_policy_rules_what_it_speaks_of() {
    let types = |spec: &str| {
        let text = format!(r#"{{"spec":{spec}}}"#);
        let mut policy = proto::codec::json::parse(text.as_bytes()).expect("JSON");
        (NETWORK_POLICY.default)(proto::catalogue::Gates::defaults(), &mut policy);
        let types = policy
            .at(&[n::SPEC, n::POLICY_TYPES])
            .and_then(Value::as_list);
        let types = types.unwrap_or_default().iter().filter_map(Value::as_str);
        types.collect::<Vec<_>>().join(",")
    };
    assert_eq!(types("{}"), "Ingress");
    assert_eq!(types(r#"{"egress":[{}]}"#), "Ingress,Egress");
    assert_eq!(types(r#"{"policyTypes":["Egress"]}"#), "Egress");
}

use super::super::testing::Of;

const INGRESSES: Of = Of("networking.k8s.io", "v1", "ingresses");
const CLASSES: Of = Of("networking.k8s.io", "v1", "ingressclasses");
const POLICIES: Of = Of("networking.k8s.io", "v1", "networkpolicies");
const ADDRESSES: Of = Of("networking.k8s.io", "v1", "ipaddresses");
const RANGES: Of = Of("networking.k8s.io", "v1", "servicecidrs");

fn object(spec: &str) -> String {
    format!(r#"{{"metadata":{{"name":"x","namespace":"n"}},"spec":{spec}}}"#)
}

#[test]
fn an_ingress_leads_somewhere() {
    let path =
        |path: &str| format!(r#"{{"rules":[{{"host":"a.b","http":{{"paths":[{path}]}}}}]}}"#);
    const BACKEND: &str = r#""backend":{"service":{"name":"s","port":{"number":80}}}"#;
    for (spec, errors) in [
        (path(&format!(r#"{{"pathType":"Prefix","path":"/",{BACKEND}}}"#)), &[][..]),
        ("{}".into(), &["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"]),
        (
            path(&format!(r#"{{"path":"/",{BACKEND}}}"#)),
            &["spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"],
        ),
        (
            path(&format!(r#"{{"pathType":"Exact","path":"a//b/..",{BACKEND}}}"#)),
            &[
                "spec.rules[0].http.paths[0].path: Invalid value: \"a//b/..\": must be an absolute path",
                "spec.rules[0].http.paths[0].path: Invalid value: \"a//b/..\": must not contain '//'",
                "spec.rules[0].http.paths[0].path: Invalid value: \"a//b/..\": cannot end with '/..'",
            ],
        ),
        (
            r#"{"defaultBackend":{"service":{"name":"","port":{"name":"p","number":1}}}}"#.into(),
            &[
                "spec.defaultBackend.service.name: Required value",
                "spec.defaultBackend: Invalid value: \"\": cannot set both port name & port number",
            ],
        ),
        (
            r#"{"defaultBackend":{"resource":{"kind":"K","name":""}},"rules":[{"host":"10.0.0.1"}]}"#.into(),
            &[
                "spec.defaultBackend.resource.name: Required value",
                "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
            ],
        ),
    ] {
        assert_eq!(INGRESSES.refused(&object(&spec)), errors, "{spec}");
    }
}

#[test]
fn the_class_of_an_ingress_is_said_once() {
    let ingress = r#"{"metadata":{"name":"x","namespace":"n","annotations":{"kubernetes.io/ingress.class":"a"}},
        "spec":{"ingressClassName":"b","defaultBackend":{"resource":{"kind":"K","name":"n"}}}}"#;
    let told = [
        "annotations.kubernetes.io/ingress.class: Invalid value: \"a\": must match `ingressClassName` when both are specified",
    ];
    assert_eq!(INGRESSES.refused(ingress), told);
    assert!(INGRESSES.refused_update("", ingress, ingress).is_empty());
}

#[test]
fn parameters_of_classes_have_a_scope() {
    for (spec, errors) in [
        (r#"{"controller":"a.io/b"}"#, &[][..]),
        (
            r#"{"controller":"a.io/b","parameters":{"kind":"K","name":"n"}}"#,
            &[],
        ),
        (
            r#"{"controller":"x"}"#,
            &[
                "spec.controller: Invalid value: \"x\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ],
        ),
        (
            r#"{"controller":"a.io/b","parameters":{"kind":"","name":"","scope":"Namespace"}}"#,
            &[
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
                "spec.parameters.kind: Required value",
                "spec.parameters.name: Required value",
            ],
        ),
        (
            r#"{"controller":"a.io/b","parameters":{"kind":"K","name":"n","namespace":"n"}}"#,
            &["spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"],
        ),
    ] {
        let class = format!(r#"{{"metadata":{{"name":"x"}},"spec":{spec}}}"#);
        assert_eq!(CLASSES.refused(&class), errors, "{spec}");
    }
}

#[test]
fn a_policy_says_whom_it_means() {
    let from = |peer: &str| format!(r#"{{"podSelector":{{}},"ingress":[{{"from":[{peer}]}}]}}"#);
    let port = |port: &str| format!(r#"{{"podSelector":{{}},"ingress":[{{"ports":[{port}]}}]}}"#);
    for (spec, errors) in [
        (
            from(r#"{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}"#),
            &[][..],
        ),
        (
            from("{}"),
            &["spec.ingress[0].from[0]: Required value: must specify a peer"],
        ),
        (
            from(r#"{"ipBlock":{"cidr":""}}"#),
            &["spec.ingress[0].from[0].ipBlock.cidr: Required value"],
        ),
        (
            from(
                r#"{"podSelector":{},"ipBlock":{"cidr":"10.0.0.0/8","except":["11.0.0.0/16","10.0.0.0/8"]}}"#,
            ),
            &[
                "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
                "spec.ingress[0].from[0].ipBlock.except[1]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
                "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
            ],
        ),
        (
            port(r#"{"port":80,"endPort":70}"#),
            &[
                "spec.ingress[0].ports[0].endPort: Invalid value: 70: must be greater than or equal to `port`",
            ],
        ),
        (
            port(r#"{"port":"a","endPort":70}"#),
            &[
                "spec.ingress[0].ports[0].endPort: Invalid value: 70: may not be specified when `port` is non-numeric",
            ],
        ),
        (
            r#"{"podSelector":{},"policyTypes":["Ingress","X"]}"#.into(),
            &[
                "spec.policyTypes[1]: Unsupported value: \"X\": supported values: \"Ingress\", \"Egress\"",
            ],
        ),
    ] {
        assert_eq!(POLICIES.refused(&object(&spec)), errors, "{spec}");
    }
}

#[test]
fn ranges_that_a_policy_had_may_stay() {
    let of = |ranges: &str| {
        object(&format!(
            r#"{{"podSelector":{{}},"ingress":[{{"from":[{ranges}]}}]}}"#
        ))
    };
    let old = of(r#"{"ipBlock":{"cidr":"010.0.0.0/8"}}"#);
    assert_eq!(POLICIES.refused(&old).len(), 1);
    assert!(POLICIES.refused_update("", &old, &old).is_empty());
    let new = of(r#"{"ipBlock":{"cidr":"010.0.0.0/8"}},{"ipBlock":{"cidr":"011.0.0.0/8"}}"#);
    assert_eq!(POLICIES.refused_update("", &new, &old).len(), 1);
}

#[test]
fn an_address_belongs_to_something() {
    let of = |name: &str, parent: &str| {
        format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{"parentRef":{parent}}}}}"#)
    };
    const PARENT: &str = r#"{"resource":"services","namespace":"n","name":"s"}"#;
    assert!(ADDRESSES.refused(&of("10.0.0.1", PARENT)).is_empty());
    assert_eq!(ADDRESSES.refused(&of("FD00::1", PARENT)).len(), 1);
    assert_eq!(
        ADDRESSES.refused(&of("10.0.0.1", "null")),
        ["spec.parentRef: Required value"]
    );
    assert_eq!(
        ADDRESSES.refused(&of("10.0.0.1", r#"{"name":"a/b"}"#)),
        [
            "spec.parentRef.name: Invalid value: \"a/b\": may not contain '/'",
            "spec.parentRef.resource: Required value",
        ]
    );
    let other = of("10.0.0.1", r#"{"resource":"services","name":"t"}"#);
    assert_eq!(
        ADDRESSES.refused_update("", &other, &of("10.0.0.1", PARENT)),
        ["spec.parentRef: Invalid value: null: field is immutable"]
    );
    assert_eq!(
        ADDRESSES.refused_update("", &of("10.0.0.1", "{}"), &of("10.0.0.1", PARENT)),
        [
            "spec.parentRef.resource: Required value",
            "spec.parentRef.name: Required value",
            "spec.parentRef: Invalid value: null: field is immutable",
        ]
    );
}

#[test]
fn ranges_of_services_grow_to_both_families() {
    let of = |cidrs: &str| format!(r#"{{"metadata":{{"name":"x"}},"spec":{{"cidrs":{cidrs}}}}}"#);
    assert!(
        RANGES
            .refused(&of(r#"["10.0.0.0/16","fd00::/64"]"#))
            .is_empty()
    );
    assert_eq!(
        RANGES.refused(&of("[]")),
        ["spec.cidrs: Required value: at least one CIDR required"]
    );
    assert_eq!(
        RANGES
            .refused(&of(r#"["10.0.0.0/16","11.0.0.0/16"]"#))
            .len(),
        1
    );
    assert_eq!(
        RANGES.refused(&of(r#"["a","b","c"]"#)),
        [r#"spec.cidrs: Invalid value: {"CIDRs":["a","b","c"]}: may only hold up to 2 values"#]
    );
    let one = of(r#"["10.0.0.0/16"]"#);
    assert!(
        RANGES
            .refused_update("", &of(r#"["10.0.0.0/16","fd00::/64"]"#), &one)
            .is_empty()
    );
    assert_eq!(
        RANGES.refused_update("", &of(r#"["10.1.0.0/16"]"#), &one),
        [r#"spec.cidrs[0]: Invalid value: "10.1.0.0/16": field is immutable"#]
    );
}
