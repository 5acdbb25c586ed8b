//! What containers, and pods as a whole, ask for and are limited to.
//!
//! Upstream: `validateResourceRequirements`, `validatePodResources` (KEP-2837),
//! `component-helpers/resource`.

use std::collections::{BTreeMap, HashSet};

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, FieldError, Named, Reason, Show, Spot};
use proto::quantity::Quantity;
use proto::view::core_v1::{Container, PodSpec, ResourceRequirements};
use proto::view::{Node, View};
use proto::{Map, NameId, Value};

use super::containers::is_sidecar;
use super::{Kept, Options};
use crate::resource_names as kinds;
use crate::rules;

/// Amounts by the names of resources.
pub type Amounts = BTreeMap<String, Quantity>;

type NameRule = fn(&mut Errors<'_>, Spot<'_>, &str);

/// A canonical amount.
#[must_use]
pub fn amount(value: Option<&Value>) -> Option<Quantity> {
    value?.as_str()?.parse().ok()
}

fn amounts(map: &Map) -> impl Iterator<Item = (&str, Quantity)> {
    map.iter()
        .filter_map(|(name, value)| Some((name.as_str(), amount(Some(value))?)))
}

/// `ValidateContainerResourceRequirements`.
pub(super) fn of_container(
    e: &mut Errors<'_>,
    resources: ResourceRequirements<'_>,
    claims: &HashSet<&str>,
    options: &Options<'_>,
) {
    let at = Spot::of(resources);
    let (limits, requests) = (resources.limits(), resources.requests());
    requirements(
        e,
        at,
        limits,
        requests,
        rules::container_resource_name,
        options.kept,
    );
    used_claims(e, resources, claims);
}

/// What a runtime takes for itself.
pub(super) fn overhead(e: &mut Errors<'_>, spec: PodSpec<'_>, options: &Options<'_>) {
    static NONE: Map = Map::new();
    let at = Spot::of(spec).field(PodSpec::OVERHEAD);
    requirements(
        e,
        at,
        spec.overhead(),
        &NONE,
        rules::container_resource_name,
        options.kept,
    );
}

/// What every pod of a runtime class takes, as limits of a container.
pub fn fixed(e: &mut Errors<'_>, at: Spot<'_>, limits: &Map) {
    static NONE: Map = Map::new();
    requirements(
        e,
        at,
        limits,
        &NONE,
        rules::container_resource_name,
        Kept::default(),
    );
}

/// The resources of a pod as a whole, which its containers share.
pub(super) fn of_pod(
    e: &mut Errors<'_>,
    spec: PodSpec<'_>,
    claims: &HashSet<&str>,
    options: &Options<'_>,
) {
    let Some(resources) = spec.resources() else {
        return;
    };
    let at = Spot::of(resources);
    if spec.os().is_some_and(|os| os.name() == "windows") {
        e.forbidden(at, "may not be set for a windows pod");
        return;
    }
    if resources.node().get(n::CLAIMS).is_some() {
        let detail = "claims may not be set for Resources at pod-level";
        e.forbidden(at.field(n::CLAIMS), detail);
    }
    let (limits, requests) = (resources.limits(), resources.requests());
    requirements(e, at, limits, requests, pod_name, options.kept);
    used_claims(e, resources, claims);
    consistent(e, spec, resources);
}

/// Containers together ask for no more than the pod, and none may use more.
fn consistent(e: &mut Errors<'_>, spec: PodSpec<'_>, resources: ResourceRequirements<'_>) {
    let at = Spot::of(resources);
    for (name, asked) in aggregate(spec, n::REQUESTS) {
        let Some(whole) = amount(resources.requests().get(name.as_str())) else {
            continue;
        };
        if asked > whole {
            let field = at.field(n::REQUESTS).key(&name);
            let detail =
                format!("must be greater than or equal to aggregate container requests of {asked}");
            e.invalid(field, whole.to_string(), detail);
        }
    }
    for (name, limit) in aggregate(spec, n::LIMITS) {
        let whole = amount(resources.limits().get(name.as_str()));
        if let Some(whole) = whole.filter(|whole| kinds::is_huge_page(&name) && limit > *whole) {
            let field = at.field(n::LIMITS).key(&name);
            let detail =
                format!("must be greater than or equal to aggregate container limits of {limit}");
            e.invalid(field, whole.to_string(), detail);
        }
    }
    for (i, container) in spec.containers().iter().enumerate() {
        for (name, limit) in amounts(container.resources().limits()) {
            let whole = amount(resources.limits().get(name));
            if let Some(whole) = whole.filter(|whole| limit > *whole) {
                // The path is upstream's.
                let tail = format!(".containers[{i}][{name}].limits");
                let field = rules::beside(e, at, &tail);
                let detail = format!("must be less than or equal to pod limits of {whole}");
                e.push(FieldError::invalid(field, limit.to_string(), detail));
            }
        }
    }
}

fn requirements(
    e: &mut Errors<'_>,
    at: Spot<'_>,
    limits: &Map,
    requests: &Map,
    name_rule: NameRule,
    kept: Kept,
) {
    for (name, limit) in limits.iter().map(|(name, limit)| (name.as_str(), limit)) {
        let spot = at.field(n::LIMITS).key(name);
        one(e, spot, name, limit, name_rule);
        whole_pages(e, spot, name, limit, kept);
    }
    for (name, value) in requests.iter().map(|(name, value)| (name.as_str(), value)) {
        let spot = at.field(n::REQUESTS).key(name);
        one(e, spot, name, value, name_rule);
        let Some(request) = amount(Some(value)) else {
            continue;
        };
        let overcommitted = kinds::may_be_overcommitted(name);
        match amount(limits.get(name)) {
            Some(limit) if request != limit && !overcommitted => {
                let detail = format!("must be equal to {name} limit of {limit}");
                e.invalid(at.field(n::REQUESTS), request.to_string(), detail);
            }
            Some(limit) if request > limit => {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                e.invalid(at.field(n::REQUESTS), request.to_string(), detail);
            }
            None if !overcommitted => {
                let detail = "Limit must be set for non overcommitable resources";
                e.required(at.field(n::LIMITS), detail);
            }
            _ => {}
        }
        whole_pages(e, spot, name, value, kept);
    }
    let has = |wanted: fn(&str) -> bool| {
        let names = limits.iter().chain(requests.iter());
        { names }.any(|(name, _)| wanted(name.as_str()))
    };
    if has(kinds::is_huge_page) && !has(|name| matches!(name, "cpu" | "memory")) {
        e.forbidden(at, "HugePages require cpu or memory");
    }
}

/// A resource's name, and an amount that it can have.
fn one(e: &mut Errors<'_>, at: Spot<'_>, name: &str, value: &Value, name_rule: NameRule) {
    name_rule(e, at, name);
    rules::resource_amount(e, at, name, value);
}

fn whole_pages(e: &mut Errors<'_>, at: Spot<'_>, name: &str, value: &Value, kept: Kept) {
    if !kinds::is_huge_page(name) || kept.parts_of_huge_pages {
        return;
    }
    if let Some(value) = amount(Some(value)).filter(|v| !kinds::is_whole_pages(name, *v)) {
        let detail = format!("{value} is not positive integer multiple of {name}");
        e.invalid(at, value.to_string(), detail);
    }
}

fn pod_name(e: &mut Errors<'_>, at: Spot<'_>, name: &str) {
    if rules::resource_name(e, at, name) && !kinds::is_of_pods(name) {
        e.not_supported(at, Named(name), &["cpu", "hugepages-", "memory"]);
    }
}

/// `validateResourceClaimNames`: claims of the pod, each request of one at most once.
fn used_claims(e: &mut Errors<'_>, resources: ResourceRequirements<'_>, known: &HashSet<&str>) {
    let mut seen: HashSet<String> = HashSet::new();
    for claim in resources.claims() {
        let at = Spot::of(claim);
        let (name, request) = (claim.name(), claim.request());
        if name.is_empty() {
            e.required(at, "");
            continue;
        }
        if seen.contains(name) {
            e.duplicate(at, name);
        } else {
            let mut key = name.to_owned();
            if !request.is_empty() {
                let problems = names::dns_label_problems(request);
                e.invalid_each(at.field(n::REQUEST), request, problems);
                key = format!("{name}/{request}");
            }
            if seen.contains(&key) {
                e.duplicate(at, key.as_str());
            } else if request.is_empty() {
                let of_claim = |key: &&String| key.split_once('/').is_some_and(|k| k.0 == name);
                for _ in seen.iter().filter(of_claim) {
                    e.duplicate(at, name);
                }
            }
            seen.insert(key);
        }
        if !known.contains(name) {
            let mut all: Vec<&str> = known.iter().copied().collect();
            all.sort_unstable();
            let which = if all.is_empty() {
                " which is empty".to_owned()
            } else {
                format!(": {}", all.join(", "))
            };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{which}");
            e.add(Reason::NotFound, at, name.show(), detail);
        }
    }
}

/// What the containers need together: those that run, or those that run before them (KEP-753).
#[must_use]
pub fn aggregate(spec: PodSpec<'_>, field: NameId) -> Amounts {
    let of = |container: Container<'_>| -> Amounts {
        let all = amounts(container.resources().node().dict(field));
        all.map(|(name, amount)| (name.to_owned(), amount))
            .collect()
    };
    let mut total = Amounts::new();
    for container in spec.containers() {
        add(&mut total, &of(container));
    }
    let (mut sidecars, mut before) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers() {
        let mut own = of(container);
        if is_sidecar(container) {
            add(&mut total, &own);
            add(&mut sidecars, &own);
            raise(&mut before, &sidecars);
        } else {
            add(&mut own, &sidecars);
            raise(&mut before, &own);
        }
    }
    raise(&mut total, &before);
    total
}

fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        total
            .entry(name.clone())
            .and_modify(|sum| *sum = sum.plus(*amount))
            .or_insert(*amount);
    }
}

fn raise(total: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        let there = total.entry(name.clone()).or_insert(*amount);
        if *amount > *there {
            *there = *amount;
        }
    }
}

/// `setDefaultPodLevelResources` before it was mended: requests that are not said are those of the containers, or the
/// limits.
pub fn default_requests_of_pod(pod: &mut Value) {
    let spec = PodSpec::of(Node::new(pod.get(n::SPEC).unwrap_or(&Value::Null)));
    let Some(resources) = spec.resources() else {
        return;
    };
    let (requests, limits) = (resources.requests(), resources.limits());
    if requests.is_empty() && limits.is_empty() {
        return;
    }
    let mut missing: Vec<(String, Value)> = Vec::new();
    for (name, amount) in aggregate(spec, n::REQUESTS) {
        if kinds::is_of_pods(&name) && kinds::may_be_overcommitted(&name) {
            missing.push((name, amount.to_string().into()));
        }
    }
    for (name, amount) in limits
        .iter()
        .filter(|(name, _)| kinds::is_of_pods(name.as_str()))
    {
        missing.push((name.as_str().to_owned(), amount.clone()));
    }
    missing.retain(|(name, _)| !requests.contains(name.as_str()));
    if missing.is_empty() {
        return;
    }
    let requests = pod.ensure(&[n::SPEC, n::RESOURCES, n::REQUESTS]).make_map();
    for (name, amount) in missing {
        if !requests.contains(name.as_str()) {
            requests.insert(name.as_str(), amount);
        }
    }
}

/// `DefaultPodLevelResources`: what a pod says in part of its resources as a whole is completed from its
/// containers.
pub fn default_of_pod(pod: &mut Value) {
    let spec = PodSpec::of(Node::new(pod.get(n::SPEC).unwrap_or(&Value::Null)));
    let Some(resources) = spec.resources() else {
        return;
    };
    let own = |map: &Map| -> Amounts {
        amounts(map)
            .map(|(name, amount)| (name.to_owned(), amount))
            .collect()
    };
    let (mut requests, mut limits) = (own(resources.requests()), own(resources.limits()));
    if requests.is_empty() && limits.is_empty() {
        return;
    }
    let (asked, limited) = (aggregate(spec, n::REQUESTS), aggregate(spec, n::LIMITS));
    for (name, limit) in limited.iter().filter(|(name, _)| kinds::is_huge_page(name)) {
        if !requests.contains_key(name) {
            limits.entry(name.clone()).or_insert(*limit);
        }
    }
    let of_pods = |name: &String| kinds::is_of_pods(name);
    for (name, request) in asked.iter().filter(|(name, _)| of_pods(name)) {
        if kinds::may_be_overcommitted(name) {
            requests.entry(name.clone()).or_insert(*request);
        }
    }
    for (name, limit) in limits.iter().filter(|(name, _)| of_pods(name)) {
        requests.entry(name.clone()).or_insert(*limit);
    }
    let all = super::containers::all_containers(spec);
    let all: Vec<&Map> = all.map(|c| c.resources().limits()).collect();
    for (name, request) in requests.iter().filter(|(name, _)| of_pods(name)) {
        let limited_everywhere = all.iter().all(|limits| limits.contains(name.as_str()));
        if let Some(limit) = limited.get(name).filter(|_| limited_everywhere) {
            let limit = if request > limit { request } else { limit };
            limits.entry(name.clone()).or_insert(*limit);
        }
    }
    for (field, amounts) in [(n::REQUESTS, requests), (n::LIMITS, limits)] {
        if !amounts.is_empty() {
            let mut map = Map::new();
            for (name, amount) in &amounts {
                map.insert(name.as_str(), amount.to_string());
            }
            pod.set(&[n::SPEC, n::RESOURCES, field], Value::Map(map));
        }
    }
}
