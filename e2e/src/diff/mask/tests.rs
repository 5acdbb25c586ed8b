use serde_json::json;

use super::*;

/// 2024-02-29T00:00:00Z
const NOW: u64 = 1_709_164_800;

fn masked(mut value: Value, sent: &str) -> Value {
    let server = "172.31.100.1".parse().unwrap();
    Mask::new(vec![server], NOW).value(&mut value, sent);
    value
}

#[test]
fn times_are_read_by_the_civil_calendar() {
    assert_eq!(unix("2026-11-29T03:44:54Z"), Some(1_795_923_894));
    assert_eq!(unix("2024-02-29T00:00:00Z"), Some(NOW));
    assert_eq!(unix("nothing of a date at"), None);
    assert_eq!(unix("0000-00-00T00:00:00Z"), None);
}

#[test]
fn what_differs_by_nature_is_masked_and_nothing_else() {
    let uid = "01234567-89ab-cdef-0123-456789abcdef";
    let object = json!({
        "metadata": {"uid": uid, "resourceVersion": "77", "creationTimestamp": "2024-02-29T00:00:01Z"},
        "spec": {"at": "2020-01-01T00:00:00Z", "micro": "2024-02-29T00:00:01.123456Z", "clusterIP": "10.96.3.4"},
        "ports": [{"nodePort": 30123, "port": 80}],
        "message": format!("UID {uid} of https://172.31.100.1:6443, 77"),
    });
    let wanted = json!({
        "metadata": {"uid": "<uid>", "resourceVersion": "<version>", "creationTimestamp": "<now>"},
        "spec": {"at": "2020-01-01T00:00:00Z", "micro": "<now .6>", "clusterIP": "<service address>"},
        "ports": [{"nodePort": "<port>", "port": 80}],
        "message": "UID <uid> of https://<server>:6443, 77",
    });
    assert_eq!(masked(object, ""), wanted);
}

#[test]
fn what_was_sent_is_not_masked() {
    let sent = r#"{"clusterIP": "10.96.3.4", "nodePort": 30123}"#;
    let object = json!({"clusterIP": "10.96.3.4", "nodePort": 30123});
    assert_eq!(masked(object.clone(), sent), object);
}

#[test]
fn generated_names_and_tokens_are_masked() {
    let object =
        json!({"metadata": {"generateName": "a-", "name": "a-x2x4x"}, "token": "eyJh.eyJi.c-_"});
    let wanted =
        json!({"metadata": {"generateName": "a-", "name": "a-<generated>"}, "token": "<token>"});
    let sent = r#"{"metadata": {"generateName": "a-"}}"#;
    assert_eq!(masked(object.clone(), sent), wanted);
    assert_ne!(
        masked(object, "")["metadata"]["name"],
        wanted["metadata"]["name"]
    );
    let key = masked(json!("/registry/configmaps/b/a-x2x4x of a-x2x4y"), sent);
    assert_eq!(key, "/registry/configmaps/b/a-<generated> of a-x2x4y");
}

#[test]
fn what_is_drawn_is_masked_in_names_of_fields_and_in_protobuf() {
    let managed = json!({"f:volumes": {"k:{\"name\":\"kube-api-access-x2x4x\"}": {}}});
    let wanted = json!({"f:volumes": {"k:{\"name\":\"kube-api-access-<generated>\"}": {}}});
    assert_eq!(masked(managed, ""), wanted);
    let ports = json!({"5": [31234, 80], "4": [{"1": [NOW], "2": [649_604_000]}]});
    let wanted = json!({"5": ["<port>", 80], "4": [{"1": ["<now>"], "2": ["<part>"]}]});
    assert_eq!(masked(ports, ""), wanted);
    let entry = |manager: &str| json!({"1": [manager], "2": ["Update"], "3": ["v1"], "6": ["F"]});
    let two = |first: &str, second: &str| json!({"17": [entry(first), entry(second)]});
    assert_eq!(masked(two("b", "a"), ""), two("a", "b"));
}

#[test]
fn the_keys_of_tokens_are_masked() {
    let key = json!({"keys": [{"kty": "EC", "kid": "a", "x": "b", "crv": "P-256"}]});
    let wanted = json!({"keys": [{"kty": "EC", "kid": "<key>", "x": "<key>", "crv": "P-256"}]});
    assert_eq!(masked(key, ""), wanted);
}

#[test]
fn ages_and_the_order_of_times_are_masked() {
    let table = json!({"cells": ["5s", "1m2s", "2d", "10", "ms"]});
    let wanted = json!({"cells": ["<age>", "<age>", "2d", "10", "<age>"]});
    assert_eq!(masked(table, ""), wanted);
    let two = |first: &str, second: &str| json!({"managedFields": [{"manager": first}, {"manager": second}]});
    assert_eq!(masked(two("b", "a"), ""), two("a", "b"));
}

#[test]
fn versions_in_protobuf_are_masked() {
    let object =
        json!({"5": ["01234567-89ab-cdef-0123-456789abcdef"], "6": ["77"], "8": [{"1": [NOW]}]});
    let wanted = json!({"5": ["<uid>"], "6": ["<version>"], "8": [{"1": ["<now>"]}]});
    assert_eq!(masked(object, ""), wanted);
    assert_eq!(
        masked(json!({"1": [""], "2": ["9"]}), ""),
        json!({"1": [""], "2": ["<version>"]})
    );
}

#[test]
fn what_the_moment_or_another_case_adds_is_left_out() {
    let bookmark =
        |metadata: Value| json!([{"type": "BOOKMARK", "object": {"metadata": metadata}}]);
    assert_eq!(
        masked(bookmark(json!({"resourceVersion": "7"})), ""),
        json!([])
    );
    let last = json!({"annotations": {"k8s.io/initial-events-end": "true"}});
    assert_eq!(masked(bookmark(last.clone()), ""), bookmark(last));
    let row = json!({"cells": ["80:30123/TCP,443/TCP"]});
    assert_eq!(
        masked(row.clone(), ""),
        json!({"cells": ["80:<port>/TCP,443/TCP"]})
    );
    assert_eq!(masked(row.clone(), "30123"), row);
    let other = "rbac: RBAC: clusterrole.rbac.authorization.k8s.io \"x\" not found";
    assert_eq!(masked(json!({"reason": other}), ""), json!({}));
    let both = json!({"reason": format!("mine\n{other}")});
    assert_eq!(masked(both, ""), json!({"reason": "mine"}));
}

#[test]
fn lists_of_chance_are_sorted_in_every_form() {
    let mut list = json!({"items": [{"a": 2}, {"a": 1}], "rows": [2, 1], "2": [{"2": ["b", "a"]}], "3": [2, 1]});
    in_any_order(&mut list);
    let sorted = json!({"items": [{"a": 1}, {"a": 2}], "rows": [1, 2], "2": [{"2": ["a", "b"]}], "3": [2, 1]});
    assert_eq!(list, sorted);
}

#[test]
fn problems_of_an_applied_object_are_sorted() {
    let told = |problems: &str| json!({"message": format!("failed: errors:\n{problems}")});
    assert_eq!(masked(told("  b\n  a"), ""), told("  a\n  b"));
}
