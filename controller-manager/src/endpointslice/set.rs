//! Endpoints and ports as keys: what makes two of them the same.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort};

/// The ports that the endpoints of one slice share, in order; absent and default values are the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ports(Vec<(String, Option<i32>, String, Option<String>)>);

impl Ports {
    #[must_use]
    pub fn of(ports: &[EndpointPort]) -> Self {
        let mut all: Vec<_> = ports
            .iter()
            .map(|p| {
                (
                    p.name.clone().unwrap_or_default(),
                    p.port,
                    p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                    p.app_protocol.clone(),
                )
            })
            .collect();
        all.sort();
        Self(all)
    }
}

/// What makes two endpoints the same one, perhaps in other conditions.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Identity {
    addresses: Vec<String>,
    hostname: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

impl Identity {
    fn of(endpoint: &Endpoint) -> Self {
        let mut addresses = endpoint.addresses.clone();
        addresses.sort();
        let target = endpoint.target_ref.as_ref();
        Self {
            addresses,
            hostname: endpoint.hostname.clone(),
            namespace: target.and_then(|t| t.namespace.clone()),
            name: target.and_then(|t| t.name.clone()),
        }
    }
}

/// Endpoints, each once.
#[derive(Default, Debug)]
pub struct EndpointSet(BTreeMap<Identity, Endpoint>);

impl EndpointSet {
    pub fn insert(&mut self, endpoint: Endpoint) {
        self.0.insert(Identity::of(&endpoint), endpoint);
    }

    /// The endpoint that is the same as this one.
    #[must_use]
    pub fn get(&self, endpoint: &Endpoint) -> Option<&Endpoint> {
        self.0.get(&Identity::of(endpoint))
    }

    /// Takes the endpoint out that is the same as this one.
    pub fn take(&mut self, endpoint: &Endpoint) -> Option<Endpoint> {
        self.0.remove(&Identity::of(endpoint))
    }

    pub fn pop(&mut self) -> Option<Endpoint> {
        self.0.pop_first().map(|(_, endpoint)| endpoint)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether two endpoints with one identity are equal. Hints and the target's version do not count.
#[must_use]
pub fn equal(a: &Endpoint, b: &Endpoint) -> bool {
    let target = |e: &Endpoint| {
        e.target_ref.clone().map(|t| ObjectReference {
            resource_version: None,
            ..t
        })
    };
    let conditions = |e: &Endpoint| e.conditions.clone().unwrap_or_default();
    a.node_name == b.node_name
        && a.zone == b.zone
        && conditions(a) == conditions(b)
        && target(a) == target(b)
}
