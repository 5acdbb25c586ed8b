use proto::codec::json::{self, Strictness};

use super::access::{Kind, problems};
use super::*;

fn review(text: &str) -> Value {
    let message = catalogue::messages::authorization_v1::SUBJECT_ACCESS_REVIEW;
    json::decode(text.as_bytes(), message, Strictness::Strict)
        .expect("the test's JSON is valid")
        .value
}

fn fields(text: &str, of: Kind) -> Vec<String> {
    problems(&review(text), of)
        .into_iter()
        .map(|e| e.field)
        .collect()
}

#[test]
fn reviews_are_found_in_the_versions_that_are_served() {
    assert!(find("authentication.k8s.io", "v1", "tokenreviews").is_some());
    assert!(find("authentication.k8s.io", "v1beta1", "selfsubjectreviews").is_none());
    assert!(find("authorization.k8s.io", "v1", "pods").is_none());
}

#[test]
fn a_review_asks_about_one_thing_and_one_user() {
    let valid = r#"{"spec":{"user":"ann","resourceAttributes":{"verb":"get","resource":"pods"}}}"#;
    assert_eq!(fields(valid, Kind::Subject), [""; 0]);
    assert_eq!(
        fields(r#"{"spec":{"user":"ann"}}"#, Kind::Subject),
        ["spec"]
    );
    assert_eq!(
        fields(
            r#"{"spec":{"user":"ann","resourceAttributes":{},"nonResourceAttributes":{}}}"#,
            Kind::Subject
        ),
        ["spec"]
    );
    assert_eq!(
        fields(r#"{"spec":{"nonResourceAttributes":{}}}"#, Kind::Subject),
        ["spec.user"]
    );
    assert_eq!(
        fields(r#"{"spec":{"nonResourceAttributes":{}}}"#, Kind::Own),
        [""; 0]
    );
    assert_eq!(
        fields(
            r#"{"metadata":{"name":"x"},"spec":{"user":"ann","nonResourceAttributes":{}}}"#,
            Kind::Subject
        ),
        ["metadata"]
    );
}

#[test]
fn a_local_review_is_about_its_namespace() {
    let text = r#"{"metadata":{"namespace":"a"},"spec":{"user":"ann","resourceAttributes":{"namespace":"a"}}}"#;
    assert_eq!(fields(text, Kind::Local), [""; 0]);
    let text = r#"{"metadata":{"namespace":"a"},"spec":{"user":"ann","resourceAttributes":{"namespace":"b"}}}"#;
    assert_eq!(
        fields(text, Kind::Local),
        ["spec.resourceAttributes.namespace"]
    );
    let text = r#"{"metadata":{"namespace":"a"},"spec":{"user":"ann","nonResourceAttributes":{}}}"#;
    assert_eq!(fields(text, Kind::Local), ["spec.nonResourceAttributes"]);
}

#[test]
fn a_selector_is_raw_or_in_requirements() {
    let with = |selector: &str| {
        format!(
            r#"{{"spec":{{"user":"ann","resourceAttributes":{{"fieldSelector":{selector}}}}}}}"#
        )
    };
    assert_eq!(
        fields(&with("{}"), Kind::Subject),
        ["spec.resourceAttributes.fieldSelector.requirements"]
    );
    assert_eq!(
        fields(&with(r#"{"rawSelector":"a=b"}"#), Kind::Subject),
        [""; 0]
    );
    let both = with(
        r#"{"rawSelector":"a=b","requirements":[{"key":"a","operator":"In","values":["b"]}]}"#,
    );
    assert_eq!(
        fields(&both, Kind::Subject),
        ["spec.resourceAttributes.fieldSelector.rawSelector"]
    );
}
