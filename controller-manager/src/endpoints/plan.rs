//! The Endpoints object that a service should have.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use super::repack::{MOST, count, repack, truncate};
use crate::endpointslice::endpoint::{publish_not_ready, target};
use crate::members::{self, HEADLESS, TRIGGER_TIME};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// The object as it should be; none if it is so already.
#[must_use]
pub fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    current: Option<&Endpoints>,
    triggered: Option<Timestamp>,
) -> Option<Endpoints> {
    let mut subsets = repack(&subsets(service, pods));
    if let Some(current) = current {
        let now = current.subsets.as_deref().unwrap_or_default();
        // Others may have their subsets in another order.
        if (same(now, &subsets) || same(&repack(now), &subsets))
            && labels_are_right(current, service)
            && capacity_is_right(current, now)
        {
            return None;
        }
    }
    let mut wanted = current.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    });
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if !members::has_cluster_ip(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    wanted.metadata.labels = Some(labels);
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    annotations.remove(TRIGGER_TIME);
    annotations.extend(triggered.map(|at| (TRIGGER_TIME.to_owned(), at.to_string())));
    annotations.remove(OVER_CAPACITY);
    if truncate(&mut subsets) {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    }
    wanted.subsets = Some(subsets);
    Some(wanted)
}

/// One subset for each port of each pod.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let publish = publish_not_ready(service);
    let ports = service
        .spec
        .as_ref()
        .and_then(|s| s.ports.as_deref())
        .unwrap_or_default();
    let mut subsets = Vec::new();
    for pod in pods.iter().filter(|pod| members::belongs(pod, publish)) {
        let Some(address) = address(service, pod) else {
            continue;
        };
        let ready = publish || members::is_ready(pod);
        let mut add = |port: Option<EndpointPort>| {
            let (yes, no) = if ready {
                (Some(vec![address.clone()]), None)
            } else {
                (None, Some(vec![address.clone()]))
            };
            subsets.push(EndpointSubset {
                addresses: yes,
                not_ready_addresses: no,
                ports: port.map(|p| vec![p]),
            });
        };
        if ports.is_empty() && members::is_headless(service) {
            add(None);
        }
        for port in ports {
            if let Some(number) = members::target_port(pod, port) {
                add(Some(EndpointPort {
                    app_protocol: port.app_protocol.clone(),
                    name: port.name.clone(),
                    port: number,
                    protocol: port.protocol.clone(),
                }));
            }
        }
    }
    subsets
}

/// The pod's address of the service's first family.
fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    let spec = service.spec.as_ref();
    let family = spec.and_then(|s| s.ip_families.as_ref()?.first());
    let is_v6 = |text: Option<&str>| {
        text.and_then(members::parse_ip)
            .is_some_and(|ip| ip.is_ipv6())
    };
    let v6 = match family {
        Some(family) => family == "IPv6",
        None if members::has_cluster_ip(service) => {
            is_v6(spec.and_then(|s| s.cluster_ip.as_deref()))
        }
        None => is_v6(pod.status.as_ref().and_then(|s| s.pod_ip.as_deref())),
    };
    Some(EndpointAddress {
        ip: members::addresses(pod, v6).into_iter().next()?,
        hostname: members::hostname(pod, service).cloned(),
        node_name: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
        target_ref: Some(target(pod)),
    })
}

/// Whether subsets are equal, versions of pods apart.
fn same(a: &[EndpointSubset], b: &[EndpointSubset]) -> bool {
    let plain = |subsets: &[EndpointSubset]| {
        let mut subsets = subsets.to_vec();
        for subset in &mut subsets {
            let lists = [&mut subset.addresses, &mut subset.not_ready_addresses];
            for list in lists {
                if list.as_ref().is_some_and(Vec::is_empty) {
                    *list = None;
                }
                for address in list.iter_mut().flatten() {
                    if let Some(target) = &mut address.target_ref {
                        target.resource_version = None;
                    }
                    address.hostname = address.hostname.take().filter(|h| !h.is_empty());
                }
            }
            subset.ports = subset.ports.take().filter(|p| !p.is_empty());
            for port in subset.ports.iter_mut().flatten() {
                port.name = port.name.take().filter(|n| !n.is_empty());
            }
        }
        subsets
    };
    plain(a) == plain(b)
}

/// Whether the labels are the service's and ours.
fn labels_are_right(current: &Endpoints, service: &Service) -> bool {
    let labels = current.metadata.labels.clone().unwrap_or_default();
    let own = labels
        .iter()
        .filter(|(k, _)| *k != HEADLESS && *k != MANAGED_BY);
    labels.get(MANAGED_BY).is_some_and(|m| m == MANAGER)
        && own.eq(service.metadata.labels.iter().flatten())
}

/// Whether there is nothing to truncate, and nothing says so.
fn capacity_is_right(current: &Endpoints, subsets: &[EndpointSubset]) -> bool {
    let annotations = current.metadata.annotations.as_ref();
    count(subsets) <= MOST && annotations.is_none_or(|a| !a.contains_key(OVER_CAPACITY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(spec: serde_json::Value) -> Service {
        let metadata = json!({"name": "web", "namespace": "ns", "labels": {"app": "web"}});
        proto::typed::from_json_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn pod(ip: &str, ready: bool) -> Arc<Pod> {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"nodeName": "n", "containers": []},
            "status": {"podIP": ip, "podIPs": [{"ip": ip}],
                       "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}
        });
        Arc::new(proto::typed::from_json_value(pod).unwrap())
    }

    #[test]
    fn the_object_follows_the_pods_and_then_rests() {
        let web = service(
            json!({"clusterIP": "10.0.0.1", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]}),
        );
        let at = "2026-01-01T00:00:00Z".parse().ok();
        let first = plan(&web, &[pod("10.1.0.1", true)], None, at).unwrap();
        assert_eq!(
            serde_json::to_value(&first).unwrap(),
            json!({
                "apiVersion": "v1", "kind": "Endpoints",
                "metadata": {
                    "name": "web", "namespace": "ns",
                    "labels": {"app": "web", "endpoints.kubernetes.io/managed-by": "endpoint-controller"},
                    "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"}
                },
                "subsets": [{
                    "addresses": [{"ip": "10.1.0.1", "nodeName": "n",
                                   "targetRef": {"kind": "Pod", "name": "p", "namespace": "ns", "uid": "u"}}],
                    "ports": [{"port": 8080, "protocol": "TCP"}]
                }]
            })
        );
        assert_eq!(
            plan(&web, &[pod("10.1.0.1", true)], Some(&first), None),
            None
        );
        let unready = plan(&web, &[pod("10.1.0.1", false)], Some(&first), None).unwrap();
        assert!(unready.subsets.unwrap()[0].addresses.is_none());
    }

    #[test]
    fn headless_services_are_labelled_and_may_have_no_ports() {
        let headless = service(json!({"clusterIP": "None"}));
        let made = plan(&headless, &[pod("10.1.0.1", true)], None, None).unwrap();
        assert_eq!(made.metadata.labels.as_ref().unwrap()[HEADLESS], "");
        assert_eq!(made.subsets.as_ref().unwrap().len(), 1);
        assert_eq!(
            plan(&headless, &[pod("10.1.0.1", true)], Some(&made), None),
            None
        );
    }

    #[test]
    fn only_addresses_of_the_services_family_count() {
        let v6 = service(json!({"ipFamilies": ["IPv6"], "clusterIP": "None"}));
        let made = plan(&v6, &[pod("10.1.0.1", true)], None, None).unwrap();
        assert!(made.subsets.unwrap().is_empty());
    }
}
