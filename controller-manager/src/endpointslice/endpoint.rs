//! What a service and a pod say about an endpoint, its ports and the slices that hold it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::{MANAGED_BY, SERVICE_NAME};
use crate::members::{self, HEADLESS};

pub const ZONE: &str = "topology.kubernetes.io/zone";

/// The families that a service wants slices of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The families of a service. One without `ipFamilies`, from an API server that does not default
    /// them, has its cluster IP's; a headless one may have any.
    #[must_use]
    pub fn of(service: &Service) -> Vec<Self> {
        let spec = service.spec.as_ref();
        let families = spec.and_then(|s| s.ip_families.as_ref());
        let mut wanted: Vec<_> = families
            .into_iter()
            .flatten()
            .filter_map(|name| [Self::V4, Self::V6].into_iter().find(|f| f.name() == name))
            .collect();
        if wanted.is_empty() {
            wanted = if members::has_cluster_ip(service) {
                let ip = spec.and_then(|s| members::parse_ip(s.cluster_ip.as_deref()?));
                let v6 = ip.is_some_and(|ip| ip.is_ipv6());
                vec![if v6 { Self::V6 } else { Self::V4 }]
            } else {
                vec![Self::V4, Self::V6]
            };
        }
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }
}

/// The endpoint of a pod; none if it has no address of the family.
#[must_use]
pub fn endpoint(
    pod: &Pod,
    node: Option<&Node>,
    service: &Service,
    family: Family,
) -> Option<Endpoint> {
    let addresses = members::addresses(pod, family == Family::V6);
    if addresses.is_empty() {
        return None;
    }
    let publish = publish_not_ready(service);
    let serving = members::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let node_name = pod.spec.as_ref().and_then(|s| s.node_name.clone());
    let labels = node.and_then(|n| n.metadata.labels.as_ref());
    Some(Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            // A terminating endpoint is never ready, for those who know no other condition.
            ready: Some(publish || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        deprecated_topology: None,
        hints: None,
        hostname: members::hostname(pod, service).cloned(),
        node_name: node_name.filter(|name| !name.is_empty()),
        target_ref: Some(target(pod)),
        zone: labels
            .and_then(|l| l.get(ZONE))
            .filter(|z| !z.is_empty())
            .cloned(),
    })
}

/// A reference to the pod behind an address.
#[must_use]
pub fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

#[must_use]
pub fn publish_not_ready(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|s| s.publish_not_ready_addresses)
        .unwrap_or(false)
}

/// The ports of a pod's endpoint; those that the pod does not name are left out.
#[must_use]
pub fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_ref());
    ports
        .into_iter()
        .flatten()
        .filter_map(|port| {
            Some(EndpointPort {
                app_protocol: port.app_protocol.clone(),
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(members::target_port(pod, port)?),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            })
        })
        .collect()
}

/// A slice without endpoints.
#[must_use]
pub fn new_slice(
    service: &Service,
    ports: Vec<EndpointPort>,
    family: Family,
    manager: &str,
) -> EndpointSlice {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Service".to_owned(),
        name: name.to_owned(),
        uid: service.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    EndpointSlice {
        address_type: family.name().to_owned(),
        endpoints: Some(Vec::new()),
        metadata: ObjectMeta {
            generate_name: Some(prefix(name)),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(None, service, manager).0),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        ports: Some(ports),
    }
}

/// What a slice's name begins with: the service's name and, if that is still a name, a dash.
#[must_use]
pub fn prefix(service: &str) -> String {
    let dashed = format!("{service}-");
    if proto::meta::names::subdomain_name(&dashed, true).is_empty() {
        dashed
    } else {
        service.to_owned()
    }
}

/// Labels that a service does not give to its slices.
const RESERVED: [&str; 3] = [SERVICE_NAME, MANAGED_BY, HEADLESS];

/// The labels of a service's slices, and whether a slice with `current` labels lacks any of the
/// service's own.
#[must_use]
pub fn labels(
    current: Option<&BTreeMap<String, String>>,
    service: &Service,
    manager: &str,
) -> (BTreeMap<String, String>, bool) {
    let own = |labels: Option<&BTreeMap<String, String>>| -> BTreeMap<String, String> {
        let labels = labels.into_iter().flatten();
        labels
            .filter(|(k, _)| !RESERVED.contains(&k.as_str()))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    let mut labels = own(service.metadata.labels.as_ref());
    let changed = labels != own(current);
    if !members::has_cluster_ip(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let name = service.metadata.name.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name);
    labels.insert(MANAGED_BY.to_owned(), manager.to_owned());
    (labels, changed)
}

/// Whether a slice belongs to this very service.
#[must_use]
pub fn is_owned(slice: &EndpointSlice, service: &Service) -> bool {
    let owners = slice.metadata.owner_references.iter().flatten();
    let uid = service.metadata.uid.as_deref().unwrap_or_default();
    owners
        .into_iter()
        .any(|o| o.uid == uid && o.kind == "Service" && o.api_version == "v1")
}
