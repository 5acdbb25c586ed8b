//! Quality of service, and what it means when memory runs out: upstream's
//! `pkg/apis/core/v1/helper/qos` and `pkg/kubelet/qos`.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use proto::quantity::Quantity;

use super::sums::{self, List};
use super::{containers, init_containers, is_critical, is_sidecar, spec};
use crate::runtime::cgroup::Qos;

/// Score of what is killed last.
const GUARANTEED: i64 = -997;
/// Score of what is killed first.
const BEST_EFFORT: i64 = 1000;

const NODE_CRITICAL: &str = "system-node-critical";

/// The class of a pod: the one in its status, which never changes, else the one that its requests and
/// limits make.
#[must_use]
pub fn qos(pod: &Pod) -> Qos {
    let known = pod.status.as_ref().and_then(|s| s.qos_class.as_deref());
    match known {
        Some("Guaranteed") => Qos::Guaranteed,
        Some("Burstable") => Qos::Burstable,
        Some("BestEffort") => Qos::BestEffort,
        _ => computed(pod),
    }
}

/// The name of a class in `status.qosClass`.
#[must_use]
pub const fn name(qos: Qos) -> &'static str {
    match qos {
        Qos::Guaranteed => "Guaranteed",
        Qos::Burstable => "Burstable",
        Qos::BestEffort => "BestEffort",
    }
}

fn computed(pod: &Pod) -> Qos {
    if sums::has_pod_level(pod) {
        return of_requirements(spec(pod).resources.as_ref());
    }
    let all = init_containers(pod).chain(containers(pod));
    joined(all.map(|container| of_requirements(container.resources.as_ref())))
}

/// Parts of different classes make a burstable whole.
fn joined(mut parts: impl Iterator<Item = Qos>) -> Qos {
    let Some(first) = parts.next() else {
        return Qos::BestEffort;
    };
    if parts.all(|part| part == first) {
        first
    } else {
        Qos::Burstable
    }
}

fn of_requirements(resources: Option<&ResourceRequirements>) -> Qos {
    let (requests, limits) = (
        sums::of(resources, List::Requests),
        sums::of(resources, List::Limits),
    );
    let amount = |list: &sums::Amounts<'_>, name: &str| list.get(name).copied().unwrap_or_default();
    joined(["cpu", "memory"].into_iter().map(|name| {
        let (request, limit): (Quantity, Quantity) =
            (amount(&requests, name), amount(&limits, name));
        match request == limit {
            false => Qos::Burstable,
            true if request.is_zero() => Qos::BestEffort,
            true => Qos::Guaranteed,
        }
    }))
}

/// How much the kernel's badness score of a container's processes is moved. Burstable containers are
/// the safer, the more memory they ask for. `capacity` is the node's memory in bytes.
#[must_use]
pub fn oom_score_adj(pod: &Pod, container: &Container, capacity: u64) -> i32 {
    let score =
        if is_critical(pod) && spec(pod).priority_class_name.as_deref() == Some(NODE_CRITICAL) {
            GUARANTEED
        } else {
            match qos(pod) {
                Qos::Guaranteed => GUARANTEED,
                Qos::BestEffort => BEST_EFFORT,
                Qos::Burstable => burstable_score(pod, container, capacity),
            }
        };
    i32::try_from(score).unwrap_or(1000)
}

fn burstable_score(pod: &Pod, container: &Container, capacity: u64) -> i64 {
    let memory = |container: &Container| sums::amount(container, List::Requests, "memory").value();
    let share = pod_level_share(pod);
    let score = |request: i64| {
        let thousandths = i128::from(request) * 1000 / i128::from(capacity.max(1));
        1000_i64.saturating_sub(i64::try_from(thousandths).unwrap_or(i64::MAX))
    };
    let mut adjusted = score(memory(container).saturating_add(share));
    // A sidecar is never killed before what it serves.
    if init_containers(pod).any(|c| c.name == container.name) && is_sidecar(container) {
        let least = containers(pod).map(memory).min().unwrap_or_default();
        adjusted = adjusted.min(score(least.saturating_add(share)));
    }
    adjusted.clamp(1000 + GUARANTEED, BEST_EFFORT - 1)
}

/// What the pod requests beyond its containers, divided among them.
fn pod_level_share(pod: &Pod) -> i64 {
    let of_pod = sums::of(spec(pod).resources.as_ref(), List::Requests);
    let Some(of_pod) = of_pod.get("memory") else {
        return 0;
    };
    let of_containers = sums::of_containers(pod, List::Requests);
    let used = of_containers.get("memory").copied().unwrap_or_default();
    let count = containers(pod).chain(init_containers(pod)).count();
    let left = of_pod.value().saturating_sub(used.value()).max(0);
    left / i64::try_from(count.max(1)).unwrap_or(i64::MAX)
}
