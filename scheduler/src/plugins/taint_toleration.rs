//! `TaintToleration` and `NodeUnschedulable`: nodes that keep pods away which do not tolerate it.

use k8s_openapi::api::core::v1::{Node, Toleration};

use crate::cluster::taints::taints_of;
use crate::cluster::{Cluster, NodeIndex, TaintInfo};
use crate::framework::{
    Action, Change, Cycle, Event, Interest, Plugin, Prepared, Rejection, Resource, State, Verdict,
    normalize_by_max, own,
};
use crate::pod::PodInfo;

/// The taint that stands for an unschedulable node.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

const INTERESTS: &[Interest] = &[
    Interest::new(Resource::Node, Action::ADD.or(Action::NODE_TAINT)),
    Interest::new(Resource::TargetPod, Action::POD_TOLERATION),
];

/// Taints of nodes against tolerations of pods.
pub(super) struct TaintToleration {
    /// Whether the operators `Lt` and `Gt` are allowed.
    pub(super) compare: bool,
}

impl TaintToleration {
    fn repelled(&self, taints: &[TaintInfo], tolerations: &[Toleration]) -> bool {
        taints
            .iter()
            .any(|t| t.repels() && !t.tolerated(tolerations, self.compare))
    }
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn interests(&self) -> &'static [Interest] {
        INTERESTS
    }

    fn hint(&self, _cluster: &Cluster, pod: &PodInfo, _event: Event, change: &Change) -> bool {
        let Change::Node {
            old,
            new: Some(new),
        } = change
        else {
            return true;
        };
        let repelled = |node: &Node| self.repelled(&taints_of(node), pod.tolerations());
        old.as_deref().is_none_or(repelled) && !repelled(new)
    }

    /// Each set of taints is judged once.
    fn pre_filter(&self, cycle: &Cycle<'_>) -> Prepared {
        let tolerations = cycle.pod.tolerations();
        Prepared::with(
            cycle
                .cluster
                .taints()
                .judge(|set| self.repelled(set, tolerations)),
        )
    }

    fn filter(&self, cycle: &Cycle<'_>, state: &dyn State, node: NodeIndex) -> Verdict {
        if own::<Box<[bool]>>(state)[cycle.cluster.taint_set(node) as usize] {
            return Err(Rejection::unresolvable("node(s) had untolerated taint(s)"));
        }
        Ok(())
    }

    fn pre_score(&self, cycle: &Cycle<'_>, _nodes: &[NodeIndex]) -> Prepared {
        let mild = |t: &&Toleration| {
            matches!(
                t.effect.as_deref().unwrap_or_default(),
                "" | "PreferNoSchedule"
            )
        };
        let tolerations: Vec<_> = cycle
            .pod
            .tolerations()
            .iter()
            .filter(mild)
            .cloned()
            .collect();
        let disliked = |t: &&TaintInfo| {
            t.effect == "PreferNoSchedule" && !t.tolerated(&tolerations, self.compare)
        };
        let count = |set: &[TaintInfo]| {
            i64::try_from(set.iter().filter(disliked).count()).unwrap_or(i64::MAX)
        };
        Prepared::with(cycle.cluster.taints().judge(count))
    }

    fn score(&self, cycle: &Cycle<'_>, state: &dyn State, nodes: &[NodeIndex], scores: &mut [i64]) {
        let counts = own::<Box<[i64]>>(state);
        for (node, score) in nodes.iter().zip(scores) {
            *score = counts[cycle.cluster.taint_set(*node) as usize];
        }
    }

    fn normalize(&self, _state: &dyn State, _nodes: &[NodeIndex], scores: &mut [i64]) {
        normalize_by_max(scores, true);
    }
}

/// Nodes that are marked unschedulable.
pub(super) struct NodeUnschedulable {
    pub(super) compare: bool,
}

impl NodeUnschedulable {
    fn tolerates(&self, pod: &PodInfo) -> bool {
        let taint = TaintInfo {
            key: UNSCHEDULABLE.to_owned(),
            value: String::new(),
            effect: "NoSchedule".to_owned(),
        };
        taint.tolerated(pod.tolerations(), self.compare)
    }
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn interests(&self) -> &'static [Interest] {
        INTERESTS
    }

    fn hint(&self, _cluster: &Cluster, _pod: &PodInfo, _event: Event, change: &Change) -> bool {
        let marked = |n: &Node| {
            n.spec
                .as_ref()
                .and_then(|s| s.unschedulable)
                .unwrap_or(false)
        };
        match change {
            Change::Node {
                old,
                new: Some(new),
            } => old.as_deref().is_none_or(marked) && !marked(new),
            Change::Pod { new: Some(pod), .. } => self.tolerates(pod),
            _ => true,
        }
    }

    fn pre_filter(&self, cycle: &Cycle<'_>) -> Prepared {
        Prepared::with(self.tolerates(cycle.pod))
    }

    fn filter(&self, cycle: &Cycle<'_>, state: &dyn State, node: NodeIndex) -> Verdict {
        let marked = cycle.cluster.facts(node).is_some_and(|f| f.unschedulable);
        if marked && !own::<bool>(state) {
            return Err(Rejection::unresolvable("node(s) were unschedulable"));
        }
        Ok(())
    }
}
