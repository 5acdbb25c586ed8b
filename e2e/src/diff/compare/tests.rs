use serde_json::json;

use super::*;
use crate::diff::case::Step;

fn seen(status: u16, body: Value) -> Seen {
    Seen {
        status,
        body,
        ..Seen::default()
    }
}

fn case(steps: Vec<Step>) -> Case {
    Case {
        area: "area".to_owned(),
        name: "case".to_owned(),
        steps,
        ..Case::default()
    }
}

/// Place and kind of each difference of two answers to one request.
fn told(ours: Seen, theirs: Seen) -> Vec<(String, String)> {
    let case = case(vec![Step::new("POST", "/a", "something special")]);
    let found = compare(&case, &[ours], &[theirs]);
    found
        .into_iter()
        .map(|found| (found.place, found.kind))
        .collect()
}

fn refusal(causes: Value, message: &str) -> Seen {
    seen(
        422,
        json!({"kind": "Status", "reason": "Invalid", "message": message, "details": {"causes": causes}}),
    )
}

#[test]
fn the_same_is_no_difference() {
    let one = refusal(json!([{"field": "a", "reason": "b", "message": "c"}]), "no");
    assert_eq!(told(one.clone(), one), []);
}

#[test]
fn another_status_is_told_with_what_was_asked() {
    let refused = seen(422, json!({"kind": "Status", "reason": "Invalid"}));
    let found = told(seen(201, json!({"a": 1})), refused);
    assert_eq!(
        found,
        [(
            "something special".to_owned(),
            "201 instead of 422 Invalid".to_owned()
        )]
    );
}

#[test]
fn causes_are_told_by_field_and_words_only_if_nothing_else_differs() {
    let cause = |field: &str| json!({"field": field, "reason": "Required", "message": "m"});
    let found = told(
        refusal(json!([cause("a")]), "x"),
        refusal(json!([cause("b[0].c")]), "y"),
    );
    let wanted = [
        ("b[].c", "cause missing: Required"),
        ("a", "cause extra: Required"),
    ];
    assert_eq!(
        found,
        wanted.map(|(place, kind)| (place.to_owned(), kind.to_owned()))
    );
    let found = told(
        refusal(json!([cause("a")]), "x"),
        refusal(json!([cause("a")]), "y"),
    );
    assert_eq!(found, [(".message".to_owned(), "text like y".to_owned())]);
    let two = |of: [&str; 2]| json!(of.map(cause));
    let [ab, ba] = [two(["a.x", "b.x"]), two(["b.x", "a.x"])];
    let found = told(refusal(ab, "x"), refusal(ba, "y"));
    assert_eq!(
        found,
        [(".message".to_owned(), "order of causes".to_owned())]
    );
    // Fields of one object that are told alike are in the order of a map of Go's.
    let [ab, ba] = [two(["a.x", "a.y"]), two(["a.y", "a.x"])];
    assert_eq!(told(refusal(ab, "x"), refusal(ba, "y")), []);
}

#[test]
fn what_is_stored_counts_where_the_answers_are_the_same() {
    let with = |value: u64| Seen {
        stored: [("/a".to_owned(), json!({"2": [value]}))].into(),
        ..seen(200, json!({}))
    };
    assert_eq!(told(with(1), with(1)), []);
    assert_eq!(
        told(with(1), with(2)),
        [(".2[]".to_owned(), "stored: value".to_owned())]
    );
}

#[test]
fn nothing_is_compared_after_a_write_that_only_one_did() {
    let steps = ["POST", "GET"].map(|method| Step::new(method, "/a", ""));
    let case = case(steps.to_vec());
    let [ours, theirs] = [(201, json!(1)), (409, json!(2))]
        .map(|(status, body)| [seen(status, json!({})), seen(200, body)]);
    assert_eq!(compare(&case, &ours, &theirs).len(), 1);
    let reading = Case {
        steps: vec![Step::get("/b", ""), Step::get("/a", "")],
        ..case
    };
    assert_eq!(compare(&reading, &ours, &theirs).len(), 2);
}

#[test]
fn a_header_that_is_missing_is_told() {
    let warned = Seen {
        headers: [("warning".to_owned(), "299".to_owned())].into(),
        ..seen(200, json!({}))
    };
    let found = told(seen(200, json!({})), warned);
    assert_eq!(found, [("warning".to_owned(), "header missing".to_owned())]);
}

#[test]
fn names_in_schemas_are_no_places() {
    let path = ".components.schemas.io.k8s.api.core.v1.Pod.properties.spec.default";
    assert_eq!(
        schema_place(path),
        ".components.schemas.*.properties.*.default"
    );
}

#[test]
fn messages_are_alike_without_names_and_numbers() {
    let message = r#"Pod in version "v1": cannot unmarshal number into Go struct field PodSpec.spec.x of type v1.DNSPolicy, 7"#;
    let wanted = r#"Pod in version "…": cannot unmarshal number into Go struct field … of type v0.DNSPolicy, 0"#;
    assert_eq!(alike(message), wanted);
}

#[test]
fn the_place_of_another_status_is_the_field_that_was_set() {
    let case = case(vec![Step::new("POST", "/a", "spec.x = negative")]);
    let found = compare(&case, &[seen(201, json!({}))], &[seen(422, json!({}))]);
    assert_eq!(found[0].place, "spec.x");
}
