use proptest::prelude::*;

use super::*;
use crate::catalogue::messages;
use crate::codec::json::parse;

const POD: MsgId = messages::core_v1::POD;

fn patched(document: &str, patch: &str) -> Result<String, Error> {
    let mut document = parse(document.as_bytes()).unwrap();
    apply(&mut document, &parse(patch.as_bytes()).unwrap(), POD)?;
    let mut out = Vec::new();
    crate::codec::json::write(&document, &mut out);
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn results_and_errors_are_upstreams() {
    let mut n = 0;
    for line in include_str!("cases.txt")
        .lines()
        .filter(|l| !l.starts_with('#'))
    {
        n += 1;
        let case = parse(line.as_bytes()).unwrap();
        let [kind, document, patch, expected] = case.as_list().unwrap() else {
            panic!("{line}")
        };
        let message = if kind.as_str() == Some("pod") {
            POD
        } else {
            messages::apps_v1::DEPLOYMENT
        };
        let mut document = document.clone();
        let result = apply(&mut document, patch, message);
        match expected {
            Value::String(error) => assert_eq!(result.unwrap_err().to_string(), **error, "{line}"),
            expected => assert_eq!((result, &document), (Ok(()), expected), "{line}"),
        }
    }
    assert!(n > 40);
}

#[test]
fn elements_merge_by_key_and_patched_ones_come_first() {
    let document = r#"{"spec":{"containers":[{"name":"a","image":"1"},{"name":"b","image":"1"}]}}"#;
    let patch = r#"{"spec":{"containers":[{"name":"b","image":"2"},{"name":"c","image":"3"}]}}"#;
    let result = r#"{"spec":{"containers":[{"image":"1","name":"a"},{"image":"2","name":"b"},{"image":"3","name":"c"}]}}"#;
    assert_eq!(patched(document, patch).unwrap(), result);
}

#[test]
fn the_order_a_client_asks_for_is_kept_around_what_it_does_not_know() {
    let document = r#"{"spec":{"containers":[{"name":"sidecar"},{"name":"a"},{"name":"b"}]}}"#;
    let patch = r#"{"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"a"}],"containers":[{"name":"a","image":"2"}]}}"#;
    let result =
        r#"{"spec":{"containers":[{"name":"sidecar"},{"name":"b"},{"image":"2","name":"a"}]}}"#;
    assert_eq!(patched(document, patch).unwrap(), result);
}

#[test]
fn primitive_lists_lose_and_gain_elements_in_one_patch() {
    let document = r#"{"metadata":{"finalizers":["a","b","c"]}}"#;
    let patch = r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["b"],"$setElementOrder/finalizers":["c","d","a"],"finalizers":["d"]}}"#;
    assert_eq!(
        patched(document, patch).unwrap(),
        r#"{"metadata":{"finalizers":["c","d","a"]}}"#
    );
}

#[test]
fn elements_can_be_taken_out_of_a_list_that_does_not_merge() {
    let document = r#"{"spec":{"containers":[{"args":["x","y","x"],"name":"a"}]}}"#;
    let patch = r#"{"spec":{"containers":[{"name":"a","$deleteFromPrimitiveList/args":["x"]}]}}"#;
    let result = r#"{"spec":{"containers":[{"args":["y"],"name":"a"}]}}"#;
    assert_eq!(patched(document, patch).unwrap(), result);
}

#[test]
fn retained_keys_drop_the_other_member_of_a_union() {
    let document = r#"{"spec":{"volumes":[{"name":"v","emptyDir":{}}]}}"#;
    let patch = r#"{"spec":{"volumes":[{"name":"v","hostPath":{"path":"/"},"$retainKeys":["name","hostPath"]}]}}"#;
    assert_eq!(
        patched(document, patch).unwrap(),
        r#"{"spec":{"volumes":[{"hostPath":{"path":"/"},"name":"v"}]}}"#
    );
}

#[test]
fn errors_have_the_status_that_upstream_gives_them() {
    for (patch, code) in [
        (r#"{"metadata":{"$retainKeys":1}}"#, 400),
        (r#"{"metadata":{"finalizers":[["x"]]}}"#, 422),
        (r#"{"spec":{"containers":[{"image":"x"}]}}"#, 500),
        (r#"{"spec":{"$setElementOrder/nope":[]}}"#, 500),
    ] {
        let document = r#"{"metadata":{"finalizers":[]},"spec":{"containers":[{"name":"a"}]}}"#;
        assert_eq!(
            patched(document, patch).unwrap_err().code(),
            code,
            "{patch}"
        );
    }
}

#[test]
fn long_lists_merge_in_linear_time() {
    let list = |from: i64| -> Value {
        (from..from + 100_000)
            .map(|i| Value::from(format!("x/f{i}")))
            .collect::<Vec<_>>()
            .into()
    };
    let (mut document, mut patch) = (Value::object(), Value::object());
    document.set(&["metadata", "finalizers"], list(0));
    patch.set(&["metadata", "finalizers"], list(50_000));
    apply(&mut document, &patch, POD).unwrap();
    assert_eq!(
        document
            .at(&["metadata", "finalizers"])
            .unwrap()
            .as_list()
            .unwrap()
            .len(),
        150_000
    );
}

/// Pods and patches of arbitrary shape, with directives in arbitrary places.
fn trees() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        (0..3_i64).prop_map(Value::Int),
        prop::sample::select(vec!["a", "b", "delete", "replace"]).prop_map(Value::from),
    ];
    scalar.prop_recursive(5, 40, 4, |inner| {
        let name = prop::sample::select(vec![
            "metadata",
            "spec",
            "finalizers",
            "containers",
            "name",
            "env",
            "ports",
            "labels",
            "$patch",
            "$retainKeys",
            "$setElementOrder/containers",
            "$setElementOrder/finalizers",
            "$deleteFromPrimitiveList/finalizers",
        ]);
        let map = prop::collection::vec((name, inner.clone()), 0..5);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::List),
            map.prop_map(|m| Value::Map(m.into_iter().map(|(n, v)| (n.into(), v)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_patch_panics(document in trees(), patch in trees()) {
        let mut patched = document.clone();
        let _ = apply(&mut patched, &patch, POD);
        let mut merged = document.clone();
        crate::patch::merge::apply(&mut merged, &patch);
        let mut operated = document;
        let _ = crate::patch::json::Patch::read(&patch).and_then(|p| p.apply(&mut operated));
    }
}
