use crate::apply::{Element, Set};
use crate::value::Value;

fn set(text: &str) -> Set {
    Set::parse(text.as_bytes()).unwrap()
}

fn print(set: &Set) -> String {
    String::from_utf8(set.print()).unwrap()
}

#[test]
fn printed_sets_are_upstreams_bytes() {
    for text in [
        "{}",
        r#"{"f:a":{}}"#,
        r#"{"f:a":{".":{},"f:b":{}}}"#,
        // Fields, keys, values, places; numbers before strings before booleans.
        r#"{"f:a":{},"k:{\"name\":\"x\"}":{".":{},"f:name":{}},"v:1":{},"v:\"a\"":{},"v:true":{},"i:0":{}}"#,
        r#"{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{}}"#,
        // A key's values escape what could end a script, field names do not.
        r#"{"f:a<b>&":{},"k:{\"name\":\"\\u003c\"}":{}}"#,
        r#"{"f:a\"b\\c":{}}"#,
        r#"{"f:kubernetes.io/config.hash":{},"f:ü":{}}"#,
    ] {
        assert_eq!(print(&set(text)), text);
    }
}

#[test]
fn parsing_sorts_and_leaves_out_what_it_does_not_know() {
    assert_eq!(
        print(&set(r#"{"v:2":{},"f:b":{},"v:10":{},"f:a":{}}"#)),
        r#"{"f:a":{},"f:b":{},"v:2":{},"v:10":{}}"#
    );
    assert_eq!(
        print(&set(r#"{"x:b":{},"f:a":{"x:c":{}}}"#)),
        r#"{"f:a":{}}"#
    );
    assert_eq!(print(&set(r#"{".":{},"f:a":null}"#)), r#"{"f:a":{}}"#);
    assert_eq!(print(&set("null")), "{}");
    // 1 and 1.0 are one element.
    assert_eq!(set(r#"{"v:1":{},"v:1.0":{}}"#).len(), 1);
}

#[test]
fn what_is_no_set_is_refused() {
    for text in [
        "",
        "[]",
        "{",
        r#"{"a":{}}"#,
        r#"{"":{}}"#,
        r#"{"f":{}}"#,
        r#"{"v:":{}}"#,
        r#"{"v:{":{}}"#,
        r#"{"k:1":{}}"#,
        r#"{"i:x":{}}"#,
        r#"{"f:a":1}"#,
        r#"{} {}"#,
    ] {
        assert!(Set::parse(text.as_bytes()).is_err(), "{text}");
    }
    let deep = format!("{}{}", r#"{"f:a":"#.repeat(100_000), "}".repeat(100_000));
    assert!(Set::parse(deep.as_bytes()).is_err());
}

#[test]
fn sets_are_combined_member_by_member() {
    let a = r#"{"f:a":{".":{},"f:b":{}},"f:c":{},"f:d":{"f:e":{}}}"#;
    let b = r#"{"f:a":{"f:b":{}},"f:d":{".":{},"f:x":{}},"f:z":{}}"#;
    let with = |op: fn(&mut Set, &Set)| {
        let mut left = set(a);
        op(&mut left, &set(b));
        print(&left)
    };
    assert_eq!(
        with(|x, y| x.union(y.clone())),
        r#"{"f:a":{".":{},"f:b":{}},"f:c":{},"f:d":{".":{},"f:e":{},"f:x":{}},"f:z":{}}"#
    );
    assert_eq!(
        with(Set::difference),
        r#"{"f:a":{},"f:c":{},"f:d":{"f:e":{}}}"#
    );
    // A parent takes its children along only in the deep difference.
    assert_eq!(with(Set::difference_deep), r#"{"f:a":{},"f:c":{}}"#);
    assert_eq!(
        print(&set(a).intersection(&set(b))),
        r#"{"f:a":{"f:b":{}}}"#
    );
    assert_eq!(
        print(&set(a).leaves()),
        r#"{"f:a":{"f:b":{}},"f:c":{},"f:d":{"f:e":{}}}"#
    );
}

#[test]
fn paths_show_a_level_before_what_is_below_it() {
    let set = set(
        r#"{"f:b":{},"f:a":{"f:c":{},"k:{\"name\":\"x\",\"port\":1}":{"f:d":{}}},"f:s":{"v:\"q\"":{},"i:3":{}}}"#,
    );
    assert_eq!(
        set.paths(),
        [
            ".b",
            ".a.c",
            r#".a[name="x",port=1].d"#,
            r#".s[="q"]"#,
            ".s[3]"
        ]
    );
    assert!(set.has(&[Element::field("a"), Element::field("c")]));
    assert!(!set.has(&[Element::field("a")]));
    assert!(set.has(&[Element::field("s"), Element::Value(Value::from("q"))]));
}
