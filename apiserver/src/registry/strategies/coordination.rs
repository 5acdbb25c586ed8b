//! Leases. Upstream: `pkg/registry/coordination/lease`, `pkg/apis/coordination/validation`.

use proto::catalogue::names as n;
use proto::path::{Errors, Spot};
use proto::view::coordination_v1::Lease;
use proto::view::{Node, View};
use proto::{Value, meta};

use crate::registry::rules;
use crate::registry::strategy::Strategy;
use crate::table::age;

pub static LEASE: Strategy = Strategy {
    validate: |_, object, e| lease(object, e),
    validate_update: |_, new, _, e| lease(new, e),
    cells: Some(|object, now| {
        let holder = Lease::of(Node::new(object))
            .spec()
            .holder_identity()
            .unwrap_or_default();
        vec![
            meta::name(object).into(),
            holder.into(),
            age(meta::creation_timestamp(object), now).into(),
        ]
    }),
    ..Strategy::DEFAULT
};

fn lease(object: &Value, e: &mut Errors<'_>) {
    let spec = Lease::of(Node::new(object)).spec();
    rules::positive(e, spec, n::LEASE_DURATION_SECONDS);
    if let Some(count) = spec.lease_transitions()
        && count < 0
    {
        e.invalid(
            Spot::of(spec).field(n::LEASE_TRANSITIONS),
            count,
            rules::NOT_NEGATIVE,
        );
    }
}

/// Who could hold a lease. Its columns are name and age.
pub static LEASE_CANDIDATE: Strategy = Strategy {
    name: |name, _| meta::names::config_map_key_problems(name),
    ..Strategy::DEFAULT
};
