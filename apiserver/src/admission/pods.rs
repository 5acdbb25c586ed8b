//! Small plugins about pods: images that are always pulled, anti-affinity that stays on the node,
//! tolerations of nodes with special resources, topology labels.
//!
//! Upstream: `plugin/pkg/admission/{alwayspullimages,antiaffinity,extendedresourcetoleration,podtopologylabels}`.

use std::collections::BTreeSet;

use proto::catalogue::names as n;
use proto::path::FieldError;
use proto::view::core_v1::{Pod, PodSpec};
use proto::view::{Node, View};
use proto::{NameId, Value, meta};
use resources::equal::same;
use resources::status::Failure;

use super::{Attributes, CREATE, Operation, Plugin, WRITES};
use crate::server::Server;

pub(super) const ALWAYS_PULL: Plugin = Plugin {
    name: "AlwaysPullImages",
    operations: WRITES,
    mutate: Some(|_, write| Box::pin(std::future::ready(pull(write)))),
    validate: Some(|_, write| Box::pin(std::future::ready(check_pull(write)))),
    ..Plugin::OFF
};

pub(super) const ANTI_AFFINITY: Plugin = Plugin {
    name: "LimitPodHardAntiAffinityTopology",
    operations: WRITES,
    validate: Some(|_, write| Box::pin(std::future::ready(anti_affinity(write)))),
    ..Plugin::OFF
};

pub(super) const EXTENDED_RESOURCES: Plugin = Plugin {
    name: "ExtendedResourceToleration",
    operations: WRITES,
    mutate: Some(|_, write| Box::pin(std::future::ready(tolerate(write)))),
    ..Plugin::OFF
};

pub(super) const TOPOLOGY_LABELS: Plugin = Plugin {
    name: "PodTopologyLabels",
    on_by_default: true,
    operations: CREATE,
    mutate: Some(|server, write| Box::pin(topology(server, write))),
    ..Plugin::OFF
};

const CONTAINERS: [NameId; 3] = [n::CONTAINERS, n::INIT_CONTAINERS, n::EPHEMERAL_CONTAINERS];

fn is_write(write: &Attributes<'_>) -> bool {
    write.is("", "pods") && matches!(write.operation, Operation::Create | Operation::Update)
}

fn images(pod: &Value) -> BTreeSet<String> {
    let lists = CONTAINERS
        .iter()
        .filter_map(|kind| pod.at(&[n::SPEC, *kind])?.as_list());
    lists
        .flatten()
        .filter_map(|c| c.get(n::IMAGE)?.as_str().map(str::to_owned))
        .collect()
}

/// Whether a write brings an image: pods from before the plugin must still be updatable.
fn brings_images(write: &Attributes<'_>) -> bool {
    match (is_write(write), write.old, write.object.as_deref()) {
        (true, Some(old), Some(new)) => !images(new).is_subset(&images(old)),
        (is, ..) => is,
    }
}

fn pull(write: &mut Attributes<'_>) -> Result<(), Failure> {
    if !brings_images(write) {
        return Ok(());
    }
    let Some(spec) = write.object.as_deref_mut().and_then(|p| p.get_mut(n::SPEC)) else {
        return Ok(());
    };
    for kind in CONTAINERS {
        for container in spec
            .get_mut(kind)
            .and_then(Value::as_list_mut)
            .into_iter()
            .flatten()
        {
            container.set(&[n::IMAGE_PULL_POLICY], "Always");
        }
    }
    for volume in spec
        .get_mut(n::VOLUMES)
        .and_then(Value::as_list_mut)
        .into_iter()
        .flatten()
    {
        if let Some(image) = volume.get_mut(n::IMAGE).filter(|v| !v.is_null()) {
            image.set(&[n::PULL_POLICY], "Always");
        }
    }
    Ok(())
}

fn check_pull(write: &mut Attributes<'_>) -> Result<(), Failure> {
    if !brings_images(write) {
        return Ok(());
    }
    let Some(pod) = write.object.as_deref() else {
        return Ok(());
    };
    let problems = unpulled(pod);
    if problems.is_empty() {
        return Ok(());
    }
    Err(write.forbid(&proto::path::aggregate(&problems)))
}

fn unpulled(pod: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let mut check = |field: String, policy: Option<&Value>| {
        let policy = policy.and_then(Value::as_str).unwrap_or_default();
        if policy != "Always" {
            problems.push(FieldError::not_supported(field, policy, &["Always"]).to_string());
        }
    };
    for kind in CONTAINERS {
        let list = pod
            .at(&[n::SPEC, kind])
            .and_then(Value::as_list)
            .unwrap_or_default();
        for (i, container) in list.iter().enumerate() {
            check(
                format!("spec.{}[{i}].imagePullPolicy", kind.text()),
                container.get(n::IMAGE_PULL_POLICY),
            );
        }
    }
    let volumes = pod
        .at(&[n::SPEC, n::VOLUMES])
        .and_then(Value::as_list)
        .unwrap_or_default();
    for (i, volume) in volumes.iter().enumerate() {
        if let Some(image) = volume.get(n::IMAGE).filter(|v| !v.is_null()) {
            check(
                format!("spec.volumes[{i}].image.pullPolicy"),
                image.get(n::PULL_POLICY),
            );
        }
    }
    problems
}

fn anti_affinity(write: &mut Attributes<'_>) -> Result<(), Failure> {
    const HOSTNAME: &str = "kubernetes.io/hostname";
    if !is_write(write) {
        return Ok(());
    }
    let Some(pod) = write.object.as_deref() else {
        return Ok(());
    };
    let affinity = Pod::of(Node::new(pod))
        .spec()
        .affinity()
        .and_then(|a| a.pod_anti_affinity());
    let mut terms = affinity.into_iter().flat_map(|a| {
        a.required_during_scheduling_ignored_during_execution()
            .iter()
    });
    match terms.find(|t| t.topology_key() != HOSTNAME) {
        None => Ok(()),
        Some(term) => Err(write.forbid(&format!(
            "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {} but only key {HOSTNAME} is allowed",
            term.topology_key()
        ))),
    }
}

/// Whether a resource is neither Kubernetes' own nor of a quota.
fn is_extended(resource: &str) -> bool {
    let native = !resource.contains('/') || resource.contains("kubernetes.io/");
    !native
        && !resource.starts_with("requests.")
        && meta::names::label_key_problems(&format!("requests.{resource}")).is_empty()
}

fn extended_resources(spec: PodSpec<'_>) -> BTreeSet<&str> {
    let containers = spec
        .containers()
        .iter()
        .chain(spec.init_containers().iter());
    let requests = containers.flat_map(|c| {
        c.resources()
            .node()
            .dict(n::REQUESTS)
            .iter()
            .map(|(name, _)| name.as_str())
    });
    requests.filter(|name| is_extended(name)).collect()
}

fn tolerate(write: &mut Attributes<'_>) -> Result<(), Failure> {
    if !is_write(write) {
        return Ok(());
    }
    let Some(pod) = write.object.as_deref_mut() else {
        return Ok(());
    };
    let resources = extended_resources(Pod::of(Node::new(pod)).spec());
    let wanted: Vec<Value> = resources.into_iter().map(toleration).collect();
    for toleration in wanted {
        let there = pod.ensure(&[n::SPEC, n::TOLERATIONS]).make_list();
        let alike = |t: &Value| {
            [n::KEY, n::EFFECT, n::OPERATOR, n::VALUE]
                .iter()
                .all(|f| same_or_absent(t, &toleration, *f))
        };
        match there.iter_mut().find(|t| alike(t)) {
            Some(t) => *t = toleration,
            None => there.push(toleration),
        }
    }
    Ok(())
}

fn same_or_absent(a: &Value, b: &Value, field: NameId) -> bool {
    same(
        a.get(field).unwrap_or(&Value::Null),
        b.get(field).unwrap_or(&Value::Null),
    )
}

fn toleration(resource: &str) -> Value {
    let mut toleration = Value::object();
    toleration.set(&[n::KEY], resource);
    toleration.set(&[n::OPERATOR], "Exists");
    toleration.set(&[n::EFFECT], "NoSchedule");
    toleration
}

/// A pod on a node has the labels of the node's zone and region. A binding brings its labels to the pod.
async fn topology(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    const LABELS: [&str; 2] = [
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
    ];
    if !write.is_any("", "pods") || !server.config.features.enabled("PodTopologyLabelsAdmission") {
        return Ok(());
    }
    let Some(name) = node_of(write) else {
        return Ok(());
    };
    let Some(node) = server.lookup("", "nodes", "", &name).await? else {
        return Ok(());
    };
    let Some(object) = write.object.as_deref_mut() else {
        return Ok(());
    };
    for label in LABELS {
        if let Some(value) = meta::label(&node, label) {
            meta::set_label(object, label, value);
        }
    }
    Ok(())
}

/// The node that a pod, or a binding, names.
fn node_of(write: &Attributes<'_>) -> Option<String> {
    let object = write.object.as_deref()?;
    let text = |path: &[NameId]| object.at(path).and_then(Value::as_str).unwrap_or_default();
    let name = match write.subresource {
        "" => text(&[n::SPEC, n::NODE_NAME]),
        "binding" if text(&[n::TARGET, n::KIND]) == "Node" => text(&[n::TARGET, n::NAME]),
        _ => "",
    };
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Asked, decode, pod};
    use super::*;

    #[test]
    fn every_image_of_a_new_pod_is_always_pulled() {
        let text = r#"{"spec":{"containers":[{"name":"a","image":"x"}],"initContainers":[{"name":"b","image":"y","imagePullPolicy":"Never"}],
            "volumes":[{"name":"v","image":{"reference":"z"}}]}}"#;
        let mut create = Asked::create("pods", pod(text));
        create.ask(pull).unwrap();
        assert_eq!(unpulled(create.object.as_ref().unwrap()), [""; 0]);
        create.ask(check_pull).unwrap();
        // A pod from before the plugin can be updated, as long as it brings no image.
        let mut update = Asked::update("pods", pod(text), pod(text));
        update.ask(pull).unwrap();
        assert_eq!(update.object, Some(pod(text)));
        update.ask(check_pull).unwrap();
        let mut brings = Asked::update("pods", pod(&text.replace('x', "new")), pod(text));
        assert!(brings.ask(check_pull).is_err());
    }

    #[test]
    fn pods_keep_others_off_their_node_and_not_off_a_zone() {
        let says = |key: &str| {
            let pod = pod(&format!(
                r#"{{"spec":{{"affinity":{{"podAntiAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":[{{"topologyKey":"{key}"}}]}}}}}}}}"#
            ));
            let refused = Asked::create("pods", pod).ask(anti_affinity).err();
            refused.map_or_else(String::new, |f| f.message().to_owned())
        };
        assert_eq!(says("kubernetes.io/hostname"), "");
        assert_eq!(
            says("topology.kubernetes.io/zone"),
            "pods \"name\" is forbidden: affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey topology.kubernetes.io/zone but only key kubernetes.io/hostname is allowed"
        );
    }

    #[test]
    fn who_asks_for_special_resources_tolerates_their_nodes() {
        let text = r#"{"spec":{"containers":[{"name":"a","resources":{"requests":{"cpu":"1","example.com/gpu":"1"}}}]}}"#;
        let mut write = Asked::create("pods", pod(text));
        for _ in 0..2 {
            write.ask(tolerate).unwrap();
        }
        let list = write
            .object
            .as_ref()
            .and_then(|p| p.at(&[n::SPEC, n::TOLERATIONS]));
        let wanted = toleration("example.com/gpu");
        assert_eq!(list.and_then(Value::as_list), Some(&[wanted][..]));
    }

    #[test]
    fn a_pod_and_a_binding_name_their_node() {
        let names = |mut write: Asked, subresource| {
            write.subresource = subresource;
            write.ask(|write| node_of(write))
        };
        let bound = pod(r#"{"spec":{"nodeName":"n"}}"#);
        let of = || Asked::create("pods", bound.clone());
        assert_eq!(names(of(), "").as_deref(), Some("n"));
        assert_eq!(names(of(), "status"), None);
        let binding = |kind: &str| {
            let text = format!(r#"{{"target":{{"kind":"{kind}","name":"n"}}}}"#);
            let message = proto::catalogue::messages::core_v1::BINDING;
            Asked::create("pods", decode(&text, message))
        };
        assert_eq!(names(binding("Node"), "binding").as_deref(), Some("n"));
        assert_eq!(names(binding("Shelf"), "binding"), None);
    }

    #[test]
    fn an_image_that_is_not_always_pulled_is_named() {
        let said = unpulled(&pod(
            r#"{"spec":{"containers":[{"name":"a","imagePullPolicy":"Always"}],"initContainers":[{"name":"b","imagePullPolicy":"Never"}]}}"#,
        ));
        assert_eq!(
            said,
            [
                r#"spec.initContainers[0].imagePullPolicy: Unsupported value: "Never": supported values: "Always""#
            ]
        );
    }

    #[test]
    fn only_resources_of_others_are_extended() {
        assert!(is_extended("nvidia.com/gpu"));
        for own in [
            "cpu",
            "kubernetes.io/x",
            "requests.nvidia.com/gpu",
            "hugepages-2Mi",
        ] {
            assert!(!is_extended(own), "{own}");
        }
    }
}
