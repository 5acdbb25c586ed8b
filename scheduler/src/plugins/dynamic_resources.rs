//! `DynamicResources`, as far as it goes: pods that ask for devices by claims are kept waiting.
//!
//! Allocation needs the expressions (CEL) of device classes, which are not evaluated here yet. Without this
//! plugin such pods would be bound to nodes that cannot start them.

use crate::framework::{Cycle, Plugin, Prepared, Rejection};

pub(super) struct DynamicResources;

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        "DynamicResources"
    }

    fn pre_filter(&self, cycle: &Cycle<'_>) -> Prepared {
        let claims = cycle.pod.spec().resource_claims.as_deref();
        if claims.is_none_or(<[_]>::is_empty) {
            return Prepared::Skip;
        }
        Prepared::Rejected(Rejection::unresolvable(
            "resource claims are not allocated by this scheduler yet",
        ))
    }
}
