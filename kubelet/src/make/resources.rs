//! Limits of the cgroups of pods and containers: upstream's `pkg/kubelet/cm/helpers_linux.go` and
//! `pkg/kubelet/kuberuntime/kuberuntime_container_linux.go`.
//!
//! Whoever changes the limits of something that runs asks here, too: equal specifications make equal
//! limits.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use proto::quantity::Quantity;

use super::sums::{self, Amounts, List};
use super::{
    MemoryReservation, NodeFacts, SwapBehavior, containers, init_containers, is_critical,
    oom_score_adj, qos, spec,
};
use crate::runtime::Resources;
use crate::runtime::cgroup::Qos;

/// The kernel's own bounds of `cpu.shares`.
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;
/// Microseconds; the kernel takes no smaller quota.
const MIN_QUOTA: i64 = 1000;
/// Memory limits that throttle are a multiple of it.
const PAGE: f64 = 4096.0;

/// `cpu.shares` of thousandths of a CPU.
#[must_use]
pub fn shares(milli_cpu: i64) -> u64 {
    let shares = u64::try_from(i128::from(milli_cpu.max(0)) * 1024 / 1000).unwrap_or(MAX_SHARES);
    shares.clamp(MIN_SHARES, MAX_SHARES)
}

/// Thousandths of a CPU of `cpu.shares`, rounded up: upstream's way back, for statuses.
#[must_use]
pub fn milli_cpu_of_shares(shares: u64) -> i64 {
    if shares < MIN_SHARES {
        return 0;
    }
    i64::try_from((u128::from(shares) * 1000).div_ceil(1024)).unwrap_or(i64::MAX)
}

/// The quota of thousandths of a CPU in a period of microseconds; none if there is no limit.
#[must_use]
pub fn quota(milli_cpu: i64, period: u64) -> Option<i64> {
    if milli_cpu == 0 {
        return None;
    }
    let quota = i128::from(milli_cpu) * i128::from(period) / 1000;
    Some(i64::try_from(quota).unwrap_or(i64::MAX).max(MIN_QUOTA))
}

/// Thousandths of a CPU of a quota; 0 if there is no limit.
#[must_use]
pub fn milli_cpu_of_quota(quota: i64, period: u64) -> i64 {
    if quota < 0 || period == 0 {
        return 0;
    }
    i64::try_from(i128::from(quota) * 1000 / i128::from(period)).unwrap_or(i64::MAX)
}

/// The limits of a pod's cgroup.
#[must_use]
pub fn pod_resources(pod: &Pod, facts: &NodeFacts) -> Resources {
    let (requests, limits) = (
        sums::of_pod(pod, List::Requests),
        sums::of_pod(pod, List::Limits),
    );
    let class = qos(pod);
    let mut made = Resources {
        cpu_shares: Some(match class {
            Qos::BestEffort => MIN_SHARES,
            _ => shares(get(&requests, "cpu").milli_value()),
        }),
        pids_limit: (facts.pods_pids_limit > 0).then_some(facts.pods_pids_limit),
        hugepage_limits: hugepages(facts, [&requests]),
        unified: pod_unified(pod, facts, &requests, &limits),
        ..Resources::default()
    };
    let whole = sums::of(spec(pod).resources.as_ref(), List::Limits);
    // A sum of limits bounds the pod only if each of its containers has one.
    let bounded = |name: &str| {
        !get(&whole, name).is_zero()
            || init_containers(pod)
                .chain(containers(pod))
                .all(|container| !sums::amount(container, List::Limits, name).is_zero())
    };
    if class == Qos::Guaranteed || class == Qos::Burstable && bounded("cpu") {
        let period = facts.cpu_cfs_quota_period_us;
        made.cpu_period = Some(period);
        made.cpu_quota = if facts.cpu_cfs_quota {
            quota(get(&limits, "cpu").milli_value(), period)
        } else {
            Some(-1)
        };
    }
    if class == Qos::Guaranteed || class == Qos::Burstable && bounded("memory") {
        made.memory_limit = Some(get(&limits, "memory").value()).filter(|limit| *limit != 0);
    }
    made
}

fn get(amounts: &Amounts<'_>, name: &str) -> Quantity {
    amounts.get(name).copied().unwrap_or_default()
}

fn memory_qos(facts: &NodeFacts) -> bool {
    facts.cgroups_v2 && facts.features.enabled("MemoryQoS")
}

fn pod_unified(
    pod: &Pod,
    facts: &NodeFacts,
    requests: &Amounts<'_>,
    limits: &Amounts<'_>,
) -> BTreeMap<String, String> {
    let mut unified = BTreeMap::new();
    if !memory_qos(facts) {
        return unified;
    }
    let (request, limit) = (
        get(requests, "memory").value(),
        get(limits, "memory").value(),
    );
    if facts.memory_reservation == MemoryReservation::Tiered && request > 0 {
        unified.insert(reservation(pod).to_owned(), request.to_string());
    }
    let declared = || {
        let whole = sums::of(spec(pod).resources.as_ref(), List::Limits);
        !get(&whole, "memory").is_zero()
            || init_containers(pod)
                .chain(containers(pod))
                .all(|c| !sums::amount(c, List::Limits, "memory").is_zero())
    };
    if let Some(factor) = facts.memory_throttling_factor
        && sums::has_pod_level(pod)
        && declared()
        && limit != 0
        && limit != request
    {
        unified.extend(throttle(request, limit, factor));
    }
    unified
}

/// The file that keeps memory from being reclaimed.
fn reservation(pod: &Pod) -> &'static str {
    if qos(pod) == Qos::Guaranteed {
        "memory.min"
    } else {
        "memory.low"
    }
}

/// `memory.high` between request and limit.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "whole pages of a share of the memory are asked for"
)]
fn throttle(request: i64, limit: i64, factor: f64) -> Option<(String, String)> {
    let high = request as f64 + (limit as f64 - request as f64) * factor;
    let high = ((high / PAGE).floor() * PAGE) as i64;
    (high > 0 && high > request).then(|| ("memory.high".to_owned(), high.to_string()))
}

/// The limits of a container's cgroup, and its oom score.
#[must_use]
pub fn container_resources(pod: &Pod, container: &Container, facts: &NodeFacts) -> Resources {
    let whole = sums::of(spec(pod).resources.as_ref(), List::Limits);
    let own = sums::of(container.resources.as_ref(), List::Limits);
    // A container without a limit may use all that its pod may.
    let limit = |name: &str| match get(&own, name) {
        own if own.is_zero() => get(&whole, name),
        own => own,
    };
    let requests = sums::of(container.resources.as_ref(), List::Requests);
    let cpu_limit = limit("cpu");
    let cpu_request = requests.get("cpu").copied().unwrap_or(cpu_limit);
    let mut made = Resources {
        cpu_shares: Some(shares(cpu_request.milli_value())),
        memory_limit: Some(limit("memory").value()).filter(|limit| *limit != 0),
        hugepage_limits: hugepages(facts, [&whole, &own]),
        unified: container_unified(pod, container, facts),
        oom_score_adj: Some(oom_score_adj(pod, container, facts.memory_capacity)),
        ..Resources::default()
    };
    if facts.cpu_cfs_quota {
        made.cpu_quota = quota(cpu_limit.milli_value(), facts.cpu_cfs_quota_period_us);
        made.cpu_period = Some(facts.cpu_cfs_quota_period_us);
    }
    set_swap(&mut made, pod, container, facts);
    made
}

fn container_unified(
    pod: &Pod,
    container: &Container,
    facts: &NodeFacts,
) -> BTreeMap<String, String> {
    let mut unified = BTreeMap::new();
    if !facts.cgroups_v2 {
        return unified;
    }
    if !facts.single_process_oom_kill {
        unified.insert("memory.oom.group".into(), "1".into());
    }
    if !memory_qos(facts) {
        // Whoever turned the feature off wants no throttling that was set before.
        unified.insert("memory.high".into(), "max".into());
        return unified;
    }
    let request = sums::amount(container, List::Requests, "memory").value();
    let limit = sums::amount(container, List::Limits, "memory").value();
    if request != 0 && facts.memory_reservation == MemoryReservation::Tiered {
        unified.insert(reservation(pod).to_owned(), request.to_string());
    } else {
        unified.insert("memory.min".into(), "0".into());
        unified.insert("memory.low".into(), "0".into());
    }
    let whole = sums::of(spec(pod).resources.as_ref(), List::Limits);
    let throttled_by_pod = limit == 0 && !get(&whole, "memory").is_zero();
    if let Some(factor) = facts.memory_throttling_factor
        && !throttled_by_pod
        && (request != limit || request == 0)
    {
        let allocatable = facts.allocatable.get("memory");
        let node = allocatable.and_then(|text| text.0.parse::<Quantity>().ok());
        let bound = match limit {
            0 => node.unwrap_or_default().value(),
            limit => limit,
        };
        if bound > 0 {
            unified.extend(throttle(request, bound, factor));
        }
    }
    unified
}

/// A limit for each size of page that the node has: of the last list that names it, else 0.
fn hugepages<'a, const N: usize>(
    facts: &NodeFacts,
    lists: [&Amounts<'a>; N],
) -> BTreeMap<String, u64> {
    let mut limits: BTreeMap<String, u64> = facts
        .hugepage_sizes
        .iter()
        .map(|size| (size.clone(), 0))
        .collect();
    for (name, amount) in lists.into_iter().flatten() {
        let Some(size) = name.strip_prefix("hugepages-").and_then(hugepage_size) else {
            continue;
        };
        if let Some(limit) = limits.get_mut(&size) {
            *limit = u64::try_from(amount.value()).unwrap_or_default();
        }
    }
    limits
}

/// The kernel's name of a page size: `2Mi` is `2MB`.
fn hugepage_size(text: &str) -> Option<String> {
    let mut size = text.parse::<Quantity>().ok()?.value();
    let mut units = ["B", "KB", "MB", "GB", "TB", "PB"].into_iter();
    let mut unit = units.next()?;
    while size > 0 && size % 1024 == 0 {
        let Some(next) = units.next() else { break };
        (size, unit) = (size / 1024, next);
    }
    (size > 0 && size <= 1024).then(|| format!("{size}{unit}"))
}

fn set_swap(made: &mut Resources, pod: &Pod, container: &Container, facts: &NodeFacts) {
    if !facts.swap_controller {
        return;
    }
    if !facts.cgroups_v2 {
        // Memory and swap together: none beyond the memory.
        made.memory_swap_limit = made.memory_limit;
        return;
    }
    let swap = if may_swap(pod, container, facts) {
        swap_share(container, facts)
    } else {
        0
    };
    made.unified
        .insert("memory.swap.max".into(), swap.to_string());
}

/// With `LimitedSwap`, those may swap whose memory is neither promised in full nor given for nothing.
fn may_swap(pod: &Pod, container: &Container, facts: &NodeFacts) -> bool {
    let request = sums::amount(container, List::Requests, "memory");
    let limit = sums::amount(container, List::Limits, "memory");
    facts.swap_behavior == SwapBehavior::Limited
        && !is_critical(pod)
        && qos(pod) == Qos::Burstable
        && request != limit
}

/// Of the node's swap, what the container's request is of the node's memory.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a share of the swap, to the byte as upstream rounds it"
)]
fn swap_share(container: &Container, facts: &NodeFacts) -> i64 {
    let request = sums::amount(container, List::Requests, "memory").value();
    if facts.memory_capacity == 0 || i128::from(request) > i128::from(facts.memory_capacity) {
        return 0;
    }
    let proportion = request as f64 / facts.memory_capacity as f64;
    (proportion * facts.swap_capacity as f64) as i64
}
