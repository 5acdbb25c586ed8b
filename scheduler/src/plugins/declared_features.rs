//! `NodeDeclaredFeatures`: a pod that needs a feature of the kubelet goes to nodes that declare it.
//!
//! Source of what needs which: `k8s.io/component-helpers/nodedeclaredfeatures/features`.

use k8s_openapi::api::core::v1::PodSpec;

use crate::cluster::{Cluster, NodeIndex};
use crate::framework::{
    Action, Change, Cycle, Event, Interest, Plugin, Prepared, Rejection, Resource, State, Verdict,
    own,
};
use crate::pod::PodInfo;

pub(super) struct DeclaredFeatures;

/// A feature, and whether a pod needs it.
type Feature = (&'static str, fn(&PodSpec) -> bool);

const FEATURES: [Feature; 3] = [
    ("RestartAllContainersOnContainerExits", |spec| {
        let init = spec.init_containers.iter().flatten();
        spec.containers
            .iter()
            .chain(init)
            .flat_map(|c| c.restart_policy_rules.iter().flatten())
            .any(|r| r.action == "RestartAllContainers")
    }),
    ("UserNamespacesHostNetworkSupport", |spec| {
        spec.host_network == Some(true) && spec.host_users == Some(false)
    }),
    ("VolumeBindMountOptions", |spec| {
        let containers = spec.containers.iter();
        let init = spec.init_containers.iter().flatten();
        let ephemeral = spec.ephemeral_containers.iter().flatten();
        let mut mounts = containers
            .chain(init)
            .flat_map(|c| c.volume_mounts.iter().flatten())
            .chain(ephemeral.flat_map(|c| c.volume_mounts.iter().flatten()));
        mounts.any(|m| m.bind_mount_options.as_ref().is_some_and(|o| !o.is_empty()))
    }),
];

type Needed = Vec<&'static str>;

fn needed(pod: &PodInfo) -> Needed {
    let needs = FEATURES.iter().filter(|(_, needs)| needs(pod.spec()));
    needs.map(|(name, _)| *name).collect()
}

impl Plugin for DeclaredFeatures {
    fn name(&self) -> &'static str {
        "NodeDeclaredFeatures"
    }

    fn interests(&self) -> &'static [Interest] {
        const {
            &[
                Interest::new(Resource::Node, Action::ADD.or(Action::NODE_FEATURE)),
                Interest::new(Resource::TargetPod, Action::UPDATE),
            ]
        }
    }

    fn hint(&self, _cluster: &Cluster, _pod: &PodInfo, _event: Event, change: &Change) -> bool {
        match change {
            Change::Node {
                old: Some(old),
                new: Some(new),
            } => {
                let declared = |n: &k8s_openapi::api::core::v1::Node| {
                    n.status.as_ref().and_then(|s| s.declared_features.clone())
                };
                declared(old) != declared(new)
            }
            Change::Pod {
                old: Some(old),
                new: Some(new),
            } => needed(old) != needed(new),
            _ => true,
        }
    }

    fn pre_filter(&self, cycle: &Cycle<'_>) -> Prepared {
        let needed = needed(cycle.pod);
        if needed.is_empty() {
            Prepared::Skip
        } else {
            Prepared::with(needed)
        }
    }

    fn filter(&self, cycle: &Cycle<'_>, state: &dyn State, node: NodeIndex) -> Verdict {
        let status = cycle
            .cluster
            .facts(node)
            .and_then(|f| f.node.status.as_ref());
        let declared = status
            .and_then(|s| s.declared_features.as_deref())
            .unwrap_or_default();
        let has = |name: &&str| declared.iter().any(|d| d == name);
        if own::<Needed>(state).iter().all(has) {
            return Ok(());
        }
        Err(Rejection::unresolvable(
            "node(s) didn't match Pod's required features",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, pod};
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn what_a_pod_needs_has_to_be_declared() {
        let node = |name: &str, features: serde_json::Value| {
            let node =
                json!({ "metadata": { "name": name }, "status": { "declaredFeatures": features } });
            Arc::new(proto::typed::from_json_value(node).unwrap())
        };
        let mut cluster = Cluster::default();
        cluster.set_node(&node("old", json!([])));
        cluster.set_node(&node(
            "new",
            json!(["Other", "UserNamespacesHostNetworkSupport"]),
        ));
        let plugin = DeclaredFeatures;
        let plain = pod("plain", json!({}));
        assert!(matches!(
            plugin.pre_filter(&Cycle::new(&cluster, &plain)),
            Prepared::Skip
        ));
        let needy = object(json!({ "metadata": { "name": "p", "uid": "u" },
            "spec": { "hostNetwork": true, "hostUsers": false, "containers": [] } }));
        let cycle = Cycle::new(&cluster, &needy);
        let Prepared::Ready { state, .. } = plugin.pre_filter(&cycle) else {
            panic!("it needs something")
        };
        let on = |name: &str| plugin.filter(&cycle, &*state, cluster.node(name).unwrap());
        assert!(on("new").is_ok());
        assert_eq!(
            on("old").unwrap_err().reasons.join(),
            "node(s) didn't match Pod's required features"
        );
    }
}
