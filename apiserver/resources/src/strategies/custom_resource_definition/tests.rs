use super::*;
use crate::strategies::testing::Of;

const DEFINITIONS: Of = Of("apiextensions.k8s.io", "v1", "customresourcedefinitions");

const DEFINITION: &str = r#"{"metadata":{"name":"things.example.com","uid":"u","resourceVersion":"7"},
    "spec":{"group":"example.com","scope":"Namespaced","names":{"plural":"things","kind":"Thing","shortNames":["t","th"]},
        "versions":[{"name":"v2","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}}},
            {"name":"v1","served":true,"storage":false,"schema":{"openAPIV3Schema":{"type":"object"}}},
            {"name":"v0","served":false,"storage":false,"schema":{"openAPIV3Schema":{"type":"object"}}}]}}"#;

fn parse(text: &str) -> Value {
    json::parse(text.as_bytes()).expect("the test's JSON is valid")
}

#[test]
fn names_conversion_and_stored_versions_have_defaults() {
    let made = DEFINITIONS.create(DEFINITION).unwrap();
    let text = |path: &[&str]| made.at(path).and_then(Value::as_str).unwrap_or_default();
    assert_eq!(text(&["spec", "names", "singular"]), "thing");
    assert_eq!(text(&["spec", "names", "listKind"]), "ThingList");
    assert_eq!(text(&["spec", "conversion", "strategy"]), "None");
    let stored = made.at(&["status", "storedVersions"]).unwrap();
    assert_eq!(stored, &Value::from(vec!["v2"]));
    let preserved = made.at(&["spec", "preserveUnknownFields"]);
    assert_eq!(preserved, Some(&Value::Bool(false)));
}

#[test]
fn a_scope_is_asked_for() {
    let body = DEFINITION.replace(r#""scope":"Namespaced","#, "");
    assert_eq!(DEFINITIONS.refused(&body), ["spec.scope: Required value"]);
}

#[test]
fn a_row_tells_what_is_served_and_established() {
    let mut object = DEFINITIONS.create(DEFINITION).unwrap();
    meta::set(&mut object, n::CREATION_TIMESTAMP, "2026-01-01T00:00:00Z");
    let mut row = cells(&object);
    assert_eq!(row.pop(), Some(Value::Bool(false)));
    let texts: Vec<&str> = row.iter().filter_map(Value::as_str).collect();
    assert_eq!(
        texts,
        [
            "things.example.com",
            "Namespaced",
            "v1,v2(storage)",
            "2026-01-01T00:00:00Z",
            "example.com",
            "Thing",
            "t,th",
        ]
    );
    object.set(
        &["status", "conditions"],
        vec![parse(r#"{"type":"Established","status":"True"}"#)],
    );
    assert_eq!(cells(&object).pop(), Some(Value::Bool(true)));
}

#[test]
fn the_first_deletion_marks_and_holds_a_definition() {
    let mut object = parse(DEFINITION);
    let options = DeleteOptions::default();
    let deletion = delete(&mut object, &options, 1_767_225_600).unwrap();
    assert_eq!(deletion, Some(Deletion::Mark { then_remove: false }));
    assert_eq!(meta::finalizers(&object), [CLEANUP]);
    assert_eq!(
        meta::deletion_timestamp(&object),
        Some("2026-01-01T00:00:00Z")
    );
    let condition = &object
        .at(&["status", "conditions"])
        .and_then(Value::as_list)
        .unwrap()[0];
    assert_eq!(Node::new(condition).str(n::TYPE), "Terminating");
    let since = Node::new(condition).str(n::LAST_TRANSITION_TIME);
    assert_eq!(since, "2026-01-01T00:00:00Z");
    // The next one is as any other.
    let deletion = delete(&mut object, &options, 1_767_225_700).unwrap();
    assert_eq!(deletion, None);
}

#[test]
fn a_deletion_may_be_meant_for_another_definition() {
    let options = DeleteOptions {
        uid: Some("other".into()),
        ..DeleteOptions::default()
    };
    let refused = delete(&mut parse(DEFINITION), &options, 0).unwrap_err();
    assert_eq!(
        refused.message(),
        "Operation cannot be fulfilled on customresourcedefinitions.apiextensions.k8s.io \"things.example.com\": precondition failed: UID in precondition: other, UID in object meta: u"
    );
}

#[test]
fn what_old_servers_stored_gets_the_defaults_of_their_version() {
    let mut object = parse(r#"{"spec":{"version":"v1","conversion":{"strategy":"Webhook"}}}"#);
    on_read(&mut object);
    let wanted = parse(
        r#"{"spec":{"version":"v1","versions":[{"name":"v1","served":true,"storage":true}],
            "conversion":{"strategy":"Webhook","conversionReviewVersions":["v1beta1"]}}}"#,
    );
    assert_eq!(object, wanted);
    let mut object =
        parse(r#"{"spec":{"versions":[{"name":"v2"}],"conversion":{"strategy":"None"}}}"#);
    on_read(&mut object);
    assert_eq!(object.at(&["spec", "version"]), Some(&Value::from("v2")));
}

#[test]
fn warnings_are_of_what_is_new() {
    let with = |format: &str| {
        let schema = format!(
            r#"{{"type":"object","properties":{{"a":{{"type":"string","format":"{format}"}},
                "b":{{"type":"array","x-kubernetes-list-type":"set","items":{{"type":"object"}}}}}}}}"#
        );
        let mut object = parse(DEFINITION);
        object.set(&["spec", "validation", "openAPIV3Schema"], parse(&schema));
        object.remove(&["spec", "versions"]);
        object
    };
    let set = "x-kubernetes-list-type: set for items of type \"object\" is not supported by server-side apply or CEL validation rules";
    let found = warnings::of(&with("date"), None);
    assert_eq!(found, [set]);
    let found = warnings::of(&with("nobody"), None);
    assert_eq!(found, ["unrecognized format \"nobody\"", set]);
    assert!(warnings::of(&with("nobody"), Some(&with("nobody"))).is_empty());
    let found = warnings::of(&with("else"), Some(&with("nobody")));
    assert_eq!(found, ["unrecognized format \"else\""]);
}
