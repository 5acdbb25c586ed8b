//! A pod's status, as upstream's `generateAPIPodStatus` makes it from what the runtime has. Pure.
//!
//! Invariants: a terminal phase is not left; conditions of others stay; a container that was seen
//! running is never shown as one that did not run yet.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ContainerStatus, HostIP, PodCondition, PodIP, PodStatus, ResourceRequirements,
};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::next::{Ask, Evict, Waiting};
use super::spec;
use crate::make::sums::{self, Amounts, List};

mod conditions;
mod containers;
mod normal;
pub(crate) mod patch;
mod phase;
mod ready;
#[cfg(test)]
mod tests;

pub(crate) use normal::{finish, finished, is_same};
pub(crate) use patch::merged;

/// What a status is made of.
pub(crate) struct Parts<'a> {
    pub(crate) ask: &'a Ask<'a>,
    pub(crate) evict: Option<&'a Evict>,
    /// Why containers that are to run do not, by name.
    pub(crate) failures: &'a BTreeMap<String, Waiting>,
    /// All containers have ended and none will run again.
    pub(crate) at_rest: bool,
}

/// The status of a pod. Times of conditions and the start time are taken from the old one where they
/// did not change; see [`finish`].
pub(crate) fn generate(parts: &Parts<'_>) -> PodStatus {
    let ask = parts.ask;
    let (pod, old) = (ask.pod, ask.old);
    let spec = spec::of(pod);
    let mut status = PodStatus {
        qos_class: Some(crate::make::qos_name(crate::make::qos(pod)).to_owned()),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    };
    status.container_statuses = containers::main(parts);
    status.init_container_statuses = containers::init(parts);
    status.ephemeral_container_statuses = containers::ephemeral(parts);
    add_resources(&mut status, parts);
    let all: Vec<&ContainerStatus> = all_of(&status);
    let initialized = spec
        .containers
        .iter()
        .any(|c| ask.seen.active(&c.name).is_some());
    let mut phase = phase::of(pod, &all, parts.at_rest, initialized).to_owned();
    let told = pod.status.as_ref();
    let told_phase = told.and_then(|s| s.phase.as_deref()).unwrap_or_default();
    let old_phase = old.phase.as_deref().unwrap_or_default();
    let terminal = [old_phase, told_phase]
        .into_iter()
        .find(|p| spec::is_terminal(p));
    if let Some(terminal) = terminal.filter(|_| !spec::is_terminal(&phase)) {
        phase = terminal.to_owned();
    }
    if phase == old_phase {
        status.reason = old.reason.clone().or_else(|| told?.reason.clone());
        status.message = old.message.clone().or_else(|| told?.message.clone());
    }
    if let Some(evict) = parts.evict {
        phase = "Failed".into();
        status.reason = Some(evict.reason.clone());
        status.message = Some(evict.message.clone());
    }
    // What the API server shows as terminal stays what it is.
    if spec::is_terminal(told_phase) {
        phase = told_phase.to_owned();
    }
    status.phase = Some(phase);
    ready::apply(parts, &mut status);
    status.conditions = Some(conditions::of(parts, &status));
    add_addresses(&mut status, parts);
    status
}

fn all_of(status: &PodStatus) -> Vec<&ContainerStatus> {
    let main = status.container_statuses.iter().flatten();
    let init = status.init_container_statuses.iter().flatten();
    main.chain(init).collect()
}

fn add_resources(status: &mut PodStatus, parts: &Parts<'_>) {
    let pod = parts.ask.pod;
    let requests = texts(&sums::of_pod(pod, List::Requests));
    let requests = Some(requests).filter(|r| !r.is_empty());
    let limits = texts(&sums::of_pod(pod, List::Limits));
    let limits = Some(limits).filter(|l| !l.is_empty() && pod_is_limited(parts));
    status.allocated_resources.clone_from(&requests);
    status.resources = Some(ResourceRequirements {
        requests,
        limits,
        claims: None,
    })
    .filter(|r| *r != ResourceRequirements::default());
}

fn texts(amounts: &Amounts<'_>) -> BTreeMap<String, Quantity> {
    let amounts = amounts.iter();
    amounts
        .map(|(name, amount)| ((*name).to_owned(), Quantity(amount.to_string())))
        .collect()
}

/// Whether limits of the whole pod mean something: it has its own, or every container has some.
fn pod_is_limited(parts: &Parts<'_>) -> bool {
    let spec = spec::of(parts.ask.pod);
    let has = |r: Option<&ResourceRequirements>| r.is_some_and(|r| r.limits.is_some());
    has(spec.resources.as_ref()) || spec.containers.iter().all(|c| has(c.resources.as_ref()))
}

/// The first address of the node's family, then the first of the other.
fn sorted(ips: &[std::net::IpAddr], v4_first: bool) -> Vec<String> {
    let first = ips.iter().find(|ip| ip.is_ipv4() == v4_first);
    let second = ips.iter().find(|ip| ip.is_ipv4() != v4_first);
    first
        .into_iter()
        .chain(second)
        .map(ToString::to_string)
        .collect()
}

fn add_addresses(status: &mut PodStatus, parts: &Parts<'_>) {
    let ask = parts.ask;
    let v4_first = ask.host_ips.first().is_none_or(std::net::IpAddr::is_ipv4);
    // Of a sandbox that ended, too: an address is told until another one is there.
    let ips = ask.seen.sandboxes.first().map(|s| s.config.ips.as_slice());
    let mut ips = sorted(ips.unwrap_or_default(), v4_first);
    if ips.is_empty() {
        let old = ask.old.pod_ips.iter().flatten();
        ips = old.map(|ip| ip.ip.clone()).collect();
    }
    let host: Vec<String> = ask
        .host_ips
        .iter()
        .take(2)
        .map(ToString::to_string)
        .collect();
    if spec::is_host_network(spec::of(ask.pod)) {
        if ips.is_empty() {
            ips.extend(host.first().cloned());
        }
        let family = |ip: &str| ip.contains(':');
        if let (1, Some(second)) = (ips.len(), host.get(1))
            && family(&ips[0]) != family(second)
        {
            ips.push(second.clone());
        }
    }
    status.pod_ip = ips.first().cloned();
    let ips: Vec<PodIP> = ips.into_iter().map(|ip| PodIP { ip }).collect();
    status.pod_ips = Some(ips).filter(|ips| !ips.is_empty());
    status.host_ip = host.first().cloned();
    let host: Vec<HostIP> = host.into_iter().map(|ip| HostIP { ip }).collect();
    status.host_ips = Some(host).filter(|ips| !ips.is_empty());
}

/// The status of a pod that this node does not take.
pub(crate) fn rejected(pod: &k8s_openapi::api::core::v1::Pod, evict: &Evict) -> PodStatus {
    PodStatus {
        qos_class: Some(crate::make::qos_name(crate::make::qos(pod)).to_owned()),
        observed_generation: pod.metadata.generation,
        phase: Some("Failed".into()),
        reason: Some(evict.reason.clone()),
        message: Some(format!("Pod was rejected: {}", evict.message)),
        ..PodStatus::default()
    }
}

/// The condition of this type.
pub(crate) fn condition<'a>(status: &'a PodStatus, kind: &str) -> Option<&'a PodCondition> {
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|c| c.type_ == kind)
}
