use super::{compare, object};
use crate::apply::{Comparison, Trees};

fn sets(c: &Comparison) -> [String; 3] {
    [&c.added, &c.modified, &c.removed].map(|s| String::from_utf8(s.print()).unwrap())
}

fn pod(spec: &str) -> String {
    format!("{{apiVersion: v1, kind: Pod, spec: {spec}}}")
}

fn differ(old: &str, new: &str, [added, modified, removed]: [&str; 3]) {
    let found = compare(&pod(old), &pod(new));
    assert_eq!(sets(&found), [added, modified, removed], "{old} -> {new}");
}

#[test]
fn a_new_object_owns_what_go_shows_of_it() {
    let (new, typed) = object(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x, labels: {a: b}}, spec: {replicas: 1, selector: {matchLabels: {a: b}}, strategy: {type: Recreate}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}], securityContext: {}}}}}",
    );
    let empty = crate::Value::object();
    let found = crate::apply::compare(&empty, &new, typed.message, Trees::Conformed).unwrap();
    let changed = String::from_utf8(found.into_changed().print()).unwrap();
    // Structs that Go holds by value are there already; the container's resources are part of it.
    assert_eq!(
        changed,
        r#"{"f:metadata":{"f:labels":{".":{},"f:a":{}},"f:name":{}},"f:spec":{"f:replicas":{},"f:selector":{},"f:strategy":{"f:type":{}},"f:template":{"f:metadata":{"f:labels":{".":{},"f:a":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{},"f:resources":{}}},"f:securityContext":{}}}}}"#
    );
}

#[test]
fn fields_are_added_modified_and_removed() {
    let (a, b) = ("{nodeName: a}", "{nodeName: b}");
    differ(a, a, ["{}", "{}", "{}"]);
    differ(a, b, ["{}", r#"{"f:spec":{"f:nodeName":{}}}"#, "{}"]);
    differ("{}", b, [r#"{"f:spec":{"f:nodeName":{}}}"#, "{}", "{}"]);
    differ(a, "{}", ["{}", "{}", r#"{"f:spec":{"f:nodeName":{}}}"#]);
}

#[test]
fn atomic_types_are_one_value() {
    differ(
        "{nodeSelector: {a: b}, tolerations: [{key: a}]}",
        "{nodeSelector: {a: b, c: d}, tolerations: [{key: a}, {key: b}]}",
        [
            "{}",
            r#"{"f:spec":{"f:nodeSelector":{},"f:tolerations":{}}}"#,
            "{}",
        ],
    );
}

#[test]
fn elements_are_found_by_all_their_keys_whatever_their_order() {
    differ(
        "{containers: [{name: a, image: x}, {name: b, image: w}]}",
        "{containers: [{name: b, image: z}, {name: a, image: x}]}",
        [
            "{}",
            r#"{"f:spec":{"f:containers":{"k:{\"name\":\"b\"}":{"f:image":{}}}}}"#,
            "{}",
        ],
    );
    // The protocol of a port is a key and has a default.
    differ(
        "{containers: [{name: a, ports: [{containerPort: 53}]}]}",
        "{containers: [{name: a, ports: [{containerPort: 53, protocol: TCP}, {containerPort: 53, protocol: UDP}]}]}",
        [
            r#"{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{"f:ports":{"k:{\"containerPort\":53,\"protocol\":\"TCP\"}":{"f:protocol":{}},"k:{\"containerPort\":53,\"protocol\":\"UDP\"}":{".":{},"f:containerPort":{},"f:protocol":{}}}}}}}"#,
            "{}",
            "{}",
        ],
    );
}

#[test]
fn duplicates_are_one_value_together() {
    let port = |names: &[&str]| {
        let ports: Vec<String> = names
            .iter()
            .map(|n| format!("{{containerPort: 1, name: {n}}}"))
            .collect();
        format!(
            "{{containers: [{{name: a, ports: [{}]}}]}}",
            ports.join(", ")
        )
    };
    let at = |inner: &str| {
        format!(
            r#"{{"f:spec":{{"f:containers":{{"k:{{\"name\":\"a\"}}":{{"f:ports":{{"k:{{\"containerPort\":1,\"protocol\":\"TCP\"}}":{inner}}}}}}}}}}}"#
        )
    };
    let own = at(r#"{".":{},"f:containerPort":{},"f:name":{}}"#);
    let marker = at("{}");
    differ(&port(&["x", "w"]), &port(&["x", "w"]), ["{}", "{}", "{}"]);
    differ(
        &port(&["x", "w"]),
        &port(&["x", "z"]),
        ["{}", &marker, "{}"],
    );
    differ(&port(&["x", "w"]), &port(&["x"]), [&own, "{}", &marker]);
    differ(&port(&["x"]), &port(&["x", "w"]), [&marker, "{}", &own]);
}

#[test]
fn nothing_given_and_an_empty_list_are_the_same_where_go_omits_both() {
    differ("{}", "{tolerations: []}", ["{}", "{}", "{}"]);
}

#[test]
fn sets_hold_values() {
    let pvc = |modes: &str| {
        format!("{{apiVersion: v1, kind: Namespace, metadata: {{finalizers: {modes}}}}}")
    };
    let found = compare(&pvc("[a, b]"), &pvc("[b, c]"));
    assert_eq!(
        sets(&found),
        [
            r#"{"f:metadata":{"f:finalizers":{"v:\"c\"":{}}}}"#,
            "{}",
            r#"{"f:metadata":{"f:finalizers":{"v:\"a\"":{}}}}"#,
        ]
    );
}

#[test]
fn an_element_without_any_key_is_refused() {
    let account = |secrets: &str| {
        object(&format!(
            "{{apiVersion: v1, kind: ServiceAccount, secrets: {secrets}}}"
        ))
    };
    let (old, typed) = account("[]");
    let (new, _) = account("[{kind: x}]");
    assert!(crate::apply::compare(&old, &new, typed.message, Trees::Conformed).is_err());
}

#[test]
fn a_reference_is_one_value_except_that_of_a_volume_to_its_claim() {
    let volume = |claim: &str| {
        format!("{{apiVersion: v1, kind: PersistentVolume, spec: {{claimRef: {claim}}}}}")
    };
    let found = compare(&volume("{name: a}"), &volume("{name: a, namespace: b}"));
    let added = r#"{"f:spec":{"f:claimRef":{"f:namespace":{}}}}"#;
    assert_eq!(sets(&found), [added, "{}", "{}"]);
}

#[test]
fn what_go_leaves_out_makes_no_difference() {
    let terms = |more: &str| {
        format!(
            "{{affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{{matchFields: [{{key: a, operator: In, values: [b]}}]{more}}}]}}}}}}}}"
        )
    };
    let none = ["{}", "{}", "{}"];
    differ(&terms(""), &terms(", matchExpressions: []"), none);
    let (new, typed) =
        object("{apiVersion: v1, kind: Namespace, metadata: {name: x}, spec: {finalizers: []}}");
    let empty = crate::Value::object();
    let found = crate::apply::compare(&empty, &new, typed.message, Trees::Conformed).unwrap();
    assert_eq!(
        sets(&found),
        [r#"{"f:metadata":{"f:name":{}}}"#, "{}", "{}"]
    );
}

#[test]
fn an_object_with_fields_that_are_no_set_is_not_compared() {
    let deployment = |fields: &str| {
        object(&format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: x}}, spec: {{template: {{metadata: {{managedFields: [{{manager: a, fieldsV1: {fields}}}]}}}}}}}}"
        ))
    };
    let compared = |fields: &str| {
        let (new, typed) = deployment(fields);
        let empty = crate::Value::object();
        crate::apply::compare(&empty, &new, typed.message, Trees::Conformed)
    };
    assert!(compared("{f:a: {}}").is_ok());
    assert!(compared("x").is_err());
}
