//! What a write of a resource needs beside its object: allocation of addresses and ports.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use proto::Value;
use proto::catalogue::Resource;
use resources::status::Failure;

use crate::alloc;
use crate::server::Server;

/// Group, resource, hooks.
static TABLE: &[(&str, &str, &dyn Hooks)] = &[("", "services", &alloc::SERVICE)];

/// The hooks of a resource, if it has any.
#[must_use]
pub fn of(resource: &Resource) -> Option<&'static dyn Hooks> {
    let mut rows = TABLE.iter();
    rows.find(|(group, name, _)| (resource.group, resource.name) == (*group, *name))
        .map(|(_, _, hooks)| *hooks)
}

/// Asynchronous steps around a write: allocations that are made before and given back if the write
/// does not happen.
pub trait Hooks: Sync {
    /// Before validation of a create (no old object), an update, or after a deletion (no new object).
    /// What it returns is finished with the write's outcome.
    fn begin<'a>(
        &'a self,
        server: &'a Arc<Server>,
        new: Option<&'a mut Value>,
        old: Option<&'a Value>,
        dry_run: bool,
    ) -> Begun<'a>;
}

/// What [`Hooks::begin`] returns.
pub type Begun<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn Finish>, Failure>> + Send + 'a>>;

/// Keeps or gives back what [`Hooks::begin`] took.
pub trait Finish: Send {
    fn finish(self: Box<Self>, success: bool) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}
