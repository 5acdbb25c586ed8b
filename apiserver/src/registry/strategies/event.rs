//! Events: written often, read seldom, gone after an hour.
//!
//! Upstream: `pkg/registry/core/event`, `pkg/apis/core/validation/events.go`.

use proto::catalogue::names as n;
use proto::path::{Errors, Spot};
use proto::view::core_v1::Event;
use proto::view::{Node, View};
use proto::{Value, meta};

use crate::registry::strategy::Strategy;
use crate::table::age;

pub static EVENT: Strategy = Strategy {
    validate: |_, object, e| event(object, e),
    validate_update: |_, new, _, e| event(new, e),
    cells: Some(cells),
    ..Strategy::DEFAULT
};

/// An event lies in the namespace of its object, or in `default` if that has none.
fn event(object: &Value, e: &mut Errors<'_>) {
    let view = Event::of(Node::new(object));
    let involved = view.involved_object();
    let namespace = meta::namespace(object);
    let at = Spot::of(involved).field(n::NAMESPACE);
    if involved.namespace().is_empty() {
        if namespace != "default" && !namespace.is_empty() {
            e.invalid(at, involved.namespace(), "does not match event.namespace");
        }
    } else if involved.namespace() != namespace {
        e.invalid(at, involved.namespace(), "does not match event.namespace");
    }
}

fn cells(object: &Value, now: i64) -> Vec<Value> {
    let view = Event::of(Node::new(object));
    let involved = view.involved_object();
    let last = [view.last_timestamp(), view.event_time()]
        .into_iter()
        .flatten()
        .find(|t| !t.is_empty())
        .unwrap_or_default();
    let first = [view.first_timestamp(), view.event_time()]
        .into_iter()
        .flatten()
        .find(|t| !t.is_empty())
        .unwrap_or_default();
    let seen = |at: &str| {
        if at.is_empty() {
            age(meta::creation_timestamp(object), now)
        } else {
            age(at, now)
        }
    };
    let source = if view.source().component().is_empty() {
        view.reporting_component()
    } else {
        view.source().component()
    };
    let source = if view.source().host().is_empty() {
        source.to_owned()
    } else {
        format!("{source}, {}", view.source().host())
    };
    let count = view.series().map_or(view.count(), |s| s.count()).max(1);
    vec![
        seen(last).into(),
        view.r#type().into(),
        view.reason().into(),
        format!("{}/{}", involved.kind().to_lowercase(), involved.name()).into(),
        involved.field_path().into(),
        source.into(),
        view.message().trim().into(),
        seen(first).into(),
        count.into(),
        meta::name(object).into(),
    ]
}
