//! What is to be done about the slices of one service and one family of addresses.

use std::collections::BTreeMap;
use std::sync::Arc;

use component::events::Type;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{EndpointPort, EndpointSlice};

use super::endpoint::{self, Family, is_owned, new_slice};
use super::hints::{Distribution, distribute};
use super::pack::{Changes, Group, Update};
use super::set::{EndpointSet, Ports};
use super::topology::{self, Shares, Zones};
use super::{MANAGER, endpoint::publish_not_ready};
use crate::members;

/// What a plan is made from.
pub struct Seen<'a> {
    pub service: &'a Service,
    /// Those that the service selects.
    pub pods: &'a [Arc<Pod>],
    /// The service's slices of the family.
    pub slices: Vec<Arc<EndpointSlice>>,
    pub node: &'a dyn Fn(&str) -> Option<Arc<Node>>,
    /// Endpoints in one slice.
    pub most: usize,
    pub shares: &'a Shares,
    /// Whether topology hints were given before.
    pub had_hints: bool,
}

/// What is to be done.
#[derive(Default, Debug)]
pub struct Plan {
    pub changes: Changes,
    /// Events about the service: type, reason and message.
    pub events: Vec<(Type, &'static str, String)>,
    /// What zones got; none without topology hints.
    pub zones: Option<Zones>,
    /// Pods that were left out because their node is not there; try again later.
    pub without_node: Vec<String>,
}

/// The endpoints that share a set of ports.
struct Wanted {
    ports: Vec<EndpointPort>,
    endpoints: EndpointSet,
}

/// Makes the plan for one family.
#[must_use]
pub fn plan(seen: &Seen<'_>, family: Family) -> Plan {
    let mut plan = Plan::default();
    let mut groups = BTreeMap::<Ports, Vec<Arc<EndpointSlice>>>::new();
    for slice in &seen.slices {
        if is_owned(slice, seen.service) {
            let ports = Ports::of(slice.ports.as_deref().unwrap_or_default());
            groups.entry(ports).or_default().push(Arc::clone(slice));
        } else {
            plan.changes.delete.push(Arc::clone(slice));
        }
    }
    for (key, wanted) in wanted(seen, family, &mut plan.without_node) {
        let group = Group {
            service: seen.service,
            ports: &wanted.ports,
            family,
            manager: MANAGER,
            most: seen.most,
        };
        let existing = groups.remove(&key).unwrap_or_default();
        plan.changes.append(group.pack(&existing, wanted.endpoints));
    }
    plan.changes.delete.extend(groups.into_values().flatten());
    if seen.slices.len() == plan.changes.delete.len() && plan.changes.create.is_empty() {
        placeholder(seen.service, family, &mut plan.changes);
    }
    hint(seen, family, &mut plan);
    reuse(seen.service, &mut plan.changes);
    plan
}

/// The endpoints that there should be, by ports.
fn wanted(
    seen: &Seen<'_>,
    family: Family,
    without_node: &mut Vec<String>,
) -> BTreeMap<Ports, Wanted> {
    let mut all = BTreeMap::<Ports, Wanted>::new();
    for pod in seen.pods.iter().filter(|pod| members::belongs(pod, true)) {
        let ports = endpoint::ports(seen.service, pod);
        let wanted = all.entry(Ports::of(&ports)).or_insert_with(|| Wanted {
            ports,
            endpoints: EndpointSet::default(),
        });
        let node_name = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
        let node = (seen.node)(node_name.unwrap_or_default());
        if node.is_none() && !publish_not_ready(seen.service) {
            without_node.push(pod.metadata.name.clone().unwrap_or_default());
            continue;
        }
        if let Some(endpoint) = endpoint::endpoint(pod, node.as_deref(), seen.service, family) {
            wanted.endpoints.insert(endpoint);
        }
    }
    all
}

/// A service without endpoints has one empty slice.
fn placeholder(service: &Service, family: Family, changes: &mut Changes) {
    let slice = new_slice(service, Vec::new(), family, MANAGER);
    let is_it = |old: &EndpointSlice| {
        let empty = |s: &EndpointSlice| {
            s.endpoints.as_ref().is_none_or(Vec::is_empty)
                && s.ports.as_ref().is_none_or(Vec::is_empty)
        };
        empty(old)
            && old.metadata.labels == slice.metadata.labels
            && old.address_type == slice.address_type
    };
    match changes.delete.as_slice() {
        [old] if is_it(old) => changes.unchanged.append(&mut changes.delete),
        _ => changes.create.push(slice),
    }
}

/// Hints by the annotation, by the field, or none.
fn hint(seen: &Seen<'_>, family: Family, plan: &mut Plan) {
    const DISABLED: &str = "TopologyAwareHintsDisabled";
    let with_family = |text: &str| format!("{text}, addressType: {}", family.name());
    if topology::is_wanted(seen.service.metadata.annotations.as_ref()) {
        match topology::add(seen.shares, &mut plan.changes) {
            Ok(zones) => {
                plan.zones = Some(zones);
                if !seen.had_hints {
                    let message = with_family("Topology Aware Hints has been enabled");
                    let event = (Type::Normal, "TopologyAwareHintsEnabled", message);
                    plan.events.push(event);
                }
            }
            Err(refused) => {
                let message = with_family(&refused.0);
                plan.events.push((Type::Warning, DISABLED, message));
            }
        }
        return;
    }
    if seen.had_hints {
        let message = with_family("Topology Aware Hints has been disabled");
        plan.events.push((Type::Warning, DISABLED, message));
    }
    let spec = seen.service.spec.as_ref();
    let name = spec.and_then(|s| s.traffic_distribution.as_deref());
    distribute(Distribution::of(name), &mut plan.changes);
}

/// Where a slice would be deleted and another created, the one becomes the other.
fn reuse(service: &Service, changes: &mut Changes) {
    let delete = std::mem::take(&mut changes.delete);
    for old in delete {
        let fits =
            |new: &EndpointSlice| new.address_type == old.address_type && is_owned(&old, service);
        match changes.create.pop() {
            Some(new) if fits(&new) => {
                let mut next = EndpointSlice::clone(&old);
                next.endpoints = new.endpoints;
                next.ports = new.ports;
                next.metadata.labels = new.metadata.labels;
                next.metadata.annotations = new.metadata.annotations;
                next.metadata.owner_references = new.metadata.owner_references;
                changes.update.push(Update { old, new: next });
            }
            rest => {
                changes.create.extend(rest);
                changes.delete.push(old);
            }
        }
    }
}

#[cfg(test)]
mod tests;
