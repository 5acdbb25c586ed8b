//! The server's shared state: what every request can reach.

use std::sync::Arc;

use store::{ReadError, Store, WriteError};

use crate::admission;
use crate::auth::Authenticators;
use crate::authz::Authorizers;
use crate::config::Config;
use crate::registry::Registry;
use crate::status::Failure;

pub struct Server {
    pub config: Config,
    pub store: Store,
    pub registry: Registry,
    pub authenticators: Authenticators,
    pub authorizers: Authorizers,
    pub admission: admission::Chain,
    pub tokens: Arc<crate::auth::service_account::Issuer>,
    pub discovery: crate::discovery::Documents,
    pub allocators: crate::alloc::Allocators,
    pub kubelets: crate::kubelet::Kubelets,
    pub endpoints: component::serving::Endpoints,
}

impl Server {
    /// Every object of a resource, from the cache, as trees of the hub's version: for small collections
    /// and for loops that look at all of one.
    #[must_use]
    pub fn objects(&self, group: &str, resource: &str) -> Vec<proto::Value> {
        let Some(endpoint) = self.registry.any_version(group, resource) else { return Vec::new() };
        let entries = endpoint.collection.snapshot();
        entries.iter().filter_map(|e| crate::object::from_body(&e.body, &endpoint.hub).ok()).collect()
    }
}

/// A failed read, as clients see it.
#[must_use]
pub fn read_failure(error: ReadError) -> Failure {
    match error {
        ReadError::TooNew { wanted, at } => Failure::version_too_large(at, wanted),
        ReadError::Expired { .. } => Failure::gone(error.to_string()),
        ReadError::BadContinue(why) => Failure::bad_request(why),
        ReadError::NotReady => Failure::too_many_requests("storage is (re)initializing", 1),
        ReadError::Timeout => Failure::timeout("request did not complete within requested timeout"),
        other => Failure::internal(component::supervisor::chain(&other)),
    }
}

/// A failed write, as clients see it.
#[must_use]
pub fn write_failure(error: WriteError, group: &str, resource: &str, name: &str) -> Failure {
    match error {
        WriteError::Conflict { .. } => Failure::stale(group, resource, name),
        WriteError::TooLarge { .. } => Failure::too_large(&error.to_string()),
        WriteError::Timeout => Failure::timeout("request did not complete within requested timeout"),
        other => Failure::internal(component::supervisor::chain(&other)),
    }
}
