//! The patch types, server-side apply, managed fields.

use proto::Value;
use proto::apply::{self, Configuration, Filter, Managed, Set, Subject, Version};
use proto::catalogue::{self, Resource};
use proto::codec::json::{self, Strictness};
use proto::patch::{json as json_patch, merge, strategic};

use crate::Target;
use crate::codec::{same, written};
use crate::input::join;
use crate::objects::{message, number_of, number_of_resource, objects, resource};

/// What was patched is a document like one that a client may send.
fn is_readable(document: &Value) {
    let text = written(document);
    let again = json::parse(&text).expect("what was patched can be read");
    assert_eq!(written(&again), text);
}

pub(crate) const JSON_PATCH: Target = Target {
    name: "json-patch",
    run: |input| {
        let [document, patch] = input.parts();
        let (Ok(document), Ok(operations)) = (json::parse(document), json::parse(patch)) else {
            return;
        };
        let Ok(patch) = json_patch::Patch::read(&operations) else {
            return;
        };
        let mut ours = document.clone();
        let result = patch.apply(&mut ours);
        if result.is_ok() {
            is_readable(&ours);
        }
        if let Some(theirs) = another(&written(&document), &written(&operations)) {
            assert!(
                result.is_ok(),
                "{result:?} where another library makes {theirs}"
            );
            assert!(same(&ours, &theirs), "{ours:?} against {theirs}");
        }
    },
    seeds: || {
        let patches = [
            r#"[{"op":"add","path":"/metadata/labels/a","value":"b"},{"op":"test","path":"/kind","value":"Pod"}]"#,
            r#"[{"op":"replace","path":"/spec/containers/0/image","value":"x"},{"op":"remove","path":"/spec/containers/-1"}]"#,
            r#"[{"op":"copy","from":"/spec","path":"/metadata/annotations"},{"op":"move","from":"/metadata/name","path":"/a~1b~0c"}]"#,
            r#"[{"op":"add","path":"/spec/containers/-","value":{"name":[{}]}},{"op":"test","path":"/a","value":null}]"#,
        ];
        let documents = objects().iter().filter(|o| o.json.len() < 1000).step_by(7);
        documents
            .flat_map(|o| patches.map(|p| [&o.json, p.as_bytes()].join(&crate::input::SEPARATOR)))
            .collect()
    },
};

/// What another library makes of a patch, if it does anything with it that upstream's is known to do as well: roots are
/// told by other paths there, and copies of copies are not limited.
fn another(document: &[u8], patch: &[u8]) -> Option<serde_json::Value> {
    let mut document = serde_json::from_slice(document).ok()?;
    let patch: ::json_patch::Patch = serde_json::from_slice(patch).ok()?;
    let known = |operation: &::json_patch::PatchOperation| {
        let moves = matches!(operation, ::json_patch::PatchOperation::Copy(_));
        !moves && !operation.path().is_root()
    };
    if !patch.0.iter().all(known) {
        return None;
    }
    ::json_patch::patch(&mut document, &patch).ok()?;
    Some(document)
}

pub(crate) const MERGE_PATCH: Target = Target {
    name: "merge-patch",
    run: |input| {
        let [document, patch] = input.parts();
        let (Ok(document), Ok(patch)) = (json::parse(document), json::parse(patch)) else {
            return;
        };
        let mut once = document.clone();
        merge::apply(&mut once, &patch);
        is_readable(&once);
        if !has_null_in_list(&patch, false) {
            assert_eq!(once, merged(document, &patch), "as the RFC has it");
            let mut twice = once.clone();
            merge::apply(&mut twice, &patch);
            assert_eq!(once, twice, "a patch does nothing the second time");
        }
    },
    seeds: || {
        let patches = [
            r#"{"metadata":{"labels":{"a":"b","app":null}},"spec":null}"#,
            r#"{"spec":{"containers":[{"name":"x","image":null}],"a":{"b":{"c":null}}}}"#,
            "[1]",
        ];
        let documents = objects().iter().filter(|o| o.json.len() < 1000).step_by(7);
        documents
            .flat_map(|o| patches.map(|p| [&o.json, p.as_bytes()].join(&crate::input::SEPARATOR)))
            .collect()
    },
};

/// RFC 7386, section 2, word for word.
fn merged(target: Value, patch: &Value) -> Value {
    let Value::Map(patch) = patch else {
        return patch.clone();
    };
    let mut target = match target {
        Value::Map(map) => map,
        _ => proto::Map::new(),
    };
    for (name, value) in patch.iter() {
        if value.is_null() {
            target.remove(name.as_str());
        } else {
            let old = target.remove(name.as_str()).unwrap_or_default();
            target.insert(name.as_str(), merged(old, value));
        }
    }
    Value::Map(target)
}

/// Where upstream is not the RFC.
fn has_null_in_list(patch: &Value, in_list: bool) -> bool {
    match patch {
        Value::Null => in_list,
        Value::List(items) => items.iter().any(|v| has_null_in_list(v, true)),
        Value::Map(map) => map.iter().any(|(_, v)| has_null_in_list(v, in_list)),
        _ => false,
    }
}

pub(crate) const STRATEGIC: Target = Target {
    name: "strategic-merge-patch",
    run: |mut input| {
        let message = message(input.number());
        let [document, patch] = input.parts();
        let (Ok(document), Ok(patch)) = (json::parse(document), json::parse(patch)) else {
            return;
        };
        let mut once = document.clone();
        if strategic::apply(&mut once, &patch, message).is_ok() {
            is_readable(&once);
            let again = strategic::apply(&mut once.clone(), &patch, message);
            // What the first pass put there raw may not fit the schema; else it does what it did.
            let _ = again;
        }
        if document.as_map().is_some() {
            let mut same = document.clone();
            strategic::apply(&mut same, &Value::object(), message).expect("nothing to do");
            assert_eq!(same, document);
        }
    },
    seeds: || {
        let patches = [
            r#"{"metadata":{"labels":{"a":"b","app":null},"$retainKeys":["labels"]}}"#,
            r#"{"spec":{"$setElementOrder/containers":[{"name":"x"},{"name":"c"}],"containers":[{"name":"x","image":"y"},{"$patch":"delete","name":"c"}]}}"#,
            r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["a"],"$setElementOrder/finalizers":["b","a"],"finalizers":["b"]}}"#,
            r#"{"spec":{"$patch":"replace","template":{"spec":{"volumes":[{"$patch":"replace"},{"name":"v","emptyDir":{}}]}}}}"#,
        ];
        let mut seeds: Vec<_> = objects()
            .iter()
            .step_by(3)
            .zip(patches.iter().cycle())
            .map(|(o, p)| join(number_of(o.message()), &[&o.json, p.as_bytes()]))
            .collect();
        // What an object changes in itself.
        seeds.extend(
            objects()
                .iter()
                .map(|o| join(number_of(o.message()), &[&o.json, &o.json])),
        );
        seeds
    },
};

pub(crate) const FIELDS: Target = Target {
    name: "managed-fields",
    run: |mut input| {
        let whole_list = input.flag();
        let text = input.rest();
        if whole_list {
            let Ok(Value::List(list)) = json::parse(text) else {
                return;
            };
            let Ok(managed) = Managed::read(&list) else {
                return;
            };
            let Some(once) = managed.write() else { return };
            let list = once.as_list().expect("managers are a list");
            let again = Managed::read(list).expect("what was written is read");
            assert_eq!(again.write(), Some(once));
            return;
        }
        let Ok(set) = Set::parse(text) else { return };
        let printed = set.print();
        let again = Set::parse(&printed).expect("what was printed is read");
        assert_eq!(again, set);
        assert_eq!(again.print(), printed);
        assert_eq!(set.paths().len(), set.len());
        let mut same = set.clone();
        same.union(set.clone());
        assert_eq!(same, set);
        assert_eq!(set.intersection(&set), set);
        let mut none = set.clone();
        none.difference(&set);
        assert!(none.is_empty());
    },
    seeds: || {
        let sets = [
            r#"{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:replicas":{}}}"#,
            r#"{"f:spec":{"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{}}}}}"#,
            r#"{"f:finalizers":{".":{},"v:\"a\"":{},"v:1":{},"v:null":{},"v:true":{}},"i:0":{},"x:y":{}}"#,
        ];
        let mut seeds: Vec<_> = sets.iter().map(|s| [&[0], s.as_bytes()].concat()).collect();
        let list = format!(
            r#"[{{"manager":"a","operation":"Apply","apiVersion":"v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{}}},{{"manager":"b","operation":"Update","apiVersion":"v1","subresource":"status","fieldsType":"FieldsV1","fieldsV1":{}}}]"#,
            sets[0], sets[1]
        );
        seeds.push([&[1], list.as_bytes()].concat());
        seeds
    },
};

pub(crate) const APPLY: Target = Target {
    name: "apply",
    run: |mut input| {
        let resource = resource(input.number());
        let [live, managed, configuration] = input.parts();
        let conform = |text: &[u8]| {
            json::decode(text, resource.message, Strictness::Lenient)
                .ok()
                .map(|d| d.value)
        };
        let (Some(live), Ok(configuration)) = (conform(live), json::parse(configuration)) else {
            return;
        };
        let managed = match json::parse(managed) {
            Ok(Value::List(list)) => Managed::read(&list).unwrap_or_default(),
            _ => Managed::default(),
        };
        applied(resource, &live, managed, configuration);
    },
    seeds: || {
        let managed = r#"[{"manager":"other","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:replicas":{},"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{}}}}}},{"manager":"fuzz","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:annotations":{"f:a":{}}}}}]"#;
        let objects = objects();
        let next = |i: usize| {
            objects
                .get(i + 1)
                .filter(|o| o.message() == objects[i].message())
        };
        objects
            .iter()
            .enumerate()
            .map(|(i, o)| {
                let configuration = next(i).unwrap_or(o);
                join(
                    number_of_resource(o.resource),
                    &[&o.json, managed.as_bytes(), &configuration.json],
                )
            })
            .collect()
    },
};

const NOW: &str = "2026-01-02T00:00:00Z";

/// A write and two applies of the same: the second changes nothing.
fn applied(resource: &Resource, live: &Value, managed: Managed, mut configuration: Value) {
    let api_version = resource.api_version();
    if configuration.as_map().is_none() {
        return;
    }
    configuration.set(&["apiVersion"], &*api_version);
    configuration.set(&["kind"], resource.kind);
    let version = |wanted: &str| version_of(resource, wanted);
    let subject = Subject {
        kind: resource.kind,
        api_version: &api_version,
        subresource: "",
        message: resource.message,
        version: &version,
    };
    let written = apply::update(
        &subject,
        &Value::object(),
        live,
        managed.clone(),
        "writer",
        NOW,
    );
    let managed = written.unwrap_or(managed);
    let configuration = |force| Configuration {
        object: &configuration,
        manager: "fuzz",
        force,
        now: NOW,
    };
    let _ = apply::apply(&subject, live, managed.clone(), &configuration(false));
    let Ok(first) = apply::apply(&subject, live, managed, &configuration(true)) else {
        return;
    };
    let result = first
        .object
        .as_ref()
        .map(|o| apply::conformed(o, resource.message));
    let Some(Ok(result)) = result else { return };
    let again = apply::apply(
        &subject,
        &result,
        first.managed.clone(),
        &configuration(true),
    );
    let again = again.expect("what was applied can be applied again");
    // An empty list is told of each time, where what is stored cannot tell it from none.
    if let Some(again) = again.object {
        let again = apply::conformed(&again, resource.message).expect("as well as the first time");
        assert_eq!(again, result, "the second time changes nothing");
    }
}

fn version_of(resource: &Resource, wanted: &str) -> Option<Version> {
    let (group, version) = proto::meta::parse_api_version(wanted)?;
    let found =
        catalogue::resource(group, version, resource.name).filter(|r| r.group == resource.group)?;
    Some(Version {
        message: found.message,
        filter: Filter::without(found.reset_fields),
    })
}
