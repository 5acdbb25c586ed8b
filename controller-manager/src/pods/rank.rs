//! Which of a controller's pods goes first when there are too many.
//!
//! Source: `ActivePodsWithRanks` in `pkg/controller/controller_utils.go`.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;

use super::{is_ready, phase, ready_since};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A pod among those to choose from.
#[derive(Clone, Copy, Debug)]
pub struct Ranked<'p> {
    pub pod: &'p Pod,
    /// Active pods of the same replicas on the pod's node, itself included.
    pub crowd: usize,
}

impl Ranked<'_> {
    /// The order of deletion: less goes first.
    #[must_use]
    pub fn order(&self, other: &Self, now: Timestamp) -> Ordering {
        let (a, b) = (self.pod, other.pod);
        // Without a node before with one, then by phase, then what is not ready before what is.
        is_assigned(a)
            .cmp(&is_assigned(b))
            .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
            .then_with(|| is_ready(a).cmp(&is_ready(b)))
            .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
            .then_with(|| other.crowd.cmp(&self.crowd))
            .then_with(|| {
                if is_ready(a) && is_ready(b) {
                    younger_first((a, ready_since(a)), (b, ready_since(b)), now)
                } else {
                    Ordering::Equal
                }
            })
            .then_with(|| restarts(b).cmp(&restarts(a)))
            .then_with(|| younger_first((a, created(a)), (b, created(b)), now))
    }
}

fn is_assigned(pod: &Pod) -> bool {
    let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
    node.is_some_and(|n| !n.is_empty())
}

fn phase_rank(pod: &Pod) -> u8 {
    match phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    }
}

/// What it costs to delete it, as its annotation says; what is no number counts as nothing said.
fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|a| a.get(DELETION_COST)) else {
        return 0;
    };
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = text == "0" || digits.starts_with(|c: char| matches!(c, '1'..='9'));
    if plain { text.parse().unwrap_or(0) } else { 0 }
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|t| t.0)
}

/// Without a time before with one, then the younger one; ages of the same power of two count as equal, so that the
/// oldest are not always those that stay.
fn younger_first(
    a: (&Pod, Option<Timestamp>),
    b: (&Pod, Option<Timestamp>),
    now: Timestamp,
) -> Ordering {
    if a.1 == b.1 {
        return Ordering::Equal;
    }
    let (Some(at), Some(bt)) = (a.1, b.1) else {
        return a.1.is_some().cmp(&b.1.is_some());
    };
    let power = |t: Timestamp| {
        let nanos = now.duration_since(t).as_nanos();
        u128::try_from(nanos).ok().and_then(u128::checked_ilog2)
    };
    power(at)
        .cmp(&power(bt))
        .then_with(|| a.0.metadata.uid.cmp(&b.0.metadata.uid))
}

/// Restarts of its containers, then of its sidecars: the most of any.
fn restarts(pod: &Pod) -> (i32, i32) {
    let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
    let most = |statuses: Option<&Vec<ContainerStatus>>, counts: &dyn Fn(&str) -> bool| {
        let statuses = statuses.into_iter().flatten();
        let counted = statuses.filter(|s| counts(&s.name));
        counted.map(|s| s.restart_count).max().unwrap_or(0)
    };
    let sidecars: BTreeSet<&str> = spec
        .and_then(|s| s.init_containers.as_ref())
        .into_iter()
        .flatten()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"))
        .map(|c| c.name.as_str())
        .collect();
    (
        most(status.and_then(|s| s.container_statuses.as_ref()), &|_| {
            true
        }),
        most(
            status.and_then(|s| s.init_container_statuses.as_ref()),
            &|name| sidecars.contains(name),
        ),
    )
}
