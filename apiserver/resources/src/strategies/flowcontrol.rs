//! Flow schemas and priority levels.
//!
//! Upstream: `pkg/registry/flowcontrol`, `pkg/apis/flowcontrol`, `pkg/printers/internalversion`.

use std::collections::HashSet;

use proto::catalogue::names as n;
use proto::path::{Errors, Named, Spot};
use proto::view::flowcontrol_v1::{FlowSchema, PriorityLevelConfiguration};
use proto::view::{Node, View};
use proto::{NameId, Value, meta};

use crate::declarative::NO_OPTIONS;
use crate::strategy::{Part, Strategy};
use crate::table::{age, row};

pub mod bootstrap;
mod level;
mod schema;

#[cfg(test)]
mod tests;

/// The metadata of neither kind change with its status, but for who manages it.
const STATUS: Part = Part {
    prepare_update: |cx, new, old| {
        (Part::STATUS_ALONE.prepare_update)(cx, new, old);
        let metadata = old.get(n::METADATA).cloned().unwrap_or_default();
        let before = std::mem::replace(new.ensure(&[n::METADATA]), metadata);
        new.ensure(&[n::METADATA])
            .copy(&before, &[n::MANAGED_FIELDS]);
    },
    validate_update: |_, new, _, e| conditions(new, e),
    ..Part::STATUS_ALONE
};

/// Conditions have a type each of their own.
fn conditions(object: &Value, e: &mut Errors<'_>) {
    let mut seen = HashSet::new();
    for condition in FlowSchema::of(Node::new(object)).status().conditions() {
        let (at, kind) = (Spot::of(condition).field(n::TYPE), condition.r#type());
        if !seen.insert(kind) {
            e.duplicate(at, Named(kind));
        }
        if kind.is_empty() {
            e.required(at, "");
        }
    }
}

/// A number that counts as absent when it is zero.
fn default_number(of: &mut Value, field: NameId, number: i64) {
    if of.get(field).and_then(Value::as_int).unwrap_or(0) == 0 {
        of.set(&[field], number);
    }
}

pub static FLOW_SCHEMA: Strategy = Strategy {
    default: |_, object| {
        default_number(object.ensure(&[n::SPEC]), n::MATCHING_PRECEDENCE, 1000);
    },
    validate: |_, object, e| schema::schema(object, e),
    validate_update: |_, new, _, e| schema::schema(new, e),
    declarative: Some(NO_OPTIONS),
    status: Some(STATUS),
    cells: Some(|object, now| {
        let view = FlowSchema::of(Node::new(object));
        let spec = view.spec();
        let conditions = view.status().conditions();
        let dangling = conditions.iter().find(|c| c.r#type() == "Dangling");
        let method = spec.distinguisher_method().map(|m| m.r#type());
        vec![
            meta::name(object).into(),
            spec.priority_level_configuration().name().into(),
            spec.matching_precedence().into(),
            method.unwrap_or("<none>").into(),
            age(meta::creation_timestamp(object), now).into(),
            dangling.map_or("?", |c| c.status()).into(),
        ]
    }),
    // `FlowSchemaSequence`.
    row_order: Some(|a, b| {
        let of = |object| {
            FlowSchema::of(Node::new(object))
                .spec()
                .matching_precedence()
        };
        let names = meta::name(a).cmp(meta::name(b));
        of(a).cmp(&of(b)).then(names)
    }),
    ..Strategy::WITH_STATUS
};

pub static PRIORITY_LEVEL: Strategy = Strategy {
    default: |_, object| {
        let queuing = [n::SPEC, n::LIMITED, n::LIMIT_RESPONSE, n::QUEUING];
        if let Some(queuing) = object.at_mut(&queuing).filter(|q| !q.is_null()) {
            default_number(queuing, n::HAND_SIZE, 8);
            default_number(queuing, n::QUEUES, 64);
            default_number(queuing, n::QUEUE_LENGTH_LIMIT, 50);
        }
    },
    validate: |_, object, e| level::level(object, e),
    validate_update: |_, new, _, e| level::level(new, e),
    declarative: Some(NO_OPTIONS),
    status: Some(STATUS),
    cells: Some(|object, now| {
        let spec = PriorityLevelConfiguration::of(Node::new(object)).spec();
        let limited = spec.limited();
        let queuing = limited.and_then(|l| l.limit_response().queuing());
        let none = || Value::from("<none>");
        let shares = limited.map(|l| l.nominal_concurrency_shares().unwrap_or(0));
        row(
            object,
            now,
            [
                spec.r#type().into(),
                shares.map_or_else(none, Value::from),
                queuing.map_or_else(none, |q| q.queues().into()),
                queuing.map_or_else(none, |q| q.hand_size().into()),
                queuing.map_or_else(none, |q| q.queue_length_limit().into()),
            ],
        )
    }),
    ..Strategy::WITH_STATUS
};
