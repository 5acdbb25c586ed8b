//! `NodeName`: a pod that names its node goes nowhere else.

use crate::cluster::{NO_NODE, NodeIndex};
use crate::framework::{
    Action, Cycle, Interest, Plugin, Prepared, Rejection, Resource, State, Verdict,
};

pub(super) struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn interests(&self) -> &'static [Interest] {
        const { &[Interest::new(Resource::Node, Action::ADD)] }
    }

    fn pre_filter(&self, cycle: &Cycle<'_>) -> Prepared {
        let nodes = match cycle.pod.node_name() {
            "" => None,
            name => Some(vec![cycle.cluster.node(name).unwrap_or(NO_NODE)]),
        };
        Prepared::Ready {
            state: Box::new(()),
            nodes,
        }
    }

    fn filter(&self, cycle: &Cycle<'_>, _state: &dyn State, node: NodeIndex) -> Verdict {
        let wanted = cycle.pod.node_name();
        if wanted.is_empty() || wanted == cycle.cluster.name(node) {
            Ok(())
        } else {
            Err(Rejection::unresolvable(
                "node(s) didn't match the requested node name",
            ))
        }
    }
}
