//! What happens in the cluster that may make a waiting pod schedulable.
//!
//! Source: `pkg/scheduler/framework/events.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use crate::cluster::volumes::Storage;
use crate::pod::PodInfo;

/// The kind of object that an event is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Resource {
    /// A pod that has a node.
    AssignedPod,
    /// A pod without a node, other than the one that waits.
    UnscheduledPod,
    /// The pod that waits.
    TargetPod,
    Node,
    PersistentVolume,
    PersistentVolumeClaim,
    StorageClass,
    CsiNode,
    CsiDriver,
    CsiStorageCapacity,
    VolumeAttachment,
    /// Anything at all.
    Any,
}

impl Resource {
    fn name(self) -> &'static str {
        match self {
            Self::AssignedPod => "AssignedPod",
            Self::UnscheduledPod => "UnscheduledPod",
            Self::TargetPod => "TargetPod",
            Self::Node => "Node",
            Self::PersistentVolume => "PersistentVolume",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::StorageClass => "storage.k8s.io/StorageClass",
            Self::CsiNode => "storage.k8s.io/CSINode",
            Self::CsiDriver => "storage.k8s.io/CSIDriver",
            Self::CsiStorageCapacity => "storage.k8s.io/CSIStorageCapacity",
            Self::VolumeAttachment => "storage.k8s.io/VolumeAttachment",
            Self::Any => "*",
        }
    }
}

/// What happened, as a set of upstream's action types.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Action(u16);

impl Action {
    pub const ADD: Self = Self(1);
    pub const DELETE: Self = Self(1 << 1);
    pub const NODE_ALLOCATABLE: Self = Self(1 << 2);
    pub const NODE_LABEL: Self = Self(1 << 3);
    pub const NODE_TAINT: Self = Self(1 << 4);
    pub const NODE_CONDITION: Self = Self(1 << 5);
    pub const NODE_ANNOTATION: Self = Self(1 << 6);
    pub const NODE_FEATURE: Self = Self(1 << 7);
    pub const POD_LABEL: Self = Self(1 << 9);
    pub const POD_SCALE_DOWN: Self = Self(1 << 10);
    pub const POD_SCALE_UP: Self = Self(1 << 11);
    pub const POD_TOLERATION: Self = Self(1 << 12);
    pub const POD_GATES_GONE: Self = Self(1 << 13);
    /// Any change of an object.
    pub const UPDATE: Self = Self(0x7FFC);
    pub const ALL: Self = Self(0x7FFF);

    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of this is part of what is asked for.
    const fn within(self, wanted: Self) -> bool {
        self.0 & wanted.0 != 0 && self.0 <= wanted.0
    }

    fn name(self) -> &'static str {
        match self {
            Self::ADD => "Add",
            Self::DELETE => "Delete",
            Self::NODE_ALLOCATABLE => "UpdateNodeAllocatable",
            Self::NODE_LABEL => "UpdateNodeLabel",
            Self::NODE_TAINT => "UpdateNodeTaint",
            Self::NODE_CONDITION => "UpdateNodeCondition",
            Self::NODE_ANNOTATION => "UpdateNodeAnnotation",
            Self::NODE_FEATURE => "UpdateNodeDeclaredFeature",
            Self::POD_LABEL => "UpdatePodLabel",
            Self::POD_SCALE_DOWN => "UpdatePodScaleDown",
            Self::POD_SCALE_UP => "UpdatePodScaleUp",
            Self::POD_TOLERATION => "UpdatePodToleration",
            Self::POD_GATES_GONE => "UpdatePodSchedulingGatesEliminated",
            Self::UPDATE => "Update",
            _ => "",
        }
    }
}

/// Something that happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Event {
    pub resource: Resource,
    pub action: Action,
    /// A name that metrics show instead of resource and action.
    label: &'static str,
}

impl Event {
    #[must_use]
    pub const fn new(resource: Resource, action: Action) -> Self {
        Self {
            resource,
            action,
            label: "",
        }
    }

    /// Pods that waited for too long are tried again.
    pub const UNSCHEDULABLE_TIMEOUT: Self = Self::wildcard("UnschedulableTimeout");
    /// Somebody wants a pod to be tried now.
    pub const FORCE_ACTIVATE: Self = Self::wildcard("ForceActivate");

    const fn wildcard(label: &'static str) -> Self {
        Self {
            resource: Resource::Any,
            action: Action::ALL,
            label,
        }
    }

    #[must_use]
    pub fn is_wildcard(self) -> bool {
        self.resource == Resource::Any && self.action == Action::ALL
    }

    /// As metrics name it: `AssignedPodDelete`.
    #[must_use]
    pub fn name(self) -> String {
        if self.label.is_empty() {
            format!("{}{}", self.resource.name(), self.action.name())
        } else {
            self.label.to_owned()
        }
    }
}

/// What a plugin wants to know of.
#[derive(Clone, Copy, Debug)]
pub struct Interest {
    pub resource: Resource,
    pub actions: Action,
}

impl Interest {
    #[must_use]
    pub const fn new(resource: Resource, actions: Action) -> Self {
        Self { resource, actions }
    }

    /// Whether an event is among it.
    #[must_use]
    pub fn covers(&self, event: Event) -> bool {
        (self.resource == Resource::Any || self.resource == event.resource)
            && event.action.within(self.actions)
    }
}

/// The object of an event, before and after.
#[derive(Clone, Debug)]
pub enum Change {
    Node {
        old: Option<Arc<Node>>,
        new: Option<Arc<Node>>,
    },
    Pod {
        old: Option<Arc<PodInfo>>,
        new: Option<Arc<PodInfo>>,
    },
    Storage(Storage),
    /// Of a kind that no hint looks at.
    Other,
}

/// What changed of a pod, as far as it matters to scheduling. `target`: it is the pod that waits.
#[must_use]
pub fn pod_changes(old: &PodInfo, new: &PodInfo, target: bool) -> Vec<Event> {
    let resource = match (new.node_name().is_empty(), target) {
        (false, _) => Resource::AssignedPod,
        (true, true) => Resource::TargetPod,
        (true, false) => Resource::UnscheduledPod,
    };
    let gates = |p: &PodInfo| {
        p.spec()
            .scheduling_gates
            .as_ref()
            .is_some_and(|g| !g.is_empty())
    };
    let (was, is) = (amounts(old), amounts(new));
    let less = |a: &BTreeMap<&str, i64>, b: &BTreeMap<&str, i64>| {
        a.iter()
            .any(|(name, amount)| b.get(name).is_none_or(|other| amount > other))
    };
    let actions = [
        (old.labels != new.labels, Action::POD_LABEL),
        (less(&was, &is), Action::POD_SCALE_DOWN),
        (less(&is, &was), Action::POD_SCALE_UP),
        (gates(old) && !gates(new), Action::POD_GATES_GONE),
        (
            old.tolerations().len() != new.tolerations().len(),
            Action::POD_TOLERATION,
        ),
    ];
    let mut events = events(resource, &actions);
    if events.is_empty() {
        events.push(Event::new(resource, Action::UPDATE));
    }
    events
}

/// What a pod asks for; what it does not ask for is not there.
fn amounts(pod: &PodInfo) -> BTreeMap<&str, i64> {
    let a = &pod.requests.amounts;
    let native = [
        ("cpu", a.milli_cpu),
        ("memory", a.memory),
        ("ephemeral-storage", a.ephemeral_storage),
    ];
    let scalars = pod
        .requests
        .scalars
        .iter()
        .map(|(name, amount)| (&**name, *amount));
    native
        .into_iter()
        .filter(|(_, amount)| *amount > 0)
        .chain(scalars)
        .collect()
}

/// What changed of a node, as far as it matters to scheduling.
#[must_use]
pub fn node_changes(old: &Node, new: &Node) -> Vec<Event> {
    let spec = |n: &Node| n.spec.clone().unwrap_or_default();
    let (was, is) = (spec(old), spec(new));
    let allocatable = |n: &Node| n.status.as_ref().and_then(|s| s.allocatable.clone());
    let conditions = |n: &Node| -> BTreeMap<String, String> {
        let all = n
            .status
            .iter()
            .filter_map(|s| s.conditions.as_ref())
            .flatten();
        all.map(|c| (c.type_.clone(), c.status.clone())).collect()
    };
    let features = |n: &Node| n.status.as_ref().and_then(|s| s.declared_features.clone());
    let freed = was.unschedulable == Some(true) && is.unschedulable != Some(true);
    events(
        Resource::Node,
        &[
            (freed, Action::NODE_TAINT),
            (
                allocatable(old) != allocatable(new),
                Action::NODE_ALLOCATABLE,
            ),
            (
                old.metadata.labels != new.metadata.labels,
                Action::NODE_LABEL,
            ),
            (was.taints != is.taints, Action::NODE_TAINT),
            (conditions(old) != conditions(new), Action::NODE_CONDITION),
            (
                old.metadata.annotations != new.metadata.annotations,
                Action::NODE_ANNOTATION,
            ),
            (features(old) != features(new), Action::NODE_FEATURE),
        ],
    )
}

fn events(resource: Resource, actions: &[(bool, Action)]) -> Vec<Event> {
    actions
        .iter()
        .filter(|(yes, _)| *yes)
        .map(|(_, action)| Event::new(resource, *action))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{labelled_pod, node, pod};
    use serde_json::json;

    #[test]
    fn an_interest_in_one_change_is_not_met_by_an_unspecific_update() {
        let label = Interest::new(Resource::Node, Action::ADD.or(Action::NODE_LABEL));
        assert!(label.covers(Event::new(Resource::Node, Action::NODE_LABEL)));
        assert!(!label.covers(Event::new(Resource::Node, Action::NODE_TAINT)));
        assert!(!label.covers(Event::new(Resource::TargetPod, Action::ADD)));
        let narrow = Interest::new(Resource::TargetPod, Action::POD_LABEL);
        assert!(!narrow.covers(Event::new(Resource::TargetPod, Action::UPDATE)));
        let wide = Interest::new(Resource::TargetPod, Action::UPDATE);
        assert!(wide.covers(Event::new(Resource::TargetPod, Action::UPDATE)));
    }

    #[test]
    fn a_pod_s_changes_are_named_and_an_unknown_one_is_an_update() {
        let plain = pod("p", json!({}));
        let names = |new: &PodInfo| {
            pod_changes(&plain, new, true)
                .iter()
                .map(|e| e.name())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&plain), ["TargetPodUpdate"]);
        assert_eq!(
            names(&labelled_pod("p", json!({ "a": "b" }), json!({}))),
            ["TargetPodUpdatePodLabel"]
        );
        let tolerant = pod("p", json!({ "tolerations": [{ "operator": "Exists" }] }));
        assert_eq!(names(&tolerant), ["TargetPodUpdatePodToleration"]);
    }

    #[test]
    fn a_heartbeat_of_a_node_is_no_change() {
        let old = node("n", json!({}));
        assert!(node_changes(&old, &old).is_empty());
        let new = node("n", json!({ "zone": "a" }));
        assert_eq!(
            node_changes(&old, &new),
            [Event::new(Resource::Node, Action::NODE_LABEL)]
        );
    }
}
