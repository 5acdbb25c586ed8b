//! Groups of pods, and groups of such groups.

use proto::catalogue::{GateId, Gates, gate, names as n};
use proto::path::{Errors, Spot};
use proto::view::scheduling_v1alpha3::CompositePodGroup;
use proto::view::scheduling_v1beta1::PodGroup;
use proto::view::{Node, View};
use proto::{Value, meta};

use crate::declarative::of_gates;
use crate::gated::{self, Gated};
use crate::strategy::{
    Generation, Part, Strategy, clear_status, keep_all_but_metadata_and_status, keep_status,
    reset_metadata,
};
use crate::table::row;

pub static POD_GROUP: Strategy = Strategy {
    default: default_preemption,
    declarative: Some(|gates, _, _| of_gates(gates, OPTIONS)),
    generation: Generation::Ignored,
    prepare_create: |cx, new| {
        clear_status(new);
        gated::drop_unused(cx.gates, new, None, GATED);
    },
    prepare_update: |cx, new, old| {
        keep_status(new, old);
        gated::drop_unused(cx.gates, new, Some(old), GATED);
    },
    validate: |_, object, e| {
        let spec = PodGroup::of(Node::new(object)).spec();
        if spec.parent_composite_pod_group_name().is_some() && spec.workload_ref().is_none() {
            let detail = "must be set when parentCompositePodGroupName is set";
            e.required(Spot::of(spec).field(n::WORKLOAD_REF), detail);
        }
    },
    status: Some(Part {
        prepare_update: |cx, new, old| {
            keep_spec_and_metadata(new, old);
            let used = gated::uses(old, &[n::SPEC, n::RESOURCE_CLAIMS]);
            if !used && !cx.gates.has(gate::DRA_WORKLOAD_RESOURCE_CLAIMS) {
                new.remove(&[n::STATUS, n::RESOURCE_CLAIM_STATUSES]);
            }
        },
        validate_update: |_, new, _, e| {
            conditions(new, e);
            let group = PodGroup::of(Node::new(new));
            for status in group.status().resource_claim_statuses() {
                let mut claims = group.spec().resource_claims().iter();
                if !claims.any(|claim| claim.name() == status.name()) {
                    let detail = "must match the name of an entry in `spec.resourceClaims`";
                    e.invalid(Spot::of(status).field(n::NAME), status.name(), detail);
                }
            }
        },
        ..Part::STATUS
    }),
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

/// What rules of groups, and of groups of groups, ask for.
const OPTIONS: &[GateId] = &[
    gate::TOPOLOGY_AWARE_WORKLOAD_SCHEDULING,
    gate::DRA_WORKLOAD_RESOURCE_CLAIMS,
    gate::POD_GROUP_PREEMPTION_POLICY,
    gate::COMPOSITE_POD_GROUP,
];
const OF_COMPOSITES: &[GateId] = &[gate::COMPOSITE_POD_GROUP, gate::POD_GROUP_PREEMPTION_POLICY];

const PREEMPTION: Gated = (
    gate::POD_GROUP_PREEMPTION_POLICY,
    &[n::SPEC, n::PREEMPTION_POLICY],
);
const GATED: &[Gated] = &[
    (
        gate::TOPOLOGY_AWARE_WORKLOAD_SCHEDULING,
        &[n::SPEC, n::SCHEDULING_CONSTRAINTS],
    ),
    (
        gate::DRA_WORKLOAD_RESOURCE_CLAIMS,
        &[n::SPEC, n::RESOURCE_CLAIMS],
    ),
    PREEMPTION,
    (
        gate::COMPOSITE_POD_GROUP,
        &[n::SPEC, n::PARENT_COMPOSITE_POD_GROUP_NAME],
    ),
];

fn keep_spec_and_metadata(new: &mut Value, old: &Value) {
    keep_all_but_metadata_and_status(new, old);
    reset_metadata(new, old);
}

fn conditions(object: &Value, e: &mut Errors<'_>) {
    if let Some(conditions) = object.at(&[n::STATUS, n::CONDITIONS]) {
        meta::validate_conditions(conditions, e);
    }
}

pub static COMPOSITE_POD_GROUP: Strategy = Strategy {
    default: default_preemption,
    declarative: Some(|gates, _, _| of_gates(gates, OF_COMPOSITES)),
    generation: Generation::Ignored,
    prepare_create: |cx, new| {
        clear_status(new);
        gated::drop_unused(cx.gates, new, None, &[PREEMPTION]);
    },
    prepare_update: |cx, new, old| {
        keep_status(new, old);
        gated::drop_unused(cx.gates, new, Some(old), &[PREEMPTION]);
    },
    status: Some(Part {
        prepare_update: |_, new, old| keep_spec_and_metadata(new, old),
        validate_update: |_, new, _, e| conditions(new, e),
        ..Part::STATUS
    }),
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

/// `SetDefaults_PodGroup` and `SetDefaults_CompositePodGroup`.
fn default_preemption(gates: Gates, object: &mut Value) {
    let way = [n::SPEC, n::PREEMPTION_POLICY];
    if gates.has(gate::POD_GROUP_PREEMPTION_POLICY) && object.at(&way).is_none_or(Value::is_null) {
        object.set(&way, "PreemptLowerPriority");
    }
}
