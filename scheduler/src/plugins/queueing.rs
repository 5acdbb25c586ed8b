//! `SchedulingGates` and `PrioritySort`: which pods are tried, and in which order.

use crate::cluster::Cluster;
use crate::framework::{Action, Interest, Plugin, Rejection, Resource, Verdict};
use crate::pod::PodInfo;
use crate::queue::{Queued, SortKey};

/// A pod with gates is not tried.
pub(super) struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn interests(&self) -> &'static [Interest] {
        const { &[Interest::new(Resource::TargetPod, Action::POD_GATES_GONE)] }
    }

    fn pre_enqueue(&self, _cluster: &Cluster, pod: &PodInfo) -> Verdict {
        let gates: Vec<&str> = pod
            .spec()
            .scheduling_gates
            .iter()
            .flatten()
            .map(|g| g.name.as_str())
            .collect();
        if gates.is_empty() {
            return Ok(());
        }
        Err(Rejection::unresolvable(format!(
            "waiting for scheduling gates: [{}]",
            gates.join(" ")
        )))
    }
}

/// Higher priority first, then first come.
pub(super) struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        "PrioritySort"
    }

    fn sort_key(&self, queued: &Queued) -> SortKey {
        SortKey {
            rank: -i64::from(queued.pod.priority),
            since: queued.since,
        }
    }
}
