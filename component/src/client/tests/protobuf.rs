//! Answers in protobuf.

use super::*;

/// An object as the server sends it in protobuf.
fn sealed(value: &Value, api_version: &str, kind: &str) -> Vec<u8> {
    use proto::codec::json::{self, Strictness};
    use proto::codec::protobuf;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let message = proto::catalogue::message_of(group, version, kind).unwrap();
    let tree = json::decode(value.to_string().as_bytes(), message, Strictness::Strict).unwrap();
    assert!(tree.problems.is_empty(), "{:?}", tree.problems);
    let mut out = Vec::new();
    protobuf::seal(&tree.value, message, api_version, kind, &mut out);
    out
}

fn in_protobuf(code: u16, content_type: &'static str, body: Vec<u8>) -> crate::serving::Response {
    let mut response = http::Response::new(crate::serving::full(body));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
        .headers_mut()
        .insert("content-type", content_type.parse().unwrap());
    response
}

/// An event of a watch, field by field as upstream's encoder writes a WatchEvent.
fn watch_event(kind: &str, object: &[u8]) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8], out: &mut Vec<u8>| {
        out.push(number << 3 | 2);
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(bytes);
    };
    let (mut extension, mut message) = (Vec::new(), Vec::new());
    field(1, object, &mut extension);
    field(1, kind.as_bytes(), &mut message);
    field(2, &extension, &mut message);
    [
        u32::try_from(message.len())
            .unwrap()
            .to_be_bytes()
            .as_slice(),
        &message,
    ]
    .concat()
}

#[tokio::test]
async fn objects_lists_and_failures_are_read_in_protobuf() {
    const TYPE: &str = "application/vnd.kubernetes.protobuf";
    let mut api = FakeApi::plain();
    let maps = api.client().namespaced::<ConfigMap>("ns");
    let map = config_map("a", "5");
    let (got, seen) = with!(api, maps.get("a"), |a: Ask| a.answer(in_protobuf(
        200,
        TYPE,
        sealed(&map, "v1", "ConfigMap")
    )));
    assert_eq!(got.unwrap(), serde_json::from_value(map.clone()).unwrap());
    assert!(
        seen.header("accept")
            .starts_with("application/vnd.kubernetes.protobuf,application/json")
    );

    let list = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}, "items": [map.clone()]});
    let params = ListParams::default();
    let (got, _) = with!(api, maps.list(&params), |a: Ask| a.answer(in_protobuf(
        200,
        TYPE,
        sealed(&list, "v1", "ConfigMapList")
    )));
    let got = got.unwrap();
    assert_eq!(
        (
            got.resource_version(),
            got.items[0].data.as_ref().unwrap()["a"].as_str()
        ),
        ("9", "1")
    );

    let failed = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "AlreadyExists", "code": 409,
        "details": {"name": "a", "kind": "configmaps"}});
    let (refused, _) = with!(api, maps.get("a"), |a: Ask| a.answer(in_protobuf(
        409,
        TYPE,
        sealed(&failed, "v1", "Status")
    )));
    let refused = refused.unwrap_err();
    assert!(
        refused.is_already_exists()
            && refused
                .status()
                .unwrap()
                .details
                .as_ref()
                .unwrap()
                .name
                .as_deref()
                == Some("a")
    );

    let target = Target::new("x.io", "v1", "things", "Thing");
    let things = api.client().metadata(target, None);
    let meta = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "t", "uid": "u"}});
    let body = sealed(&meta, "meta.k8s.io/v1", "PartialObjectMetadata");
    let (got, _) = with!(api, things.get("t"), |a: Ask| a
        .answer(in_protobuf(200, TYPE, body)));
    assert_eq!(got.unwrap().metadata.uid.as_deref(), Some("u"));
}

#[tokio::test]
async fn a_watch_is_read_in_protobuf() {
    let mut api = FakeApi::plain();
    let maps = api.client().namespaced::<ConfigMap>("ns");
    let map = config_map("a", "5");
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410});
    let mark =
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"resourceVersion": "8"}});
    let stream = [
        watch_event("ADDED", &sealed(&map, "v1", "ConfigMap")),
        watch_event("BOOKMARK", &sealed(&mark, "v1", "ConfigMap")),
        watch_event("ERROR", &sealed(&gone, "v1", "Status")),
    ];
    let params = WatchParams::default();
    let watch_type = "application/vnd.kubernetes.protobuf;stream=watch";
    let (watch, _) = with!(api, maps.watch(&params), |a: Ask| a.answer(in_protobuf(
        200,
        watch_type,
        stream.concat()
    )));
    let mut watch = watch.unwrap();
    assert!(
        matches!(watch.next().await, Some(Ok(WatchEvent::Added(m))) if m.metadata.name.as_deref() == Some("a"))
    );
    let bookmark = WatchEvent::Bookmark {
        resource_version: "8".into(),
        initial_events_end: false,
    };
    assert_eq!(watch.next().await.unwrap().unwrap(), bookmark);
    assert!(watch.next().await.unwrap().unwrap_err().is_gone());
}
