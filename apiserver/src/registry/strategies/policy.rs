//! Disruption budgets and classes of container runtimes.
//!
//! Upstream: `pkg/registry/{policy/poddisruptionbudget,node/runtimeclass}`.

use proto::Value;
use proto::view::node_v1::RuntimeClass;
use proto::view::policy_v1::PodDisruptionBudget;
use proto::view::{IntOrStr, Node, View};

use crate::registry::strategy::Strategy;
use crate::registry::warnings::deprecated_label;
use crate::table::row;

pub static DISRUPTION_BUDGET: Strategy = Strategy {
    cells: Some(|object, now| {
        let view = PodDisruptionBudget::of(Node::new(object));
        let spec = view.spec();
        let shown = |bound: Option<IntOrStr<'_>>| match bound {
            None => Value::from("N/A"),
            Some(IntOrStr::Int(number)) => number.to_string().into(),
            Some(IntOrStr::Str(text)) => text.into(),
        };
        row(
            object,
            now,
            [
                shown(spec.min_available()),
                shown(spec.max_unavailable()),
                view.status().disruptions_allowed().into(),
            ],
        )
    }),
    ..Strategy::WITH_STATUS
};

pub static RUNTIME_CLASS: Strategy = Strategy {
    warnings: |object, _| {
        let scheduling = RuntimeClass::of(Node::new(object)).scheduling();
        let labels = scheduling
            .into_iter()
            .flat_map(|s| s.node_selector().iter());
        labels
            .filter_map(|(label, _)| deprecated_label(label.as_str()))
            .map(|text| format!("scheduling.nodeSelector: {text}"))
            .collect()
    },
    cells: Some(|object, now| {
        let handler = RuntimeClass::of(Node::new(object)).handler();
        row(object, now, [handler.into()])
    }),
    ..Strategy::DEFAULT
};
