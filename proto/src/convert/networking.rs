//! Ingresses of before networking.k8s.io/v1, and endpoints of before discovery.k8s.io/v1.
//!
//! Upstream's `kubernetes/pkg/apis/{networking,discovery,extensions}/v1beta1/conversion.go`.

use super::each;
use crate::catalogue::names as n;
use crate::value::{Map, Value};

const ZONE: &str = "topology.kubernetes.io/zone";
const HOSTNAME: &str = "kubernetes.io/hostname";

pub(super) fn ingress(ingress: &mut Map) {
    let Some(spec) = ingress.get_mut(n::SPEC).and_then(Value::as_map_mut) else {
        return;
    };
    if let Some(mut default) = spec.remove(n::BACKEND) {
        backend(default.make_map());
        spec.insert(n::DEFAULT_BACKEND, default);
    }
    each(spec.get_mut(n::RULES), |rule| {
        let paths = rule
            .get_mut(n::HTTP)
            .and_then(|http| http.get_mut(n::PATHS));
        each(paths, |path| {
            // What the old version has where nothing is said (`SetDefaults_HTTPIngressPath`).
            let kind = path.entry(n::PATH_TYPE);
            if kind.is_null() {
                *kind = "ImplementationSpecific".into();
            }
            if let Some(of_path) = path.get_mut(n::BACKEND).and_then(Value::as_map_mut) {
                backend(of_path);
            }
        });
    });
}

/// A service and its port, one beside the other, become one thing.
fn backend(backend: &mut Map) {
    let (name, port) = (
        backend.remove(n::SERVICE_NAME),
        backend.remove(n::SERVICE_PORT),
    );
    let name = name.filter(|name| name.as_str() != Some(""));
    let port = port.filter(|port| !matches!(port, Value::Null | Value::Int(0)));
    if name.is_none() && port.is_none() {
        return;
    }
    let mut service = Value::object();
    if let Some(name) = name {
        service.set(&[n::NAME], name);
    }
    service.set(&[n::PORT], Value::object());
    match port {
        Some(port @ Value::Int(_)) => service.set(&[n::PORT, n::NUMBER], port),
        Some(port) if port.as_str() != Some("") => service.set(&[n::PORT, n::NAME], port),
        _ => {}
    }
    backend.insert(n::SERVICE, service);
}

/// Zone and node have fields of their own; the rest of the old topology is kept for who wrote it.
pub(super) fn endpoint_slice(slice: &mut Map) {
    each(slice.get_mut(n::ENDPOINTS), |endpoint| {
        let Some(Value::Map(mut topology)) = endpoint.remove(n::TOPOLOGY) else {
            return;
        };
        if let Some(zone) = topology.remove(ZONE) {
            endpoint.insert(n::ZONE, zone);
        }
        let node = endpoint.get(n::NODE_NAME);
        if node.is_some() && topology.get(HOSTNAME) == node {
            topology.remove(HOSTNAME);
        }
        if !topology.is_empty() {
            endpoint.insert(n::DEPRECATED_TOPOLOGY, topology);
        }
    });
}
