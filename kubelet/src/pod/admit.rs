//! Whether this node takes a pod: upstream's `pkg/kubelet/lifecycle/predicate.go`. Pure.
//!
//! The scheduler decided on what it knew; pods can also be bound by hand or come from files. A pod
//! that does not fit becomes `Failed` with the reason that is found first.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Affinity, Pod, Taint, Toleration};

use super::next::Evict;
use super::spec;
use crate::make::sums::{self, Amounts, List};
use crate::node::selector;

pub(crate) mod sysctl;
#[cfg(test)]
mod tests;

use sysctl::Allowlist;

/// What of the node decides.
pub(crate) struct Node<'a> {
    pub(crate) name: &'a str,
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) taints: &'a [Taint],
    pub(crate) allocatable: Amounts<'a>,
    pub(crate) sysctls: &'a Allowlist,
}

/// Whether the pod may run beside the others that were taken before.
pub(crate) fn admit(pod: &Pod, others: &[Arc<Pod>], node: &Node<'_>) -> Result<(), Evict> {
    let refuse = |reason: &str, message: String| {
        Err(Evict {
            reason: reason.to_owned(),
            message,
        })
    };
    let spec = spec::of(pod);
    if let Err(message) = node.sysctls.check(spec) {
        return refuse("SysctlForbidden", format!("forbidden sysctl: {message}"));
    }
    let labels = pod.metadata.labels.as_ref();
    let os = labels.and_then(|labels| labels.get("kubernetes.io/os"));
    if os.is_some_and(|os| os != "linux") {
        return refuse(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label".into(),
        );
    }
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        return refuse(
            "PodOSNotSupported",
            "Failed to admit pod as the OS field doesn't match node OS".into(),
        );
    }
    if let Some(short) = shortage(pod, others, &node.allocatable) {
        return refuse(&format!("OutOf{}", short.resource), short.to_string());
    }
    let found = if !matches_node(pod, node) {
        (
            "NodeAffinity",
            "node(s) didn't match Pod's node affinity/selector",
        )
    } else if spec
        .node_name
        .as_deref()
        .is_some_and(|n| !n.is_empty() && n != node.name)
    {
        ("NodeName", "node(s) didn't match the requested node name")
    } else if !has_free_ports(pod, others) {
        (
            "NodePorts",
            "node(s) didn't have free ports for the requested pod ports",
        )
    } else if !spec::is_static(pod) && !tolerates(pod, node.taints) {
        (
            "TaintToleration",
            "node(s) had taints that the pod didn't tolerate",
        )
    } else {
        return Ok(());
    };
    refuse(
        found.0,
        format!("Predicate {} failed: {}", found.0, found.1),
    )
}

/// Something that there is not enough of.
#[derive(PartialEq, Eq, Debug)]
struct Shortage {
    resource: String,
    requested: i64,
    used: i64,
    capacity: i64,
}

impl std::fmt::Display for Shortage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            resource,
            requested,
            used,
            capacity,
        } = self;
        write!(
            f,
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, \
             capacity: {capacity}"
        )
    }
}

/// Whether what the pod asks for is there beside the others.
pub(crate) fn fits(pod: &Pod, others: &[Arc<Pod>], allocatable: &Amounts<'_>) -> bool {
    shortage(pod, others, allocatable).is_none()
}

fn shortage(pod: &Pod, others: &[Arc<Pod>], allocatable: &Amounts<'_>) -> Option<Shortage> {
    let number = |amounts: &Amounts<'_>, name: &str| {
        let amount = amounts.get(name).copied().unwrap_or_default();
        match name {
            "cpu" => amount.milli_value(),
            _ => amount.value(),
        }
    };
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    let capacity = number(allocatable, "pods");
    if allocatable.contains_key("pods") && count >= capacity {
        return Some(Shortage {
            resource: "pods".into(),
            requested: 1,
            used: count,
            capacity,
        });
    }
    let wanted = sums::of_pod(pod, List::Requests);
    // Upstream's order, for what is told first.
    let first = ["cpu", "memory", "ephemeral-storage"];
    let names = first.into_iter().chain(wanted.keys().copied());
    let of_others: Vec<_> = others
        .iter()
        .map(|p| sums::of_pod(p, List::Requests))
        .collect();
    for name in names {
        let requested = number(&wanted, name);
        let has = allocatable.contains_key(name);
        // What the node does not know at all is not its own to give (or is nobody's).
        if requested == 0 || (!has && !first.contains(&name)) {
            continue;
        }
        let used = of_others.iter().map(|of| number(of, name));
        let used = used.fold(0_i64, i64::saturating_add);
        let capacity = number(allocatable, name);
        if requested > capacity.saturating_sub(used) {
            return Some(Shortage {
                resource: name.to_owned(),
                requested,
                used,
                capacity,
            });
        }
    }
    None
}

fn matches_node(pod: &Pod, node: &Node<'_>) -> bool {
    let spec = spec::of(pod);
    let selector = spec.node_selector.iter().flatten();
    let mut selector = selector.map(|(key, value)| node.labels.get(key) == Some(value));
    if !selector.all(|matches| matches) {
        return false;
    }
    let affinity = |affinity: &Affinity| {
        let affinity = affinity.node_affinity.as_ref()?;
        let required = affinity
            .required_during_scheduling_ignored_during_execution
            .as_ref()?;
        Some(required.node_selector_terms.clone())
    };
    match spec.affinity.as_ref().and_then(affinity) {
        None => true,
        Some(terms) => selector::matches(&terms, node.name, node.labels),
    }
}

/// Protocol, port and address; an unspecified address is all of them.
type HostPort<'a> = (&'a str, i32, &'a str);

fn host_ports(pod: &Pod) -> Vec<HostPort<'_>> {
    let spec = spec::of(pod);
    let sidecars = spec::init_containers(spec)
        .iter()
        .filter(|c| spec::is_sidecar(c));
    let containers = spec.containers.iter().chain(sidecars);
    let ports = containers.flat_map(|c| c.ports.iter().flatten());
    let ports = ports.filter_map(|port| {
        let number = port.host_port.filter(|p| *p > 0)?;
        let ip = port.host_ip.as_deref().filter(|ip| !ip.is_empty());
        let ip = ip.filter(|ip| *ip != "::").unwrap_or("0.0.0.0");
        Some((port.protocol.as_deref().unwrap_or("TCP"), number, ip))
    });
    ports.collect()
}

fn has_free_ports(pod: &Pod, others: &[Arc<Pod>]) -> bool {
    let wanted = host_ports(pod);
    let taken: Vec<_> = others.iter().flat_map(|p| host_ports(p)).collect();
    let clash = |a: &HostPort<'_>, b: &HostPort<'_>| {
        let all = a.2 == "0.0.0.0" || b.2 == "0.0.0.0";
        (a.0, a.1) == (b.0, b.1) && (all || a.2 == b.2)
    };
    !wanted.iter().any(|a| taken.iter().any(|b| clash(a, b)))
}

/// Whether the pod may stay under taints that drive pods out.
fn tolerates(pod: &Pod, taints: &[Taint]) -> bool {
    let tolerations = spec::of(pod).tolerations.as_deref().unwrap_or_default();
    let mut taints = taints.iter().filter(|taint| taint.effect == "NoExecute");
    taints.all(|taint| tolerations.iter().any(|t| is_tolerated(t, taint)))
}

fn is_tolerated(toleration: &Toleration, taint: &Taint) -> bool {
    fn set(text: Option<&String>) -> Option<&str> {
        text.map(String::as_str).filter(|t| !t.is_empty())
    }
    let effect = set(toleration.effect.as_ref()).is_none_or(|e| e == taint.effect);
    let key = set(toleration.key.as_ref()).is_none_or(|k| k == taint.key);
    let value = set(toleration.value.as_ref()).unwrap_or_default();
    let of_taint = taint.value.as_deref().unwrap_or_default();
    let number = || Some((of_taint.parse::<i64>().ok()?, value.parse::<i64>().ok()?));
    let value = match toleration.operator.as_deref() {
        None | Some("" | "Equal") => value == of_taint,
        Some("Exists") => true,
        Some("Gt") => number().is_some_and(|(taint, own)| taint > own),
        Some("Lt") => number().is_some_and(|(taint, own)| taint < own),
        Some(_) => false,
    };
    effect && key && value
}
