//! Priority classes, and groups of pods that are scheduled together. Upstream: `pkg/registry/scheduling`,
//! `pkg/apis/scheduling/validation`.

use proto::catalogue::names as n;
use proto::path::{Errors, Named, Spot};
use proto::view::scheduling_v1::PriorityClass;
use proto::view::{Node, View};
use proto::{Value, meta};

use crate::declarative::NO_OPTIONS;
use crate::rules;
use crate::strategy::Strategy;
use crate::table::age;

mod groups;
mod workload;

pub use groups::{COMPOSITE_POD_GROUP, POD_GROUP};
pub use workload::WORKLOAD;

/// The highest value that users may give; `system-` classes stand above it.
const HIGHEST_USER: i64 = 1_000_000_000;

pub static PRIORITY_CLASS: Strategy = Strategy {
    declarative: Some(NO_OPTIONS),
    // Nothing that a controller acts on changes, so it stays.
    prepare_create: |_, new| new.set(&[n::METADATA, n::GENERATION], 1),
    validate: |_, object, e| class(object, e),
    validate_update: |_, new, old, e| {
        let (now, was) = (
            PriorityClass::of(Node::new(new)),
            PriorityClass::of(Node::new(old)),
        );
        let at = |field| Spot::of(now).field(field);
        if now.value() != was.value() {
            e.forbidden(at(n::VALUE), "may not be changed in an update.");
        }
        if now.preemption_policy() != was.preemption_policy() {
            let shown = rules::json(now.node().get(n::PREEMPTION_POLICY));
            e.invalid(at(n::PREEMPTION_POLICY), shown, rules::IMMUTABLE);
        }
    },
    cells: Some(|object, now| {
        let view = PriorityClass::of(Node::new(object));
        vec![
            meta::name(object).into(),
            view.value().into(),
            view.global_default().into(),
            age(meta::creation_timestamp(object), now).into(),
            view.preemption_policy().unwrap_or_default().into(),
        ]
    }),
    ..Strategy::DEFAULT
};

/// `ValidatePriorityClass`.
fn class(object: &Value, e: &mut Errors<'_>) {
    const POLICIES: [&str; 2] = ["PreemptLowerPriority", "Never"];
    let view = PriorityClass::of(Node::new(object));
    let name = meta::name(object);
    if name.starts_with("system-") {
        if let Some(why) = unknown(name, view) {
            let at = Spot::node(object).field(n::METADATA).field(n::NAME);
            e.forbidden(at, format!("priority class names with 'system-' prefix are reserved for system use only. error: {why}"));
        }
    } else if view.value() > HIGHEST_USER {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST_USER}");
        e.forbidden(Spot::of(view).field(n::VALUE), detail);
    }
    let at = Spot::of(view).field(n::PREEMPTION_POLICY);
    match view.preemption_policy() {
        Some("") => e.required(at, ""),
        Some(policy) if !POLICIES.contains(&policy) => {
            e.not_supported(at, Named(policy), &POLICIES);
        }
        _ => {}
    }
}

/// `IsKnownSystemPriorityClass`: what is wrong with a class whose name is of Kubernetes.
fn unknown(name: &str, class: PriorityClass<'_>) -> Option<String> {
    const KNOWN: [(&str, i64); 2] = [
        ("system-node-critical", 2_000_001_000),
        ("system-cluster-critical", 2_000_000_000),
    ];
    let Some((_, value)) = KNOWN.iter().find(|(known, _)| *known == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if class.value() != *value {
        return Some(format!("value of {name} PriorityClass must be {value}"));
    }
    class
        .global_default()
        .then(|| format!("globalDefault of {name} PriorityClass must be false"))
}
