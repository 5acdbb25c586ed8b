//! The slices of services that select pods (`endpointslice-controller`).
//!
//! Owns the slices labelled as managed by it. Invariants: it does not plan on a cache that has not seen
//! its own writes; a slice is written only if what it says changes.

use component::informer::Key;
use k8s_openapi::api::discovery::v1::EndpointSlice;

pub mod endpoint;
pub mod hints;
pub mod pack;
pub mod plan;
pub mod set;
pub mod topology;
pub mod tracker;

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";

/// The service that a slice says it is of.
#[must_use]
pub fn service_key(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    (!name.is_empty()).then(|| Key::new(namespace, name))
}
