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
