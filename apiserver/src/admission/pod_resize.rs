//! `PodResizeValidator`: a pod on a node does not grow beyond what the node can give, and is resized on
//! Linux only. Upstream: `plugin/pkg/admission/podresize`.

use proto::catalogue::names as n;
use proto::path::quote;
use proto::view::core_v1::Pod;
use proto::view::{self, View};
use proto::{Value, meta};
use resources::status::Failure;

use super::amounts::{Amounts, add, amounts, of_pod};
use super::{Attributes, Plugin, UPDATE};
use crate::server::Server;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "PodResizeValidator",
    on_by_default: true,
    operations: UPDATE,
    validate: Some(|server, write| Box::pin(validate(server, write))),
    ..Plugin::OFF
};

const SYSTEM: &str = "kubernetes.io/os";

/// The node that the pod of an update is on, if the update changes what the pod should be.
pub(super) fn node_of_changed<'a>(write: &'a Attributes<'_>) -> Option<&'a str> {
    let (new, old) = (write.object.as_deref()?, write.old?);
    let node = Pod::of(view::Node::new(new)).spec().node_name();
    let changed = meta::generation(new) != meta::generation(old);
    (changed && !node.is_empty()).then_some(node)
}

async fn validate(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if !write.is_any("", "pods")
        || write.subresource != "resize"
        || !server.config.features.enabled("InPlacePodVerticalScaling")
    {
        return Ok(());
    }
    let Some(name) = node_of_changed(write) else {
        return Ok(());
    };
    let Some(node) = server.lookup("", "nodes", "", name).await? else {
        return Err(write.forbid(&format!("node {} not found", quote(name))));
    };
    let pod = write.object.as_deref().unwrap_or(&Value::Null);
    let (why, cause) = match (unsupported(&node), beyond(pod, &node)) {
        (Some(why), _) => (why, "UnsupportedPlatform"),
        (None, Some(why)) => (why, "NodeCapacity"),
        (None, None) => return Ok(()),
    };
    Err(write.forbid(&why).with_cause(cause, "", ""))
}

fn unsupported(node: &Value) -> Option<String> {
    let system = meta::label(node, SYSTEM).filter(|system| *system != "linux")?;
    let (name, system) = (quote(meta::name(node)), quote(system));
    Some(format!(
        "pod resize is only supported on linux nodes, node {name} is {system}"
    ))
}

/// What a pod asks for and its node does not have.
fn beyond(pod: &Value, node: &Value) -> Option<String> {
    let spec = Pod::of(view::Node::new(pod)).spec();
    let mut requests = of_pod(spec, n::REQUESTS, true);
    add(&mut requests, &amounts(spec.overhead()));
    let has = node
        .at(&[n::STATUS, n::ALLOCATABLE])
        .and_then(Value::as_map);
    let has = has.map(amounts).unwrap_or_default();
    let of = |amounts: &Amounts, name: &str| amounts.get(name).copied().unwrap_or_default();
    let mut problems = Vec::new();
    for name in ["cpu", "memory"] {
        let (asked, has) = (of(&requests, name), of(&has, name));
        if asked > has {
            let shown = |amount: proto::quantity::Quantity| match name {
                "cpu" => amount.milli_value(),
                _ => amount.value(),
            };
            let (asked, has) = (shown(asked), shown(has));
            problems.push(format!("{name}, requested: {asked}, allocatable: {has}"));
        }
    }
    (!problems.is_empty()).then(|| {
        format!(
            "node didn't have enough allocatable resources: {}",
            problems.join("; ")
        )
    })
}

#[cfg(test)]
mod tests {
    use proto::catalogue::messages::core_v1;

    use super::super::testing::{Asked, decode, pod};
    use super::*;

    fn node(labels: &str) -> Value {
        let text = format!(
            r#"{{"metadata":{{"name":"n","labels":{labels}}},"status":{{"allocatable":{{"cpu":"1500m","memory":"1Gi"}}}}}}"#
        );
        decode(&text, core_v1::NODE)
    }

    #[test]
    fn a_pod_does_not_outgrow_its_node() {
        let says = |requests: &str| {
            let pod = pod(&format!(
                r#"{{"spec":{{"containers":[{{"name":"a","resources":{{"requests":{requests}}}}}],"overhead":{{"cpu":"500m"}}}}}}"#
            ));
            beyond(&pod, &node("{}")).unwrap_or_default()
        };
        assert_eq!(says(r#"{"cpu":"1","memory":"1Gi"}"#), "");
        assert_eq!(
            says(r#"{"cpu":"1001m","memory":"1073741825"}"#),
            "node didn't have enough allocatable resources: cpu, requested: 1501, allocatable: 1500; memory, requested: 1073741825, allocatable: 1073741824"
        );
    }

    #[test]
    fn only_linux_resizes_pods() {
        assert_eq!(unsupported(&node("{}")), None);
        assert_eq!(unsupported(&node(r#"{"kubernetes.io/os":"linux"}"#)), None);
        assert_eq!(
            unsupported(&node(r#"{"kubernetes.io/os":"windows"}"#)).as_deref(),
            Some("pod resize is only supported on linux nodes, node \"n\" is \"windows\"")
        );
    }

    #[test]
    fn only_a_change_of_the_spec_of_a_pod_on_a_node_is_looked_at() {
        let of = |generation: i64, node: &str| {
            pod(&format!(
                r#"{{"metadata":{{"generation":{generation}}},"spec":{{"nodeName":"{node}"}}}}"#
            ))
        };
        let node = |new, old| {
            Asked::update("pods", new, old).ask(|write| node_of_changed(write).map(str::to_owned))
        };
        assert_eq!(node(of(2, "n"), of(1, "n")).as_deref(), Some("n"));
        assert_eq!(node(of(1, "n"), of(1, "n")), None);
        assert_eq!(node(of(2, ""), of(1, "")), None);
    }
}
