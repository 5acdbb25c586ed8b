//! Holds the tables against what was measured of Kubernetes 1.37.1, and the text files against the
//! program that writes them. The resources and the program have modules of their own.

use proto::catalogue::{
    self, Field, Flags, Gate, GateStage, Kind, MsgId, Resource, Shape, message_of,
};
use proto::view::{IntOrStr, Node, View, core_v1};
use proto::{NameId, Value};

#[path = "catalogue/generator.rs"]
mod generator;
#[path = "catalogue/resources.rs"]
mod resources;

fn message(name: &str) -> MsgId {
    MsgId::find(name).unwrap_or_else(|| panic!("no message {name}"))
}

fn field(message_name: &str, name: &str) -> &'static Field {
    let id = NameId::find(name).unwrap_or_else(|| panic!("no name {name}"));
    message(message_name)
        .field(id)
        .unwrap_or_else(|| panic!("{message_name} has no {name}"))
}

fn names(ids: &[NameId]) -> Vec<&'static str> {
    ids.iter().map(|id| id.text()).collect()
}

#[test]
fn counts_are_those_of_the_release() {
    let resources = catalogue::resources();
    let on = || resources.iter().filter(|r| r.on_by_default);
    assert_eq!((resources.len(), on().count()), (107, 72));
    let subresources = |r: &Resource| r.subresources.len();
    assert_eq!(on().map(subresources).sum::<usize>(), 49);
    assert_eq!(resources.iter().map(subresources).sum::<usize>(), 64);
    let mut versions: Vec<_> = on().map(Resource::api_version).collect();
    versions.dedup();
    assert_eq!(versions.len(), 23);
    assert_eq!(catalogue::gates().len(), 251);
    let stage = |s, on| {
        catalogue::gates()
            .iter()
            .filter_map(Gate::now)
            .filter(|spec| spec.stage == s && spec.default == on)
            .count()
    };
    assert_eq!(stage(GateStage::Stable, true), 71);
    assert_eq!(
        (stage(GateStage::Beta, true), stage(GateStage::Beta, false)),
        (98, 9)
    );
    assert_eq!(
        (
            stage(GateStage::Alpha, true),
            stage(GateStage::Alpha, false)
        ),
        (0, 56)
    );
    assert_eq!(
        (
            stage(GateStage::Deprecated, true),
            stage(GateStage::Deprecated, false)
        ),
        (7, 10)
    );
}

#[test]
fn every_name_is_found_by_its_hash_and_nothing_else_is() {
    for message in catalogue::messages() {
        for field in message.fields() {
            assert_eq!(NameId::find(field.name.text()), Some(field.name));
        }
    }
    for other in [
        "",
        "x",
        "apiversion",
        "apiVersio",
        "apiVersionn",
        "kinD",
        "metadata ",
        "terminationGracePeriodSecond",
    ] {
        assert_eq!(NameId::find(other), None, "{other:?}");
    }
}

#[test]
fn every_field_is_found_by_its_name_and_by_its_tag() {
    for message in catalogue::messages() {
        for field in message.fields() {
            assert!(
                std::ptr::eq(message.field(field.name).expect("listed"), field),
                "{message:?} {:?}",
                field.name
            );
        }
        for field in message.fields_by_tag() {
            assert!(
                std::ptr::eq(
                    message.field_by_tag(field.tag.into()).expect("listed"),
                    field
                ),
                "{message:?}"
            );
        }
    }
}

#[test]
fn embedded_structs_are_flat_in_json_and_nested_in_protobuf_only_with_a_tag() {
    // TypeMeta: first in JSON, absent from protobuf.
    let pod = message("core/v1.Pod");
    let json: Vec<_> = pod.fields().map(|f| f.name.text()).collect();
    assert_eq!(json, ["kind", "apiVersion", "metadata", "spec", "status"]);
    let tags: Vec<_> = pod.fields_by_tag().map(|f| f.tag).collect();
    assert_eq!(tags, [1, 2, 3]);
    // VolumeSource: its fields among the volume's own, and message 2 of protobuf.
    let source = message("core/v1.Volume")
        .field_by_tag(2)
        .expect("VolumeSource");
    assert!(source.has(Flags::INLINE));
    assert_eq!(source.kind, Kind::Message(message("core/v1.VolumeSource")));
    assert_eq!(
        field("core/v1.Volume", "emptyDir").kind,
        Kind::Message(message("core/v1.EmptyDirVolumeSource"))
    );
    // All of them, in every version and in what stands beside them: an envelope embeds its TypeMeta.
    let nested = |m: &MsgId| m.fields_by_tag().filter(|f| f.has(Flags::INLINE)).count();
    let envelope = message("runtime.Unknown");
    let all: usize = catalogue::messages()
        .filter(|m| *m != envelope)
        .map(|m| nested(&m))
        .sum();
    assert_eq!((all, nested(&envelope)), (27, 1));
}

#[test]
fn both_orders_are_kept_where_they_differ() {
    let json: Vec<_> = message("core/v1.PodSpec")
        .fields()
        .map(|f| f.name.text())
        .take(4)
        .collect();
    assert_eq!(
        json,
        [
            "volumes",
            "initContainers",
            "containers",
            "ephemeralContainers"
        ]
    );
    let by_tag: Vec<_> = message("core/v1.PodSpec").fields_by_tag().collect();
    assert_eq!(by_tag[1].name.text(), "containers");
    assert!(by_tag.windows(2).all(|w| w[0].tag < w[1].tag));
}

#[test]
fn kinds_follow_the_go_type_and_not_the_wire_type_of_the_tag() {
    // Five of the 103 fields whose tag claims another wire type.
    let kind = |message, name| field(message, name).kind;
    assert_eq!(kind("core/v1.PodSpec", "priority"), Kind::Int32);
    assert_eq!(kind("core/v1.PodSpec", "hostUsers"), Kind::Bool);
    assert_eq!(
        kind("meta/v1.DeleteOptions", "propagationPolicy"),
        Kind::String
    );
    assert_eq!(
        kind("apiextensions/v1.JSONSchemaProps", "maximum"),
        Kind::Float64
    );
    let unavailable = kind("apps/v1.RollingUpdateStatefulSetStrategy", "maxUnavailable");
    assert_eq!(unavailable, Kind::IntOrString);
    // Lists of strings that are messages in protobuf.
    let verbs = field("meta/v1.APIResource", "verbs");
    assert_eq!((verbs.shape, verbs.kind), (Shape::One, Kind::Strings));
    let extra = field("authentication/v1.UserInfo", "extra");
    assert_eq!((extra.shape, extra.kind), (Shape::Map, Kind::Strings));
    // Maps of named types.
    let limits = field("core/v1.ResourceRequirements", "limits");
    assert_eq!((limits.shape, limits.kind), (Shape::Map, Kind::Quantity));
    let data = field("core/v1.Secret", "data");
    assert_eq!((data.shape, data.kind), (Shape::Map, Kind::Bytes));
    let schema = field("apiextensions/v1.JSONSchemaProps", "items");
    assert_eq!(
        (schema.kind, schema.has(Flags::POINTER)),
        (Kind::SchemaOrArray, true)
    );
    assert_eq!(field("core/v1.DaemonEndpoint", "Port").kind, Kind::Int32);
}

#[test]
fn the_schema_of_both_versions_of_a_crd_is_the_same() {
    // The codecs take the one for the other inside the unions of a schema.
    let row = |name: &str| -> Vec<_> {
        let own = message(name);
        let kind = |f: &Field| {
            if f.kind == Kind::Message(own) {
                "itself".to_owned()
            } else {
                format!("{:?}", f.kind)
            }
        };
        own.fields()
            .map(|f| {
                (
                    f.name,
                    f.tag,
                    f.shape,
                    kind(f).replace("v1beta1", "v1"),
                    f.flags,
                )
            })
            .collect()
    };
    assert_eq!(
        row("apiextensions/v1.JSONSchemaProps"),
        row("apiextensions/v1beta1.JSONSchemaProps")
    );
}

#[test]
fn omitempty_is_left_out_where_go_ignores_it() {
    for (message, name) in [
        ("core/v1.Pod", "metadata"),
        ("core/v1.Pod", "status"),
        ("apps/v1.DeploymentSpec", "strategy"),
    ] {
        assert!(
            !field(message, name).has(Flags::OMIT_EMPTY),
            "{message} {name}"
        );
    }
    assert!(field("core/v1.PodSpec", "securityContext").has(Flags::OMIT_EMPTY));
    assert!(!field("core/v1.PodSpec", "containers").has(Flags::OMIT_EMPTY));
    let zero: Vec<_> = catalogue::messages()
        .flat_map(|m| m.fields())
        .filter(|f| f.has(Flags::OMIT_ZERO))
        .collect();
    assert!(zero.iter().all(|f| f.name.text() == "creationTimestamp"));
    assert!(!zero.is_empty());
}

#[test]
fn keys_of_apply_and_of_strategic_merge_are_kept_apart() {
    let ports = field("core/v1.ServiceSpec", "ports");
    assert!(ports.has(Flags::LIST_MAP) && ports.has(Flags::PATCH_MERGE));
    assert_eq!(names(ports.list_keys()), ["port", "protocol"]);
    assert_eq!(ports.patch_key().map(NameId::text), Some("port"));
    let conditions = field("batch/v1.JobStatus", "conditions");
    assert!(conditions.has(Flags::LIST_ATOMIC) && conditions.has(Flags::PATCH_MERGE));
    let volumes = field("core/v1.PodSpec", "volumes");
    assert!(volumes.has(Flags::PATCH_MERGE) && volumes.has(Flags::PATCH_RETAIN_KEYS));
    assert!(message("meta/v1.LabelSelector").is_atomic());
    assert!(field("core/v1.PodSpec", "nodeSelector").has(Flags::MAP_ATOMIC));
}

#[test]
fn defaults_are_the_unconditional_ones_only() {
    assert_eq!(
        field("core/v1.PodSpec", "terminationGracePeriodSeconds").default(),
        Some("30")
    );
    assert_eq!(
        field("core/v1.ContainerPort", "protocol").default(),
        Some("\"TCP\"")
    );
    assert_eq!(
        field("apps/v1.DeploymentSpec", "replicas").default(),
        Some("1")
    );
    assert_eq!(
        field("core/v1.HostPathVolumeSource", "type").default(),
        Some("\"\"")
    );
    for (message, name) in [
        ("core/v1.Container", "imagePullPolicy"),
        ("core/v1.PodSpec", "enableServiceLinks"),
        ("core/v1.ServicePort", "targetPort"),
        ("core/v1.ServiceSpec", "internalTrafficPolicy"),
        ("core/v1.Volume", "emptyDir"),
        ("batch/v1.JobSpec", "completions"),
        ("apps/v1.DeploymentStrategy", "rollingUpdate"),
        ("resource/v1.DeviceTaint", "timeAdded"),
    ] {
        assert_eq!(field(message, name).default(), None, "{message} {name}");
    }
    for f in catalogue::messages()
        .flat_map(|m| m.fields())
        .filter_map(Field::default)
    {
        proto::codec::json::parse(f.as_bytes()).unwrap_or_else(|e| panic!("{f}: {e}"));
    }
}

#[test]
fn kinds_are_found_in_their_version_and_options_in_every_one() {
    assert_eq!(
        message_of("", "v1", "PodList"),
        Some(message("core/v1.PodList"))
    );
    assert_eq!(
        message_of("events.k8s.io", "v1", "Event"),
        Some(message("events/v1.Event"))
    );
    assert_eq!(
        message_of("apps", "v1", "DeleteOptions"),
        Some(message("meta/v1.DeleteOptions"))
    );
    assert_eq!(
        message_of("example.com", "v1", "DeleteOptions"),
        Some(message("meta/v1.DeleteOptions"))
    );
    assert_eq!(
        message_of("meta.k8s.io", "v1", "PartialObjectMetadataList").map(MsgId::openapi),
        Some("io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadataList")
    );
    assert_eq!(
        message_of("admission.k8s.io", "v1", "AdmissionReview"),
        Some(message("admission/v1.AdmissionReview"))
    );
    assert_eq!(message_of("apps", "v1", "Pod"), None);
    for r in catalogue::resources() {
        assert_eq!(
            message_of(r.group, r.version, r.kind),
            Some(r.message),
            "{}",
            r.name
        );
        assert_eq!(
            r.list,
            message_of(r.group, r.version, &r.list_kind()).filter(|_| r.can("list")),
            "{}",
            r.name
        );
    }
}

#[test]
fn a_view_reads_as_go_does() {
    let text = br#"{"kind": "Pod", "apiVersion": "v1", "metadata": {"labels": {"a": "b"}}, "spec": {"hostUsers": false,
        "containers": [{"name": "c", "args": ["x"], "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}},
            "livenessProbe": {"httpGet": {"port": "http"}, "periodSeconds": 5}}],
        "volumes": [{"name": "v", "emptyDir": {}}], "securityContext": null}}"#;
    let value = proto::codec::json::parse(text).expect("valid");
    let pod = core_v1::Pod::of(Node::new(&value));
    assert_eq!(pod.kind(), "Pod");
    assert_eq!(
        pod.metadata().labels().get("a").and_then(Value::as_str),
        Some("b")
    );
    // Held by value: there even if it is absent. Behind a pointer: absent is not zero, null is absent.
    assert_eq!(pod.status().phase(), "");
    let spec = pod.spec();
    assert_eq!(
        (
            spec.host_network(),
            spec.host_users(),
            spec.share_process_namespace()
        ),
        (false, Some(false), None)
    );
    assert!(spec.security_context().is_none());
    assert_eq!(spec.active_deadline_seconds(), None);
    let container = spec.containers().first().expect("one");
    assert_eq!((container.name(), container.image()), ("c", ""));
    assert_eq!(container.args(), [Value::from("x")]);
    assert_eq!(
        container
            .ports()
            .iter()
            .map(|p| p.container_port())
            .collect::<Vec<_>>(),
        [80]
    );
    assert!(container.resources().limits().contains("cpu"));
    let probe = container.liveness_probe().expect("given");
    assert_eq!((probe.period_seconds(), probe.timeout_seconds()), (5, 0));
    // The fields of an embedded struct are the message's own.
    assert_eq!(
        probe.http_get().and_then(|g| g.port()),
        Some(IntOrStr::Str("http"))
    );
    let volume = spec.volumes().first().expect("one");
    assert!(volume.empty_dir().is_some() && volume.host_path().is_none());
    assert_eq!(core_v1::Volume::EMPTY_DIR.text(), "emptyDir");
    assert_eq!(core_v1::Pod::MESSAGE, catalogue::messages::core_v1::POD);
    // A keyword, an abbreviation in the plural, a name that begins with a capital.
    let value = proto::codec::json::parse(br#"{"type": "ExternalName", "clusterIPs": ["::1"]}"#)
        .expect("valid");
    let service = core_v1::ServiceSpec::of(Node::new(&value));
    assert_eq!(
        (service.r#type(), service.cluster_ips()),
        ("ExternalName", &[Value::from("::1")][..])
    );
    assert_eq!(core_v1::DaemonEndpoint::CAPITAL_PORT.text(), "Port");
}
