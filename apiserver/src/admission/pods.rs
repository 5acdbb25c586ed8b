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

use super::{Attributes, Operation, Plugin};
use crate::server::Server;

pub(super) const ALWAYS_PULL: Plugin = Plugin {
    name: "AlwaysPullImages",
    on_by_default: false,
    mutate: Some(|_, write| Box::pin(std::future::ready(pull(write)))),
    validate: Some(|_, write| Box::pin(std::future::ready(check_pull(write)))),
};

pub(super) const ANTI_AFFINITY: Plugin = Plugin {
    name: "LimitPodHardAntiAffinityTopology",
    on_by_default: false,
    mutate: None,
    validate: Some(|_, write| Box::pin(std::future::ready(anti_affinity(write)))),
};

pub(super) const EXTENDED_RESOURCES: Plugin = Plugin {
    name: "ExtendedResourceToleration",
    on_by_default: false,
    mutate: Some(|_, write| Box::pin(std::future::ready(tolerate(write)))),
    validate: None,
};

pub(super) const TOPOLOGY_LABELS: Plugin = Plugin {
    name: "PodTopologyLabels",
    on_by_default: true,
    mutate: Some(|server, write| Box::pin(topology(server, write))),
    validate: None,
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
    Err(write.forbid(&crate::authz::joined(&problems)))
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

/// A pod on a node has the labels of the node's zone and region. A binding is written into its pod:
/// it is treated as the pod's update.
async fn topology(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    const LABELS: [&str; 2] = [
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
    ];
    if !write.is_any("", "pods")
        || !matches!(write.subresource, "" | "binding")
        || !server.config.features.enabled("PodTopologyLabelsAdmission")
    {
        return Ok(());
    }
    let Some(pod) = write.object.as_deref_mut() else {
        return Ok(());
    };
    let name = Pod::of(Node::new(pod)).spec().node_name();
    if name.is_empty() {
        return Ok(());
    }
    let Some(node) = server.lookup("", "nodes", "", name).await? else {
        return Ok(());
    };
    for label in LABELS {
        if let Some(value) = meta::label(&node, label) {
            meta::set_label(pod, label, value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proto::catalogue::messages::core_v1;
    use proto::codec::json::{self, Strictness};

    use super::*;

    fn pod(text: &str) -> Value {
        json::decode(text.as_bytes(), core_v1::POD, Strictness::Strict)
            .expect("the test's JSON is valid")
            .value
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
