use super::*;
use crate::codec::{json, protobuf};

fn raw(text: &str, name: &str) -> Vec<u8> {
    let message = MsgId::find(name).unwrap();
    let tree = json::decode(text.as_bytes(), message, json::Strictness::Strict)
        .unwrap()
        .value;
    let mut out = Vec::new();
    protobuf::encode(&tree, message, &mut out);
    out
}

#[test]
fn the_tags_are_those_of_the_catalogue() {
    let tag = |message: &str, field: &str| {
        let message = MsgId::find(message).unwrap();
        u32::from(message.field(NameId::find(field).unwrap()).unwrap().tag)
    };
    let meta = |field| tag("meta/v1.ObjectMeta", field);
    assert_eq!(meta("name"), tag::NAME);
    assert_eq!(meta("namespace"), tag::NAMESPACE);
    assert_eq!(meta("uid"), tag::UID);
    assert_eq!(meta("resourceVersion"), tag::RESOURCE_VERSION);
    assert_eq!(meta("generation"), tag::GENERATION);
    assert_eq!(meta("deletionTimestamp"), tag::DELETION_TIMESTAMP);
    assert_eq!(meta("labels"), tag::LABELS);
    assert_eq!(meta("annotations"), tag::ANNOTATIONS);
    assert_eq!(meta("ownerReferences"), tag::OWNER_REFERENCES);
    assert_eq!(meta("finalizers"), tag::FINALIZERS);
    let owner = |field| tag("meta/v1.OwnerReference", field);
    assert_eq!(owner("kind"), tag::OWNER_KIND);
    assert_eq!(owner("name"), tag::OWNER_NAME);
    assert_eq!(owner("uid"), tag::OWNER_UID);
    assert_eq!(owner("apiVersion"), tag::OWNER_API_VERSION);
    assert_eq!(owner("controller"), tag::OWNER_CONTROLLER);
    assert_eq!(owner("blockOwnerDeletion"), tag::OWNER_BLOCK);
    for resource in catalogue::resources() {
        let Some(storage) = &resource.storage else {
            continue;
        };
        let field = storage.message.field(NameId::find("metadata").unwrap());
        assert_eq!(
            field.map(|f| u32::from(f.tag)),
            Some(tag::METADATA),
            "{}",
            resource.name
        );
    }
}

#[test]
fn metadata_is_read_without_a_tree() {
    let pod = raw(
        r#"{"metadata":{"name":"n","namespace":"ns","uid":"u","resourceVersion":"5","generation":3,
            "deletionTimestamp":"1970-01-01T00:01:00Z","labels":{"b":"2","a":"1"},"annotations":{"c":"3"},
            "finalizers":["f","g"],"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"r",
            "uid":"v","controller":true},{"apiVersion":"v1","kind":"Node","name":"x","uid":"y"}]}}"#,
        "core/v1.Pod",
    );
    let meta = ObjectMeta::read(&pod).unwrap();
    assert_eq!((meta.name, meta.namespace, meta.uid), ("n", "ns", "u"));
    assert_eq!(
        (
            meta.resource_version,
            meta.generation,
            meta.deletion_timestamp
        ),
        ("5", 3, Some(60))
    );
    assert_eq!(meta.labels().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
    assert_eq!(meta.annotations().collect::<Vec<_>>(), [("c", "3")]);
    assert_eq!(meta.finalizers().collect::<Vec<_>>(), ["f", "g"]);
    let owners: Vec<_> = meta.owner_references().collect();
    assert_eq!(
        (
            owners[0].api_version,
            owners[0].kind,
            owners[0].name,
            owners[0].uid
        ),
        ("apps/v1", "ReplicaSet", "r", "v")
    );
    assert!(owners[0].controller && !owners[1].controller);
}

#[test]
fn an_object_without_metadata_has_empty_metadata() {
    let meta = ObjectMeta::read(&[]).unwrap();
    assert_eq!((meta.name, meta.labels().count()), ("", 0));
}

#[test]
fn paths_lead_through_messages_and_embedded_structs_to_scalars() {
    let pod = MsgId::find("core/v1.Pod").unwrap();
    let bytes = raw(
        r#"{"spec":{"containers":null,"nodeName":"node-1","hostNetwork":true,"priority":-7},"status":{"phase":"Running"}}"#,
        "core/v1.Pod",
    );
    let get = |path: &str| {
        Path::compile(pod, path)
            .unwrap()
            .get(&bytes)
            .unwrap()
            .to_string()
    };
    assert_eq!(get("spec.nodeName"), "node-1");
    assert_eq!(get("spec.hostNetwork"), "true");
    assert_eq!(get("spec.priority"), "-7");
    assert_eq!(get("status.phase"), "Running");
    assert_eq!(get("status.podIP"), "");
    assert_eq!(get("metadata.name"), "");
    for none in [
        "",
        "spec",
        "spec.containers",
        "spec.nodeName.x",
        "metadata.labels",
        "spec.x",
        "status.startTime",
    ] {
        assert_eq!(Path::compile(pod, none), None, "{none}");
    }
    let volume = MsgId::find("core/v1.Volume").unwrap();
    let path = Path::compile(volume, "hostPath.path").unwrap();
    assert_eq!(
        path.get(&raw(
            r#"{"name":"v","hostPath":{"path":"/x"}}"#,
            "core/v1.Volume"
        )),
        Ok(Scalar::String("/x"))
    );
}

#[test]
fn pieces_of_a_message_add_up() {
    let pod = MsgId::find("core/v1.Pod").unwrap();
    let pieces = [
        raw(
            r#"{"spec":{"nodeName":"node-1","schedulerName":"a"}}"#,
            "core/v1.Pod",
        ),
        b"\x12\x07\x9a\x01\x04bbbb\x12\x00".to_vec(), // spec twice: a scheduler's name, and nothing
    ];
    let bytes = pieces.concat();
    let tree = protobuf::decode(&bytes, pod).unwrap();
    for (path, expected) in [("spec.nodeName", "node-1"), ("spec.schedulerName", "bbbb")] {
        let names: Vec<&str> = path.split('.').collect();
        assert_eq!(
            tree.at(&names).and_then(crate::Value::as_str),
            Some(expected)
        );
        let found = Path::compile(pod, path).unwrap().get(&bytes);
        assert_eq!(found, Ok(Scalar::String(expected)), "{path}");
    }
}

#[test]
fn every_selectable_field_of_the_catalogue_has_a_path() {
    // Attributes that upstream computes, or that stand for two fields.
    const COMPUTED: [&str; 4] = ["name", "source", "status.podIPs", "status.successful"];
    for resource in catalogue::resources() {
        let Some(storage) = &resource.storage else {
            continue;
        };
        for (_, attribute) in resource
            .field_labels
            .iter()
            .filter(|(_, a)| !COMPUTED.contains(a))
        {
            assert!(
                Path::compile(storage.message, attribute).is_some(),
                "{} {attribute}",
                resource.name
            );
        }
    }
}

#[test]
fn a_resource_version_is_spliced_in_where_it_was_or_should_be() {
    let spliced = |raw: &[u8]| splice_resource_version(raw, 42).unwrap().to_vec();
    let pod = raw(
        r#"{"metadata":{"name":"n","resourceVersion":"123456"},"spec":{"containers":null}}"#,
        "core/v1.Pod",
    );
    let want = raw(
        r#"{"metadata":{"name":"n","resourceVersion":"42"},"spec":{"containers":null}}"#,
        "core/v1.Pod",
    );
    assert_eq!(spliced(&pod), want);
    // Without the field, without metadata, without anything.
    assert_eq!(
        spliced(&[0x0a, 4, 0x0a, 0, 0x38, 1]),
        [0x0a, 8, 0x0a, 0, 0x32, 2, b'4', b'2', 0x38, 1]
    );
    assert_eq!(spliced(&[0x12, 0]), [0x0a, 4, 0x32, 2, b'4', b'2', 0x12, 0]);
    assert_eq!(spliced(&[]), [0x0a, 4, 0x32, 2, b'4', b'2']);
}

#[test]
fn metadata_in_two_pieces_is_not_spliced() {
    let twice = [0x0a, 2, 0x0a, 0, 0x0a, 2, 0x32, 0];
    assert_eq!(
        splice_resource_version(&twice, 1),
        Err(DecodeError::Repeated { field: "metadata" })
    );
    assert_eq!(
        splice_resource_version(&[0x0a, 9], 1),
        Err(DecodeError::Truncated)
    );
}
