//! Flow schemas and priority levels.
//!
//! Upstream: `pkg/registry/flowcontrol`, `pkg/printers/internalversion`.

use proto::view::flowcontrol_v1::{FlowSchema, PriorityLevelConfiguration};
use proto::view::{Node, View};
use proto::{Value, meta};

use crate::registry::strategy::Strategy;
use crate::table::{age, row};

pub static FLOW_SCHEMA: Strategy = Strategy {
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
    ..Strategy::WITH_STATUS
};

pub static PRIORITY_LEVEL: Strategy = Strategy {
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
