//! What objects use of a quota. Pure. Source: `pkg/quota/v1/evaluator/core`, `component-helpers/resource`.

use std::collections::BTreeMap;

use component::volumes::class_of_claim;
use k8s_openapi::api::core::v1::{
    Container, PersistentVolumeClaim, Pod, PodSpec, ResourceRequirements, Service,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use proto::quantity::{Format, Quantity};

use crate::pods;

/// Amounts by the names of limits.
pub(super) type Used = BTreeMap<String, Quantity>;

/// Limits that are told as zero where nothing of the kind is there.
pub(super) const POD: &[&str] = &[
    "pods",
    "count/pods",
    "cpu",
    "requests.cpu",
    "limits.cpu",
    "memory",
    "requests.memory",
    "limits.memory",
    "ephemeral-storage",
    "requests.ephemeral-storage",
    "limits.ephemeral-storage",
];
pub(super) const SERVICE: &[&str] = &[
    "services",
    "count/services",
    "services.nodeports",
    "services.loadbalancers",
];
pub(super) const CLAIM: &[&str] = &[
    "persistentvolumeclaims",
    "count/persistentvolumeclaims",
    "requests.storage",
];
const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
/// Resources whose requests are limited.
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

pub(super) fn number(n: usize) -> Quantity {
    Quantity::new(i64::try_from(n).unwrap_or(i64::MAX), Format::DecimalSi)
}

pub(super) fn begin<'a>(used: &mut Used, names: impl IntoIterator<Item = &'a str>) {
    for name in names {
        used.entry(name.to_owned()).or_default();
    }
}

/// Whether pods are counted under a limit that is not in [`POD`]: huge pages, and resources of other domains than
/// Kubernetes' own, which are limited by what is requested of them (`podResourcePrefixes`, `isExtendedResourceNameForQuota`).
pub(super) fn is_of_pods(limit: &str) -> bool {
    let requested = limit.strip_prefix("requests.");
    let name = requested.unwrap_or(limit);
    let is_extended = |name: &str| {
        let is_native = !name.contains('/') || name.contains("kubernetes.io/");
        !is_native || name.starts_with("deviceclass.resource.kubernetes.io/")
    };
    name.starts_with("hugepages-") || requested.is_some_and(is_extended)
}

/// Whether claims of one storage class are counted under a limit.
pub(super) fn is_of_claims(limit: &str) -> bool {
    let of_class = limit.split_once(".storageclass.storage.k8s.io/");
    of_class.is_some_and(|(_, what)| matches!(what, "requests.storage" | "persistentvolumeclaims"))
}

pub(super) fn add(used: &mut Used, more: &Used) {
    for (name, amount) in more {
        let sum = used.entry(name.clone()).or_default();
        *sum = sum.plus(*amount);
    }
}

fn one(names: &[&str]) -> Used {
    names.iter().map(|n| ((*n).to_owned(), number(1))).collect()
}

/// A pod is counted while it is stored, and what it computes with until it has ended.
pub(super) fn pod(pod: &Pod, now: Timestamp) -> Used {
    let mut used = one(&["count/pods"]);
    if !still_counts(pod, now) {
        return used;
    }
    used.extend(one(&["pods"]));
    let Some(spec) = &pod.spec else { return used };
    let requests = total(spec, true);
    let limits = total(spec, false);
    for (name, amount) in &requests {
        let compute = COMPUTE.contains(&name.as_str()) || name.starts_with("hugepages-");
        let extended = name.contains('/') && !name.starts_with("requests.");
        if compute {
            used.insert(name.clone(), *amount);
        }
        if compute || extended {
            used.insert(format!("requests.{name}"), *amount);
        }
    }
    for name in COMPUTE {
        if let Some(amount) = limits.get(name) {
            used.insert(format!("limits.{name}"), *amount);
        }
    }
    used
}

fn still_counts(pod: &Pod, now: Timestamp) -> bool {
    if pods::is_terminal(pod) {
        return false;
    }
    let meta = &pod.metadata;
    let (Some(since), Some(grace)) = (&meta.deletion_timestamp, meta.deletion_grace_period_seconds)
    else {
        return true;
    };
    // A pod that is stuck must not keep its owner from replacing it.
    let end = since.0.checked_add(SignedDuration::from_secs(grace));
    end.map_or(true, |end| now <= end)
}

fn amounts(list: Option<&BTreeMap<String, Amount>>) -> Used {
    let each = list.into_iter().flatten();
    each.filter_map(|(name, amount)| Some((name.clone(), amount.0.parse().ok()?)))
        .collect()
}

fn raise(most: &mut Used, other: &Used) {
    for (name, amount) in other {
        let current = most.entry(name.clone()).or_insert(*amount);
        if *amount > *current {
            *current = *amount;
        }
    }
}

/// What a pod asks for in all, by resource.
pub(crate) fn requests(spec: &PodSpec) -> Used {
    total(spec, true)
}

/// What a pod asks for: its containers and sidecars together, or what starting needs if that is more, or what the pod
/// itself says; and its overhead. Requests if `asked`, limits otherwise.
fn total(spec: &PodSpec, asked: bool) -> Used {
    let list = |r: &ResourceRequirements| {
        let side = if asked { &r.requests } else { &r.limits };
        amounts(side.as_ref())
    };
    let of = |c: &Container| c.resources.as_ref().map(list).unwrap_or_default();
    let mut sum = Used::new();
    for container in &spec.containers {
        add(&mut sum, &of(container));
    }
    let (mut sidecars, mut starting) = (Used::new(), Used::new());
    for container in spec.init_containers.iter().flatten() {
        let mut needs = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sum, &needs);
            add(&mut sidecars, &needs);
            needs = sidecars.clone();
        } else {
            add(&mut needs, &sidecars);
        }
        raise(&mut starting, &needs);
    }
    raise(&mut sum, &starting);
    sum.extend(spec.resources.as_ref().map(list).unwrap_or_default());
    for (name, amount) in amounts(spec.overhead.as_ref()) {
        // A resource without a limit stays without one.
        if asked || sum.contains_key(&name) {
            let with = sum.entry(name).or_default();
            *with = with.plus(amount);
        }
    }
    sum
}

pub(super) fn service(service: &Service) -> Used {
    let mut used = one(&["services", "count/services"]);
    let Some(spec) = &service.spec else {
        return used;
    };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let balanced = spec.type_.as_deref() == Some("LoadBalancer");
    let node_ports = match spec.type_.as_deref() {
        Some("LoadBalancer") if spec.allocate_load_balancer_node_ports == Some(false) => ports
            .iter()
            .filter(|p| p.node_port.unwrap_or(0) != 0)
            .count(),
        Some("LoadBalancer" | "NodePort") => ports.len(),
        _ => 0,
    };
    used.insert("services.nodeports".to_owned(), number(node_ports));
    used.insert(
        "services.loadbalancers".to_owned(),
        number(usize::from(balanced)),
    );
    used
}

pub(super) fn claim(claim: &PersistentVolumeClaim) -> Used {
    let mut used = one(&["persistentvolumeclaims", "count/persistentvolumeclaims"]);
    let spec = claim.spec.as_ref();
    let class = class_of_claim(claim);
    if !class.is_empty() {
        used.extend(one(&[&format!(
            "{class}{STORAGE_CLASS}persistentvolumeclaims"
        )]));
    }
    let requests = spec.and_then(|s| s.resources.as_ref()?.requests.as_ref());
    let asked = amounts(requests).get("storage").copied();
    let allocated = claim
        .status
        .as_ref()
        .and_then(|s| s.allocated_resources.as_ref());
    let given = amounts(allocated).get("storage").copied();
    if let Some(storage) = asked.map(|a| given.map_or(a, |g| a.max(g))) {
        let (storage, _) = storage.round_up(0);
        used.insert("requests.storage".to_owned(), storage);
        if !class.is_empty() {
            used.insert(format!("{class}{STORAGE_CLASS}requests.storage"), storage);
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodStatus, ServicePort, ServiceSpec};

    fn list(pairs: &[(&str, &str)]) -> BTreeMap<String, Amount> {
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), Amount((*v).to_owned()));
        pairs.iter().map(own).collect()
    }

    #[test]
    fn limits_of_other_resources_are_told_from_the_beginning() {
        for name in [
            "requests.example.com/dongle",
            "hugepages-2Mi",
            "requests.hugepages-2Mi",
            "requests.deviceclass.resource.kubernetes.io/gpu",
        ] {
            assert!(is_of_pods(name), "{name}");
        }
        for name in [
            "requests.storage",
            "example.com/dongle",
            "requests.kubernetes.io/batch-cpu",
            "services",
            "count/widgets.example.com",
        ] {
            assert!(!is_of_pods(name), "{name}");
        }
        assert!(is_of_claims(
            "gold.storageclass.storage.k8s.io/requests.storage"
        ));
        assert!(is_of_claims(
            "gold.storageclass.storage.k8s.io/persistentvolumeclaims"
        ));
        assert!(!is_of_claims("gold.storageclass.storage.k8s.io/other"));
    }

    fn container(cpu: &str, sidecar: bool) -> Container {
        Container {
            resources: Some(ResourceRequirements {
                requests: Some(list(&[("cpu", cpu), ("example.com/gpu", "1")])),
                limits: Some(list(&[("cpu", cpu)])),
                ..ResourceRequirements::default()
            }),
            restart_policy: sidecar.then(|| "Always".to_owned()),
            ..Container::default()
        }
    }

    fn used(used: &Used, name: &str) -> Option<String> {
        used.get(name).map(ToString::to_string)
    }

    fn made(spec: PodSpec) -> Pod {
        Pod {
            spec: Some(spec),
            ..Pod::default()
        }
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap()
    }

    #[test]
    fn a_pod_asks_for_its_containers_or_for_its_start_if_that_is_more() {
        let spec = PodSpec {
            containers: vec![container("100m", false), container("200m", false)],
            init_containers: Some(vec![container("50m", true), container("400m", false)]),
            overhead: Some(list(&[("cpu", "10m"), ("memory", "1Mi")])),
            ..PodSpec::default()
        };
        let all = pod(&made(spec), now());
        // 300m and a sidecar of 50m, or 400m beside the sidecar.
        assert_eq!(used(&all, "requests.cpu").as_deref(), Some("460m"));
        assert_eq!(used(&all, "cpu").as_deref(), Some("460m"));
        assert_eq!(used(&all, "limits.cpu").as_deref(), Some("460m"));
        assert_eq!(used(&all, "requests.memory").as_deref(), Some("1Mi"));
        assert_eq!(used(&all, "limits.memory"), None, "no limit, no overhead");
        assert_eq!(used(&all, "requests.example.com/gpu").as_deref(), Some("3"));
        assert_eq!(used(&all, "example.com/gpu"), None);
        assert_eq!(used(&all, "pods").as_deref(), Some("1"));
    }

    #[test]
    fn an_ended_pod_is_only_counted() {
        let mut ended = made(PodSpec {
            containers: vec![container("1", false)],
            ..PodSpec::default()
        });
        ended.status = Some(PodStatus {
            phase: Some("Succeeded".to_owned()),
            ..PodStatus::default()
        });
        let all = pod(&ended, now());
        assert_eq!(used(&all, "count/pods").as_deref(), Some("1"));
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn services_count_the_node_ports_that_they_will_have() {
        let made = |kind: &str, allocate: Option<bool>| Service {
            spec: Some(ServiceSpec {
                type_: Some(kind.to_owned()),
                allocate_load_balancer_node_ports: allocate,
                ports: Some(vec![ServicePort::default(), ServicePort::default()]),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        };
        let ports = |s: &Service| used(&service(s), "services.nodeports").unwrap();
        assert_eq!(ports(&made("ClusterIP", None)), "0");
        assert_eq!(ports(&made("NodePort", None)), "2");
        assert_eq!(ports(&made("LoadBalancer", None)), "2");
        assert_eq!(ports(&made("LoadBalancer", Some(false))), "0");
    }
}
