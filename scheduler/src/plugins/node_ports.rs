//! `NodePorts`: two pods of a node do not share a host port.

use crate::cluster::{Cluster, NodeIndex};
use crate::framework::{
    Action, Change, Cycle, Event, Interest, Plugin, Prepared, Rejection, Resource, State, Verdict,
};
use crate::pod::{HostPort, PodInfo};

pub(super) struct NodePorts;

fn conflict(wanted: &[HostPort], taken: &[HostPort]) -> bool {
    wanted.iter().any(|w| taken.iter().any(|t| w.conflicts(t)))
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn interests(&self) -> &'static [Interest] {
        const {
            &[
                Interest::new(Resource::AssignedPod, Action::DELETE),
                Interest::new(Resource::Node, Action::ADD),
            ]
        }
    }

    fn hint(&self, _cluster: &Cluster, pod: &PodInfo, _event: Event, change: &Change) -> bool {
        match change {
            Change::Pod {
                old: Some(gone), ..
            } => conflict(&pod.host_ports, &gone.host_ports),
            _ => true,
        }
    }

    fn pre_filter(&self, cycle: &Cycle<'_>) -> Prepared {
        if cycle.pod.host_ports.is_empty() {
            Prepared::Skip
        } else {
            Prepared::with(())
        }
    }

    fn filter(&self, cycle: &Cycle<'_>, _state: &dyn State, node: NodeIndex) -> Verdict {
        if conflict(&cycle.pod.host_ports, &cycle.row(node).ports) {
            return Err(Rejection::unschedulable(
                "node(s) didn't have free ports for the requested pod ports",
            ));
        }
        Ok(())
    }
}
