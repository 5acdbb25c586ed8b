use super::*;
use crate::codec::json::parse;

fn apply(document: &str, patch: &str) -> Result<Value, Error> {
    let mut document = parse(document.as_bytes()).unwrap();
    Patch::read(&parse(patch.as_bytes()).unwrap())?.apply(&mut document)?;
    Ok(document)
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
        let [document, patch, expected] = case.as_list().unwrap() else {
            panic!("{line}")
        };
        let mut document = document.clone();
        let result = Patch::read(patch).unwrap().apply(&mut document);
        match expected {
            Value::String(error) => assert_eq!(result.unwrap_err().to_string(), **error, "{line}"),
            expected => assert_eq!((result, &document), (Ok(()), expected), "{line}"),
        }
    }
    assert!(n > 50);
}

#[test]
fn a_patch_is_a_list_of_at_most_10_000_operations() {
    let error = |patch| apply("{}", patch).unwrap_err();
    assert_eq!(
        error("{}").to_string(),
        "json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"
    );
    assert_eq!(
        error(r#"[{"op":1}]"#).to_string(),
        "json: cannot unmarshal number into Go struct field jsonPatchOp.op of type string"
    );
    let many = format!(
        "[{}]",
        vec![r#"{"op":"remove","path":"/a"}"#; 10_001].join(",")
    );
    assert_eq!(
        error(&many),
        Error::TooManyOperations {
            max: 10_000,
            given: 10_001
        }
    );
}

#[test]
fn unknown_fields_of_operations_are_told() {
    let patch = parse(br#"[{"op":"test","path":"/a","value":null,"val":1}]"#).unwrap();
    assert_eq!(Patch::read(&patch).unwrap().unknown_fields(), ["[0].val"]);
}

#[test]
fn a_test_compares_values_and_not_texts() {
    assert!(
        apply(
            r#"{"a":"<"}"#,
            r#"[{"op":"test","path":"/a","value":"\u003c"}]"#
        )
        .is_ok()
    );
    assert!(apply(r#"{"a":1}"#, r#"[{"op":"test","path":"/a","value":1.0}]"#).is_err());
}

#[test]
fn keys_are_unescaped_once() {
    let patch = r#"[{"op":"add","path":"/a~1b","value":1},{"op":"add","path":"/~01","value":2},{"op":"add","path":"/~","value":3}]"#;
    assert_eq!(
        apply("{}", patch).unwrap(),
        parse(br#"{"a/b":1,"~1":2,"~":3}"#).unwrap()
    );
}

#[test]
fn indexes_may_count_from_the_end() {
    let patch = r#"[{"op":"test","path":"/a/-1","value":3},{"op":"replace","path":"/a/-3","value":0},
        {"op":"add","path":"/a/-1","value":4},{"op":"add","path":"/a/-","value":5},{"op":"remove","path":"/a/-4"}]"#;
    let result = parse(br#"{"a":[0,3,4,5]}"#).unwrap();
    assert_eq!(apply(r#"{"a":[1,2,3]}"#, patch).unwrap(), result);
    assert!(apply(r#"{"a":[1]}"#, r#"[{"op":"remove","path":"/a/-2"}]"#).is_err());
}

/// CVE-2019-1002100, and the same by depth.
#[test]
fn copies_are_limited_in_size_and_depth() {
    let double = r#"{"op":"copy","from":"/a","path":"/a/-"}"#;
    let many = format!("[{}]", vec![double; 40].join(","));
    assert!(matches!(
        apply(r#"{"a":["0123456789abcdef"]}"#, &many),
        Err(Error::CopyTooLarge { .. } | Error::TooDeep { .. })
    ));
    let mut deep = String::from("/a");
    let mut operations = Vec::new();
    for _ in 0..20 {
        operations.push(format!(r#"{{"op":"copy","from":"/a","path":"{deep}/b"}}"#));
        deep = format!("{deep}/b{}", &deep[2..]);
        if deep.len() > 100_000 {
            break;
        }
    }
    assert_eq!(
        apply(r#"{"a":{}}"#, &format!("[{}]", operations.join(","))),
        Err(Error::TooDeep { max: MAX_DEPTH })
    );
}

#[test]
fn moving_deeper_is_limited_and_moving_about_is_not() {
    let there = r#"{"op":"move","from":"/a","path":"/x/b"}"#;
    let back = r#"{"op":"move","from":"/x/b","path":"/a"}"#;
    let many = format!("[{}]", [there, back].repeat(2000).join(","));
    assert!(apply(r#"{"a":{"c":{"d":1}},"x":{}}"#, &many).is_ok());
}

#[test]
fn moving_long_lists_about_is_limited() {
    let list = format!(r#"{{"a":[{}]}}"#, vec!["0"; 200_000].join(","));
    let many = format!(
        "[{}]",
        vec![r#"{"op":"add","path":"/a/0","value":1}"#; 10_000].join(",")
    );
    assert_eq!(apply(&list, &many), Err(Error::TooCostly));
}
