use super::*;
use crate::path::Errors;

fn object(json: &str) -> Value {
    crate::codec::json::parse(json.as_bytes()).unwrap()
}

fn create(json: &str, namespaced: bool) -> Vec<String> {
    let object = object(json);
    let mut errors = Errors::new(&object);
    validate_object_meta(&object, namespaced, names::subdomain_name, &mut errors);
    errors.into_vec().iter().map(ToString::to_string).collect()
}

fn update(new: &str, old: &str) -> Vec<String> {
    let (new, old) = (object(new), object(old));
    let mut errors = Errors::new(&new);
    validate_object_meta_update(&new, &old, &mut errors);
    errors.into_vec().iter().map(ToString::to_string).collect()
}

#[test]
fn a_new_object_needs_a_name_and_a_namespace_of_its_own() {
    assert_eq!(
        create(r#"{"metadata":{"name":"a","namespace":"b"}}"#, true),
        [""; 0]
    );
    assert_eq!(
        create(r#"{"metadata":{}}"#, true),
        [
            "metadata.name: Required value: name or generateName is required",
            "metadata.namespace: Required value"
        ]
    );
    assert_eq!(
        create(r#"{"metadata":{"name":"a","namespace":"b"}}"#, false),
        ["metadata.namespace: Forbidden: not allowed on this type"]
    );
}

/// The texts are those of apimachinery 0.37.1's `ValidateObjectMeta` for the same objects.
#[test]
fn metadata_of_a_new_object_is_checked_as_upstream_does() {
    let owners = r#"{"metadata":{"name":"a","generation":-1,"finalizers":["orphan","foregroundDeletion"],"ownerReferences":[
        {"apiVersion":"v1","kind":"Event","name":"e","uid":"1","controller":true},
        {"apiVersion":"a/b/c","kind":"K","name":"k<","uid":"","controller":true}]}}"#;
    assert_eq!(
        create(owners, false),
        [
            "metadata.generation: Invalid value: -1: must be greater than or equal to 0",
            r#"metadata.ownerReferences[0]: Invalid value: {"apiVersion":"v1","kind":"Event","name":"e","uid":"1","controller":true}: /v1, Kind=Event is disallowed from being an owner"#,
            r#"metadata.ownerReferences[1].apiVersion: Invalid value: "a/b/c": must be <group>/<version> or <version>"#,
            "metadata.ownerReferences[1].uid: Required value: must not be empty",
            r#"metadata.ownerReferences: Invalid value: [{"apiVersion":"v1","kind":"Event","name":"e","uid":"1","controller":true},{"apiVersion":"a/b/c","kind":"K","name":"k\u003c","uid":"","controller":true}]: Only one reference can have Controller set to true. Found "true" in references for Event/e and K/k<"#,
            r#"metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: finalizer orphan and foregroundDeletion cannot be both set"#,
        ]
    );
    let fields = r#"{"metadata":{"name":"a","managedFields":[
        {"operation":"","fieldsType":"V2","manager":"a\u0007","subresource":"s"},{"operation":"Patch<"}]}}"#;
    assert_eq!(
        create(fields, false),
        [
            "metadata.managedFields[0].operation: Required value: must not be empty",
            "metadata.managedFields[0].fieldsType: Invalid value: \"V2\": must be `FieldsV1`",
            r#"metadata.managedFields[0].manager: Invalid value: "a\a": invalid character U+0007 (at position 1)"#,
            r#"metadata.managedFields[1].operation: Unsupported value: "Patch\u003c": supported values: "Apply", "Update""#,
        ]
    );
}

#[test]
fn the_size_of_annotations_is_limited_and_their_case_does_not_matter() {
    let big = "x".repeat(256 * 1024);
    let object =
        format!(r#"{{"metadata":{{"name":"a","annotations":{{"Example.COM/Key":"{big}"}}}}}}"#);
    assert_eq!(
        create(&object, false),
        ["metadata.annotations: Too long: may not be more than 262144 bytes"]
    );
}

#[test]
fn an_update_keeps_what_is_immutable() {
    let old = r#"{"metadata":{"name":"a","namespace":"n","uid":"1","resourceVersion":"5","generation":3,
        "creationTimestamp":"2026-01-01T00:00:00Z","deletionTimestamp":"2026-01-02T00:00:00Z","finalizers":["x/y"]}}"#;
    assert_eq!(update(old, old), [""; 0]);
    let new = r#"{"metadata":{"name":"b","uid":"2","generation":2,"creationTimestamp":"2026-01-01T00:00:01Z","finalizers":["x/z"],
        "deletionGracePeriodSeconds":5}}"#;
    assert_eq!(
        update(new, old),
        [
            r#"metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"x/z"}"#,
            r#"metadata.resourceVersion: Invalid value: "": must be specified for an update"#,
            "metadata.generation: Invalid value: 2: must not be decremented",
            r#"metadata.name: Invalid value: "b": field is immutable"#,
            r#"metadata.namespace: Invalid value: "": field is immutable"#,
            r#"metadata.uid: Invalid value: "2": field is immutable"#,
            r#"metadata.creationTimestamp: Invalid value: "2026-01-01T00:00:01Z": field is immutable"#,
            "metadata.deletionTimestamp: Invalid value: null: field is immutable",
            "metadata.deletionGracePeriodSeconds: Invalid value: 5: field is immutable",
        ]
    );
}

#[test]
fn a_generated_name_has_at_most_63_bytes_and_five_random_letters() {
    let mut bits = 0x0123_4567_89ab_cdef_u64;
    let mut random = || {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bits
    };
    for base in ["web-", &"x".repeat(80), &"é".repeat(40)] {
        let name = generated_name(base, &mut random);
        let (kept, suffix) = name.split_at(name.len() - 5);
        assert!(name.len() <= 63 && base.starts_with(kept));
        assert!(suffix.bytes().all(|b| ALPHABET.contains(&b)), "{name}");
    }
    // Bits that stand for no letter are skipped.
    let mut draws = vec![0_u64, u64::MAX];
    assert_eq!(generated_name("", &mut || draws.pop().unwrap()), "bbbbb");
}

#[test]
fn hashes_are_encoded_in_the_letters_of_generated_names() {
    assert_eq!(safe_encode("2613917479"), "6b57f5c8cf");
}

#[test]
fn a_condition_keeps_its_transition_time_while_its_status_stays() {
    let mut list = Value::Null;
    let ready = |status, reason| Condition {
        kind: "Ready",
        status,
        reason,
        ..Condition::default()
    };
    assert!(set_condition(
        &mut list,
        ready("False", "Starting"),
        "2026-01-01T00:00:00Z"
    ));
    assert!(!set_condition(
        &mut list,
        ready("False", "Starting"),
        "2026-01-01T00:00:01Z"
    ));
    assert!(set_condition(
        &mut list,
        ready("False", "Waiting"),
        "2026-01-01T00:00:02Z"
    ));
    let at = |list: &Value| {
        find_condition(list, "Ready")
            .unwrap()
            .get(n::LAST_TRANSITION_TIME)
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(at(&list), "2026-01-01T00:00:00Z");
    assert!(set_condition(
        &mut list,
        ready("True", ""),
        "2026-01-01T00:00:03Z"
    ));
    assert_eq!(at(&list), "2026-01-01T00:00:03Z");
    assert_eq!(find_condition(&list, "Ready").unwrap().get(n::REASON), None);
    assert_eq!(list.as_list().unwrap().len(), 1);
}

#[test]
fn conditions_are_unique_and_complete() {
    let list = object(
        r#"[{"type":"A","status":"Maybe","reason":"1","lastTransitionTime":"x"},{"type":"A"}]"#,
    );
    let mut errors = Errors::new(&list);
    validate_conditions(&list, &mut errors);
    let found: Vec<String> = errors
        .into_vec()
        .iter()
        .map(|e| format!("{} {}", e.field, e.reason.code()))
        .collect();
    assert_eq!(
        found,
        [
            "[0].status FieldValueNotSupported",
            "[0].reason FieldValueInvalid",
            "[1] FieldValueDuplicate",
            "[1].status FieldValueRequired",
            "[1].lastTransitionTime FieldValueRequired",
            "[1].reason FieldValueRequired",
        ]
    );
}

#[test]
fn finalizers_are_a_set_and_leave_nothing_behind() {
    let mut o = Value::object();
    add_finalizer(&mut o, "a");
    add_finalizer(&mut o, "a");
    assert_eq!(finalizers(&o), ["a"]);
    assert!(remove_finalizer(&mut o, "a") && !remove_finalizer(&mut o, "a"));
    assert_eq!(get(&o, n::FINALIZERS), None);
}

#[test]
fn a_status_reads_back() {
    let cause = Cause {
        reason: "FieldValueInvalid".into(),
        message: "m".into(),
        field: "spec".into(),
    };
    let details = Details {
        name: "a".into(),
        kind: "pods".into(),
        causes: vec![cause],
        retry_after_seconds: 1,
        ..Details::default()
    };
    let status = Status {
        code: 422,
        reason: "Invalid".into(),
        message: "m".into(),
        details: Some(details),
        ..Status::default()
    };
    assert_eq!(Status::from_value(&status.to_value()), Some(status));
    assert_eq!(Status::from_value(&object(r#"{"kind":"Pod"}"#)), None);
}
