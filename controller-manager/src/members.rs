//! Which pods belong to a service, and which services a changed pod concerns.
//!
//! Shared by the two controllers of endpoints. Invariant: both directions are looked up in indexes over
//! one label of the selector; no reconciliation reads a whole namespace.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use component::informer::{Event, Index, Informer, Key, Lister};
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::indexes::{label, pods_by_label};

/// A service without a cluster IP of its own.
pub const HEADLESS: &str = "service.kubernetes.io/headless";
/// When the change happened that an object of endpoints tells of.
pub const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// `clusterIP` of a headless service.
const NO_CLUSTER_IP: &str = "None";

type Labels = BTreeMap<String, String>;

/// Pods and services, each found by the other.
#[derive(Clone)]
pub struct Members {
    pods: Lister<Pod>,
    by_label: Index,
    services: Lister<Service>,
    by_selector: Index,
}

impl Members {
    /// Adds the indexes to the informers.
    #[must_use]
    pub fn new(pods: &Informer<Pod>, services: &Informer<Service>) -> Self {
        Self {
            by_label: pods_by_label(pods),
            pods: pods.lister(),
            by_selector: services.index("selector", |service| {
                let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
                let first = selector(service).and_then(|s| s.first_key_value());
                first
                    .map(|(k, v)| label(namespace, k, v))
                    .into_iter()
                    .collect()
            }),
            services: services.lister(),
        }
    }

    /// The pods that the service's selector selects, by name.
    #[must_use]
    pub fn pods(&self, service: &Service) -> Vec<Arc<Pod>> {
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let Some(selector) = selector(service) else {
            return Vec::new();
        };
        let Some((key, value)) = selector.first_key_value() else {
            return Vec::new();
        };
        let mut pods = self
            .pods
            .indexed(self.by_label, &label(namespace, key, value));
        pods.retain(|pod| matches(selector, pod.metadata.labels.as_ref()));
        pods
    }

    /// The services that have to be looked at because of an event of a pod.
    #[must_use]
    pub fn concerned(&self, event: &Event<Pod>) -> BTreeSet<Key> {
        match event {
            Event::Added(pod) | Event::Deleted(pod) => self.services(pod),
            Event::Updated { old, new } => {
                let (pod, membership) = changed(old, new);
                if !pod && !membership {
                    return BTreeSet::new();
                }
                let now = self.services(new);
                if !membership {
                    return now;
                }
                let before = self.services(old);
                if pod { &now | &before } else { &now ^ &before }
            }
        }
    }

    /// The services that select a pod.
    fn services(&self, pod: &Pod) -> BTreeSet<Key> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let labels = pod.metadata.labels.iter().flatten();
        labels
            .flat_map(|(k, v)| {
                self.services
                    .indexed(self.by_selector, &label(namespace, k, v))
            })
            .filter(|service| {
                selector(service).is_some_and(|s| matches(s, pod.metadata.labels.as_ref()))
            })
            .map(|service| Key::of(&service.metadata))
            .collect()
    }
}

/// The selector of a service; none if its endpoints are somebody else's business. (An empty selector is
/// stored as none.)
#[must_use]
pub fn selector(service: &Service) -> Option<&Labels> {
    let selector = service.spec.as_ref()?.selector.as_ref()?;
    (!selector.is_empty()).then_some(selector)
}

fn matches(selector: &Labels, labels: Option<&Labels>) -> bool {
    selector
        .iter()
        .all(|(k, v)| labels.and_then(|l| l.get(k)) == Some(v))
}

/// Whether endpoints change, and whether the services change that the pod belongs to.
fn changed(old: &Pod, new: &Pod) -> (bool, bool) {
    let domain = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        (
            spec.and_then(|s| s.hostname.clone()),
            spec.and_then(|s| s.subdomain.clone()),
        )
    };
    let membership = old.metadata.labels != new.metadata.labels || domain(old) != domain(new);
    let pod = old.metadata.deletion_timestamp != new.metadata.deletion_timestamp
        || is_ready(old) != is_ready(new)
        || is_terminal(old) != is_terminal(new)
        || !pod_ips(old).eq(pod_ips(new));
    (pod, membership)
}

/// Whether a pod's `Ready` condition is true.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    ready_condition(pod).is_some_and(|c| c.status == "True")
}

fn ready_condition(pod: &Pod) -> Option<&k8s_openapi::api::core::v1::PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == "Ready")
}

fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether a pod is part of endpoints: it has an address, and it has not ended.
#[must_use]
pub fn belongs(pod: &Pod, include_terminating: bool) -> bool {
    let status = pod.status.as_ref();
    let addressed = status.is_some_and(|s| {
        s.pod_ip.as_deref().is_some_and(|ip| !ip.is_empty())
            || s.pod_ips.as_ref().is_some_and(|ips| !ips.is_empty())
    });
    !is_terminal(pod)
        && addressed
        && (include_terminating || pod.metadata.deletion_timestamp.is_none())
}

/// The texts of a pod's addresses.
fn pod_ips(pod: &Pod) -> impl Iterator<Item = &str> {
    let ips = pod.status.as_ref().and_then(|s| s.pod_ips.as_ref());
    ips.into_iter().flatten().map(|ip| ip.ip.as_str())
}

/// A pod's addresses of one family, as they are to be written.
#[must_use]
pub fn addresses(pod: &Pod, v6: bool) -> Vec<String> {
    pod_ips(pod)
        .filter_map(parse_ip)
        .filter(|ip| ip.is_ipv6() == v6)
        .map(|ip| ip.to_string())
        .collect()
}

/// An address as Go's older parser takes it: leading zeros in IPv4, IPv4 inside of IPv6.
#[must_use]
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    let octets: Option<Vec<u8>> = text
        .split('.')
        .map(|octet| {
            let digits = !octet.is_empty() && octet.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| octet.parse().ok()).flatten()
        })
        .collect();
    let octets: [u8; 4] = octets?.try_into().ok()?;
    Some(IpAddr::from(octets))
}

/// Whether the service has a virtual address.
#[must_use]
pub fn has_cluster_ip(service: &Service) -> bool {
    let ip = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref());
    ip.is_some_and(|ip| !ip.is_empty() && ip != NO_CLUSTER_IP)
}

/// Whether the service says that it has none.
#[must_use]
pub fn is_headless(service: &Service) -> bool {
    let ip = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref());
    ip == Some(NO_CLUSTER_IP)
}

/// Whether the endpoint of the pod carries its host name.
#[must_use]
pub fn hostname<'p>(pod: &'p Pod, service: &Service) -> Option<&'p String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_ref().filter(|name| !name.is_empty())?;
    let own = spec.subdomain == service.metadata.name
        && pod.metadata.namespace == service.metadata.namespace;
    own.then_some(hostname)
}

/// The number of the container port that a service port leads to; none if the pod has no port of that
/// name.
#[must_use]
pub fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match port.target_port.as_ref() {
        None => return Some(0),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let protocol = |p: &Option<String>| p.clone().unwrap_or_else(|| "TCP".to_owned());
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten())
        .find(|p| {
            p.name.as_ref() == Some(name) && protocol(&p.protocol) == protocol(&port.protocol)
        })
        .map(|p| p.container_port)
}

/// When the changes happened that brought a service's endpoints where they are.
#[derive(Default)]
pub struct TriggerTimes {
    services: Mutex<HashMap<Key, Triggers>>,
}

struct Triggers {
    service: Option<Timestamp>,
    pods: HashMap<String, Timestamp>,
}

impl TriggerTimes {
    /// The earliest change since the last call for this service; its creation at the first call.
    pub fn next(&self, service: &Service, pods: &[Arc<Pod>]) -> Option<Timestamp> {
        let created = service.metadata.creation_timestamp.as_ref().map(|t| t.0);
        let now = Triggers {
            service: created,
            pods: pods
                .iter()
                .filter_map(|pod| {
                    let at = ready_condition(pod)?.last_transition_time.as_ref()?.0;
                    Some((pod.metadata.name.clone()?, at))
                })
                .collect(),
        };
        let mut services = self.services.lock();
        let Some(before) = services.insert(Key::of(&service.metadata), now) else {
            return created;
        };
        let now = services.get(&Key::of(&service.metadata))?;
        let pods = now
            .pods
            .iter()
            .filter(|(name, at)| before.pods.get(*name).is_none_or(|was| was < at))
            .map(|(_, at)| *at);
        let service = now
            .service
            .filter(|at| before.service.is_none_or(|was| was < *at));
        pods.chain(service).min()
    }

    /// The service is gone.
    pub fn forget(&self, key: &Key) {
        self.services.lock().remove(key);
    }
}
