//! The status of a pod, which its node and the scheduler report.
//!
//! Upstream: `podStatusStrategy`, `ValidatePodStatusUpdate`.

use proto::catalogue::{Gates, gate, names as n};
use proto::meta::{address, names};
use proto::path::{Errors, FieldError, Named, Spot};
use proto::view::core_v1::{Container, ContainerStatus, PodSpec, PodStatus};
use proto::view::{List, Node, View};
use proto::{NameId, Value};

use super::{devices, view};
use crate::rules;
use crate::shown::Internal;
use crate::strategies::pod_spec::{self, Options, dropped};
use crate::strategy::Cx;
use crate::warnings::Warnings;

/// Lists of reports about containers, and the containers that each is about.
const LISTS: [(NameId, NameId); 2] = [
    (PodStatus::CONTAINER_STATUSES, PodSpec::CONTAINERS),
    (PodStatus::INIT_CONTAINER_STATUSES, PodSpec::INIT_CONTAINERS),
];
const EPHEMERAL: NameId = PodStatus::EPHEMERAL_CONTAINER_STATUSES;
/// `maxImageRefLen` of `validateImageVolumeStatus`.
const LONGEST_IMAGE: usize = 256;
const NOT_NEGATIVE: &str = "must be a non-negative integer";
const ONE_PER_FAMILY: &str = "may specify no more than one IP for each IP family";

pub(super) fn prepare(cx: &Cx<'_>, new: &mut Value, old: &Value) {
    if let Some(spec) = old.get(n::SPEC) {
        new.set(&[n::SPEC], spec.clone());
    }
    new.remove(&[n::METADATA, n::DELETION_TIMESTAMP]);
    // Old kubelets corrupt owner references, and drop what they do not know of the status.
    match old.at(&[n::METADATA, n::OWNER_REFERENCES]) {
        Some(value) => new.set(&[n::METADATA, n::OWNER_REFERENCES], value.clone()),
        None => drop(new.remove(&[n::METADATA, n::OWNER_REFERENCES])),
    }
    for field in [
        n::QOS_CLASS,
        n::RESOURCE_CLAIM_STATUSES,
        n::EXTENDED_RESOURCE_CLAIM_STATUS,
        n::NODE_ALLOCATABLE_RESOURCE_CLAIM_STATUSES,
        n::OBSERVED_GENERATION,
    ] {
        let unset = match new.at(&[n::STATUS, field]) {
            None | Some(Value::Null) => true,
            Some(value) => value.as_str() == Some("") || value.as_int() == Some(0),
        };
        if let Some(value) = old.at(&[n::STATUS, field]).filter(|_| unset) {
            new.set(&[n::STATUS, field], value.clone());
        }
    }
    keep_generations_of_conditions(new, old);
    dropped::from_spec(cx.gates, new, Some(old));
    dropped::from_status(cx.gates, new, old);
}

/// A condition without a generation keeps that of the old one of its type; of several in their order.
fn keep_generations_of_conditions(new: &mut Value, old: &Value) {
    let mut before: Vec<(&str, i64)> = view(old)
        .status()
        .conditions()
        .iter()
        .map(|c| (c.r#type(), c.observed_generation()))
        .collect();
    let conditions = new.at_mut(&[n::STATUS, n::CONDITIONS]);
    for condition in conditions
        .and_then(Value::as_list_mut)
        .into_iter()
        .flatten()
    {
        let kind = condition
            .get(n::TYPE)
            .and_then(Value::as_str)
            .unwrap_or_default();
        let place = before.iter().position(|(old, _)| *old == kind);
        let generation = place.map_or(0, |place| before.remove(place).1);
        let own = condition
            .get(n::OBSERVED_GENERATION)
            .and_then(Value::as_int);
        if own.unwrap_or(0) == 0 && generation != 0 {
            condition.set(&[n::OBSERVED_GENERATION], generation);
        }
    }
}

pub(super) fn warnings(object: &Value) -> Vec<String> {
    let status = view(object).status();
    let mut w = Warnings::new(object);
    for address in status.pod_ips() {
        w.ip(Spot::of(address).field(n::IP), address.ip());
    }
    for address in status.host_ips() {
        w.ip(Spot::of(address).field(n::IP), address.ip());
    }
    w.into_vec()
}

pub(super) fn validate(cx: &Cx<'_>, new: &Value, old: &Value, e: &mut Errors<'_>) {
    let options = Options::of_pod(cx, new, Some(old));
    pod_spec::updated_annotations(e, new, old, &options);
    let (now, was) = (view(new).status(), view(old).status());
    let spec = view(new).spec();
    let at = Spot::of(now);
    conditions(e, now);
    nominated(cx.gates, e, now, was, view(old).spec());
    if now.observed_generation() < 0 {
        let field = at.field(PodStatus::OBSERVED_GENERATION);
        e.invalid(field, now.observed_generation(), NOT_NEGATIVE);
    }
    if now.qos_class() != was.qos_class() {
        let field = at.field(PodStatus::QOS_CLASS);
        e.invalid(field, Named(now.qos_class()), rules::IMMUTABLE);
    }
    transitions(e, now, was, view(old).spec());
    devices::claims(e, now, spec);
    if let Some(extended) = now.extended_resource_claim_status() {
        devices::extended_claim(e, extended, spec);
    }
    devices::allocatable(e, now, spec);
    volumes(e, now, spec);
    pod_addresses(e, now, was);
    host_addresses(e, now, was);
    for list in [LISTS[0].0, LISTS[1].0, EPHEMERAL] {
        for container in statuses(now, list) {
            user(e, container, spec);
        }
    }
    for (list, of) in LISTS {
        for container in statuses(now, list) {
            let named = |c: &Container<'_>| c.name() == container.name();
            let found = spec.node().list::<Container<'_>>(of).iter().find(named);
            devices::health(e, container, found, now);
        }
    }
    for container in statuses(now, EPHEMERAL) {
        if !container.allocated_resources_status().is_empty() {
            let field = Spot::of(container).field(n::ALLOCATED_RESOURCES_STATUS);
            e.forbidden(field, "must not be specified in container status");
        }
    }
    if cx.gates.has(gate::IMAGE_VOLUME_WITH_DIGEST) {
        for list in [LISTS[0].0, LISTS[1].0, EPHEMERAL] {
            statuses(now, list).iter().for_each(|of| images(e, of));
        }
    }
}

/// How volumes are (KEP-1432): those of the pod.
fn volumes(e: &mut Errors<'_>, now: PodStatus<'_>, spec: PodSpec<'_>) {
    for health in now.volume_health() {
        let name = health.name();
        if !name.is_empty() && !spec.volumes().iter().any(|v| v.name() == name) {
            e.not_found(Spot::of(health).field(n::NAME), name);
        }
        rules::health(e, health.health_conditions());
    }
}

/// Which images are mounted as volumes (KEP-4639).
fn images(e: &mut Errors<'_>, container: ContainerStatus<'_>) {
    for mount in container.volume_mounts() {
        let Some((status, image)) = mount.volume_status().and_then(|s| Some((s, s.image()?)))
        else {
            continue;
        };
        // The path is upstream's.
        let path = rules::beside(e, Spot::of(status), ".imageVolumeStatus.imageRef");
        match image.image_ref() {
            "" => e.push(FieldError::required(path, "imageRef must not be empty")),
            image if image.len() > LONGEST_IMAGE => {
                e.push(FieldError::too_long(path, LONGEST_IMAGE));
            }
            _ => {}
        }
    }
}

fn statuses<'a>(status: PodStatus<'a>, list: NameId) -> List<'a, ContainerStatus<'a>> {
    status.node().list(list)
}

fn conditions(e: &mut Errors<'_>, status: PodStatus<'_>) {
    for condition in status.conditions() {
        let at = Spot::of(condition);
        if condition.observed_generation() < 0 {
            let field = at.field(n::OBSERVED_GENERATION);
            e.invalid(field, condition.observed_generation(), NOT_NEGATIVE);
        }
        let kind = condition.r#type();
        if matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            continue;
        }
        let problems = names::label_key_problems(kind);
        if !problems.is_empty() {
            // The path is upstream's.
            let path = rules::beside(e, at, ".Type");
            for problem in problems {
                e.push(FieldError::invalid(path.as_str(), kind, problem));
            }
        }
    }
}

/// The node that a pod waits for, as long as it has none.
fn nominated(
    gates: Gates,
    e: &mut Errors<'_>,
    now: PodStatus<'_>,
    was: PodStatus<'_>,
    spec: PodSpec<'_>,
) {
    let node = now.nominated_node_name();
    if node.is_empty() || node == was.nominated_node_name() {
        return;
    }
    let field = Spot::of(now).field(PodStatus::NOMINATED_NODE_NAME);
    e.invalid_each(field, node, names::subdomain_name(node, false));
    let cleared = gates.has(gate::CLEARING_NOMINATED_NODE_NAME_AFTER_BINDING);
    if cleared && !spec.node_name().is_empty() {
        e.forbidden(
            field,
            "may not be set on pods that are already bound to a node",
        );
    }
}

/// What has ended may begin again only if its pod says so. Upstream counts by the old list.
fn transitions(e: &mut Errors<'_>, now: PodStatus<'_>, was: PodStatus<'_>, spec: PodSpec<'_>) {
    let restarts_all = restarts_all(spec);
    let detail = "may not be transitioned to non-terminated state";
    for list in [LISTS[0].0, LISTS[1].0, EPHEMERAL] {
        if restarts_all && list != EPHEMERAL {
            continue;
        }
        for (i, before) in statuses(was, list).iter().enumerate() {
            let Some(ended) = before.state().terminated() else {
                continue;
            };
            let begins = |after: &ContainerStatus<'_>| {
                after.name() == before.name() && after.state().terminated().is_none()
            };
            let again = statuses(now, list).iter().filter(begins).count();
            let allowed = LISTS.iter().any(|(statuses, of)| {
                let all = spec.node().list::<Container<'_>>(*of);
                let container = all.iter().find(|c| c.name() == before.name());
                *statuses == list && container.is_some_and(|c| restarts(c, spec, ended.exit_code()))
            });
            let field = Spot::of(now).field(list).index(i).field(n::STATE);
            // Of containers to debug each report counts, of others the first.
            let errors = if list == EPHEMERAL {
                again
            } else {
                again.min(1)
            };
            for _ in 0..errors {
                if !allowed {
                    e.forbidden(field, detail);
                }
            }
        }
    }
}

/// Whether the end of some container restarts them all.
fn restarts_all(spec: PodSpec<'_>) -> bool {
    let all = spec
        .init_containers()
        .iter()
        .chain(spec.containers().iter());
    let mut rules = all.flat_map(|c| c.restart_policy_rules());
    rules.any(|rule| rule.action() == "RestartAllContainers")
}

/// `ContainerShouldRestart`: by the rules of the container, its policy, its pod's policy.
fn restarts(container: Container<'_>, spec: PodSpec<'_>, exit_code: i64) -> bool {
    if let Some(policy) = container.restart_policy() {
        let ruled = container.restart_policy_rules().iter().find(|rule| {
            rule.exit_codes().is_some_and(|codes| {
                let named = codes.values().iter().any(|v| v.as_int() == Some(exit_code));
                match codes.operator() {
                    "In" => named,
                    "NotIn" => !named,
                    _ => false,
                }
            })
        });
        if ruled.is_some_and(|r| matches!(r.action(), "Restart" | "RestartAllContainers")) {
            return true;
        }
        match policy {
            "Always" => return true,
            "OnFailure" => return exit_code != 0,
            "Never" => return false,
            _ => {}
        }
    }
    match spec.restart_policy() {
        "OnFailure" => exit_code != 0,
        "Never" => false,
        _ => true,
    }
}

/// Addresses that are new are in a standard form, and of two there is one per family.
fn addresses(e: &mut Errors<'_>, status: PodStatus<'_>, list: NameId, old: &[&str]) {
    let at = Spot::of(status).field(list);
    let items = status.node().items(list);
    let all: Vec<&str> = items
        .iter()
        .map(|item| Node::new(item).str(n::IP))
        .collect();
    for (i, ip) in all.iter().enumerate() {
        rules::legacy_ip(e, at.index(i), ip, old);
    }
    if all.len() < 2 {
        return;
    }
    if let Some((i, bad)) = all
        .iter()
        .enumerate()
        .find(|(_, ip)| address::parse(ip).is_none())
    {
        let why = format!("invalid IP[{i}]: {bad}");
        let detail = format!("failed to check for dual stack with error:{why}");
        e.internal(at, detail);
    }
    if all.len() > 2 || !address::is_dual_stack(all.iter().copied()) {
        let message = match list {
            PodStatus::POD_IPS => proto::catalogue::messages::core_v1::POD_IP,
            _ => proto::catalogue::messages::core_v1::HOST_IP,
        };
        e.invalid(
            at,
            Internal(status.node().get(list), message),
            ONE_PER_FAMILY,
        );
    }
}

fn pod_addresses(e: &mut Errors<'_>, now: PodStatus<'_>, was: PodStatus<'_>) {
    let old: Vec<&str> = was.pod_ips().iter().map(|ip| ip.ip()).collect();
    addresses(e, now, PodStatus::POD_IPS, &old);
    let first = now.pod_ips().first().map(|ip| ip.ip());
    let at = Spot::of(now).field(PodStatus::POD_IPS);
    match (now.pod_ip(), first) {
        ("", None) => {}
        ("", Some(_)) | (_, None) => {
            let message = proto::catalogue::messages::core_v1::POD_IP;
            let shown = Internal(now.node().get(PodStatus::POD_IPS), message);
            let detail = "podIP and podIPs must either both be set or both be unset";
            e.invalid(at, shown, detail);
        }
        (single, Some(first)) if single != first => {
            e.invalid(at.index(0).field(n::IP), first, "must be equal to `podIP`");
        }
        _ => {}
    }
}

fn host_addresses(e: &mut Errors<'_>, now: PodStatus<'_>, was: PodStatus<'_>) {
    let Some(first) = now.host_ips().first() else {
        return;
    };
    if now.host_ip() != first.ip() {
        let field = Spot::of(first).field(n::IP);
        e.invalid(field, first.ip(), "must be equal to `hostIP`");
    }
    let old: Vec<&str> = was.host_ips().iter().map(|ip| ip.ip()).collect();
    addresses(e, now, PodStatus::HOST_IPS, &old);
}

/// Whom a container runs as.
fn user(e: &mut Errors<'_>, status: ContainerStatus<'_>, spec: PodSpec<'_>) {
    let Some(user) = status.user() else { return };
    let Some(linux) = user.linux() else { return };
    let at = Spot::of(linux);
    match spec.os().map_or("linux", |os| os.name()) {
        "windows" => e.forbidden(at, "cannot be set for a windows pod"),
        "linux" => {
            let uid = linux.uid();
            let problems = names::range_problems(uid, 0, i64::from(u32::MAX));
            e.invalid_each(at.field(n::UID), uid, problems);
            e.invalid_each(
                at.field(n::GID),
                linux.gid(),
                names::id_problems(linux.gid()),
            );
            for (i, group) in linux.supplemental_groups().iter().enumerate() {
                let group = group.as_int().unwrap_or(0);
                let field = at.field(n::SUPPLEMENTAL_GROUPS).index(i);
                e.invalid_each(field, group, names::id_problems(group));
            }
        }
        _ => {}
    }
}
