use super::super::testing::Of;

const CLUSTER_ROLES: Of = Of("rbac.authorization.k8s.io", "v1", "clusterroles");
const ROLES: Of = Of("rbac.authorization.k8s.io", "v1", "roles");
const BINDINGS: Of = Of("rbac.authorization.k8s.io", "v1", "rolebindings");

fn named(rest: &str) -> String {
    format!(r#"{{"metadata":{{"name":"system:x","namespace":"n"}},{rest}}}"#)
}

#[test]
fn a_rule_is_about_resources_or_urls() {
    let rule = |rule: &str| named(&format!(r#""rules":[{rule}]"#));
    assert_eq!(
        ROLES.refused(&rule(r#"{"nonResourceURLs":["/a"],"apiGroups":[""]}"#)),
        [
            r#"rules[0].nonResourceURLs: Invalid value: ["/a"]: namespaced rules cannot apply to non-resource URLs"#,
            r#"rules[0].nonResourceURLs: Invalid value: ["/a"]: rules cannot apply to both regular resources and non-resource URLs"#,
            "rules[0].verbs: Required value",
        ]
    );
    assert_eq!(
        CLUSTER_ROLES.refused(&rule(r#"{"verbs":["get"]}"#)),
        [
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
        ]
    );
}

#[test]
fn roles_are_gathered_by_selectors() {
    let of = |selectors: &str| {
        named(&format!(
            r#""aggregationRule":{{"clusterRoleSelectors":{selectors}}}"#
        ))
    };
    assert_eq!(
        CLUSTER_ROLES.refused(&of("[]")),
        [
            "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil"
        ]
    );
    let bad = of(r#"[{"matchExpressions":[{"key":"a","operator":"x"}]}]"#);
    assert_eq!(
        CLUSTER_ROLES.refused(&bad),
        [
            r#"aggregationRule.clusterRoleSelectors[0].matchExpressions[0].operator: Invalid value: "x": not a valid selector operator"#,
            "aggregationRule.clusterRoleSelectors[0]: Invalid value: null: invalid label selector.",
        ]
    );
    let value = of(r#"[{"matchExpressions":[{"key":"a","operator":"In","values":["-"]}]}]"#);
    assert!(!CLUSTER_ROLES.refused(&value).is_empty());
    let told = CLUSTER_ROLES.refused_update("", &value, &value);
    assert!(
        !told.iter().any(|t| t.contains("values[0]")),
        "old values may stay: {told:?}"
    );
}

#[test]
fn a_binding_keeps_its_role() {
    let of = |role: &str| {
        named(&format!(
            r#""roleRef":{{"kind":"Role","name":"{role}"}},"subjects":[{{"kind":"User","name":""}}]"#
        ))
    };
    assert_eq!(
        BINDINGS.refused(&of("")),
        [
            "subjects[0].name: Required value",
            "roleRef.name: Required value"
        ]
    );
    let was = of("a").replace(r#""name":"""#, r#""name":"u""#);
    let told = BINDINGS.refused_update("", &was.replace(r#""name":"a""#, r#""name":"""#), &was);
    assert_eq!(
        told,
        [
            "roleRef.name: Required value",
            r#"roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":""}: field is immutable"#,
        ]
    );
}
