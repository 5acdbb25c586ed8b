//! JSON, YAML and protobuf of any message.

use k8s_openapi::api;
use proto::codec::json::{self, Strictness};
use proto::codec::{DecodeError, protobuf, scan, transcode, yaml};
use proto::{MsgId, Value, catalogue, typed};

use crate::Target;
use crate::input::join;
use crate::objects::{message, number_of, objects};

pub(crate) const JSON: Target = Target {
    name: "json",
    run: |mut input| {
        let message = message(input.number());
        let text = input.rest();
        fields(text, message);
        schemaless(text);
    },
    seeds: || {
        let mut seeds: Vec<_> = objects()
            .iter()
            .map(|o| join(number_of(o.message()), &[&o.json]))
            .collect();
        let revision = number_of(known("apps/v1.ControllerRevision"));
        seeds.extend(DEPTHS.map(|n| join(revision, &[deep(n).as_bytes()])));
        seeds
    },
};

/// Around the depths at which readers give up: of trees, and of what is only passed on.
const DEPTHS: [usize; 4] = [198, 202, 9_990, 10_010];

/// Nested so deep, in a field that is passed on as it is, and in one that there is not.
fn deep(depth: usize) -> String {
    let (open, close) = ("[".repeat(depth), "]".repeat(depth));
    format!(r#"{{"data":{open}{close},"x":{open}{close}}}"#)
}

fn known(message: &str) -> MsgId {
    MsgId::find(message).expect("the catalogue has it")
}

/// What is read can be written, and reads as the same; strictness changes what is told and not what is read.
fn fields(text: &[u8], message: MsgId) {
    let decoded = json::decode(text, message, Strictness::Strict);
    let lenient = json::decode(text, message, Strictness::Lenient);
    match (&decoded, lenient) {
        (Ok(strict), Ok(lenient)) => {
            // As bytes: a number may be none.
            assert_eq!(
                encoded(&strict.value, message),
                encoded(&lenient.value, message)
            );
            assert!(lenient.problems.is_empty());
        }
        (Err(strict), Err(lenient)) => assert_eq!(*strict, lenient),
        (strict, lenient) => panic!("{strict:?} against {lenient:?}"),
    }
    let Ok(decoded) = decoded else { return };
    let once = encoded(&decoded.value, message);
    match json::decode(&once, message, Strictness::Strict) {
        Ok(again) => assert_eq!(once, encoded(&again.value, message)),
        // A year that fell out of a zone is printed and not read, as in Go.
        Err(DecodeError::Time(_)) => {}
        Err(e) => panic!("what was written is read: {e}"),
    }
    let mut raw = Vec::new();
    protobuf::encode(&decoded.value, message, &mut raw);
    protobuf::decode(&raw, message).expect("what was written is read");
}

/// Without a schema: as another parser reads it, where both do.
fn schemaless(text: &[u8]) {
    let theirs = serde_json::from_slice::<serde_json::Value>(text).ok();
    let ours = json::parse(text);
    if let Some(theirs) = &theirs {
        assert!(json::is_valid(text));
        let ours = ours
            .as_ref()
            .expect("what another parser takes for JSON is JSON");
        assert!(same(ours, theirs), "{ours:?} against {theirs:?}");
    }
    let Ok(value) = ours else { return };
    assert_eq!(
        json::parse_strict(text).map(|d| written(&d.value)),
        Ok(written(&value))
    );
    // 1.0 is written, and then read, as 1, and -0.0 as -0, which is read as 0: as in Go.
    let once = written(&json::parse(&written(&value)).expect("what was written is read"));
    assert_eq!(
        written(&json::parse(&once).expect("what was written is read")),
        once
    );
}

fn encoded(value: &Value, message: MsgId) -> Vec<u8> {
    let mut out = Vec::new();
    json::encode(value, message, &mut out);
    out
}

/// As JSON.
pub(crate) fn written(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    json::write(value, &mut out);
    out
}

/// Whether two parsers read the same.
pub(crate) fn same(ours: &Value, theirs: &serde_json::Value) -> bool {
    use serde_json::Value as Json;
    match (ours, theirs) {
        (Value::Null, Json::Null) => true,
        (Value::Bool(a), Json::Bool(b)) => a == b,
        (Value::Int(a), Json::Number(b)) => {
            b.as_i64() == Some(*a) || (*a == 0 && b.as_f64() == Some(0.0))
        }
        // The other parser may be off by a unit in the last place.
        (Value::Float(a), Json::Number(b)) => b
            .as_f64()
            .is_some_and(|b| a == &b || (a - b).abs() <= a.abs() * 1e-15),
        (Value::String(a), Json::String(b)) => **a == **b,
        (Value::List(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Map(a), Json::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(name, a)| b.get(name.as_str()).is_some_and(|b| same(a, b)))
        }
        _ => false,
    }
}

pub(crate) const YAML: Target = Target {
    name: "yaml",
    run: |mut input| {
        let message = message(input.number());
        let text = input.rest();
        let strict = yaml::decode(text, message, Strictness::Strict);
        let Ok((json, _)) = yaml::to_json(text) else {
            assert!(strict.is_err());
            return;
        };
        let value = json::parse(&json);
        let mut again = Vec::new();
        yaml::from_json(&json, &mut again);
        let (again, duplicates) = yaml::to_json(&again).expect("what was written is read");
        assert_eq!(duplicates, None);
        assert_eq!(json::parse(&again), value);
        let direct = json::decode(&json, message, Strictness::Lenient);
        assert_eq!(
            direct.map(|d| encoded(&d.value, message)),
            strict.map(|d| encoded(&d.value, message))
        );
    },
    seeds: || {
        let yaml = |json: &[u8]| {
            let mut text = Vec::new();
            yaml::from_json(json, &mut text);
            text
        };
        let mut seeds: Vec<_> = objects()
            .iter()
            .map(|o| join(number_of(o.message()), &[&yaml(&o.json)]))
            .collect();
        seeds.extend(YAML_SEEDS.iter().map(|text| join(0, &[text.as_bytes()])));
        let revision = number_of(known("apps/v1.ControllerRevision"));
        for depth in DEPTHS {
            seeds.push(join(revision, &[deep(depth).as_bytes()]));
            seeds.push(join(0, &["- ".repeat(depth).as_bytes()]));
            seeds.push(join(0, &["? ".repeat(depth).as_bytes()]));
        }
        // Each line names the one before twice.
        let bomb = (0..64).map(|i| format!("a{}: &a{} [*a{i}, *a{i}]\n", i + 1, i + 1));
        let bomb: String = std::iter::once("a0: &a0 x\n".to_owned())
            .chain(bomb)
            .collect();
        seeds.push(join(0, &[bomb.as_bytes()]));
        seeds
    },
};

/// What the objects do not use.
const YAML_SEEDS: [&str; 9] = [
    "a: &x {b: [1, 0x1f, 017, 0b11, 1_000, .5, 1e3, .inf, -.inf, .nan]}\nc: *x\n<<: *x\n",
    "? complex\n: - yes\n  - no\n  - ~\n  - null\n  - 12:30:45\n  - 2001-12-14t21:59:43.10-05:00\n",
    "|-\n  literal\n   text\n\n",
    ">+\n  folded\n  text\n\n   more\n",
    "%YAML 1.1\n--- !!str 12\n...\n---\nb\n",
    "!!binary aGVsbG8=\n",
    "'it''s': \"\\x41\\u00e9\\U0001F600\\n\\\n  x\"\n",
    "{a: 1, 'b': [x, \"y\", {z: }], ? c : d, e}\n",
    "a: !!float 1\nb: !!int '2'\nc: !<tag:yaml.org,2002:bool> yes # note\n",
];

pub(crate) const PROTOBUF: Target = Target {
    name: "protobuf",
    run: |mut input| {
        let message = message(input.number());
        let raw = input.rest();
        trees(raw, message);
        structs(raw);
        scans(raw, message);
        if let Ok(envelope) = protobuf::open(raw) {
            let mut sealed = Vec::new();
            protobuf::envelope(
                envelope.raw,
                envelope.api_version,
                envelope.kind,
                &mut sealed,
            );
            assert_eq!(protobuf::open(&sealed), Ok(envelope));
        }
    },
    seeds: || {
        let objects = objects().iter();
        let mut seeds: Vec<_> = objects
            .map(|o| join(number_of(o.message()), &[&o.protobuf()]))
            .collect();
        // A schema whose negation is a schema, and so on: field 28 of a message in field 28 of a message.
        for depth in [198, 202, 4_000] {
            let mut schema = Vec::new();
            for _ in 0..depth {
                let mut outer = vec![0xe2, 0x01];
                let mut length = schema.len();
                while length >= 0x80 {
                    outer.push((length & 0x7f) as u8 | 0x80);
                    length >>= 7;
                }
                outer.push(length as u8);
                outer.append(&mut schema);
                schema = outer;
            }
            let of = known("apiextensions/v1.JSONSchemaProps");
            seeds.push(join(number_of(of), &[&schema]));
        }
        let mut sealed = Vec::new();
        protobuf::envelope(b"\x0a\x00", "apps/v1", "Deployment", &mut sealed);
        seeds.push(join(0, &[&sealed]));
        seeds
    },
};

/// Decoding and transcoding agree; what is read can be written, and reads as the same.
fn trees(raw: &[u8], message: MsgId) {
    let decoded = protobuf::decode(raw, message);
    let mut transcoded = Vec::new();
    let result = transcode::to_json(raw, message, None, &mut transcoded);
    assert_eq!(result.err(), decoded.as_ref().err().cloned());
    let Ok(value) = decoded else { return };
    let text = encoded(&value, message);
    assert_eq!(text, transcoded);
    // As bytes: a double may be no number.
    let mut once = Vec::new();
    protobuf::encode(&value, message, &mut once);
    let mut twice = Vec::new();
    let again = protobuf::decode(&once, message).expect("what was written is read");
    protobuf::encode(&again, message, &mut twice);
    assert_eq!(once, twice);
    if let Ok(want) = serde_json::from_slice::<serde_json::Value>(&text) {
        let typed = typed::from_protobuf::<serde_json::Value>(raw, message);
        assert_eq!(typed.expect("a value takes any object"), want);
    }
}

/// Structs read the same from bytes and from a tree, as kinds that daemons read.
fn structs(raw: &[u8]) {
    one_struct::<api::core::v1::Pod>(raw, "core/v1.Pod");
    one_struct::<api::core::v1::Service>(raw, "core/v1.Service");
    one_struct::<api::apps::v1::StatefulSet>(raw, "apps/v1.StatefulSet");
}

fn one_struct<T: serde::de::DeserializeOwned + std::fmt::Debug>(raw: &[u8], name: &str) {
    let message = known(name);
    let Ok(tree) = protobuf::decode(raw, message) else {
        assert!(typed::from_protobuf::<T>(raw, message).is_err());
        return;
    };
    let show =
        |read: Result<T, typed::Error>| read.map(|t| format!("{t:?}")).map_err(|e| e.to_string());
    assert_eq!(
        show(typed::from_protobuf(raw, message)),
        show(typed::from_value(&tree, message))
    );
}

/// Single fields are what the whole object has there; the version can be written over.
fn scans(raw: &[u8], message: MsgId) {
    if let Ok(meta) = scan::ObjectMeta::read(raw) {
        let _ = (meta.labels().count(), meta.annotations().count());
        let _ = (meta.owner_references().count(), meta.finalizers().count());
    }
    let Ok(mut tree) = protobuf::decode(raw, message) else {
        return;
    };
    for path in [
        "metadata.name",
        "metadata.uid",
        "metadata.generation",
        "spec.nodeName",
        "status.phase",
    ] {
        let Some(compiled) = scan::Path::compile(message, path) else {
            continue;
        };
        let names: Vec<&str> = path.split('.').collect();
        match (compiled.get(raw), tree.at(&names)) {
            (Ok(scan::Scalar::String(a)), Some(b)) => assert_eq!(Some(a), b.as_str(), "{path}"),
            (Ok(scan::Scalar::Int(a)), Some(b)) => assert_eq!(Some(a), b.as_int(), "{path}"),
            (Ok(scan::Scalar::Bool(a)), Some(b)) => assert_eq!(Some(a), b.as_bool(), "{path}"),
            (Ok(scan::Scalar::String(a)), None) => assert_eq!(a, "", "{path}"),
            (Ok(scan::Scalar::Int(a)), None) => assert_eq!(a, 0, "{path}"),
            (Ok(scan::Scalar::Bool(a)), None) => assert!(!a, "{path}"),
            (Err(_), _) => {}
        }
    }
    let metadata = message.field(catalogue::names::METADATA);
    let is_object = metadata.is_some_and(|f| {
        matches!(f.kind, catalogue::Kind::Message(m) if m.name().ends_with("meta/v1.ObjectMeta"))
    });
    if let (true, Ok(spliced)) = (is_object, scan::splice_resource_version(raw, 42)) {
        let spliced = protobuf::decode(&spliced, message).expect("as well as without the version");
        tree.set(&["metadata", "resourceVersion"], "42");
        assert_eq!(encoded(&spliced, message), encoded(&tree, message));
    }
}
