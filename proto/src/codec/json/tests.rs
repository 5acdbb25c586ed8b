use super::super::{MAX_DEPTH, MAX_RAW_DEPTH};
use super::*;

fn message(name: &str) -> MsgId {
    MsgId::find(name).expect("a message of the catalogue")
}

fn pod(text: &str) -> Result<Decoded, DecodeError> {
    decode(text.as_bytes(), message("core/v1.Pod"), Strictness::Strict)
}

fn encoded(value: &Value, name: &str) -> String {
    let mut out = Vec::new();
    encode(value, message(name), &mut out);
    String::from_utf8(out).unwrap()
}

/// Decoded and encoded again.
fn through(text: &str, name: &str) -> String {
    encoded(
        &decode(text.as_bytes(), message(name), Strictness::Lenient)
            .unwrap()
            .value,
        name,
    )
}

#[test]
fn what_go_holds_by_value_is_always_there() {
    assert_eq!(
        through("{}", "core/v1.Pod"),
        r#"{"metadata":{},"spec":{"containers":null},"status":{}}"#
    );
    assert_eq!(
        through("null", "core/v1.Pod"),
        r#"{"metadata":{},"spec":{"containers":null},"status":{}}"#
    );
    let tree = pod(r#"{"spec":{"containers":[{}]}}"#).unwrap().value;
    assert_eq!(tree.at(&["metadata"]), Some(&Value::object()));
    let containers = tree
        .at(&["spec", "containers"])
        .and_then(Value::as_list)
        .unwrap();
    assert_eq!(containers[0].get("resources"), Some(&Value::object()));
}

#[test]
fn what_go_cannot_tell_from_absence_is_absent() {
    let text = r#"{"metadata":{"name":"","generation":0,"creationTimestamp":"0001-01-01T00:00:00Z"},"spec":{"hostNetwork":false,"priority":0}}"#;
    let tree = pod(text).unwrap().value;
    assert_eq!(tree.get("metadata"), Some(&Value::object()));
    assert_eq!(tree.at(&["spec", "hostNetwork"]), None);
    assert_eq!(
        tree.at(&["spec", "priority"]),
        Some(&Value::Int(0)),
        "a pointer"
    );
}

#[test]
fn problems_are_told_as_upstream_tells_them() {
    let cases: &[(&str, &[&str])] = &[
        (
            r#"{"spec":{"foo":1,"containers":[{"name":"a","bar":{}},{"baz":null}]},"x":[],"Metadata":{}}"#,
            &[
                r#"unknown field "spec.foo""#,
                r#"unknown field "spec.containers[0].bar""#,
                r#"unknown field "spec.containers[1].baz""#,
                r#"unknown field "x""#,
                r#"unknown field "Metadata""#,
            ],
        ),
        (
            r#"{"metadata":{"labels":{"b":"1","a":"2","b":"3","b":"4"},"name":"x","name":"y"}}"#,
            &[
                r#"duplicate field "metadata.labels.b""#,
                r#"duplicate field "metadata.name""#,
            ],
        ),
        (r#"{"a\"\n":1}"#, &[r#"unknown field "a\"\n""#]),
    ];
    for (text, want) in cases {
        assert_eq!(pod(text).unwrap().problems, *want);
        assert_eq!(
            decode(text.as_bytes(), message("core/v1.Pod"), Strictness::Lenient)
                .unwrap()
                .problems,
            [""; 0]
        );
    }
}

#[test]
fn at_most_a_hundred_problems_are_told() {
    let fields: Vec<String> = (0..500).map(|i| format!("\"x{i}\":0")).collect();
    assert_eq!(
        pod(&format!("{{{}}}", fields.join(",")))
            .unwrap()
            .problems
            .len(),
        100
    );
}

#[test]
fn a_field_given_twice_is_decoded_into_the_same_struct() {
    let text = r#"{"spec":{"nodeName":"a","nodeName":null,"priority":1,"priority":null,
        "securityContext":{"runAsUser":1},"securityContext":{"fsGroup":2},
        "nodeSelector":{"a":"1"},"nodeSelector":{"b":"2"},
        "tolerations":[{"key":"k"},{"key":"l"}],"tolerations":[{"value":"v"}]}}"#;
    let want = r#"{"metadata":{},"spec":{"containers":null,"nodeSelector":{"a":"1","b":"2"},"nodeName":"a","securityContext":{"runAsUser":1,"fsGroup":2},"tolerations":[{"key":"k","value":"v"}]},"status":{}}"#;
    assert_eq!(through(text, "core/v1.Pod"), want);
    assert_eq!(pod(text).unwrap().problems.len(), 5);
}

#[test]
fn errors_have_the_texts_of_go() {
    let cases = [
        (
            "[]",
            "json: cannot unmarshal array into Go value of type v1.Pod",
        ),
        (
            r#"{"metadata":[]}"#,
            "json: cannot unmarshal array into Go struct field Pod.metadata of type v1.ObjectMeta",
        ),
        (
            r#"{"kind":7}"#,
            "json: cannot unmarshal number into Go struct field Pod.TypeMeta.kind of type string",
        ),
        (
            r#"{"spec":{"containers":{}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            r#"{"spec":{"containers":[{"image":1.5,"ports":[{"containerPort":"x"}]}]}}"#,
            "json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string",
        ),
        (
            r#"{"spec":{"containers":[{"ports":[{"containerPort":3000000000}]}]}}"#,
            "json: cannot unmarshal number 3000000000 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            r#"{"spec":{"volumes":[{"hostPath":{"path":true}}]}}"#,
            "json: cannot unmarshal bool into Go struct field HostPathVolumeSource.spec.volumes.VolumeSource.hostPath.path of type string",
        ),
        (
            r#"{"metadata":{"creationTimestamp":"yesterday"}}"#,
            r#"parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006""#,
        ),
        (
            r#"{"metadata":{"name":"a"},}"#,
            "invalid character '}' looking for beginning of object key string",
        ),
        (
            r#"{"metadata":{"name":"a"}"#,
            "unexpected end of JSON input",
        ),
        (
            r#"{"metadata" {}}"#,
            "invalid character '{' after object key",
        ),
        (
            r#"{"metadata":tru}"#,
            "invalid character '}' in literal true (expecting 'e')",
        ),
        (
            r#"{"a":01}"#,
            "invalid character '1' after object key:value pair",
        ),
        (
            r#"{"a":[1 2]}"#,
            "invalid character '2' after array element",
        ),
        (
            r#"{"a":1.}"#,
            "invalid character '}' after decimal point in numeric literal",
        ),
        (
            r#"{"a":1e}"#,
            "invalid character '}' in exponent of numeric literal",
        ),
        (r#"{"a":-}"#, "invalid character '}' in numeric literal"),
        (
            r#"{"a":"\x"}"#,
            "invalid character 'x' in string escape code",
        ),
        (
            r#"{"a":"\u12g4"}"#,
            r"invalid character 'g' in \u hexadecimal character escape",
        ),
        (
            "{\"a\":\"\n\"}",
            r"invalid character '\n' in string literal",
        ),
        (
            "{'a':1}",
            r"invalid character '\'' looking for beginning of object key string",
        ),
        ("{} \"", r#"invalid character '"' after top-level value"#),
        ("", "unexpected end of JSON input"),
    ];
    for (text, want) in cases {
        assert_eq!(
            pod(text).map_err(|e| e.to_string()),
            Err(want.to_owned()),
            "{text}"
        );
    }
}

#[test]
fn syntax_goes_before_custom_types_and_those_before_plain_types() {
    let quantity = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    let text = r#"{"metadata":{"name":1},"spec":{"overhead":{"cpu":"q"}}}"#;
    assert_eq!(pod(text).unwrap_err().to_string(), quantity);
    let text = r#"{"metadata":{"name":1},"spec":{"overhead":{"cpu":"q"}}"#;
    assert_eq!(pod(text), Err(DecodeError::EndOfJson));
}

#[test]
fn bytes_are_base64_or_numbers() {
    let secret = "core/v1.Secret";
    assert_eq!(
        through(r#"{"data":{"a":"AA\nE="}}"#, secret),
        r#"{"metadata":{},"data":{"a":"AAE="}}"#
    );
    assert_eq!(
        through(r#"{"data":{"a":[0,1]}}"#, secret),
        r#"{"metadata":{},"data":{"a":"AAE="}}"#
    );
    assert_eq!(
        through(r#"{"data":{"a":null,"b":""}}"#, secret),
        r#"{"metadata":{},"data":{"a":null,"b":""}}"#
    );
    let error = decode(
        br#"{"data":{"a":"AAE"}}"#,
        message(secret),
        Strictness::Lenient,
    )
    .unwrap_err();
    assert_eq!(error.to_string(), "illegal base64 data at input byte 0");
}

#[test]
fn strings_are_escaped_as_go_escapes_them() {
    let mut out = Vec::new();
    write(
        &Value::from(
            "<a&b>\"\\\u{8}\u{c}\n\r\t\u{1}\u{7f}é\u{2027}\u{2028}\u{2029}😀, then enough to fill a word",
        ),
        &mut out,
    );
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "\"\\u003ca\\u0026b\\u003e\\\"\\\\\\b\\f\\n\\r\\t\\u0001\u{7f}é\u{2027}\\u2028\\u2029😀, then enough to fill a word\""
    );
}

#[test]
fn halves_of_surrogate_pairs_and_what_is_not_utf8_become_replacement_characters() {
    let read = |bytes: &[u8]| parse(bytes).unwrap();
    assert_eq!(read(br#""\ud83d\ude00""#), Value::from("😀"));
    assert_eq!(
        read(br#""\ud83dx\ude00\ud83d\u0041""#),
        Value::from("\u{fffd}x\u{fffd}\u{fffd}A")
    );
    assert_eq!(
        read(b"\"a\xff\xe2\x82b\""),
        Value::from("a\u{fffd}\u{fffd}\u{fffd}b")
    );
}

#[test]
fn numbers_are_whole_where_they_can_be() {
    let read = |text: &str| parse(text.as_bytes()).unwrap();
    assert_eq!(read("-0"), Value::Int(0));
    assert_eq!(read("9223372036854775807"), Value::Int(i64::MAX));
    assert_eq!(
        read("9223372036854775808"),
        Value::Float(9_223_372_036_854_775_808.0)
    );
    assert_eq!(read("1.0"), Value::Float(1.0));
    assert_eq!(read("1e2"), Value::Float(100.0));
    assert_eq!(
        parse(b"1e999").unwrap_err().to_string(),
        "json: cannot unmarshal number 1e999 into Go value of type float64"
    );
}

#[test]
fn doubles_print_as_go_prints_them() {
    let cases = [
        (1.0, "1"),
        (-0.0, "-0"),
        (0.1, "0.1"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e-6, "0.0000015"),
        (1e-7, "1e-7"),
        (f64::MAX, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
    ];
    for (f, want) in cases {
        let mut out = Vec::new();
        push_float(f, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}

#[test]
fn raw_fields_are_kept_as_they_came_and_printed_compact() {
    let revision = "apps/v1.ControllerRevision";
    let text = r#"{"data": {"b" : [1, 2.50, "<x y>"],  "a":null} ,"revision":1}"#;
    let tree = decode(text.as_bytes(), message(revision), Strictness::Lenient)
        .unwrap()
        .value;
    assert_eq!(
        tree.get("data"),
        Some(&Value::Raw(
            br#"{"b" : [1, 2.50, "<x y>"],  "a":null}"#[..].into()
        ))
    );
    assert_eq!(
        encoded(&tree, revision),
        r#"{"metadata":{},"data":{"b":[1,2.50,"\u003cx y\u003e"],"a":null},"revision":1}"#
    );
}

#[test]
fn raw_bytes_that_are_not_json_print_as_null() {
    let mut tree = Value::object();
    tree.set(&["data"], Value::Raw(b"{\"a\":".as_slice().into()));
    assert_eq!(
        encoded(&tree, "apps/v1.ControllerRevision"),
        r#"{"metadata":{},"data":null,"revision":0}"#
    );
}

#[test]
fn a_node_of_another_type_than_its_field_counts_as_absent() {
    let mut tree = Value::object();
    tree.set(&["metadata", "labels"], "text");
    tree.set(&["metadata", "name"], 5);
    tree.set(&["spec", "containers"], Value::object());
    tree.set(&["unknown"], 1);
    assert_eq!(
        encoded(&tree, "core/v1.Pod"),
        r#"{"metadata":{},"spec":{"containers":null},"status":{}}"#
    );
}

#[test]
fn pretty_json_is_indented_by_two() {
    let mut out = Vec::new();
    indent(br#"{"a":[1,{"b":"x,{\"y"}],"c":{},"d":[ ]}"#, &mut out);
    let want = "{\n  \"a\": [\n    1,\n    {\n      \"b\": \"x,{\\\"y\"\n    }\n  ],\n  \"c\": {},\n  \"d\": []\n}";
    assert_eq!(String::from_utf8(out).unwrap(), want);
}

/// Without a bound this takes minutes.
#[test]
fn a_map_given_very_many_times_is_refused() {
    let pieces: Vec<String> = (0..50_000)
        .rev()
        .map(|i| format!(r#""metadata":{{"labels":{{"{i:06}":"x"}}}}"#))
        .collect();
    assert_eq!(
        pod(&format!("{{{}}}", pieces.join(","))),
        Err(DecodeError::TooOften { field: "labels" })
    );
}

fn nested(open: &str, close: &str, levels: usize) -> String {
    format!("{}0{}", open.repeat(levels), close.repeat(levels))
}

/// Test threads have stacks of 2 MiB, as the workers of the server have.
#[test]
fn depth_is_bounded_and_the_bound_fits_the_stack() {
    assert!(parse(nested("[", "]", MAX_DEPTH).as_bytes()).is_ok());
    let error = parse(nested("[", "]", MAX_DEPTH + 1).as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid character '[' exceeded max depth"
    );
    assert!(parse("[".repeat(1_000_000).as_bytes()).is_err());

    let schema = message("apiextensions/v1.JSONSchemaProps");
    let deep = nested(
        r#"{"properties":{"a":{"items":[{"not":"#,
        "}]}}}",
        MAX_DEPTH / 5 - 1,
    )
    .replace('0', "{}");
    let tree = decode(deep.as_bytes(), schema, Strictness::Strict)
        .unwrap()
        .value;
    let mut out = Vec::new();
    encode(&tree, schema, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), deep);
    let deeper = nested(r#"{"not":"#, "}", MAX_DEPTH + 1).replace('0', "{}");
    assert!(decode(deeper.as_bytes(), schema, Strictness::Strict).is_err());
}

#[test]
fn raw_and_unknown_json_may_be_as_deep_as_in_go() {
    let deep = |levels: usize| format!(r#"{{"data":{}}}"#, nested("[", "]", levels));
    let revision = message("apps/v1.ControllerRevision");
    assert!(
        decode(
            deep(MAX_RAW_DEPTH - 1).as_bytes(),
            revision,
            Strictness::Lenient
        )
        .is_ok()
    );
    assert!(
        decode(
            deep(MAX_RAW_DEPTH).as_bytes(),
            revision,
            Strictness::Lenient
        )
        .is_err()
    );
    assert!(pod(&deep(MAX_RAW_DEPTH - 1)).is_ok());
    assert!(pod(&deep(MAX_RAW_DEPTH)).is_err());
}
