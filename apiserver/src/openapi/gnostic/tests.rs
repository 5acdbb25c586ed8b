use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::*;

const SMALL: &str = r##"{"swagger":"2.0",
 "info":{"title":"Kubernetes","version":"v1.37.1"},
 "paths":{"/api/v1/namespaces/{namespace}/pods/{name}":{
  "get":{"operationId":"readPod","tags":["core_v1"],"parameters":[{"in":"query","name":"exact","type":"boolean","uniqueItems":true}],"x-kubernetes-action":"get","x-kubernetes-group-version-kind":{"group":"","version":"v1","kind":"Pod"},"responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/Pod"}},"401":{"description":"Unauthorized"}},"schemes":["https"],"consumes":["*/*"],"produces":["application/json","application/yaml"]},
  "put":{"operationId":"p","parameters":[{"in":"body","name":"body","required":true,"schema":{"$ref":"#/definitions/Pod"}}],"responses":{"200":{"description":"OK","schema":{"type":"string"}}}},
  "delete":{"operationId":"d","parameters":[{"in":"body","name":"body","schema":{"$ref":"#/definitions/Pod"}}],"responses":{"401":{"description":"Unauthorized"}}},
  "post":{"operationId":"o","responses":{"401":{"description":"Unauthorized"}}},"patch":{"operationId":"a","responses":{"401":{"description":"Unauthorized"}}},"head":{"operationId":"h","responses":{"401":{"description":"Unauthorized"}}},"options":{"operationId":"t","responses":{"401":{"description":"Unauthorized"}}},
  "parameters":[{"in":"path","name":"name","required":true,"type":"string","uniqueItems":true}]}},
 "definitions":{"Pod":{"type":"object","required":["spec"],"properties":{"any":{},"spec":{"$ref":"#/definitions/Spec","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["a","b"]},
  "list":{"type":"array","items":{"type":"string","format":"byte"}},"map":{"type":"object","additionalProperties":{"type":"integer","format":"int32"}},"policy":{"type":"string","enum":["","true","Always"]}},
  "x-kubernetes-group-version-kind":[{"group":"","version":"v1","kind":"Pod"}]}},
 "securityDefinitions":{"BearerToken":{"type":"apiKey","name":"authorization","in":"header"}},"security":[{"BearerToken":[]}]}"##;

/// What `gnostic-models` 0.7.0 makes of it (`ParseDocument`, `proto.Marshal`).
const EXPECTED: &str = "\
    CgMyLjASFQoKS3ViZXJuZXRlcxIHdjEuMzcuMUL2BBLzBAoqL2FwaS92MS9uYW1lc3BhY2VzL3tuYW1lc3BhY2V9L3BvZHMve25hbWV9EsQEEo\
    sCCgdjb3JlX3YxKgdyZWFkUG9kMhBhcHBsaWNhdGlvbi9qc29uMhBhcHBsaWNhdGlvbi95YW1sOgMqLypCIAoeEhwaGhIFcXVlcnkiBWV4YWN0\
    Mgdib29sZWFuoAEBSj8KJAoDMjAwEh0KGwoCT0sSFQoTChEjL2RlZmluaXRpb25zL1BvZAoXCgM0MDESEAoOCgxVbmF1dGhvcml6ZWRSBWh0dH\
    Bzah0KE3gta3ViZXJuZXRlcy1hY3Rpb24SBhIEZ2V0CmpFCh94LWt1YmVybmV0ZXMtZ3JvdXAtdmVyc2lvbi1raW5kEiISIGdyb3VwOiAiIgpr\
    aW5kOiBQb2QKdmVyc2lvbjogdjEKGkwqAXBCJwolCiMSBGJvZHkaBGJvZHkgASoTChEjL2RlZmluaXRpb25zL1BvZEoeChwKAzIwMBIVChMKAk\
    9LEg0KC7IBCAoGc3RyaW5nIh4qAW9KGQoXCgM0MDESEAoOCgxVbmF1dGhvcml6ZWQqRSoBZEIlCiMKIRIEYm9keRoEYm9keSoTChEjL2RlZmlu\
    aXRpb25zL1BvZEoZChcKAzQwMRIQCg4KDFVuYXV0aG9yaXplZDIeKgF0ShkKFwoDNDAxEhAKDgoMVW5hdXRob3JpemVkOh4qAWhKGQoXCgM0MD\
    ESEAoOCgxVbmF1dGhvcml6ZWRCHioBYUoZChcKAzQwMRIQCg4KDFVuYXV0aG9yaXplZEofCh0SGyIZCAESBHBhdGgiBG5hbWUqBnN0cmluZ5gB\
    AUrxAgruAgoDUG9kEuYCmgEEc3BlY7IBCAoGb2JqZWN0ygGCAgoHCgNhbnkSAAooCgRsaXN0EiCyAQcKBWFycmF5ugETChESBGJ5dGWyAQgKBn\
    N0cmluZwoqCgNtYXASI6oBFQoTEgVpbnQzMrIBCQoHaW50ZWdlcrIBCAoGb2JqZWN0CjUKBnBvbGljeRIrogEFEgMiIgqiAQkSByJ0cnVlIgqi\
    AQkSB0Fsd2F5cwqyAQgKBnN0cmluZwpqCgRzcGVjEmIKEiMvZGVmaW5pdGlvbnMvU3BlY/oBKAoaeC1rdWJlcm5ldGVzLWxpc3QtbWFwLWtleX\
    MSChIILSBhCi0gYgr6ASAKFngta3ViZXJuZXRlcy1saXN0LXR5cGUSBhIEbWFwCvoBSwofeC1rdWJlcm5ldGVzLWdyb3VwLXZlcnNpb24ta2lu\
    ZBIoEiYtIGdyb3VwOiAiIgogIGtpbmQ6IFBvZAogIHZlcnNpb246IHYxCmIRCg8KC0JlYXJlclRva2VuEgBqMgowCgtCZWFyZXJUb2tlbhIhEh\
    8KBmFwaUtleRINYXV0aG9yaXphdGlvbhoGaGVhZGVy";

#[test]
fn a_document_is_what_gnostic_makes_of_it() {
    let json: Value = serde_json::from_str(SMALL).expect("JSON");
    let expected = BASE64_STANDARD.decode(EXPECTED).expect("base64");
    let ours = v2(&json);
    let (ours, expected) = (
        String::from_utf8_lossy(&ours),
        String::from_utf8_lossy(&expected),
    );
    assert_eq!(ours, expected);
}

/// Says what a document has that no table knows.
fn unknown(at: &str, kind: Kind, value: &Value, into: &mut Vec<String>) {
    match kind {
        Kind::One(of) => {
            for (name, value) in entries(value) {
                let field = of.fields.iter().find(|(known, ..)| known == name);
                match field {
                    Some((_, _, kind)) => unknown(&format!("{at}.{name}"), *kind, value, into),
                    None if name.starts_with("x-") => {}
                    None => into.push(format!("{at}.{name}")),
                }
            }
        }
        Kind::Each(kind) => match value.as_array() {
            Some(items) => items.iter().for_each(|item| unknown(at, *kind, item, into)),
            None => into.push(format!("{at}: no list")),
        },
        Kind::In(_, kind) => unknown(at, *kind, value, into),
        Kind::Named(_, kind) => match value.as_object() {
            Some(map) => map
                .values()
                .for_each(|value| unknown(at, *kind, value, into)),
            None => into.push(format!("{at}: no map")),
        },
        Kind::By(kind) => unknown(at, *kind(value), value, into),
        Kind::Text | Kind::GivenText if value.is_string() => {}
        Kind::Flag | Kind::GivenFlag if value.is_boolean() => {}
        Kind::GivenNumber if value.is_number() => {}
        Kind::Text | Kind::Flag | Kind::GivenText | Kind::GivenFlag | Kind::GivenNumber => {
            into.push(format!("{at}: {value}"));
        }
        Kind::Any | Kind::Something => {}
    }
}

#[test]
fn everything_that_our_documents_have_is_written() {
    let all: Vec<_> = proto::catalogue::resources().iter().collect();
    let set = super::super::document::all(&all);
    let mut lost = Vec::new();
    unknown("", Kind::One(&v2::DOCUMENT), &set.v2, &mut lost);
    for document in set.v3.values() {
        unknown("", Kind::One(&v3::DOCUMENT), document, &mut lost);
    }
    lost.sort_unstable();
    lost.dedup();
    assert!(lost.is_empty(), "{lost:?}");
}

/// A schema whose property has a default, under a reference to another.
#[test]
fn defaults_and_references_are_alternatives() {
    let json = serde_json::json!({"components": {"schemas": {"A": {
        "properties": {"b": {"allOf": [{"$ref": "#/B"}], "default": {}}, "c": {"default": ""}, "d": {"default": 0}},
    }}}});
    let schema = |body: &[u8]| [&[0x0a, body.len() as u8][..], body].concat();
    let named = |name: u8, value: &[u8]| {
        [
            &[
                0x0a,
                value.len() as u8 + 5,
                0x0a,
                1,
                name,
                0x12,
                value.len() as u8,
            ][..],
            value,
        ]
        .concat()
    };
    let reference = [&[0x12, 5, 0x0a, 3][..], b"#/B"].concat();
    let b = [
        &[0xd2, 1, reference.len() as u8][..],
        &reference,
        &[0x8a, 2, 0],
    ]
    .concat();
    let c = [0x8a, 2, 2, 0x1a, 0];
    let d = [0x8a, 2, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0];
    let properties = [
        named(b'b', &schema(&b)),
        named(b'c', &schema(&c)),
        named(b'd', &schema(&d)),
    ];
    let properties = properties.concat();
    let a = [&[0xfa, 1, properties.len() as u8][..], &properties].concat();
    let schemas = named(b'A', &schema(&a));
    let components = [&[0x0a, schemas.len() as u8][..], &schemas].concat();
    let expected = [&[0x2a, components.len() as u8][..], &components].concat();
    assert_eq!(v3(&json), expected);
}

#[test]
fn fields_are_in_the_order_of_their_numbers() {
    for of in v2::ALL.iter().chain(v3::ALL) {
        let numbers = of.fields.iter().map(|(_, number, _)| *number);
        assert!(numbers.chain([of.extensions]).is_sorted());
    }
}
