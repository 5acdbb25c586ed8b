use super::*;
use crate::catalogue::messages::core_v1;
use crate::catalogue::names as n;
use crate::codec::{json, protobuf};

fn encoded(text: &str, message: MsgId) -> Vec<u8> {
    let decoded = json::decode(text.as_bytes(), message, json::Strictness::Lenient);
    let mut out = Vec::new();
    protobuf::encode(&decoded.unwrap().value, message, &mut out);
    out
}

const CLAIM: &str = r#"{"metadata":{"name":"a"},"spec":{"volumeMode":"Block","resources":{"requests":{"storage":"1Gi"}}},
    "status":{"phase":"Bound"}}"#;

fn claims() -> Form {
    Form::new(core_v1::PERSISTENT_VOLUME_CLAIM, &[])
}

#[test]
fn an_object_that_has_its_defaults_is_settled() {
    let of = |text: &str| claims().holds(&encoded(text, core_v1::PERSISTENT_VOLUME_CLAIM));
    assert!(of(CLAIM));
    for (there, instead) in [
        (r#""phase":"Bound""#, r#""phase":"""#),
        (r#""volumeMode":"Block","#, ""),
        ("1Gi", "1n"),
    ] {
        assert!(!of(&CLAIM.replace(there, instead)), "{instead}");
    }
    let long = CLAIM.replace("1Gi", "1234");
    let mut raw = encoded(&long, core_v1::PERSISTENT_VOLUME_CLAIM);
    assert!(claims().holds(&raw));
    let amount = raw.windows(4).position(|text| text == b"1234").unwrap();
    raw[amount..][..4].copy_from_slice(b"1000");
    assert!(!claims().holds(&raw), "1k");
    // Not plain, and canonical all the same.
    assert!(of(&CLAIM.replace("1Gi", "100Gi")) && of(&CLAIM.replace("1Gi", "500m")));
}

#[test]
fn what_no_encoder_of_today_writes_is_not_settled() {
    let raw = encoded(CLAIM, core_v1::PERSISTENT_VOLUME_CLAIM);
    let form = claims();
    // An unknown field at the end; in the metadata; fields in another order; every cut.
    assert!(!form.holds(&[&raw[..], &[0xfa, 0x01, 0]].concat()));
    assert!(!form.holds(&[&[0x1a, 0][..], &raw].concat()));
    let mut fields = Fields::new(&raw, "");
    fields.next().unwrap();
    let (metadata, rest) = raw.split_at(raw.len() - fields.rest().len());
    assert!(!form.holds(&[rest, metadata].concat()));
    // A field of one value in two pieces; a list of two is one.
    assert!(!form.holds(&[metadata, metadata, rest].concat()));
    let two = CLAIM.replace(r#""volumeMode""#, r#""accessModes":["a","b"],"volumeMode""#);
    assert!(form.holds(&encoded(&two, core_v1::PERSISTENT_VOLUME_CLAIM)));
    // An object that has no status at all ends between two fields.
    for cut in 0..raw.len() {
        assert!(!form.holds(&raw[..cut]), "{cut}");
    }
}

#[test]
fn rules_are_asked_of_every_message() {
    let rules = [
        (
            core_v1::VOLUME,
            Rule::Holds(|volume| volume.text(n::NAME) != "x"),
        ),
        (core_v1::VOLUME_SOURCE, Rule::Any),
        (core_v1::EMPTY_DIR_VOLUME_SOURCE, Rule::Filled(n::MEDIUM)),
    ];
    let form = Form::new(core_v1::VOLUME, &rules);
    let of = |text: &str| form.holds(&encoded(text, core_v1::VOLUME));
    assert!(of(r#"{"name":"v","emptyDir":{"medium":"Memory"}}"#));
    assert!(!of(r#"{"name":"x","emptyDir":{"medium":"Memory"}}"#));
    assert!(!of(r#"{"name":"v","emptyDir":{}}"#));
    assert!(!of(r#"{"name":"v"}"#));
    let form = Form::new(
        core_v1::SECRET,
        &[(core_v1::SECRET, Rule::Lacks(n::STRING_DATA))],
    );
    let of = |text: &str| form.holds(&encoded(text, core_v1::SECRET));
    assert!(of(r#"{"type":"Opaque","data":{"a":""}}"#));
    assert!(!of(r#"{"type":"Opaque","stringData":{"a":""}}"#));
}

#[test]
fn an_encoded_message_is_read_field_by_field() {
    let text = r#"{"podIP":"a","podIPs":[{"ip":"a"},{"ip":"b"}],"allocatedResources":{"cpu":"1","x":"2"},"observedGeneration":3}"#;
    let raw = encoded(text, core_v1::POD_STATUS);
    let status = Encoded::new(&raw, core_v1::POD_STATUS);
    assert_eq!(status.text(n::POD_IP), "a");
    let all: Vec<&str> = status.each(n::POD_IPS).map(|ip| ip.text(n::IP)).collect();
    assert_eq!(all, ["a", "b"]);
    let keys: Vec<&str> = status
        .pairs(n::ALLOCATED_RESOURCES)
        .map(|(key, _)| key)
        .collect();
    assert_eq!(keys, ["cpu", "x"]);
    assert_eq!(status.number(n::OBSERVED_GENERATION), 3);
    assert!(status.has(n::POD_IP) && !status.has(n::START_TIME));
}
