use std::collections::HashSet;

use super::*;
use crate::catalogue::{self, Kind, messages};
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

/// Whether there is a way from one shape to another.
fn leads(from: MsgId, to: MsgId) -> bool {
    let paired = |from, to| PAIRS.iter().any(|(f, t, _)| (*f, *t) == (from, to));
    // The newer version of a request has fewer fields: what is missing is dropped.
    paired(from, to) || paired(to, from) || same_shape(from, to, &mut HashSet::new())
}

#[test]
fn every_served_version_has_a_way_to_the_stored_one_and_back() {
    for resource in catalogue::resources() {
        let Some(storage) = &resource.storage else {
            continue;
        };
        let (served, stored) = (resource.message, storage.message);
        for (from, to) in [(served, stored), (stored, served)] {
            assert!(leads(from, to), "{} to {}", from.name(), to.name());
        }
    }
}

/// Rules are about what is stored by default; what stands in its place has the same fields.
#[test]
fn what_is_stored_for_older_servers_has_the_shape_of_what_is_stored_today() {
    let mut n = 0;
    for storage in catalogue::resources()
        .iter()
        .filter_map(|r| r.storage.as_ref())
    {
        for former in storage.former {
            n += 1;
            let (old, new) = (former.message, storage.message);
            assert!(same_shape(old, new, &mut HashSet::new()), "{}", old.name());
        }
    }
    assert!(n > 0);
}

/// What `extensions` had went to two groups.
const HEIRS: [&str; 2] = ["apps", "networking.k8s.io"];

/// Shapes that differ in what a version holds behind a pointer, which encoding evens out.
const EVENED: [MsgId; 1] = [messages::apps_v1beta1::STATEFUL_SET];

#[test]
fn every_version_that_upstream_decodes_has_a_way_to_the_stored_one() {
    let mut n = 0;
    for (group, version) in catalogue::versions_of_kinds() {
        for resource in catalogue::resources() {
            let heir = group == "extensions" && HEIRS.contains(&resource.group);
            let Some(storage) = resource.storage.as_ref() else {
                continue;
            };
            let Some(old) = catalogue::message_of(group, version, resource.kind) else {
                continue;
            };
            if resource.group != group && !heir {
                continue;
            }
            n += 1;
            let way = EVENED.contains(&old) || leads(old, storage.message);
            assert!(way, "{} to {}", old.name(), storage.message.name());
        }
    }
    assert!(n > 120, "{n}");
}
