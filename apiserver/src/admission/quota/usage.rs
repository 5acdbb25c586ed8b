//! What an object takes of a quota, by kind of object.

use std::collections::{BTreeMap, BTreeSet};

use proto::catalogue::names as n;
use proto::quantity::{Format, Quantity};
use proto::view::core_v1::{PersistentVolumeClaim, Pod, Service};
use proto::view::{Node, View};
use proto::{NameId, Value, meta};

use super::super::Operation;
use super::super::amounts::{Amounts, add, amounts, of, of_pod};
use super::scope::{attributes_classes, is_terminating};

/// How objects of a resource are measured.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Measure {
    Pods {
        pod_level: bool,
    },
    Services,
    Claims,
    /// Their number, under one name or more.
    Count(Vec<String>),
}

const POD_RESOURCES: [&str; 11] = [
    "count/pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
/// With a quota of these, every container must ask for them: a rule from before classes of service,
/// kept for what relies on it.
const MUST_BE_ASKED_FOR: [&str; 6] = [
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];
const SERVICE_RESOURCES: [&str; 4] = [
    "count/services",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
const CLAIMS: &str = "persistentvolumeclaims";
const CLAIM_RESOURCES: [&str; 2] = [CLAIMS, "requests.storage"];
const BY_CLASS: &str = ".storageclass.storage.k8s.io/";
const DEVICE_CLASS: &str = "requests.deviceclass.resource.kubernetes.io/";

fn whole(n: usize) -> Quantity {
    Quantity::scaled(i64::try_from(n).unwrap_or(i64::MAX), 0, Format::DecimalSi)
}

impl Measure {
    /// None for what is never counted.
    pub(super) fn of(group: &str, resource: &str, pod_level: bool) -> Option<Self> {
        Some(match (group, resource) {
            ("" | "events.k8s.io", "events") => return None,
            ("", "pods") => Self::Pods { pod_level },
            ("", "services") => Self::Services,
            ("", CLAIMS) => Self::Claims,
            ("", "configmaps" | "resourcequotas" | "replicationcontrollers" | "secrets") => {
                Self::Count(vec![format!("count/{resource}"), resource.to_owned()])
            }
            ("", _) => Self::Count(vec![format!("count/{resource}")]),
            _ => Self::Count(vec![format!("count/{resource}.{group}")]),
        })
    }

    /// Whether a write can change what is used.
    pub(super) fn handles(
        &self,
        operation: Operation,
        subresource: &str,
        new: &Value,
        old: Option<&Value>,
    ) -> bool {
        match (self, operation, subresource) {
            (Self::Pods { .. }, Operation::Update, "") => {
                old.is_some_and(|old| is_terminating(old) != is_terminating(new))
            }
            (Self::Pods { .. }, Operation::Update, "resize") => true,
            (Self::Services | Self::Claims, Operation::Update, "") => true,
            (Self::Claims, Operation::Update, "status") => old.is_some_and(|old| {
                let allocated =
                    |claim: &Value| claim.at(&[n::STATUS, n::ALLOCATED_RESOURCES]).cloned();
                allocated(old) != allocated(new)
                    || attributes_classes(old) != attributes_classes(new)
            }),
            (_, Operation::Create, "") => true,
            _ => false,
        }
    }

    /// Whether a resource of a quota is about such objects.
    pub(super) fn counts(&self, name: &str) -> bool {
        match self {
            Self::Pods { .. } => {
                let pages =
                    name.starts_with("hugepages-") || name.starts_with("requests.hugepages-");
                let native = !name.contains('/') || name.contains("kubernetes.io/");
                let extended =
                    name.starts_with("requests.") && !native || name.starts_with(DEVICE_CLASS);
                POD_RESOURCES.contains(&name) || pages || extended
            }
            Self::Services => SERVICE_RESOURCES.contains(&name),
            Self::Claims => {
                let of_class = name
                    .split_once(BY_CLASS)
                    .is_some_and(|(_, resource)| CLAIM_RESOURCES.contains(&resource));
                name == "count/persistentvolumeclaims"
                    || CLAIM_RESOURCES.contains(&name)
                    || of_class
            }
            Self::Count(names) => names.iter().any(|n| n == name),
        }
    }

    /// What an object takes. `now` in Unix seconds.
    pub(super) fn usage(&self, object: &Value, now: i64) -> Amounts {
        match self {
            Self::Pods { pod_level } => pod(object, *pod_level, now),
            Self::Services => service(Service::of(Node::new(object))),
            Self::Claims => claim(object),
            Self::Count(names) => names.iter().map(|name| (name.clone(), whole(1))).collect(),
        }
    }

    /// What containers must ask for and do not, as a refusal.
    pub(super) fn missing(&self, restricted: &[&str], object: &Value) -> Option<String> {
        let Self::Pods { pod_level } = self else {
            return None;
        };
        let spec = Pod::of(Node::new(object)).spec();
        let whole = spec.resources().map(|r| r.node());
        let given =
            |node: Node<'_>| !node.dict(n::REQUESTS).is_empty() || !node.dict(n::LIMITS).is_empty();
        if *pod_level && whole.is_some_and(given) {
            return None;
        }
        let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for container in spec
            .containers()
            .iter()
            .chain(spec.init_containers().iter())
        {
            let asked = compute(&of(container, n::REQUESTS), &of(container, n::LIMITS));
            let lacking = restricted
                .iter()
                .filter(|r| MUST_BE_ASKED_FOR.contains(r) && !asked.contains_key(**r));
            for resource in lacking {
                missing
                    .entry(resource)
                    .or_default()
                    .insert(container.name());
            }
        }
        let each = |(resource, names): (&&str, &BTreeSet<&str>)| {
            format!(
                "{resource} for: {}",
                names.iter().copied().collect::<Vec<_>>().join(",")
            )
        };
        let all: Vec<String> = missing.iter().map(each).collect();
        (!all.is_empty()).then(|| format!("must specify {}", all.join("; ")))
    }
}

/// Requests and limits under the names that quotas have for them.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut all = Amounts::new();
    for (name, quantity) in requests {
        let native = !name.contains('/') || name.contains("kubernetes.io/");
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage")
            || name.starts_with("hugepages-")
        {
            all.insert(name.clone(), *quantity);
            all.insert(format!("requests.{name}"), *quantity);
        } else if !native || name.starts_with("deviceclass.resource.kubernetes.io/") {
            all.insert(format!("requests.{name}"), *quantity);
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(quantity) = limits.get(name) {
            all.insert(format!("limits.{name}"), *quantity);
        }
    }
    all
}

fn pod(object: &Value, pod_level: bool, now: i64) -> Amounts {
    let mut all = Amounts::from([("count/pods".to_owned(), whole(1))]);
    if has_ended(object, now) {
        return all;
    }
    let spec = Pod::of(Node::new(object)).spec();
    let (mut requests, mut limits) = (
        of_pod(spec, n::REQUESTS, pod_level),
        of_pod(spec, n::LIMITS, pod_level),
    );
    let overhead = amounts(spec.overhead());
    add(&mut requests, &overhead);
    // A limit that is not there stays absent.
    let limited = overhead
        .into_iter()
        .filter(|(name, _)| limits.contains_key(name))
        .collect();
    add(&mut limits, &limited);
    all.insert("pods".into(), whole(1));
    all.extend(compute(&requests, &limits));
    all
}

/// Whether a pod takes nothing any more: it is done, or should have been gone by now.
fn has_ended(pod: &Value, now: i64) -> bool {
    if matches!(
        Pod::of(Node::new(pod)).status().phase(),
        "Failed" | "Succeeded"
    ) {
        return true;
    }
    let deleted = meta::deletion_timestamp(pod).and_then(proto::time::unix_of);
    match (deleted, meta::deletion_grace_period_seconds(pod)) {
        (Some((at, _)), Some(grace)) => now > at + grace,
        _ => false,
    }
}

fn service(service: Service<'_>) -> Amounts {
    let spec = service.spec();
    let ports = spec.ports().len();
    let (balancers, node_ports) = match spec.r#type() {
        "NodePort" => (0, ports),
        "LoadBalancer" if spec.allocate_load_balancer_node_ports() == Some(false) => (
            1,
            spec.ports().iter().filter(|p| p.node_port() != 0).count(),
        ),
        "LoadBalancer" => (1, ports),
        _ => (0, 0),
    };
    SERVICE_RESOURCES
        .iter()
        .zip([1, 1, balancers, node_ports])
        .map(|(name, n)| ((*name).to_owned(), whole(n)))
        .collect()
}

fn claim(object: &Value) -> Amounts {
    let view = PersistentVolumeClaim::of(Node::new(object));
    let storage = |node: Node<'_>, field: NameId| {
        amounts(node.dict(field))
            .get("storage")
            .map(|q| q.round_up(0).0)
    };
    let mut all = Amounts::from([("count/persistentvolumeclaims".to_owned(), whole(1))]);
    let asked = storage(view.spec().resources().node(), n::REQUESTS);
    let allocated = storage(view.status().node(), n::ALLOCATED_RESOURCES);
    // What is allocated counts while an expansion is undone.
    let size = asked.map(|asked| allocated.map_or(asked, |a| a.max(asked)));
    let class = meta::annotation(object, "volume.beta.kubernetes.io/storage-class")
        .or(view.spec().storage_class_name());
    for (name, amount) in [(CLAIMS, Some(whole(1))), ("requests.storage", size)] {
        let Some(amount) = amount else { continue };
        all.insert(name.to_owned(), amount);
        if let Some(class) = class.filter(|c| !c.is_empty()) {
            all.insert(format!("{class}{BY_CLASS}{name}"), amount);
        }
    }
    all
}
