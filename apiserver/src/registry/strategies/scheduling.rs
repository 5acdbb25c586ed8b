//! Priority classes and groups of pods. Upstream: `pkg/registry/scheduling`, `pkg/apis/scheduling/validation`.

use proto::catalogue::names as n;
use proto::path::{Errors, Spot};
use proto::view::scheduling_v1::PriorityClass;
use proto::view::scheduling_v1alpha3::CompositePodGroup;
use proto::view::scheduling_v1beta1::PodGroup;
use proto::view::{Node, View};
use proto::{Value, meta};

use crate::registry::rules;
use crate::registry::strategy::Strategy;
use crate::table::{age, row};

/// The highest value that users may give; `system-` classes stand above it.
const HIGHEST_USER: i64 = 1_000_000_000;

pub static PRIORITY_CLASS: Strategy = Strategy {
    generation: true,
    validate: |_, object, e| class(object, e),
    validate_update: |_, new, old, e| {
        let (now, was) = (
            PriorityClass::of(Node::new(new)),
            PriorityClass::of(Node::new(old)),
        );
        if now.value() != was.value() {
            e.forbidden(
                Spot::of(now).field(n::VALUE),
                "may not be changed in an update.",
            );
        }
        rules::immutable(e, now, was, n::PREEMPTION_POLICY);
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

pub static POD_GROUP: Strategy = Strategy {
    generation: false,
    cells: Some(|object, now| {
        let view = PodGroup::of(Node::new(object));
        let spec = view.spec();
        let conditions = view.status().conditions();
        // Of several of a kind the last one counts.
        let last = |kind: &str| conditions.iter().rfind(|c| c.r#type() == kind);
        let state = match (last("DisruptionTarget"), last("PodGroupInitiallyScheduled")) {
            (Some(goes), _) => goes.reason(),
            (None, Some(scheduled)) if scheduled.status() == "True" => "Scheduled",
            (None, Some(_)) => "Unschedulable",
            (None, None) => "Pending",
        };
        let workload = spec.workload_ref().map(|r| r.workload_name());
        row(
            object,
            now,
            [
                policy(spec.scheduling_policy().gang().is_some()),
                workload.unwrap_or("<none>").into(),
                state.into(),
            ],
        )
    }),
    ..Strategy::WITH_STATUS
};

pub static COMPOSITE_POD_GROUP: Strategy = Strategy {
    generation: false,
    cells: Some(|object, now| {
        let spec = CompositePodGroup::of(Node::new(object)).spec();
        let workload = spec.workload_ref().map(|r| r.workload_name());
        let gang = spec.scheduling_policy().gang().is_some();
        row(
            object,
            now,
            [policy(gang), workload.unwrap_or("<none>").into()],
        )
    }),
    ..Strategy::WITH_STATUS
};

fn policy(is_gang: bool) -> Value {
    if is_gang { "Gang" } else { "Basic" }.into()
}

fn class(object: &Value, e: &mut Errors<'_>) {
    let view = PriorityClass::of(Node::new(object));
    let name = meta::name(object);
    let known = [
        ("system-node-critical", 2_000_001_000),
        ("system-cluster-critical", 2_000_000_000),
    ];
    if name.starts_with("system-") {
        if !known.contains(&(name, view.value())) {
            let metadata = object.get(n::METADATA).unwrap_or(object);
            e.forbidden(Spot::node(metadata).field(n::NAME), "priority class names with 'system-' prefix are reserved for system use only. error: this name does not match any known system priority class");
        }
    } else if view.value() > HIGHEST_USER {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST_USER}");
        e.forbidden(Spot::of(view).field(n::VALUE), detail);
    }
    if let Some(policy) = view.preemption_policy() {
        let allowed = ["PreemptLowerPriority", "Never"];
        if !allowed.contains(&policy) {
            e.not_supported(Spot::of(view).field(n::PREEMPTION_POLICY), policy, &allowed);
        }
    }
}
