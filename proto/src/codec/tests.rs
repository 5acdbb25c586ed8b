//! What holds for every message: the codecs are inverse to each other, every way to the same form gives
//! the same bytes, and no input makes any of them panic.

mod arbitrary;

use proptest::prelude::*;

use super::{json, protobuf, scan, transcode, yaml};
use crate::catalogue::{self, MsgId};
use crate::typed;
use crate::value::Value;
use arbitrary::{Source, sorted_raw};

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..max)
}

/// A message of the catalogue, mostly an object, and a conformed tree of it.
fn tree() -> impl Strategy<Value = (MsgId, Value)> {
    let is_object = |m: &MsgId| m.fields().any(|f| f.name.text() == "metadata");
    let (objects, others): (Vec<MsgId>, Vec<MsgId>) = catalogue::messages().partition(is_object);
    let message =
        prop_oneof![3 => prop::sample::select(objects), 1 => prop::sample::select(others)];
    (message, bytes(3000))
        .prop_map(|(message, entropy)| (message, Source::new(&entropy).message(message, 0)))
}

/// A kind that objects are of, and a tree of it.
fn object() -> impl Strategy<Value = (MsgId, Value)> {
    const KINDS: &[&str] = &[
        "Pod",
        "Service",
        "Node",
        "ConfigMap",
        "Secret",
        "PersistentVolume",
        "Event",
    ];
    (prop::sample::select(KINDS), bytes(3000)).prop_map(|(kind, entropy)| {
        let message = catalogue::message_of("", "v1", kind).expect("a kind of the core group");
        (message, Source::new(&entropy).message(message, 0))
    })
}

fn encode_json(value: &Value, message: MsgId) -> Vec<u8> {
    let mut out = Vec::new();
    json::encode(value, message, &mut out);
    out
}

fn encode_protobuf(value: &Value, message: MsgId) -> Vec<u8> {
    let mut out = Vec::new();
    protobuf::encode(value, message, &mut out);
    out
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn json_keeps_every_tree((message, value) in tree()) {
        let text = encode_json(&value, message);
        let decoded = json::decode(&text, message, json::Strictness::Strict).unwrap();
        prop_assert_eq!(&decoded.problems, &Vec::<String>::new());
        prop_assert_eq!(decoded.value, value);
    }

    #[test]
    fn protobuf_keeps_every_tree((message, value) in tree()) {
        let raw = encode_protobuf(&value, message);
        prop_assert_eq!(protobuf::decode(&raw, message).unwrap(), value);
    }

    #[test]
    fn yaml_keeps_every_tree((message, value) in tree()) {
        let mut text = Vec::new();
        yaml::encode(&value, message, &mut text);
        let decoded = yaml::decode(&text, message, json::Strictness::Strict);
        let decoded = decoded.unwrap_or_else(|e| panic!("{e} in {}", String::from_utf8_lossy(&text)));
        prop_assert_eq!(&decoded.problems, &Vec::<String>::new());
        prop_assert_eq!(sorted_raw(decoded.value), sorted_raw(value));
    }

    #[test]
    fn transcoding_is_decoding_and_encoding((message, value) in tree()) {
        let raw = encode_protobuf(&value, message);
        let mut out = b"before".to_vec();
        transcode::to_json(&raw, message, None, &mut out).unwrap();
        prop_assert_eq!(out.strip_prefix(b"before").unwrap(), encode_json(&value, message));
    }

    #[test]
    fn a_type_sees_the_json_of_a_message((message, value) in tree()) {
        let raw = encode_protobuf(&value, message);
        let want: serde_json::Value = serde_json::from_slice(&encode_json(&value, message)).unwrap();
        prop_assert_eq!(&typed::from_protobuf::<serde_json::Value>(&raw, message).unwrap(), &want);
        prop_assert_eq!(&typed::from_value::<serde_json::Value>(&value, message).unwrap(), &want);
    }

    #[test]
    fn an_envelope_opens_to_what_was_put_in((message, value) in tree(), version in ".{0,20}", kind in ".{0,20}") {
        let raw = encode_protobuf(&value, message);
        let mut sealed = Vec::new();
        protobuf::seal(&value, message, &version, &kind, &mut sealed);
        let mut wrapped = Vec::new();
        protobuf::envelope(&raw, &version, &kind, &mut wrapped);
        prop_assert_eq!(&sealed, &wrapped);
        let open = protobuf::open(&sealed).unwrap();
        prop_assert_eq!((open.api_version, open.kind, open.raw), (&*version, &*kind, &*raw));
    }

    #[test]
    fn splicing_a_resource_version_is_setting_it((message, value) in object(), revision in 1..i64::MAX) {
        let raw = encode_protobuf(&value, message);
        let spliced = scan::splice_resource_version(&raw, revision).unwrap();
        let mut value = value;
        value.set(&["metadata", "resourceVersion"], revision.to_string());
        prop_assert_eq!(&spliced[..], encode_protobuf(&value, message));
    }

    #[test]
    fn scanning_finds_what_the_tree_has((message, value) in object()) {
        let raw = encode_protobuf(&value, message);
        let meta = scan::ObjectMeta::read(&raw).unwrap();
        let text = |name: &str| value.at(&["metadata", name]).and_then(Value::as_str).unwrap_or_default();
        prop_assert_eq!(meta.name, text("name"));
        prop_assert_eq!(meta.namespace, text("namespace"));
        prop_assert_eq!(meta.uid, text("uid"));
        prop_assert_eq!(meta.deletion_timestamp.is_some(), value.at(&["metadata", "deletionTimestamp"]).is_some());
        let labels = value.at(&["metadata", "labels"]).and_then(Value::as_map);
        let labels = labels.into_iter().flat_map(|map| map.iter());
        let labels: Vec<_> = labels.map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
        prop_assert_eq!(meta.labels().collect::<Vec<_>>(), labels);
    }

    #[test]
    fn malformed_protobuf_is_an_error_and_never_a_panic((message, value) in tree(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut raw = encode_protobuf(&value, message);
        if !raw.is_empty() {
            let at = at.index(raw.len());
            raw[at] = byte;
        }
        check_protobuf(&raw, message);
    }

    #[test]
    fn two_messages_in_a_row_are_merged((message, value) in tree(), cut in any::<prop::sample::Index>()) {
        let mut raw = encode_protobuf(&value, message);
        let piece = raw[..cut.index(raw.len() + 1)].to_vec();
        raw.extend(piece);
        check_protobuf(&raw, message);
    }

    #[test]
    fn random_bytes_are_no_trouble(raw in bytes(300), i in 0..catalogue::messages().len()) {
        let message = catalogue::messages().nth(i).unwrap();
        check_protobuf(&raw, message);
        check_json(&raw, message);
    }

    #[test]
    fn malformed_json_is_an_error_and_never_a_panic(
        (message, value) in tree(), at in any::<prop::sample::Index>(), byte: u8, cut: bool,
    ) {
        let mut text = encode_json(&value, message);
        let at = at.index(text.len());
        text[at] = byte;
        if cut {
            text.truncate(at);
        }
        check_json(&text, message);
    }

    #[test]
    fn malformed_yaml_is_an_error_and_never_a_panic(
        (message, value) in object(), at in any::<prop::sample::Index>(), byte in prop::sample::select(&b" -:#'\"&*!|>%@{}[],?~\n\t0a"[..]),
    ) {
        let mut text = Vec::new();
        yaml::encode(&value, message, &mut text);
        let at = at.index(text.len());
        text[at] = byte;
        drop(yaml::decode(&text, message, json::Strictness::Strict));
    }
}

/// All that reads protobuf, on bytes that may be anything; the ways to JSON must agree.
fn check_protobuf(raw: &[u8], message: MsgId) {
    let decoded = protobuf::decode(raw, message);
    let mut out = Vec::new();
    let transcoded = transcode::to_json(raw, message, None, &mut out);
    assert_eq!(transcoded.as_ref().err(), decoded.as_ref().err());
    match &decoded {
        Ok(value) => assert_eq!(out, encode_json(value, message)),
        Err(_) => assert!(out.is_empty()),
    }
    let typed = typed::from_protobuf::<serde_json::Value>(raw, message);
    if let (Ok(typed), Ok(_)) = (&typed, &decoded) {
        assert_eq!(
            *typed,
            serde_json::from_slice::<serde_json::Value>(&out).unwrap()
        );
    }
    drop(protobuf::open(raw));
    drop(scan::ObjectMeta::read(raw).map(|meta| meta.owner_references().count()));
    drop(scan::splice_resource_version(raw, 1));
}

/// All that reads JSON, on bytes that may be anything.
fn check_json(text: &[u8], message: MsgId) {
    let lenient = json::decode(text, message, json::Strictness::Lenient);
    let strict = json::decode(text, message, json::Strictness::Strict);
    assert_eq!(
        lenient.map(|d| d.value),
        strict.map(|d| d.value),
        "strictness only tells"
    );
    if let Ok(value) = json::parse(text) {
        let write = |value: &Value| {
            let mut out = Vec::new();
            json::write(value, &mut out);
            out
        };
        // 1.0 is written, and then read, as 1, and -0.0 as -0, which is read as 0: as in Go.
        let once = write(&json::parse(&write(&value)).unwrap());
        assert_eq!(write(&json::parse(&once).unwrap()), once);
        let mut pretty = Vec::new();
        json::indent(&once, &mut pretty);
        assert_eq!(json::parse(&pretty), json::parse(&once));
    }
    let serde = serde_json::from_slice::<serde_json::Value>(text).is_ok();
    assert!(
        !serde || json::is_valid(text),
        "what serde_json reads is JSON"
    );
    drop(yaml::decode(text, message, json::Strictness::Lenient));
}
