use super::super::MAX_DEPTH;
use super::*;
use crate::codec::json;

fn message(name: &str) -> MsgId {
    MsgId::find(name).expect("a message of the catalogue")
}

fn json_of(raw: &[u8], name: &str) -> String {
    let mut out = Vec::new();
    json::encode(
        &decode(raw, message(name)).unwrap(),
        message(name),
        &mut out,
    );
    String::from_utf8(out).unwrap()
}

fn from_json(text: &str, name: &str) -> Vec<u8> {
    let tree = json::decode(text.as_bytes(), message(name), json::Strictness::Strict)
        .unwrap()
        .value;
    let mut out = Vec::new();
    encode(&tree, message(name), &mut out);
    out
}

/// A field of bytes with a tag below 16.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = u8::try_from(content.len()).unwrap();
    [&[tag << 3 | 2, len], content].concat()
}

#[test]
fn an_empty_pod_has_what_go_holds_by_value() {
    let raw = from_json("{}", "core/v1.Pod");
    let mut envelope = Vec::new();
    super::envelope(&raw, "v1", "Pod", &mut envelope);
    assert_eq!(
        &envelope[..17],
        b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x45"
    );
    assert_eq!(&envelope[envelope.len() - 4..], [0x1a, 0, 0x22, 0]);
    // metadata: name "", generateName "", namespace "", selfLink "", uid "", resourceVersion "",
    // generation 0, creationTimestamp zero.
    assert_eq!(&raw[..2], [0x0a, 16]);
    assert_eq!(
        &raw[2..18],
        [
            0x0a, 0, 0x12, 0, 0x1a, 0, 0x22, 0, 0x2a, 0, 0x32, 0, 0x38, 0, 0x42, 0
        ]
    );
}

#[test]
fn negative_numbers_take_ten_bytes() {
    let raw = from_json(
        r#"{"spec":{"containers":null,"priority":-1}}"#,
        "core/v1.Pod",
    );
    let priority = [
        0xc8, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
    ];
    assert!(raw.windows(priority.len()).any(|w| w == priority));
    assert!(json_of(&raw, "core/v1.Pod").contains(r#""priority":-1"#));
}

#[test]
fn every_prefix_is_an_error_or_a_shorter_message() {
    let raw = from_json(
        r#"{"metadata":{"name":"a","labels":{"b":"c"}},"spec":{"containers":[{"name":"d"}]}}"#,
        "core/v1.Pod",
    );
    let whole = (0..raw.len())
        .filter(|len| decode(&raw[..*len], message("core/v1.Pod")).is_ok())
        .count();
    assert_eq!(whole, 3, "before metadata, before spec, before status");
    let at_metadata = decode(&raw[..raw.len() / 2], message("core/v1.Pod"));
    assert_eq!(at_metadata, Err(DecodeError::Truncated));
}

#[test]
fn unknown_fields_and_groups_are_skipped() {
    let name = field(1, &field(1, b"a"));
    let unknown = [
        &[0x9b, 0x06, 0x08, 0x01, 0x13, 0x14, 0x9c, 0x06][..], // group 99 with a varint and a group 2 in it
        &[0x9d, 0x06, 1, 2, 3, 4],                             // 32 bits
        &[0x99, 0x06, 1, 2, 3, 4, 5, 6, 7, 8],                 // 64 bits
        &[0x98, 0x06, 0x80, 0x01],                             // a varint
        &[0x9a, 0x06, 1, 0],                                   // bytes
    ]
    .concat();
    let raw = [&unknown[..], &name, &unknown].concat();
    assert_eq!(
        json_of(&raw, "core/v1.Pod"),
        r#"{"metadata":{"name":"a"},"spec":{"containers":null},"status":{}}"#
    );
    for cut in 1..unknown.len() {
        drop(decode(&unknown[..cut], message("core/v1.Pod")));
    }
}

#[test]
fn malformed_bytes_are_errors_in_the_words_of_gogo() {
    let pod = |raw: &[u8]| decode(raw, message("core/v1.Pod")).unwrap_err().to_string();
    assert_eq!(pod(&[0x0a]), "unexpected EOF");
    assert_eq!(pod(&[0x0a, 5, 1]), "unexpected EOF");
    assert_eq!(pod(&[0x0c]), "proto: unexpected end of group");
    assert_eq!(pod(&[0x0e]), "proto: illegal wireType 6");
    assert_eq!(
        pod(&[0x02, 0]),
        "proto: core/v1.Pod: illegal tag 0 (wire type 2)"
    );
    assert_eq!(
        pod(&[0x08, 1]),
        "proto: wrong wireType = 0 for field metadata"
    );
    assert_eq!(pod(&[0xff; 11]), "proto: integer overflow");
}

#[test]
fn numbers_may_be_packed() {
    let name = "core/v1.PodSecurityContext";
    let groups = message(name)
        .fields()
        .find(|f| f.name.text() == "supplementalGroups")
        .unwrap();
    let tag = u8::try_from(groups.tag).unwrap();
    let packed = field(tag, &[1, 0x80, 0x01, 3]);
    assert_eq!(
        json_of(&packed, name),
        r#"{"supplementalGroups":[1,128,3]}"#
    );
    assert_eq!(json_of(&field(tag, &[]), name), "{}");
    let mixed = [&packed[..], &[tag << 3, 4]].concat();
    assert_eq!(
        json_of(&mixed, name),
        r#"{"supplementalGroups":[1,128,3,4]}"#
    );
}

#[test]
fn pieces_of_a_message_are_merged_and_the_last_scalar_wins() {
    let label = |key: &[u8], value: &[u8]| field(11, &[field(1, key), field(2, value)].concat());
    let first = field(
        1,
        &[field(1, b"a"), label(b"z", b"1"), label(b"k", b"1")].concat(),
    );
    let second = field(
        1,
        &[field(1, b"b"), field(3, b"ns"), label(b"k", b"2")].concat(),
    );
    let raw = [first, second].concat();
    assert_eq!(
        json_of(&raw, "core/v1.ConfigMap"),
        r#"{"metadata":{"name":"b","namespace":"ns","labels":{"k":"2","z":"1"}}}"#
    );
}

/// Without a bound this takes minutes.
#[test]
fn a_map_in_very_many_pieces_is_refused() {
    let piece = |key: u32| {
        field(
            1,
            &field(
                12,
                &[field(1, format!("{key:06}").as_bytes()), field(2, b"")].concat(),
            ),
        )
    };
    let pieces = |count: u32| -> Vec<u8> { (0..count).rev().flat_map(piece).collect() };
    let decode = |raw: &[u8]| decode(raw, message("core/v1.ConfigMap"));
    assert_eq!(
        decode(&pieces(100_000)),
        Err(DecodeError::TooOften {
            field: "annotations"
        })
    );
    let few = decode(&pieces(1000)).unwrap();
    assert_eq!(
        few.at(&["metadata", "annotations"])
            .and_then(Value::as_map)
            .map(|m| m.len()),
        Some(1000)
    );
}

#[test]
fn depth_is_bounded_and_the_bound_fits_the_stack() {
    let name = "apiextensions/v1.JSONSchemaProps";
    let not = message(name)
        .fields()
        .find(|f| f.name.text() == "not")
        .unwrap()
        .tag;
    let nested = |levels: usize| {
        let mut out = Vec::new();
        let mut back = Back::new(&mut out);
        let mark = back.written();
        for _ in 0..levels {
            back.close(not, mark);
        }
        back.finish();
        out
    };
    let tree = decode(&nested(MAX_DEPTH - 1), message(name)).unwrap();
    let mut out = Vec::new();
    encode(&tree, message(name), &mut out);
    assert_eq!(decode(&out, message(name)), Ok(tree));
    assert_eq!(
        decode(&nested(MAX_DEPTH), message(name)),
        Err(DecodeError::TooDeep)
    );
    assert!(decode(&nested(100_000), message(name)).is_err());
}

#[test]
fn what_is_no_envelope_is_not_opened() {
    assert_eq!(open(b"{}"), Err(DecodeError::NoEnvelope));
    assert_eq!(open(b"k8s\x01"), Err(DecodeError::NoEnvelope));
    assert_eq!(open(b"k8s\0\x0a\x05"), Err(DecodeError::Truncated));
    assert!(is_sealed(b"k8s\0"));
}
