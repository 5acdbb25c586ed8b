//! A pod's devices in its status: the claims on them, and how they are.

use std::collections::HashSet;

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Named, Spot};
use proto::view::core_v1::{
    Container, ContainerStatus, PodExtendedResourceClaimStatus, PodSpec, PodStatus,
};

use crate::rules;
use crate::strategies::pod_spec::resources::amount;

const HEALTH: [&str; 3] = ["Healthy", "Unhealthy", "Unknown"];
const MAX_HEALTH_MESSAGE: usize = 1024;

/// What became of the pod's claims on devices.
pub(super) fn claims(e: &mut Errors<'_>, status: PodStatus<'_>, spec: PodSpec<'_>) {
    let mut seen = HashSet::new();
    for claim in status.resource_claim_statuses() {
        let at = Spot::of(claim);
        let name = claim.name();
        if !spec.resource_claims().iter().any(|c| c.name() == name) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            e.invalid(at.field(n::NAME), name, detail);
        }
        if !seen.insert(name) {
            e.duplicate(at.field(n::NAME), name);
        }
        if let Some(made) = claim.resource_claim_name() {
            let problems = names::subdomain_name(made, false);
            e.invalid_each(at.field(n::RESOURCE_CLAIM_NAME), Named(made), problems);
        }
    }
}

/// What claims take of the node's own resources (KEP-5517): claims of the pod, made for it or not.
pub(super) fn allocatable(e: &mut Errors<'_>, status: PodStatus<'_>, spec: PodSpec<'_>) {
    for claim in status.node_allocatable_resource_claim_statuses() {
        let name = claim.resource_claim_name();
        if name.is_empty() {
            continue; // a declarative rule says so
        }
        let own = spec.resource_claims();
        let made = status.resource_claim_statuses();
        if !own.iter().any(|c| c.resource_claim_name() == Some(name))
            && !made.iter().any(|c| c.resource_claim_name() == Some(name))
        {
            let at = Spot::of(claim).field(n::RESOURCE_CLAIM_NAME);
            e.invalid(at, name, "no mapping found in pod reference");
        }
        for of in claim.mapping() {
            rules::node_allocatable(e, (of, n::NAME), of.name());
            rules::sign(e, of, n::QUANTITY, 0, "must be non-negative");
        }
        for of in claim.overhead() {
            rules::node_allocatable(e, (of, n::NAME), of.name());
            if of.per_pod().is_none() && of.per_container().is_none() {
                let detail = "at least one of perPod or perContainer must be set";
                e.invalid(Spot::of(of), "", detail);
            }
            for field in [n::PER_POD, n::PER_CONTAINER] {
                rules::sign(e, of, field, 0, "must be non-negative");
            }
        }
    }
}

/// The claim that the scheduler made for resources of containers that drivers provide (KEP-5004).
pub(super) fn extended_claim(
    e: &mut Errors<'_>,
    status: PodExtendedResourceClaimStatus<'_>,
    spec: PodSpec<'_>,
) {
    let at = Spot::of(status);
    let mappings = status.request_mappings();
    if mappings.is_empty() {
        let detail = "at least one request mapping is required";
        e.required(at.field(n::REQUEST_MAPPINGS), detail);
    }
    let find = |name: &str| {
        let mut all = spec
            .init_containers()
            .iter()
            .chain(spec.containers().iter());
        all.rfind(|c| c.name() == name)
    };
    let mut seen = HashSet::new();
    for mapping in mappings {
        let spot = Spot::of(mapping);
        let (container, resource) = (mapping.container_name(), mapping.resource_name());
        let request = mapping.request_name();
        match find(container) {
            None => {
                let detail = "must match the name of an entry in spec.initContainers.name or spec.containers.name";
                e.invalid(spot.field(n::CONTAINER_NAME), container, detail);
            }
            Some(c) if !c.resources().requests().contains(resource) => {
                let detail = "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests";
                e.invalid(spot.field(n::RESOURCE_NAME), resource, detail);
            }
            Some(_) => {}
        }
        // Upstream says it of the whole.
        let problems = names::dns_label_problems(request);
        e.invalid_each(at.field(n::REQUEST_NAME), request, problems);
        if !seen.insert((container, resource, request)) {
            for (field, text) in [
                (n::CONTAINER_NAME, container),
                (n::RESOURCE_NAME, resource),
                (n::REQUEST_NAME, request),
            ] {
                e.duplicate(spot.field(field), text);
            }
        }
    }
    let name = status.resource_claim_name();
    let field = at.field(n::RESOURCE_CLAIM_NAME);
    if name.is_empty() {
        e.required(field, "");
    } else {
        e.invalid_each(field, name, names::subdomain_name(name, false));
    }
}

/// How the devices are that a container got.
pub(super) fn health(
    e: &mut Errors<'_>,
    status: ContainerStatus<'_>,
    container: Option<Container<'_>>,
    pod: PodStatus<'_>,
) {
    for allocated in status.allocated_resources_status() {
        let name = allocated.name();
        if let Some(container) = container {
            let (known, detail) = if name.starts_with(CLAIM) {
                let extended = pod.extended_resource_claim_status();
                (
                    has_claim(container, name) || is_extended(container, name, extended),
                    "must match one of the container's resource claims as 'claim:<claimName>/<requestName>' when container.resources.claims[*].request is set or 'claim:<claimName>' when it is empty",
                )
            } else {
                (
                    container.resources().requests().contains(name),
                    "must match one of the container's resource requests",
                )
            };
            if !known {
                e.invalid(Spot::of(allocated).field(n::NAME), Named(name), detail);
            }
        }
        let mut seen = HashSet::new();
        for resource in allocated.resources() {
            let at = Spot::of(resource);
            rules::known(e, at.field(n::HEALTH), resource.health(), &HEALTH);
            match resource.message() {
                Some("") => {
                    e.required(at.field(n::MESSAGE), "must be non-empty if specified");
                }
                Some(text) if text.len() > MAX_HEALTH_MESSAGE => {
                    e.too_long(at.field(n::MESSAGE), MAX_HEALTH_MESSAGE);
                }
                _ => {}
            }
            let id = resource.resource_id();
            if !seen.insert(id) {
                e.duplicate(at.field(n::RESOURCE_ID), Named(id));
            }
        }
    }
}

const CLAIM: &str = "claim:";

/// Whether a container uses a claim that is named `claim:name` or `claim:name/request`.
fn has_claim(container: Container<'_>, name: &str) -> bool {
    container.resources().claims().iter().any(|claim| {
        let known = match claim.request() {
            "" => format!("{CLAIM}{}", claim.name()),
            request => format!("{CLAIM}{}/{request}", claim.name()),
        };
        known == name
    })
}

/// Whether a container has a device of the claim that the scheduler made for its resources.
fn is_extended(
    container: Container<'_>,
    name: &str,
    status: Option<PodExtendedResourceClaimStatus<'_>>,
) -> bool {
    let parts = name
        .strip_prefix(CLAIM)
        .and_then(|name| name.split_once('/'));
    let (Some((claim, request)), Some(status)) = (parts, status) else {
        return false;
    };
    let requests = container.resources().requests();
    !claim.is_empty()
        && !request.is_empty()
        && claim == status.resource_claim_name()
        && status.request_mappings().iter().any(|mapping| {
            let asked = amount(requests.get(mapping.resource_name()));
            mapping.container_name() == container.name()
                && mapping.request_name() == request
                && asked.is_some_and(|asked| !asked.is_zero())
        })
}
