use std::collections::HashSet;

use super::*;
use crate::catalogue::{self, Kind};
use crate::codec::json::{self, Strictness};

fn decode(value: &Value, message: MsgId) -> Value {
    let mut text = Vec::new();
    json::write(value, &mut text);
    json::decode(&text, message, Strictness::Lenient)
        .unwrap()
        .value
}

fn encode(value: &Value, message: MsgId) -> String {
    let mut text = Vec::new();
    json::encode(value, message, &mut text);
    String::from_utf8(text).unwrap()
}

/// Through encoding, because the results are what clients see and what is stored.
#[test]
fn conversions_are_upstreams() {
    let mut n = 0;
    for line in include_str!("cases.txt")
        .lines()
        .filter(|l| !l.starts_with('#'))
    {
        n += 1;
        let case = json::parse(line.as_bytes()).unwrap();
        let [from, to, kind, object, expected] = case.as_list().unwrap() else {
            panic!("{line}")
        };
        let message = |version: &Value| {
            let (group, version) =
                crate::meta::parse_api_version(version.as_str().unwrap()).unwrap();
            catalogue::message_of(group, version, kind.as_str().unwrap()).unwrap()
        };
        let (from, to) = (message(from), message(to));
        let converted = convert(decode(object, from), from, to).unwrap();
        assert_eq!(
            encode(&converted, to),
            encode(&decode(expected, to), to),
            "{line}"
        );
    }
    assert!(n > 15);
}

#[test]
fn a_secrets_texts_overwrite_its_data() {
    let mut secret = Value::object();
    secret.set(&["data", "a"], Value::Bytes(Box::new(*b"old")));
    secret.set(&["data", "b"], Value::Bytes(Box::new(*b"kept")));
    secret.set(&["stringData", "a"], "new");
    merge_string_data(&mut secret);
    assert_eq!(
        secret.at(&["data", "a"]),
        Some(&Value::Bytes(Box::new(*b"new")))
    );
    assert_eq!(
        secret.at(&["data", "b"]),
        Some(&Value::Bytes(Box::new(*b"kept")))
    );
    assert_eq!(secret.get("stringData"), None);
}

#[test]
fn there_is_no_way_between_kinds() {
    let pod = messages::core_v1::POD;
    assert!(convert(Value::object(), pod, messages::core_v1::SERVICE).is_err());
}

/// Names, shapes and kinds of the fields of two messages, as deep as they go.
fn same_shape(a: MsgId, b: MsgId, seen: &mut HashSet<(MsgId, MsgId)>) -> bool {
    if a == b || !seen.insert((a, b)) {
        return true;
    }
    a.fields().len() == b.fields().len()
        && a.fields().all(|field| {
            b.field(field.name).is_some_and(|other| {
                let pointers = [field, other].map(|f| f.has(catalogue::Flags::POINTER));
                field.shape == other.shape
                    && pointers[0] == pointers[1]
                    && match (field.kind, other.kind) {
                        (Kind::Message(a), Kind::Message(b)) => same_shape(a, b, seen),
                        (a, b) => a == b,
                    }
            })
        })
}

#[test]
fn every_served_version_has_a_way_to_the_stored_one_and_back() {
    for resource in catalogue::resources() {
        let Some(storage) = &resource.storage else {
            continue;
        };
        let (served, stored) = (resource.message, storage.message);
        for (from, to) in [(served, stored), (stored, served)] {
            let paired = PAIRS.iter().any(|(f, t, _)| (*f, *t) == (from, to));
            let refused = REFUSED.contains(&served);
            // The newer version of a request has fewer fields: what is missing is dropped.
            let narrower = PAIRS.iter().any(|(f, t, _)| (*t, *f) == (from, to));
            let same = same_shape(from, to, &mut HashSet::new());
            assert!(
                paired || refused || narrower || same,
                "{} to {}",
                from.name(),
                to.name()
            );
        }
    }
}
