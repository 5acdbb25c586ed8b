//! Pods.
//!
//! Upstream: `pkg/registry/core/pod/strategy.go`, `pkg/apis/core/v1/defaults.go` (`SetDefaults_Pod`,
//! `SetDefaults_PodStatus`), `pkg/apis/core/validation/validation.go` (`ValidatePod*`).

mod cells;

use proto::catalogue::names as n;
use proto::path::{Errors, Spot};
use proto::quantity::Quantity;
use proto::view::Node;
use proto::view::View;
use proto::view::core_v1::Pod;
use proto::{Map, Value, meta};

use super::pod_spec::{self, Holder};
use crate::options::DeleteOptions;
use crate::registry::rules;
use crate::registry::strategy::{Cx, Part, Strategy};
use crate::registry::warnings::Warnings;

pub static POD: Strategy = Strategy {
    default,
    prepare_create,
    prepare_update,
    validate: |_, object, e| validate(object, e),
    validate_update: |_, new, old, e| validate_update(new, old, e),
    warnings: |object, old| match old {
        None => pod_spec::warnings::pod(object),
        Some(_) => Vec::new(),
    },
    status: Some(Part {
        prepare_update: prepare_status,
        validate_update: |_, _, _, _| {},
        warnings: |object| {
            let status = Pod::of(Node::new(object)).status();
            let mut w = Warnings::new(object);
            for address in status.pod_ips() {
                w.ip(Spot::of(address).field(n::IP), address.ip());
            }
            for address in status.host_ips() {
                w.ip(Spot::of(address).field(n::IP), address.ip());
            }
            w.into_vec()
        },
    }),
    parts: &[
        (
            "ephemeralcontainers",
            Part {
                prepare_update: keep_but_ephemeral,
                validate_update: |_, new, old, e| ephemeral(new, old, e),
                ..Part::STATUS
            },
        ),
        (
            "resize",
            Part {
                prepare_update: keep_but_resources,
                validate_update: |_, new, _, e| validate(new, e),
                ..Part::STATUS
            },
        ),
    ],
    grace,
    cells: Some(cells::cells),
    ..Strategy::DEFAULT
};

fn view(object: &Value) -> Pod<'_> {
    Pod::of(Node::new(object))
}

/// Defaults of pods that templates do not have.
fn default(object: &mut Value) {
    let spec = object.ensure(&[n::SPEC]).make_map();
    pod_spec::default(spec);
    if spec
        .get(n::TERMINATION_GRACE_PERIOD_SECONDS)
        .and_then(Value::as_int)
        .is_some_and(|s| s < 0)
    {
        spec.insert(n::TERMINATION_GRACE_PERIOD_SECONDS, 1);
    }
    if !spec.contains(n::ENABLE_SERVICE_LINKS) {
        spec.insert(n::ENABLE_SERVICE_LINKS, true);
    }
    let host_network = spec
        .get(n::HOST_NETWORK)
        .and_then(Value::as_bool)
        .unwrap_or(false);
    for list in [n::CONTAINERS, n::INIT_CONTAINERS] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_list_mut)
            .into_iter()
            .flatten()
        {
            requests_from_limits(container);
            if host_network {
                host_ports(container);
            }
        }
    }
    sync_ips(object);
}

/// What is limited and not requested is requested up to its limit.
fn requests_from_limits(container: &mut Value) {
    let Some(limits) = container
        .at(&[n::RESOURCES, n::LIMITS])
        .and_then(Value::as_map)
        .cloned()
    else {
        return;
    };
    let requests = container.ensure(&[n::RESOURCES, n::REQUESTS]).make_map();
    for (name, value) in limits.iter() {
        if !requests.contains(name) {
            requests.insert(name, value.clone());
        }
    }
}

fn host_ports(container: &mut Value) {
    for port in container
        .get_mut(n::PORTS)
        .and_then(Value::as_list_mut)
        .into_iter()
        .flatten()
    {
        let number = port.get(n::CONTAINER_PORT).cloned();
        if port.get(n::HOST_PORT).and_then(Value::as_int).unwrap_or(0) == 0
            && let Some(number) = number
        {
            port.set(&[n::HOST_PORT], number);
        }
    }
}

/// `podIP` and the first of `podIPs` are one; of two that differ `podIP` wins.
fn sync_ips(object: &mut Value) {
    let Some(status) = object.get_mut(n::STATUS) else {
        return;
    };
    let single = status
        .get(n::POD_IP)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let first = status
        .get(n::POD_IPS)
        .and_then(Value::as_list)
        .and_then(|l| l.first()?.get(n::IP)?.as_str().map(str::to_owned))
        .unwrap_or_default();
    if single == first {
        return;
    }
    if single.is_empty() {
        status.set(&[n::POD_IP], first);
    } else {
        let mut entry = Value::object();
        entry.set(&[n::IP], single);
        status.set(&[n::POD_IPS], vec![entry]);
    }
}

fn prepare_create(cx: &Cx<'_>, pod: &mut Value) {
    pod.set(&[n::METADATA, n::GENERATION], 1);
    let qos = qos_class(view(pod));
    let mut status = Value::object();
    status.set(&[n::PHASE], "Pending");
    status.set(&[n::QOS_CLASS], qos);
    pod.set(&[n::STATUS], status);
    if !view(pod).spec().scheduling_gates().is_empty() {
        let gated = meta::Condition {
            kind: "PodScheduled",
            status: "False",
            reason: "SchedulingGated",
            message: "Scheduling is blocked due to non-empty scheduling gates",
            observed_generation: 1,
        };
        meta::set_condition(pod.ensure(&[n::STATUS, n::CONDITIONS]), gated, cx.now);
    }
}

fn prepare_update(_: &Cx<'_>, new: &mut Value, old: &Value) {
    crate::registry::strategy::keep_status(new, old);
    count_generation(new, old);
}

/// Pods count changes of their spec themselves: the binding and other parts count as well.
fn count_generation(new: &mut Value, old: &Value) {
    let generation = meta::generation(old).unwrap_or(0);
    let changed = new.get(n::SPEC) != old.get(n::SPEC);
    new.set(
        &[n::METADATA, n::GENERATION],
        generation + i64::from(changed),
    );
}

fn prepare_status(_: &Cx<'_>, new: &mut Value, old: &Value) {
    if let Some(spec) = old.get(n::SPEC) {
        new.set(&[n::SPEC], spec.clone());
    }
    // Old kubelets corrupt owner references, and drop what they do not know of the status.
    for field in [n::OWNER_REFERENCES, n::DELETION_TIMESTAMP] {
        match old.at(&[n::METADATA, field]) {
            Some(value) => new.set(&[n::METADATA, field], value.clone()),
            None => drop(new.remove(&[n::METADATA, field])),
        }
    }
    for field in [
        n::QOS_CLASS,
        n::RESOURCE_CLAIM_STATUSES,
        n::EXTENDED_RESOURCE_CLAIM_STATUS,
        n::OBSERVED_GENERATION,
    ] {
        if new.at(&[n::STATUS, field]).is_none()
            && let Some(value) = old.at(&[n::STATUS, field])
        {
            new.set(&[n::STATUS, field], value.clone());
        }
    }
    sync_ips(new);
}

/// Everything but one list of containers stays.
fn keep_but_ephemeral(_: &Cx<'_>, new: &mut Value, old: &Value) {
    let list = new.at(&[n::SPEC, n::EPHEMERAL_CONTAINERS]).cloned();
    let metadata = new.get(n::METADATA).cloned().unwrap_or_else(Value::object);
    let version = meta::resource_version(new).to_owned();
    *new = old.clone();
    if let Some(fields) = metadata.get(n::MANAGED_FIELDS) {
        new.set(&[n::METADATA, n::MANAGED_FIELDS], fields.clone());
    }
    new.set(&[n::METADATA, n::RESOURCE_VERSION], version);
    match list {
        Some(list) => new.set(&[n::SPEC, n::EPHEMERAL_CONTAINERS], list),
        None => drop(new.remove(&[n::SPEC, n::EPHEMERAL_CONTAINERS])),
    }
    count_generation(new, old);
}

fn ephemeral(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let (now, was) = (
        view(new).spec().ephemeral_containers(),
        view(old).spec().ephemeral_containers(),
    );
    for before in was {
        let name = before.node().str(n::NAME);
        match now.iter().find(|c| c.node().str(n::NAME) == name) {
            Some(after) if after.node().value() == before.node().value() => {}
            _ => {
                let at = Spot::of(view(new).spec()).field(n::EPHEMERAL_CONTAINERS);
                e.forbidden(
                    at,
                    format!(
                        "existing ephemeral containers {} may not be changed or removed",
                        proto::path::quote(name)
                    ),
                );
            }
        }
    }
    validate(new, e);
}

/// A resize changes resources of containers and nothing else.
fn keep_but_resources(_: &Cx<'_>, new: &mut Value, old: &Value) {
    let asked: Vec<(proto::NameId, String, Value)> = [n::CONTAINERS, n::INIT_CONTAINERS]
        .into_iter()
        .flat_map(|list| {
            let items = new
                .at(&[n::SPEC, list])
                .and_then(Value::as_list)
                .unwrap_or_default();
            let one = move |c: &Value| {
                let name = c.get(n::NAME)?.as_str()?.to_owned();
                Some((
                    list,
                    name,
                    c.get(n::RESOURCES).cloned().unwrap_or_else(Value::object),
                ))
            };
            items.iter().filter_map(one).collect::<Vec<_>>()
        })
        .collect();
    let metadata = new.get(n::METADATA).cloned();
    *new = old.clone();
    if let Some(metadata) = metadata {
        new.set(&[n::METADATA], metadata);
    }
    for (list, name, resources) in asked {
        let items = new.at_mut(&[n::SPEC, list]).and_then(Value::as_list_mut);
        let there = items.and_then(|l| {
            l.iter_mut()
                .find(|c| c.get(n::NAME).and_then(Value::as_str) == Some(&name))
        });
        if let Some(container) = there {
            container.set(&[n::RESOURCES], resources);
        }
    }
    count_generation(new, old);
}

fn validate(object: &Value, e: &mut Errors<'_>) {
    meta::validate_object_meta(object, true, meta::names::subdomain_name, e);
    pod_spec::spec(e, view(object).spec(), Holder::Pod);
}

/// Fields of the spec that an update may change (`ValidatePodUpdate`).
fn validate_update(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let (now, was) = (view(new).spec(), view(old).spec());
    let holder = if pod_spec::sysctls::reach_the_host(was) {
        Holder::Ratcheted
    } else {
        Holder::Pod
    };
    pod_spec::spec(e, now, holder);
    if now.containers().len() != was.containers().len() {
        e.forbidden(
            Spot::of(now).field(n::CONTAINERS),
            "pod updates may not add or remove containers",
        );
        return;
    }
    if now.init_containers().len() != was.init_containers().len() {
        e.forbidden(
            Spot::of(now).field(n::INIT_CONTAINERS),
            "pod updates may not add or remove containers",
        );
        return;
    }
    if let (now_s, Some(was_s)) = (now.active_deadline_seconds(), was.active_deadline_seconds())
        && now_s.is_none_or(|s| s > was_s)
    {
        let at = Spot::of(now).field(n::ACTIVE_DEADLINE_SECONDS);
        match now_s {
            Some(s) => e.invalid(at, s, "must be less than or equal to previous value"),
            None => e.invalid(
                at,
                &Value::Null,
                "must not update from a positive integer to nil value",
            ),
        }
    }
    let mut like_old = now.node().value().clone();
    take_over(&mut like_old, was.node().value());
    if !same_spec(&like_old, was.node().value()) {
        let text = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        e.forbidden(Spot::of(now), text);
    }
    for before in was.tolerations() {
        if !now.tolerations().iter().any(|t| {
            t.key() == before.key() && t.effect() == before.effect() && t.value() == before.value()
        }) {
            let at = Spot::of(now).field(n::TOLERATIONS);
            e.forbidden(
                at,
                "existing toleration can not be modified except its tolerationSeconds",
            );
            break;
        }
    }
}

/// Puts the old values of what may change into a copy of the new spec.
fn take_over(spec: &mut Value, old: &Value) {
    for field in [
        n::ACTIVE_DEADLINE_SECONDS,
        n::TOLERATIONS,
        n::TERMINATION_GRACE_PERIOD_SECONDS,
        n::SCHEDULING_GATES,
    ] {
        match old.get(field) {
            Some(value) => spec.set(&[field], value.clone()),
            None => drop(spec.remove(&[field])),
        }
    }
    if old
        .get(n::SCHEDULING_GATES)
        .and_then(Value::as_list)
        .is_some_and(|l| !l.is_empty())
    {
        // A gated pod may narrow where it goes.
        for field in [n::NODE_SELECTOR, n::AFFINITY] {
            match old.get(field) {
                Some(value) => spec.set(&[field], value.clone()),
                None => drop(spec.remove(&[field])),
            }
        }
    }
    for list in [n::CONTAINERS, n::INIT_CONTAINERS] {
        let images: Vec<Value> = old
            .get(list)
            .and_then(Value::as_list)
            .unwrap_or_default()
            .iter()
            .map(|c| c.get(n::IMAGE).cloned().unwrap_or_default())
            .collect();
        let items = spec.get_mut(list).and_then(Value::as_list_mut);
        for (container, image) in items.into_iter().flatten().zip(images) {
            container.set(&[n::IMAGE], image);
        }
    }
}

fn same_spec(a: &Value, b: &Value) -> bool {
    rules::same(Some(a), Some(b)) || {
        let keys = |v: &Value| -> Map { v.as_map().cloned().unwrap_or_default() };
        let (a, b) = (keys(a), keys(b));
        a.iter().all(|(name, v)| rules::same(Some(v), b.get(name)))
            && b.iter().all(|(name, v)| rules::same(a.get(name), Some(v)))
    }
}

/// Pods end gracefully; those that never ran, or have ended, at once.
fn grace(object: &Value, options: &mut DeleteOptions) -> bool {
    let pod = view(object);
    let mut period = options
        .grace_period_seconds
        .or_else(|| pod.spec().termination_grace_period_seconds())
        .unwrap_or(0);
    if pod.spec().node_name().is_empty() || matches!(pod.status().phase(), "Failed" | "Succeeded") {
        period = 0;
    }
    options.grace_period_seconds = Some(if period < 0 { 1 } else { period });
    true
}

/// `ComputePodQOS`: guaranteed if every container limits cpu and memory to what it requests, best effort
/// if none asks for either.
#[must_use]
pub fn qos_class(pod: Pod<'_>) -> &'static str {
    let containers: Vec<_> = pod
        .spec()
        .containers()
        .iter()
        .chain(pod.spec().init_containers().iter())
        .collect();
    let amount = |map: &Map, name: &str| -> Option<Quantity> {
        map.get(name)
            .and_then(|v| v.as_str()?.parse::<Quantity>().ok())
            .filter(|q| !q.is_zero())
    };
    let mut asks = false;
    let mut guaranteed = !containers.is_empty();
    for container in containers {
        for resource in ["cpu", "memory"] {
            let request = amount(container.resources().requests(), resource);
            let limit = amount(container.resources().limits(), resource);
            asks |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (asks, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
