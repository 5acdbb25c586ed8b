//! Holds the tables against what was measured of Kubernetes 1.37.1, and the text files against the
//! program that writes them.

use std::path::{Path, PathBuf};
use std::process::Command;

use proto::NameId;
use proto::catalogue::{
    self, Field, Flags, GateStage, GcPolicy, Kind, MsgId, Resource, ResourceFlags, Shape,
    message_of,
};

fn message(name: &str) -> MsgId {
    MsgId::find(name).unwrap_or_else(|| panic!("no message {name}"))
}

fn field(message_name: &str, name: &str) -> &'static Field {
    let id = NameId::find(name).unwrap_or_else(|| panic!("no name {name}"));
    message(message_name)
        .field(id)
        .unwrap_or_else(|| panic!("{message_name} has no {name}"))
}

fn resource(group: &str, version: &str, name: &str) -> &'static Resource {
    let found = catalogue::resources()
        .iter()
        .find(|r| (r.group, r.version, r.name) == (group, version, name));
    found.unwrap_or_else(|| panic!("no resource {group}/{version} {name}"))
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
            .filter(|g| g.stage == s && g.default == on)
            .count()
    };
    assert_eq!(stage(GateStage::Stable, true), 71);
    assert_eq!(
        (stage(GateStage::Beta, true), stage(GateStage::Beta, false)),
        (99, 8)
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
        for index in message.fields_by_tag() {
            let field = catalogue::field_at(*index);
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
    let tags: Vec<_> = pod
        .fields_by_tag()
        .iter()
        .map(|i| catalogue::field_at(*i).tag)
        .collect();
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
    let nested = |m: &MsgId| {
        m.fields_by_tag()
            .iter()
            .filter(|i| catalogue::field_at(**i).has(Flags::INLINE))
            .count()
    };
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
    let by_tag: Vec<_> = message("core/v1.PodSpec")
        .fields_by_tag()
        .iter()
        .map(|i| catalogue::field_at(*i))
        .collect();
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
fn resources_are_stored_where_upstream_stores_them() {
    let at = |group, version, name| {
        let s = resource(group, version, name)
            .storage
            .as_ref()
            .expect("stored");
        (s.group, s.version, s.prefix, s.json)
    };
    assert_eq!(at("", "v1", "pods"), ("", "v1", "pods", false));
    assert_eq!(
        at("", "v1", "services"),
        ("", "v1", "services/specs", false)
    );
    assert_eq!(
        at("", "v1", "endpoints"),
        ("", "v1", "services/endpoints", false)
    );
    assert_eq!(at("", "v1", "nodes"), ("", "v1", "minions", false));
    assert_eq!(
        at("", "v1", "replicationcontrollers"),
        ("", "v1", "controllers", false)
    );
    assert_eq!(
        at("networking.k8s.io", "v1", "ingresses"),
        ("networking.k8s.io", "v1", "ingress", false)
    );
    assert_eq!(
        at("events.k8s.io", "v1", "events"),
        ("", "v1", "events", false)
    );
    assert_eq!(at("autoscaling", "v1", "horizontalpodautoscalers").1, "v2");
    let crds = at("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    assert_eq!(
        crds,
        (
            "apiextensions.k8s.io",
            "v1beta1",
            "customresourcedefinitions",
            true
        )
    );
    assert!(at("apiregistration.k8s.io", "v1", "apiservices").3);
    assert!(
        resource("authorization.k8s.io", "v1", "subjectaccessreviews")
            .storage
            .is_none()
    );
}

#[test]
fn resources_behave_as_upstream_says() {
    let pods = resource("", "v1", "pods");
    assert!(pods.has(ResourceFlags::GRACEFUL) && pods.has(ResourceFlags::RETURN_DELETED));
    assert!(
        catalogue::resources()
            .iter()
            .all(|r| r.name == "pods" || !r.has(ResourceFlags::GRACEFUL))
    );
    assert!(resource("coordination.k8s.io", "v1", "leases").has(ResourceFlags::CREATE_ON_UPDATE));
    assert!(
        !resource("coordination.k8s.io", "v1", "leases").has(ResourceFlags::UNCONDITIONAL_UPDATE)
    );
    assert!(!resource("", "v1", "nodes").has(ResourceFlags::CREATE_ON_UPDATE));
    assert!(!resource("", "v1", "namespaces").can("deletecollection"));
    assert_eq!(resource("batch", "v1", "jobs").gc, GcPolicy::Orphan);
    assert_eq!(resource("", "v1", "events").gc, GcPolicy::Unsupported);
    assert_eq!(resource("", "v1", "events").ttl_seconds, Some(3600));
    assert_eq!(
        resource("apps", "v1", "deployments").short_names,
        ["deploy"]
    );
    assert_eq!(
        resource("apps", "v1", "deployments").reset_fields,
        ["status"]
    );
    let scale = resource("apps", "v1", "deployments")
        .subresource("scale")
        .expect("scale");
    assert_eq!(
        (scale.group, scale.version, scale.kind),
        ("autoscaling", "v1", "Scale")
    );
    assert_eq!(scale.verbs, ["get", "patch", "update"]);
    assert_eq!(
        pods.subresource("exec").expect("exec").verbs,
        ["create", "get"]
    );
    assert!(
        resource("", "v1", "serviceaccounts")
            .subresource("token")
            .is_some()
    );
    let wide: Vec<_> = pods
        .columns
        .iter()
        .filter(|c| c.priority == 1)
        .map(|c| c.name)
        .collect();
    assert_eq!(wide, ["IP", "Node", "Nominated Node", "Readiness Gates"]);
    assert_eq!(
        (
            pods.columns[0].name,
            pods.columns[0].kind,
            pods.columns[0].format
        ),
        ("Name", "string", "name")
    );
}

#[test]
fn field_labels_are_what_clients_may_say_with_what_it_selects_on() {
    let labels = |group, name| resource(group, "v1", name).field_labels;
    assert!(labels("", "pods").contains(&("spec.host", "spec.nodeName")));
    assert!(labels("", "pods").contains(&("status.podIPs", "status.podIPs")));
    assert!(labels("events.k8s.io", "events").contains(&("regarding.name", "involvedObject.name")));
    assert_eq!(labels("", "secrets"), [("type", "type")]);
    // Attributes that clients cannot use.
    assert_eq!(labels("", "namespaces"), [("status.phase", "status.phase")]);
    assert!(labels("apps", "replicasets").is_empty());
    assert!(labels("", "configmaps").is_empty());
}

#[test]
fn the_text_files_are_what_the_generator_writes() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace");
    let program = tree.join("hack/catalogue");
    let offline = Command::new("go")
        .args(["list", "-deps", "."])
        .env("GOPROXY", "off")
        .current_dir(&program)
        .output();
    if !offline.is_ok_and(|o| o.status.success()) {
        // CI installs Go and fetches the modules beforehand; there this may not pass unseen.
        assert!(
            std::env::var_os("CI").is_none(),
            "Go or the modules of hack/catalogue are missing"
        );
        eprintln!("not compared: Go or the modules of hack/catalogue are missing");
        return;
    }
    let out = tempdir();
    let run = Command::new(program.join("run"))
        .arg(&out)
        .output()
        .expect("hack/catalogue/run starts");
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let mut compared = 0;
    for path in files(&out) {
        let name = path.strip_prefix(&out).expect("it was found there");
        let written = std::fs::read(&path).expect("just written");
        let committed = std::fs::read(tree.join(name)).unwrap_or_default();
        assert!(
            written == committed,
            "{} is not what hack/catalogue/run writes",
            name.display()
        );
        compared += 1;
    }
    assert!(compared >= 4);
    std::fs::remove_dir_all(out).expect("removable");
}

fn tempdir() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("navarch-catalogue-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary directory");
    dir
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir)
        .expect("readable")
        .map(|e| e.expect("readable").path());
    entries
        .flat_map(|p| if p.is_dir() { files(&p) } else { vec![p] })
        .collect()
}
