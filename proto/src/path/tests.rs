use super::*;

fn tree() -> Value {
    let mut container = Value::object();
    container.set(&["name"], "a");
    let mut root = Value::object();
    root.set(&["spec", "containers"], vec![Value::object(), container]);
    root.set(&["metadata", "labels", "example.com/x"], "b c");
    root
}

#[test]
fn a_path_has_fields_with_dots_and_indexes_and_keys_in_brackets() {
    let root = tree();
    let mut errors = Errors::new(&root);
    let containers = root.at(&["spec", "containers"]).unwrap();
    errors.required(Spot::node(&containers.as_list().unwrap()[1]), "");
    errors.invalid(
        Spot::node(root.at(&["metadata", "labels", "example.com/x"]).unwrap()),
        "b c",
        "no",
    );
    errors.required(Spot::node(containers).index(7).key("k"), "");
    let found: Vec<String> = errors.into_vec().into_iter().map(|e| e.field).collect();
    assert_eq!(
        found,
        [
            "spec.containers[1]",
            "metadata.labels[example.com/x]",
            "spec.containers[7][k]"
        ]
    );
}

#[test]
fn a_path_is_the_same_whether_it_is_walked_or_looked_up() {
    fn all<'v>(node: &'v Value, into: &mut Vec<&'v Value>) {
        into.push(node);
        match node {
            Value::Map(map) => map.iter().for_each(|(_, child)| all(child, into)),
            Value::List(items) => items.iter().for_each(|child| all(child, into)),
            _ => {}
        }
    }
    let mut root = tree();
    let mut deep = Value::from("end");
    for _ in 0..2 * DEEP {
        deep = vec![deep].into();
    }
    root.set(&["deep"], deep);
    let mut nodes = Vec::new();
    all(&root, &mut nodes);
    assert!(nodes.len() > 2 * DEEP);
    let keyed = root.at(&["metadata"]).unwrap();
    let foreign = Value::Null;
    let paths = |walks: Option<usize>| {
        let mut errors = Errors::new(&root);
        errors.keyed(keyed);
        let all = nodes.iter().copied().chain([&foreign]);
        all.map(|node| {
            errors.walks = walks.unwrap_or(errors.walks);
            errors.path(Spot::node(node))
        })
        .collect::<Vec<_>>()
    };
    let walked = paths(Some(0));
    assert_eq!(walked, paths(Some(WALKS)));
    assert_eq!(walked, paths(None));
    assert!(
        walked.contains(&"metadata[labels][example.com/x]".to_owned()),
        "{walked:?}"
    );
}

#[test]
fn texts_are_upstreams() {
    let root = tree();
    let at = Spot::node(root.get("spec").unwrap());
    let mut e = Errors::new(&root);
    e.required(at, "");
    e.invalid(at, "a\n", "no");
    e.invalid(at, 3_i64, "");
    e.invalid(at, root.get("metadata").unwrap(), "");
    e.not_supported(at, "x", &["b", "a"]);
    e.too_long(at, 1);
    e.too_long_characters(at, 2);
    e.too_short(at, 2);
    e.too_many(at, 3, 1);
    e.too_few(at, 0, 2);
    e.internal(at, "why");
    e.push(FieldError::new(
        Reason::TooMany,
        "spec",
        String::new(),
        "has too many items",
    ));
    let found: Vec<String> = e.into_vec().iter().map(FieldError::body).collect();
    let expected = [
        "Required value",
        r#"Invalid value: "a\n": no"#,
        "Invalid value: 3",
        r#"Invalid value: {"labels":{"example.com/x":"b c"}}"#,
        r#"Unsupported value: "x": supported values: "b", "a""#,
        "Too long: may not be more than 1 byte",
        "Too long: may not be more than 2 characters",
        "Too short: must be at least 2 characters",
        "Too many: 3: must have at most 1 item",
        "Too few: 0: must have at least 2 items",
        "Internal error: why",
        "Too many: has too many items",
    ];
    assert_eq!(found, expected);
}

#[test]
fn an_aggregate_says_each_error_once() {
    let a = FieldError::required("a", "");
    let b = FieldError::required("b", "");
    assert_eq!(aggregate(&[a.clone(), a.clone()]), "a: Required value");
    assert_eq!(
        aggregate(&[a.clone(), b, a]),
        "[a: Required value, b: Required value]"
    );
}

/// Expected texts are those of Go 1.26's `strconv.Quote`.
#[test]
fn quoting_is_gos() {
    for (text, quoted) in [
        ("\u{0}\u{7}\u{7f}\u{80}", r#""\x00\a\x7f\u0080""#),
        (
            "\u{a0}\u{ad}\u{200b}\u{2028}\u{feff}",
            r#""\u00a0\u00ad\u200b\u2028\ufeff""#,
        ),
        (
            "e\u{301}ü\u{fffd}\u{1f600}",
            "\"e\u{301}ü\u{fffd}\u{1f600}\"",
        ),
        ("\u{301}", "\"\u{301}\""),
        ("\u{e000}\u{10ffff}", r#""\ue000\U0010ffff""#),
        ("'\\\"", r#""'\\\"""#),
    ] {
        assert_eq!(quote(text), quoted);
    }
}

/// A quadratic search would take minutes here.
#[test]
fn many_errors_cost_what_the_object_is_long() {
    let root = Value::from((0..200_000_i64).map(Value::Int).collect::<Vec<_>>());
    let mut errors = Errors::new(&root);
    for item in root.as_list().unwrap() {
        errors.required(Spot::node(item), "");
    }
    assert_eq!(errors.into_vec()[199_999].field, "[199999]");
}
