//! `NodeDeclaredFeatureValidator`: a pod on a node changes only in ways that its kubelet declares to
//! understand.
//!
//! What needs which: `k8s.io/component-helpers/nodedeclaredfeatures/features`. Upstream:
//! `plugin/pkg/admission/nodedeclaredfeatures`. Slices of devices that stand for what a node can
//! allocate are not looked at: their fields are behind an alpha gate and never stored.

use proto::Value;
use proto::catalogue::{messages::core_v1, names as n};
use proto::path::quote;
use proto::quantity::Quantity;
use proto::view::core_v1::{Pod, PodSpec, Volume};
use proto::view::{Node, View};
use resources::equal::alike;
use resources::status::Failure;

use super::pod_resize::node_of_changed;
use super::{Attributes, Operation, Plugin, WRITES};
use crate::server::Server;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "NodeDeclaredFeatureValidator",
    on_by_default: true,
    operations: WRITES,
    validate: Some(|server, write| Box::pin(validate(server, write))),
    ..Plugin::OFF
};

/// A feature, and whether an update from the second spec to the first needs it.
type Feature = (&'static str, fn(PodSpec<'_>, PodSpec<'_>) -> bool);

/// By name.
const FEATURES: [Feature; 3] = [
    ("InPlacePodLevelResourcesVerticalScaling", |new, old| {
        let (new, old) = (new.node().get(n::RESOURCES), old.node().get(n::RESOURCES));
        new.is_some() != old.is_some() || !alike(old, new, core_v1::RESOURCE_REQUIREMENTS)
    }),
    ("InPlacePodVerticalScalingInitContainers", |new, old| {
        let mut old = old.init_containers().iter().enumerate();
        old.any(|(i, was)| {
            let now = new.init_containers().get(i);
            let now = now.and_then(|now| now.node().get(n::RESOURCES));
            was.restart_policy() != Some("Always")
                && !alike(
                    was.node().get(n::RESOURCES),
                    now,
                    core_v1::RESOURCE_REQUIREMENTS,
                )
        })
    }),
    (
        "InPlacePodVerticalScalingMemoryBackedVolumes",
        |new, old| {
            let (new, old) = (new.volumes(), old.volumes());
            new.len() == old.len()
                && new
                    .iter()
                    .zip(old.iter())
                    .any(|(new, old)| resized(new, old))
        },
    ),
];

/// Whether a volume in memory gets another limit.
fn resized(new: Volume<'_>, old: Volume<'_>) -> bool {
    let limit = |volume: Volume<'_>| -> Option<Quantity> {
        let limit = volume.empty_dir()?.node().get(n::SIZE_LIMIT)?.as_str()?;
        limit.parse().ok()
    };
    let in_memory = new.empty_dir().is_some_and(|e| e.medium() == "Memory");
    let limits = limit(new).zip(limit(old));
    new.name() == old.name() && in_memory && limits.is_some_and(|(new, old)| new != old)
}

async fn validate(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if !write.is_any("", "pods")
        || write.operation != Operation::Update
        || !matches!(write.subresource, "" | "resize")
        || !server.config.features.enabled("NodeDeclaredFeatures")
    {
        return Ok(());
    }
    let (Some(new), Some(old)) = (write.object.as_deref(), write.old) else {
        return Ok(());
    };
    let needed = needed(new, old);
    let Some(name) = node_of_changed(write).filter(|_| !needed.is_empty()) else {
        return Ok(());
    };
    let Some(node) = server.lookup("", "nodes", "", name).await? else {
        return Err(write.forbid(&format!("node {} not found", quote(name))));
    };
    let missing = missing(&needed, &node);
    if missing.is_empty() {
        return Ok(());
    }
    Err(write.forbid(&format!(
        "pod update requires features {} which are not available on node {}",
        missing.join(", "),
        quote(name)
    )))
}

fn needed(new: &Value, old: &Value) -> Vec<&'static str> {
    let spec = |pod| Pod::of(Node::new(pod)).spec();
    let (new, old) = (spec(new), spec(old));
    let needed = FEATURES.iter().filter(|(_, needs)| needs(new, old));
    needed.map(|(name, _)| *name).collect()
}

fn missing(needed: &[&'static str], node: &Value) -> Vec<&'static str> {
    let declared = node
        .at(&[n::STATUS, n::DECLARED_FEATURES])
        .and_then(Value::as_list)
        .unwrap_or_default();
    let has = |name: &str| declared.iter().any(|d| d.as_str() == Some(name));
    { needed.iter() }
        .filter(|name| !has(name))
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{decode, pod};
    use super::*;

    fn needs(new: &str, old: &str) -> Vec<&'static str> {
        let spec = |text: &str| pod(&format!(r#"{{"spec":{text}}}"#));
        needed(&spec(new), &spec(old))
    }

    #[test]
    fn an_update_needs_what_it_changes() {
        let [whole, init, volumes] = FEATURES.map(|(name, _)| name);
        let cpu = |amount: &str, more: &str| {
            format!(
                r#"{{"initContainers":[{{"name":"i","resources":{{"requests":{{"cpu":"{amount}"}}}}{more}}}]}}"#
            )
        };
        let sidecar = r#","restartPolicy":"Always""#;
        assert_eq!(needs(&cpu("2", ""), &cpu("1", "")), [init]);
        assert_eq!(needs(&cpu("1000m", ""), &cpu("1", "")), [""; 0]);
        assert_eq!(needs(&cpu("2", sidecar), &cpu("1", sidecar)), [""; 0]);
        let requests = r#"{"resources":{"requests":{"cpu":"1"}}}"#;
        assert_eq!(needs(requests, "{}"), [whole]);
        assert_eq!(needs(requests, requests), [""; 0]);
        let volume = |medium: &str, limit: &str| {
            format!(
                r#"{{"volumes":[{{"name":"v","emptyDir":{{"medium":"{medium}","sizeLimit":"{limit}"}}}}]}}"#
            )
        };
        assert_eq!(
            needs(&volume("Memory", "2Gi"), &volume("Memory", "1Gi")),
            [volumes]
        );
        assert_eq!(needs(&volume("", "2Gi"), &volume("", "1Gi")), [""; 0]);
    }

    #[test]
    fn what_a_node_does_not_declare_is_missing() {
        let node = decode(
            r#"{"status":{"declaredFeatures":["InPlacePodVerticalScalingInitContainers"]}}"#,
            core_v1::NODE,
        );
        let all = FEATURES.map(|(name, _)| name);
        assert_eq!(missing(&all, &node), [all[0], all[2]]);
        assert_eq!(missing(&all[1..2], &node), [""; 0]);
    }
}
