//! `resize`: other resources for a pod that runs (KEP-1287, KEP-5419).
//!
//! Upstream: `podResizeStrategy`, `ValidatePodResize`.

use proto::catalogue::{Gates, gate, messages::core_v1, names as n};
use proto::meta::names;
use proto::path::{Errors, FieldError, Named, Spot};
use proto::view::core_v1::{Container, PodSpec};
use proto::view::{List, Node, View};
use proto::{Map, NameId, Value, meta};

use super::{count_generation, qos, validation, view};
use crate::equal;
use crate::strategies::pod_spec::containers::is_sidecar;
use crate::strategies::pod_spec::{Options, dropped, resources};
use crate::strategy::{Cx, keep_status, reset_metadata};

const LISTS: [NameId; 2] = [PodSpec::CONTAINERS, PodSpec::INIT_CONTAINERS];
const AMOUNTS: [NameId; 2] = [n::REQUESTS, n::LIMITS];
const RESIZABLE: [&str; 2] = ["cpu", "memory"];
const ONLY: &str = "only cpu and memory resources are mutable";

/// A resize changes resources, and what a change of them means to a container, and nothing else. What
/// changes containers otherwise is left for validation to refuse.
pub(super) fn prepare(cx: &Cx<'_>, new: &mut Value, old: &Value) {
    let as_many = |list: NameId| items(new, list).len() == items(old, list).len();
    if LISTS.into_iter().all(as_many) {
        let mut spec = old.get(n::SPEC).cloned().unwrap_or_else(Value::object);
        let mut taken = Vec::new();
        if cx
            .gates
            .has(gate::IN_PLACE_POD_LEVEL_RESOURCES_VERTICAL_SCALING)
        {
            taken.push(n::RESOURCES);
        }
        if cx
            .gates
            .has(gate::IN_PLACE_POD_VERTICAL_SCALING_MEMORY_BACKED_VOLUMES)
        {
            taken.push(n::VOLUMES);
        }
        for field in taken {
            match new.at(&[n::SPEC, field]) {
                Some(value) => spec.set(&[field], value.clone()),
                None => drop(spec.remove(&[field])),
            }
        }
        for list in LISTS {
            if let Some(merged) = merged(items(new, list), items(old, list)) {
                spec.set(&[list], merged);
            }
        }
        new.set(&[n::SPEC], spec);
        keep_status(new, old);
        reset_metadata(new, old);
    }
    // Clients that do not know the resources of pods lose them.
    if let (None, Some(resources)) = (
        new.at(&[n::SPEC, n::RESOURCES]),
        old.at(&[n::SPEC, n::RESOURCES]),
    ) {
        let resources = resources.clone();
        new.set(&[n::SPEC, n::RESOURCES], resources);
    }
    if super::defaults_of_pod(cx.gates) {
        resources::default_of_pod(new);
    }
    dropped::from_spec(cx.gates, new, Some(old));
    count_generation(new, old);
}

fn items(pod: &Value, list: NameId) -> &[Value] {
    let list = pod.at(&[n::SPEC, list]).and_then(Value::as_list);
    list.unwrap_or_default()
}

/// Old containers with the new ones' resources; the new ones if they are others.
fn merged(new: &[Value], old: &[Value]) -> Option<Vec<Value>> {
    if new.is_empty() {
        return None;
    }
    let name = |c: &Value| c.get(n::NAME).and_then(Value::as_str).map(str::to_owned);
    if new.iter().zip(old).any(|(new, old)| name(new) != name(old)) {
        return Some(new.to_vec());
    }
    let take = |(new, old): (&Value, &Value)| {
        let mut container = old.clone();
        for field in [n::RESOURCES, n::RESIZE_POLICY] {
            container.copy(new, &[field]);
        }
        container
    };
    Some(new.iter().zip(old).map(take).collect())
}

pub(super) fn validate(cx: &Cx<'_>, new: &Value, old: &Value, e: &mut Errors<'_>) {
    let (now, was) = (view(new).spec(), view(old).spec());
    let of_windows = was.os().is_some_and(|os| os.name() == "windows");
    for (refused, detail) in [
        (validation::mirrors(old), "static pods cannot be resized"),
        (of_windows, "windows pods cannot be resized"),
    ] {
        if refused {
            // Nothing else is said, and the path is upstream's.
            e.push(FieldError::forbidden("[]", detail));
            return;
        }
    }
    meta::validate_object_meta(new, true, names::subdomain_name, e);
    let before = e.len();
    validation::specified(new, &Options::of_pod(cx, new, Some(old)), e);
    let class = match view(old).status().qos_class() {
        "" => qos::class(cx.gates, view(old)),
        class => class,
    };
    let at = Spot::of(now);
    if class != qos::class(cx.gates, view(new)) {
        let shown = Named(view(new).status().qos_class());
        e.invalid(
            at,
            shown,
            "Pod QOS Class may not change as a result of resizing",
        );
    }
    if !node_resizes(old) {
        e.forbidden(at, "Pod running on node without support for resize");
    }
    let mut masked = now.node().value().clone();
    if says_of_pod(was) || says_of_pod(now) {
        if !cx
            .gates
            .has(gate::IN_PLACE_POD_LEVEL_RESOURCES_VERTICAL_SCALING)
        {
            let detail = "resize of pods with pod-level resources is forbidden when InPlacePodLevelResourcesVerticalScalingEnabled feature gate is disabled";
            e.push(FieldError::forbidden("[]", detail));
            return;
        }
        of_pod(e, now, was, &mut masked);
    }
    if !same_containers(e, now, was) {
        return;
    }
    for list in [PodSpec::INIT_CONTAINERS, PodSpec::CONTAINERS] {
        for (after, before) in containers(now, list).iter().zip(containers(was, list)) {
            let by_gate = cx
                .gates
                .has(gate::IN_PLACE_POD_VERTICAL_SCALING_INIT_CONTAINERS);
            if list == PodSpec::INIT_CONTAINERS && !by_gate && !is_sidecar(before) {
                continue;
            }
            nothing_removed(e, after, before);
        }
    }
    for list in LISTS {
        only_resizable(cx.gates, e, now, was, list, &mut masked);
    }
    if cx
        .gates
        .has(gate::IN_PLACE_POD_VERTICAL_SCALING_MEMORY_BACKED_VOLUMES)
    {
        sizes_of_memory(e, now, was, &mut masked);
    } else if !equal::same_at(&masked, was.node().value(), &[n::VOLUMES]) {
        let detail = "volumes are immutable on resize when InPlacePodVerticalScalingMemoryBackedVolumes feature gate is disabled";
        e.forbidden(at.field(PodSpec::VOLUMES), detail);
    }
    let old = Some(was.node().value());
    if e.len() == before && !equal::alike(Some(&masked), old, core_v1::POD_SPEC) {
        e.forbidden(at, ONLY);
    }
}

/// Volumes in memory may get another limit; in the mask they become the old ones.
fn sizes_of_memory(e: &mut Errors<'_>, now: PodSpec<'_>, was: PodSpec<'_>, masked: &mut Value) {
    const LIMIT: [NameId; 2] = [n::EMPTY_DIR, n::SIZE_LIMIT];
    let (after, before) = (now.volumes(), was.volumes());
    if after.len() == before.len() {
        for (after, before) in after.iter().zip(before) {
            let at = Spot::of(after);
            if after.name() != before.name() {
                let detail = "volumes may not be renamed or reordered on resize";
                e.forbidden(at.field(n::NAME), detail);
                continue;
            }
            let (new, old) = (after.node().value(), before.node().value());
            let mut same = new.clone();
            if new.get(n::EMPTY_DIR).is_some() && old.get(n::EMPTY_DIR).is_some() {
                same.copy(old, &LIMIT);
            }
            if !equal::alike(Some(&same), Some(old), core_v1::VOLUME) {
                let detail =
                    "only sizeLimit of memory-backed emptyDir volumes is mutable on resize";
                e.forbidden(at, detail);
                continue;
            }
            size_of_memory(e, at, new, old);
        }
    } else {
        let detail = "volumes may not be added or removed on resize";
        e.forbidden(Spot::of(now).field(PodSpec::VOLUMES), detail);
    }
    masked.copy(was.node().value(), &[n::VOLUMES]);
}

fn size_of_memory(e: &mut Errors<'_>, at: Spot<'_>, new: &Value, old: &Value) {
    let limit = |volume: &Value| resources::amount(volume.at(&[n::EMPTY_DIR, n::SIZE_LIMIT]));
    let (now, was) = (limit(new), limit(old));
    let (has, had) = (
        now.is_some_and(|limit| !limit.is_zero()),
        was.is_some_and(|limit| !limit.is_zero()),
    );
    let medium = new.at(&[n::EMPTY_DIR, n::MEDIUM]).and_then(Value::as_str);
    let field = at.field(n::EMPTY_DIR).field(n::SIZE_LIMIT);
    if has != had {
        let detail = "adding or removing sizeLimit on an existing volume is not allowed";
        e.forbidden(field, detail);
    } else if now.is_some() && was.is_some() && now != was && medium != Some("Memory") {
        let detail = "sizeLimit is only mutable for memory-backed emptyDir volumes";
        e.forbidden(field, detail);
    }
}

fn containers<'a>(spec: PodSpec<'a>, list: NameId) -> List<'a, Container<'a>> {
    spec.node().list(list)
}

fn says_of_pod(spec: PodSpec<'_>) -> bool {
    spec.resources()
        .is_some_and(|r| !r.requests().is_empty() || !r.limits().is_empty())
}

/// Whether the pod's node reports resources of what runs: only such nodes resize.
fn node_resizes(pod: &Value) -> bool {
    let statuses = view(pod).status().container_statuses();
    let running = statuses.iter().find(|c| c.state().running().is_some());
    running.is_none_or(|c| c.resources().is_some())
}

/// Resources of the pod as a whole; in the mask they become the old ones.
fn of_pod(e: &mut Errors<'_>, now: PodSpec<'_>, was: PodSpec<'_>, masked: &mut Value) {
    let at = Spot::of(now);
    let (after, before) = (now.resources(), was.resources());
    if after.is_none() && before.is_some() {
        let detail = "pod-level resources cannot be removed";
        e.forbidden(at.field(PodSpec::RESOURCES), detail);
        return;
    }
    if let (Some(after), Some(before)) = (after, before) {
        for (field, what) in [(n::REQUESTS, "requests"), (n::LIMITS, "limits")] {
            if removed(after.node().dict(field), before.node().dict(field)) {
                let detail = format!("pod-level resource {what} cannot be removed");
                e.forbidden(Spot::of(after).field(field), detail);
            }
        }
    }
    let old = before.map(|r| r.node().value().clone());
    if let Some(resources) = masked.get_mut(n::RESOURCES) {
        mask(resources, old.as_ref());
        let empty = |field| {
            let there = resources.get(field);
            there.is_none_or(|v| match v {
                Value::Map(map) => map.is_empty(),
                Value::List(list) => list.is_empty(),
                _ => true,
            })
        };
        if old.is_none() && [n::REQUESTS, n::LIMITS, n::CLAIMS].into_iter().all(empty) {
            masked.remove(&[n::RESOURCES]);
        }
    }
    if !equal::same_at(masked, was.node().value(), &[n::RESOURCES]) {
        e.forbidden(at, "only cpu and memory resources are mutable at pod-level");
    }
}

/// Gives resources the old amounts of what can be resized.
fn mask(resources: &mut Value, old: Option<&Value>) {
    for field in AMOUNTS {
        let before = old.and_then(|old| old.get(field)).and_then(Value::as_map);
        if before.is_none() && resources.get(field).is_none() {
            continue;
        }
        let amounts = resources.ensure(&[field]).make_map();
        for name in RESIZABLE {
            match before.and_then(|before| before.get(name)) {
                Some(amount) => drop(amounts.insert(name, amount.clone())),
                None => drop(amounts.remove(name)),
            }
        }
    }
}

fn removed(after: &Map, before: &Map) -> bool {
    before
        .iter()
        .any(|(name, _)| !after.contains(name.as_str()))
}

/// The same containers in the same order; says whether they are.
fn same_containers(e: &mut Errors<'_>, now: PodSpec<'_>, was: PodSpec<'_>) -> bool {
    let before = e.len();
    for (list, what) in LISTS.into_iter().zip(["containers", "initContainers"]) {
        if containers(now, list).len() != containers(was, list).len() {
            let detail = format!("{what} may not be added or removed on resize");
            e.forbidden(Spot::of(now).field(list), detail);
            continue;
        }
        for (after, before) in containers(now, list).iter().zip(containers(was, list)) {
            if after.name() != before.name() {
                let detail = format!("{what} may not be renamed or reordered on resize");
                e.forbidden(Spot::of(after).field(n::NAME), detail);
            }
        }
    }
    e.len() == before
}

fn nothing_removed(e: &mut Errors<'_>, after: Container<'_>, before: Container<'_>) {
    for (field, what) in [(n::REQUESTS, "requests"), (n::LIMITS, "limits")] {
        let of = |c: Container<'_>| c.resources().node().dict(field).clone();
        if removed(&of(after), &of(before)) {
            let detail = format!("resource {what} cannot be removed");
            e.forbidden(Spot::of(after.resources()).field(field), detail);
        }
    }
}

/// Only cpu and memory may change; in the mask they become the old ones.
fn only_resizable(
    gates: Gates,
    e: &mut Errors<'_>,
    now: PodSpec<'_>,
    was: PodSpec<'_>,
    list: NameId,
    masked: &mut Value,
) {
    let at = Spot::of(now);
    let is_init = list == PodSpec::INIT_CONTAINERS;
    let items = masked.get_mut(list).and_then(Value::as_list_mut);
    for (i, (item, before)) in { items }
        .into_iter()
        .flatten()
        .zip(containers(was, list))
        .enumerate()
    {
        let old = before.node().value();
        let alike = |item: &Value| equal::alike(Some(item), Some(old), core_v1::CONTAINER);
        let changed = !alike(item);
        let by_gate = gates.has(gate::IN_PLACE_POD_VERTICAL_SCALING_INIT_CONTAINERS);
        if is_init && !by_gate && !is_sidecar(before) {
            if changed {
                e.forbidden(
                    at,
                    "resources for non-sidecar init containers are immutable",
                );
            }
            continue;
        }
        mask(item.ensure(&[n::RESOURCES]), old.get(n::RESOURCES));
        if !alike(item) {
            if is_init {
                let detail =
                    "only cpu and memory resources for init or sidecar containers are mutable";
                e.forbidden(at.field(list).index(i), detail);
            } else {
                e.forbidden(at, ONLY);
            }
        }
        let container = Container::of(Node::new(item));
        if is_init && changed && !is_sidecar(container) {
            for policy in container.resize_policy() {
                if policy.restart_policy() == "RestartContainer" {
                    let detail = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                    e.forbidden(at.field(list).index(i), detail);
                }
            }
        }
    }
}
