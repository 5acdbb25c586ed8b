//! The golden objects of upstream's own serialisation tests: one fully populated object per kind, in
//! JSON, YAML and protobuf, for this release and the four before it.
//!
//! The data is part of the Go module `k8s.io/api` and not of this repository; `go mod download` fetches
//! it, checked against the module's hash.

#[path = "golden/corpus.rs"]
mod corpus;
#[path = "golden/typed.rs"]
mod typed;

use corpus::{Golden, HEAD, compact, corpus, first_difference};
use proto::codec::{json, protobuf, transcode, yaml};
use proto::{MsgId, Value};

/// Kinds of `k8s.io/api` that kube-apiserver does not know: their objects are read by nobody.
const NOT_SERVED: usize = 2;

/// What an object says of itself, which protobuf leaves to the envelope.
fn without_type_meta(mut value: Value) -> Value {
    if let Some(map) = value.as_map_mut() {
        map.remove("kind");
        map.remove("apiVersion");
    }
    value
}

fn decode_json(golden: &Golden, message: MsgId) -> Value {
    let decoded = json::decode(&compact(&golden.json), message, json::Strictness::Strict);
    let decoded = decoded.unwrap_or_else(|e| panic!("{}: {e}", golden.name));
    assert_eq!(decoded.problems, Vec::<String>::new(), "{}", golden.name);
    decoded.value
}

fn decode_protobuf(golden: &Golden, message: MsgId) -> Value {
    let envelope =
        protobuf::open(&golden.protobuf).unwrap_or_else(|e| panic!("{}: {e}", golden.name));
    assert_eq!(
        (envelope.api_version, envelope.kind),
        (&*golden.api_version, &*golden.kind)
    );
    protobuf::decode(envelope.raw, message).unwrap_or_else(|e| panic!("{}: {e}", golden.name))
}

fn assert_same(what: &str, golden: &Golden, got: &[u8], want: &[u8]) {
    if got != want {
        panic!(
            "{} of {}: {}",
            what,
            golden.name,
            first_difference(got, want)
        );
    }
}

#[test]
fn the_three_forms_of_an_object_are_one_tree() {
    let mut seen = 0;
    for golden in corpus(HEAD) {
        let Some(message) = golden.message() else {
            continue;
        };
        let tree = without_type_meta(decode_json(&golden, message));
        assert_eq!(
            decode_protobuf(&golden, message),
            tree,
            "{} in protobuf",
            golden.name
        );
        let from_yaml = yaml::decode(&golden.yaml, message, json::Strictness::Strict);
        let from_yaml = from_yaml.unwrap_or_else(|e| panic!("{}: {e}", golden.name));
        assert_eq!(from_yaml.problems, Vec::<String>::new(), "{}", golden.name);
        let from_yaml = without_type_meta(from_yaml.value);
        // Raw text keeps its order of keys in JSON, YAML sorts them.
        assert_eq!(
            corpus::sorted_raw(from_yaml),
            corpus::sorted_raw(tree),
            "{} in YAML",
            golden.name
        );
        seen += 1;
    }
    assert_eq!(seen, corpus(HEAD).len() - NOT_SERVED);
}

#[test]
fn an_object_encodes_to_the_bytes_that_upstream_stores_and_serves() {
    for golden in corpus(HEAD) {
        let Some(message) = golden.message() else {
            continue;
        };
        let tree = decode_json(&golden, message);
        check_encodings(&golden, message, &tree, &golden);
    }
}

#[test]
fn stored_bytes_are_served_without_a_tree_just_the_same() {
    for golden in corpus(HEAD) {
        let Some(message) = golden.message() else {
            continue;
        };
        let envelope = protobuf::open(&golden.protobuf).unwrap();
        let meta = transcode::TypeMeta {
            api_version: &golden.api_version,
            kind: &golden.kind,
        };
        let mut out = Vec::new();
        transcode::to_json(envelope.raw, message, Some(meta), &mut out).unwrap();
        assert_same("transcoding", &golden, &out, &compact(&golden.json));
    }
}

/// Objects of earlier releases are read as this release reads them: upstream keeps beside each what
/// becomes of it where a field has gone since.
#[test]
fn objects_of_earlier_releases_come_out_as_upstream_says() {
    for release in corpus::EARLIER {
        let mut seen = 0;
        for golden in corpus(release) {
            let Some(message) = golden.message() else {
                continue;
            };
            let want = golden.after();
            let decoded = json::decode(&compact(&golden.json), message, json::Strictness::Lenient);
            let tree = decoded
                .unwrap_or_else(|e| panic!("{}: {e}", golden.name))
                .value;
            check_encodings(&golden, message, &tree, &want);
            let from_protobuf = decode_protobuf(&golden, message);
            assert_eq!(
                from_protobuf,
                without_type_meta(tree),
                "{} {release}",
                golden.name
            );
            seen += 1;
        }
        assert!(seen > 150, "{release} has {seen} objects");
    }
}

fn check_encodings(golden: &Golden, message: MsgId, tree: &Value, want: &Golden) {
    let mut out = Vec::new();
    json::encode(tree, message, &mut out);
    assert_same("JSON", golden, &out, &compact(&want.json));
    let mut pretty = Vec::new();
    json::indent(&out, &mut pretty);
    assert_same("pretty JSON", golden, &pretty, &want.json);
    let mut sealed = Vec::new();
    protobuf::seal(
        tree,
        message,
        &golden.api_version,
        &golden.kind,
        &mut sealed,
    );
    assert_same("protobuf", golden, &sealed, &want.protobuf);
    let mut text = Vec::new();
    yaml::encode(tree, message, &mut text);
    assert_same("YAML", golden, &text, &want.yaml);
}
