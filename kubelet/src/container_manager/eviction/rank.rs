//! Which pod goes first, and what it is told. Pure.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use proto::quantity::{Format, Quantity};

use super::state::Observations;
use crate::container_manager::threshold::{Signal, Threshold};
use crate::make::sums::{self, List};

/// What a pod uses.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Working set in bytes.
    pub memory: u64,
    pub processes: u64,
    pub disk: Disk,
    /// By name of the container.
    pub containers: BTreeMap<String, ContainerUsage>,
    /// Bytes of volumes that are local storage, by name.
    pub volumes: BTreeMap<String, u64>,
}

/// What is on file systems: writable layers, logs, local volumes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Disk {
    pub bytes: u64,
    pub inodes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ContainerUsage {
    /// Working set in bytes.
    pub memory: u64,
    /// Bytes of the writable layer, if they were counted.
    pub layer: Option<u64>,
    /// Bytes of the log files, if they were counted.
    pub logs: Option<u64>,
}

/// A pod and what it uses, if that is known.
pub type Candidate = (Arc<Pod>, Option<Usage>);

fn request(pod: &Pod, name: &str) -> i128 {
    let amounts = sums::of_pod(pod, List::Requests);
    amounts.get(name).map_or(0, |a| i128::from(a.value()))
}

fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0)
}

/// How much more a pod uses than it asked for.
fn excess(signal: Signal, pod: &Pod, usage: &Usage) -> i128 {
    match signal.resource() {
        "memory" => i128::from(usage.memory) - request(pod, "memory"),
        "ephemeral-storage" => i128::from(usage.disk.bytes) - request(pod, "ephemeral-storage"),
        // Requests are for bytes, but upstream compares them with inodes too.
        "inodes" => i128::from(usage.disk.inodes) - request(pod, "ephemeral-storage"),
        _ => i128::from(usage.processes),
    }
}

/// Puts those that go first at the beginning: of whom nothing is known, who uses more than asked for,
/// who matters less, who uses most beyond what was asked for.
pub fn by(signal: Signal, pods: &mut [Candidate]) {
    let counts_requests = signal.resource() != "pids";
    pods.sort_by(|(a, a_usage), (b, b_usage)| {
        let (Some(a_usage), Some(b_usage)) = (a_usage, b_usage) else {
            let known = a_usage.is_some().cmp(&b_usage.is_some());
            return known.then_with(|| priority(a).cmp(&priority(b)));
        };
        let (a_excess, b_excess) = (excess(signal, a, a_usage), excess(signal, b, b_usage));
        let over = if counts_requests {
            (b_excess > 0).cmp(&(a_excess > 0))
        } else {
            Ordering::Equal
        };
        over.then_with(|| priority(a).cmp(&priority(b)))
            .then_with(|| b_excess.cmp(&a_excess))
    });
}

fn bytes(amount: u64) -> Quantity {
    Quantity::new(i64::try_from(amount).unwrap_or(i64::MAX), Format::BinarySi)
}

/// What a pod is told that is evicted.
#[must_use]
pub fn message(
    signal: Signal,
    pod: &Pod,
    usage: Option<&Usage>,
    met: &[Threshold],
    seen: &Observations,
) -> String {
    let resource = signal.resource();
    let mut text = format!("The node was low on resource: {resource}. ");
    let by = met.iter().find(|t| t.signal.resource() == resource);
    if let Some((threshold, now)) = by.and_then(|t| Some((t, seen.get(&t.signal)?))) {
        let format = if signal.is_count() {
            Format::DecimalSi
        } else {
            Format::BinarySi
        };
        let available = Quantity::new(now.available, format);
        text += &format!(
            "Threshold quantity: {}, available: {available}. ",
            threshold.value.quantity(now.capacity)
        );
    }
    let Some((usage, spec)) = usage.zip(pod.spec.as_ref()) else {
        return text;
    };
    for container in spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
    {
        let used = usage.containers.get(&container.name);
        let used = used.and_then(|used| match resource {
            "memory" => Some(used.memory),
            "ephemeral-storage" => Some(used.layer?.saturating_add(used.logs?)),
            _ => None,
        });
        let request = sums::amount(container, List::Requests, resource);
        if let Some(used) = used.map(bytes).filter(|used| *used > request) {
            text += &format!(
                "Container {} was using {used}, request is {request}, has larger consumption of \
                 {resource}. ",
                container.name
            );
        }
    }
    text
}
