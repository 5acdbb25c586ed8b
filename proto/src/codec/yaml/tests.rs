use std::cmp::Ordering;

use super::super::MAX_DEPTH;
use super::*;

fn json_of(text: &str) -> Result<String, String> {
    let (json, _) = to_json(text.as_bytes()).map_err(|e| e.to_string())?;
    Ok(String::from_utf8(json).unwrap())
}

fn written(json: &str) -> String {
    let mut out = Vec::new();
    write(&json::parse(json.as_bytes()).unwrap(), &mut out);
    String::from_utf8(out).unwrap()
}

/// What upstream's `sigs.k8s.io/yaml` makes of these.
#[test]
fn yaml_becomes_the_json_that_upstream_makes_of_it() {
    let cases = [
        ("", "null"),
        ("# only a comment\n", "null"),
        ("a: ! x", r#"{"a":"x"}"#),
        ("a: !own 5", r#"{"a":"5"}"#),
        ("x: &a [1,2]\nz: *a\n", r#"{"x":[1,2],"z":[1,2]}"#),
        (
            "a: |\n  x\n  y\nb: >-\n  f\n  g\n",
            r#"{"a":"x\ny\n","b":"f g"}"#,
        ),
        ("---\na: 1\n---\nb: 2\n", r#"{"a":1}"#),
        ("a: 1\n...\nb: [", r#"{"a":1}"#),
        ("? a\n: b\n", r#"{"a":"b"}"#),
        ("{a: 1, b: [x, {c: d}]}", r#"{"a":1,"b":["x",{"c":"d"}]}"#),
        ("- - a\n  - b\n- c", r#"[["a","b"],"c"]"#),
        (r#"a: "\u00e9\x41""#, r#"{"a":"éA"}"#),
        ("a: 'it''s'", r#"{"a":"it's"}"#),
        (
            "base: &b {x: 1, z: 2}\nm:\n  <<: *b\n  z: 3\n",
            r#"{"base":{"x":1,"z":2},"m":{"x":1,"z":3}}"#,
        ),
        (
            "m: {<<: [{a: 1},{a: 2, b: 3}], b: 4}",
            r#"{"m":{"a":1,"b":4}}"#,
        ),
        (
            "a: 2001-01-01\nb: 1.0\nc: 1e6\n1: x\n1.5: z\ntrue: w\n",
            r#"{"1":"x","1.5":"z","a":"2001-01-01","b":1,"c":1000000,"true":"w"}"#,
        ),
        (
            "a: !!binary aGVsbG8=\nb: !!int \"5\"\nc: !!str 5\nd: !!float 5\n",
            r#"{"a":"hello","b":5,"c":"5","d":5}"#,
        ),
        ("y: yes\n", r#"{"true":true}"#),
        ("a: 18446744073709551615", r#"{"a":18446744073709551615}"#),
        ("%YAML 1.1\n---\na: 1", r#"{"a":1}"#),
    ];
    for (text, want) in cases {
        assert_eq!(json_of(text).as_deref(), Ok(want), "{text}");
    }
}

#[test]
fn keys_given_twice_are_told_as_upstream_tells_them() {
    let complaint = |text: &str| to_json(text.as_bytes()).unwrap().1;
    assert_eq!(complaint("a: 1\nb: 2"), None);
    assert_eq!(
        complaint("m:\n  a: 1\n  a: 2\n1: x\n1: y\n").as_deref(),
        Some(
            "yaml: unmarshal errors:\n  line 3: key \"a\" already set in map\n  line 5: key 1 already set in map"
        )
    );
    let pod = MsgId::find("core/v1.Pod").unwrap();
    let text = b"metadata:\n  name: a\n  name: b\nx: 1\n";
    let decoded = decode(text, pod, Strictness::Strict).unwrap();
    assert_eq!(
        decoded
            .value
            .at(&["metadata", "name"])
            .and_then(Value::as_str),
        Some("b")
    );
    assert_eq!(
        decoded.problems,
        [
            "yaml: unmarshal errors:\n  line 3: key \"name\" already set in map",
            "unknown field \"x\""
        ]
    );
    assert_eq!(
        decode(text, pod, Strictness::Lenient).unwrap().problems,
        [""; 0]
    );
}

#[test]
fn what_json_cannot_express_is_an_error() {
    for (text, want) in [
        (
            "a: b: c",
            "yaml: line 1: mapping values are not allowed in this context",
        ),
        ("a: .nan", "json: unsupported value: NaN"),
        ("a: -.inf", "json: unsupported value: -Inf"),
        ("{[a]: b}", "yaml: line 1: invalid map key"),
        ("~: b", "yaml: line 1: invalid map key"),
        ("a: !!int x", "yaml: cannot decode !!str `x` as a !!int"),
        ("a: &a [*a]", "yaml: anchor value contains itself"),
        (
            "<<: 5",
            "yaml: map merge requires map or sequence of maps as the value",
        ),
    ] {
        assert_eq!(json_of(text), Err(want.to_owned()), "{text}");
    }
}

#[test]
fn aliases_do_not_multiply_without_end() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for i in 1..12 {
        let before = i - 1;
        bomb.push_str(&format!(
            "a{i}: &a{i} [*a{before},*a{before},*a{before},*a{before},*a{before},*a{before}]\n"
        ));
    }
    assert_eq!(
        json_of(&bomb),
        Err("yaml: document contains excessive aliasing".to_owned())
    );
}

#[test]
fn depth_is_bounded_and_the_bound_fits_the_stack() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(json_of(&nested(MAX_DEPTH)).is_ok());
    assert!(
        json_of(&nested(MAX_DEPTH + 1))
            .unwrap_err()
            .contains("exceeded max depth")
    );
    // Aliases nest what is not nested in the text.
    let mut text = "a0: &a0 [x]\n".to_owned();
    for i in 1..=MAX_DEPTH {
        text.push_str(&format!("a{i}: &a{i} [*a{}]\n", i - 1));
    }
    assert!(json_of(&text).is_err());
}

#[test]
fn raw_json_that_is_too_deep_for_a_tree_stays_json() {
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let mut tree = Value::object();
    tree.set(&["data"], Value::Raw(deep.as_bytes().into()));
    let mut out = Vec::new();
    encode(
        &tree,
        MsgId::find("apps/v1.ControllerRevision").unwrap(),
        &mut out,
    );
    assert_eq!(
        String::from_utf8(out).unwrap(),
        format!("{{\"metadata\":{{}},\"data\":{deep},\"revision\":0}}\n")
    );
}

/// What upstream writes for these.
#[test]
fn strings_are_quoted_where_a_reader_could_mistake_them() {
    let cases = [
        (
            r#"{"a":"x","b":"","c":"yes","d":"1.5","e":"null","f":"2001-01-01","g":"1:30"}"#,
            "a: x\nb: \"\"\nc: \"yes\"\nd: \"1.5\"\ne: \"null\"\nf: \"2001-01-01\"\ng: \"1:30\"\n",
        ),
        (
            r#"{"a":"- x","b":"k: v","c":"a #b","d":"it's","e":"{x}","f":" x","g":"x:"}"#,
            "a: '- x'\nb: 'k: v'\nc: 'a #b'\nd: it's\ne: '{x}'\nf: ' x'\ng: 'x:'\n",
        ),
        (
            r#"{"a":"x\ny\n","b":"x\ny","c":"\nx\n\n","d":"x \ny"}"#,
            "a: |\n  x\n  y\nb: |-\n  x\n  y\nc: |2+\n\n  x\n\nd: \"x \\ny\"\n",
        ),
        (
            r#"{"a":"tab\t","b":"\u0000\u00a0\ufeff"}"#,
            "a: \"tab\\t\"\nb: \"\\0\u{a0}\\uFEFF\"\n",
        ),
        (
            r#"{"a":{},"b":[],"c":[[1,[2]],{"d":[{}]}],"e":null,"f":true}"#,
            "a: {}\nb: []\nc:\n- - 1\n  - - 2\n- d:\n  - {}\ne: null\nf: true\n",
        ),
        (
            r#"{"a10":1,"a9":2,"B":3,"a-b":4,"a.b":5,"ab":6,"1":7}"#,
            "\"1\": 7\nB: 3\na-b: 4\na.b: 5\na9: 2\na10: 1\nab: 6\n",
        ),
        (
            r#"[1.5,1e7,100000.0,1e-7]"#,
            "- 1.5\n- 10000000\n- 100000\n- 1e-07\n",
        ),
        (r#""just a string""#, "just a string\n"),
    ];
    for (json, want) in cases {
        assert_eq!(written(json), want, "{json}");
    }
}

#[test]
fn long_lines_are_broken_at_spaces_and_long_keys_stand_apart() {
    let words = "word ".repeat(20).trim_end().to_owned();
    let text = written(&format!(r#"{{"a":"{words}"}}"#));
    assert_eq!(
        text,
        format!(
            "a: {}\n  {}\n",
            "word ".repeat(16).trim_end(),
            "word ".repeat(4).trim_end()
        )
    );
    let key = "k".repeat(129);
    assert_eq!(
        written(&format!(r#"{{"{key}":[1]}}"#)),
        format!("? {key}\n: - 1\n")
    );
}

#[test]
fn an_order_that_goes_round_in_circles_loses_nothing() {
    let items: Vec<i32> = (0..1000).map(|n| n * 7919 % 1000).collect();
    let round = |a: &i32, b: &i32| match (a - b).rem_euclid(3) {
        0 => Ordering::Equal,
        1 => Ordering::Greater,
        _ => Ordering::Less,
    };
    let mut found = write::sorted(items.clone(), round);
    found.sort_unstable();
    assert_eq!(found, (0..1000).collect::<Vec<_>>());
    // One that does not is kept, and what is equal stays as it was.
    let tens = |a: &i32, b: &i32| (a / 10).cmp(&(b / 10));
    let mut wanted = items.clone();
    wanted.sort_by(tens);
    assert_eq!(write::sorted(items, tens), wanted);
}
