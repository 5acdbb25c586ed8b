use super::{Story, yaml};
use crate::apply::{Malformed, Managed, Operation, is_reset, scale};
use crate::value::Value;

#[test]
fn entries_are_read_and_written_in_upstreams_order() {
    let list = yaml(
        r#"
- {manager: b, operation: Update, apiVersion: v1, fieldsType: FieldsV1, time: "2026-01-01T00:00:02Z", fieldsV1: {"f:a": {}}}
- {manager: a, operation: Update, apiVersion: v1, fieldsType: FieldsV1, time: "2026-01-01T00:00:03Z", fieldsV1: {"f:a": {}}}
- {manager: z, operation: Apply, apiVersion: v1, fieldsType: FieldsV1, time: "2026-01-01T00:00:09Z", fieldsV1: {"f:a": {}}}
- {manager: b, operation: Update, apiVersion: v1, fieldsType: FieldsV1, time: "2026-01-01T00:00:03Z", subresource: status, fieldsV1: {"f:s": {}}}
- {manager: b, operation: Update, apiVersion: v1, fieldsType: FieldsV1, fieldsV1: {"f:b": {}}}
"#,
    );
    let managed = Managed::read(list.as_list().unwrap()).unwrap();
    // The last entry has the identity of the first and counts.
    assert_eq!(managed.entries().len(), 4);
    let written = managed.write().unwrap();
    let names: Vec<(&str, Option<&str>, &str)> = written
        .as_list()
        .unwrap()
        .iter()
        .map(|e| {
            let text = |n: &str| e.get(n).and_then(Value::as_str);
            let Some(Value::Raw(raw)) = e.get("fieldsV1") else {
                panic!("no fields")
            };
            let fields = std::str::from_utf8(raw).unwrap();
            (text("manager").unwrap(), text("subresource"), fields)
        })
        .collect();
    assert_eq!(
        names,
        [
            ("z", None, r#"{"f:a":{}}"#),
            ("b", None, r#"{"f:b":{}}"#),
            ("a", None, r#"{"f:a":{}}"#),
            ("b", Some("status"), r#"{"f:s":{}}"#),
        ]
    );
}

#[test]
fn entries_that_say_too_little_are_refused() {
    let read = |entry: &str| Managed::read(&[yaml(entry)]).unwrap_err();
    assert_eq!(read("{manager: a}"), Malformed::Operation);
    assert_eq!(
        read("{operation: Get, apiVersion: v1}"),
        Malformed::Operation
    );
    assert_eq!(read("{operation: Apply}"), Malformed::ApiVersion);
    assert_eq!(
        read("{operation: Apply, apiVersion: v1}").to_string(),
        "missing fieldsType in managed fields entry 0"
    );
    assert_eq!(
        read("{operation: Apply, apiVersion: v1, fieldsType: X}").to_string(),
        "invalid fieldsType \"X\" in managed fields entry 0"
    );
    let entry = "{operation: Apply, apiVersion: v1, fieldsType: FieldsV1, fieldsV1: {a: {}}}";
    assert_eq!(read(entry), Malformed::Fields);
}

#[test]
fn an_empty_list_and_one_empty_entry_reset() {
    assert!(is_reset(Some(&yaml("[]"))));
    assert!(is_reset(Some(&yaml("[{}]"))));
    assert!(!is_reset(None));
    assert!(!is_reset(Some(&yaml("[{manager: a}]"))));
    assert!(!is_reset(Some(&yaml("[{}, {}]"))));
}

#[test]
fn the_oldest_of_more_than_ten_updaters_are_merged() {
    let mut story = Story::of("v1", "ConfigMap");
    let body = |n: usize| {
        let data: Vec<String> = (0..=n).map(|i| format!("k{i}: v")).collect();
        format!("{{data: {{{}}}}}", data.join(", "))
    };
    for i in 0..10 {
        story.update(&format!("m{i:02}"), &body(i));
    }
    assert_eq!(story.managed.entries().len(), 10);
    for i in 10..13 {
        story.update(&format!("m{i:02}"), &body(i));
    }
    let managers: Vec<&str> = story
        .managed
        .entries()
        .iter()
        .map(|e| e.manager.as_str())
        .collect();
    assert_eq!(managers.len(), 10);
    let ancient = story
        .managed
        .entries()
        .iter()
        .find(|e| e.manager == "ancient-changes")
        .unwrap();
    assert_eq!(
        String::from_utf8(ancient.set.print()).unwrap(),
        r#"{"f:data":{".":{},"f:k0":{},"f:k1":{},"f:k2":{},"f:k3":{}}}"#
    );
    // The time is that of the newest change in it.
    assert_eq!(ancient.time.as_deref(), Some("2026-01-01T00:00:04Z"));
}

#[test]
fn scale_sees_the_owners_of_replicas_and_gives_them_back() {
    let list = yaml(
        r#"
- {manager: a, operation: Apply, apiVersion: apps/v1, fieldsType: FieldsV1, time: "2026-01-01T00:00:01Z", fieldsV1: {"f:spec": {"f:replicas": {}, "f:paused": {}}}}
- {manager: b, operation: Update, apiVersion: apps/v1, fieldsType: FieldsV1, fieldsV1: {"f:spec": {"f:paused": {}}}}
- {manager: c, operation: Update, apiVersion: old/v1, fieldsType: FieldsV1, fieldsV1: {"f:spec": {"f:replicas": {}}}}
"#,
    );
    let object = Managed::read(list.as_list().unwrap()).unwrap();
    let versions = ["apps/v1"];
    let of_scale = scale::of_object(&object, &versions);
    assert_eq!(of_scale.entries().len(), 1);
    assert_eq!(of_scale.entries()[0].api_version, "autoscaling/v1");
    // Nothing changed: everybody keeps what they have, unknown versions are dropped.
    let back = scale::into_object(&object, of_scale, &versions, "apps/v1");
    assert_eq!(back.entries(), &object.entries()[..2]);
    // Somebody else wrote the scale.
    let entry = r#"{manager: hpa, operation: Update, apiVersion: autoscaling/v1, subresource: scale, fieldsType: FieldsV1, time: "2026-01-01T00:00:05Z", fieldsV1: {"f:spec": {"f:replicas": {}}}}"#;
    let new = Managed::read(&[yaml(entry)]).unwrap();
    let back = scale::into_object(&object, new, &versions, "apps/v1");
    let shown: Vec<(&str, Operation, &str, String)> = back
        .entries()
        .iter()
        .map(|e| {
            let set = String::from_utf8(e.set.print()).unwrap();
            (e.manager.as_str(), e.operation, e.subresource.as_str(), set)
        })
        .collect();
    let paused = r#"{"f:spec":{"f:paused":{}}}"#.to_owned();
    let replicas = r#"{"f:spec":{"f:replicas":{}}}"#.to_owned();
    assert_eq!(
        shown,
        [
            ("a", Operation::Apply, "", paused.clone()),
            ("b", Operation::Update, "", paused),
            ("hpa", Operation::Update, "scale", replicas),
        ]
    );
    assert_eq!(back.entries()[2].api_version, "apps/v1");
    assert_eq!(back.entries()[2].time, None);
}

#[test]
fn very_many_managers_and_fields_do_not_cost_their_square() {
    let list: Vec<Value> = (0..20_000)
        .map(|i| {
            yaml(&format!(
                "{{manager: m{i}, operation: Update, apiVersion: v{}, fieldsType: FieldsV1, fieldsV1: {{\"f:data\": {{\"f:k{i}\": {{}}}}}}}}",
                i % 2
            ))
        })
        .collect();
    let mut managed = Managed::read(&list).unwrap();
    let start = std::time::Instant::now();
    managed.cap();
    let entries = managed.entries();
    assert_eq!(entries.len(), 10);
    assert_eq!(entries.iter().map(|e| e.set.len()).sum::<usize>(), 20_000);
    // A square would be minutes, even on a slow machine.
    assert!(start.elapsed() < std::time::Duration::from_secs(20));
}
