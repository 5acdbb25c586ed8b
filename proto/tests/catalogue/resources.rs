//! What the resources are and how they behave.

use proto::catalogue::{self, GcPolicy, Release, Resource, ResourceFlags};

fn resource(group: &str, version: &str, name: &str) -> &'static Resource {
    catalogue::resource(group, version, name)
        .unwrap_or_else(|| panic!("no resource {group}/{version} {name}"))
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

/// `emulatedStorageVersion`: what is not stored in a version of its own choice is stored in one that the oldest server has.
#[test]
fn older_servers_can_read_what_is_stored() {
    let policies = [
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    ];
    for (name, least, version) in [
        (policies[0], 34, "v1beta1"),
        (policies[1], 35, "v1beta1"),
        (policies[0], 36, "v1"),
        (policies[1], 37, "v1"),
        ("validatingadmissionpolicies", 34, "v1"),
    ] {
        for served in ["v1", "v1beta1"] {
            let all = catalogue::resources().iter();
            let mut of = all.filter(|r| r.name == name && r.version == served);
            let storage = of.next().map(|r| r.storage.as_ref().expect("stored"));
            let storage = storage.expect("it is there");
            let (stored, message) = storage.beside(Release::new(1, least));
            assert_eq!(stored, version, "{name} beside 1.{least}");
            assert!(message.name().contains(version), "{}", message.name());
        }
    }
    // The same of all that have a version which is newer than the oldest server.
    let newest = |r: &&Resource| r.storage.as_ref().is_some_and(|s| s.version == r.version);
    for resource in catalogue::resources().iter().filter(newest) {
        let storage = resource.storage.as_ref().expect("stored");
        for least in (34..=36).map(|minor| Release::new(1, minor)) {
            let (stored, _) = storage.beside(least);
            let mut all = catalogue::resources().iter();
            let stored = all
                .find(|r| (r.group, r.name, r.version) == (resource.group, resource.name, stored));
            let stored = stored.expect("a version of the kind");
            let same_kind = |r: &&Resource| (r.group, r.name) == (resource.group, resource.name);
            let readable = |r: &&Resource| !r.version.contains("alpha") && r.introduced <= least;
            let any = catalogue::resources()
                .iter()
                .filter(same_kind)
                .any(|r| readable(&r));
            assert!(
                !any || stored.introduced <= least,
                "{} beside {least}",
                resource.name
            );
        }
    }
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
