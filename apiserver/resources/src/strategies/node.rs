//! Nodes. Upstream: `pkg/registry/core/node`, `ValidateNode*` in `pkg/apis/core/validation`.

use proto::catalogue::{Gates, gate, names as n};
use proto::view::core_v1::Node as NodeView;
use proto::view::{Node, View};
use proto::{NameId, Value, meta};

use crate::declarative::of_gates;
use crate::gated::{self, Gated};
use crate::strategy::{Part, Strategy, keep_all_but_metadata_and_status, keep_status};
use crate::table::age;
use crate::warnings::Warnings;

mod validation;

pub static NODE: Strategy = Strategy {
    declarative: Some(|gates, _, _| {
        of_gates(
            gates,
            &[gate::IN_PLACE_POD_VERTICAL_SCALING_SCHEDULER_PREEMPTION],
        )
    }),
    default: |_, object| {
        default_allocatable(object);
        one_pod_cidr(object);
    },
    prepare_create: |cx, new| {
        for way in [[n::SPEC, n::CONFIG_SOURCE], [n::STATUS, n::CONFIG]] {
            new.remove(&way);
        }
        drop_gated(cx.gates, new, None);
    },
    prepare_update: |cx, new, old| {
        keep_status(new, old);
        let way = [n::SPEC, n::CONFIG_SOURCE];
        if is_absent(old, &way) {
            new.remove(&way);
        }
        drop_gated(cx.gates, new, Some(old));
    },
    validate: |_, object, e| validation::node(object, e),
    validate_update: |_, new, old, e| {
        validation::node(new, e);
        validation::update(new, old, e);
    },
    warnings: |_, object, _| {
        let spec = NodeView::of(Node::new(object)).spec();
        let mut w = Warnings::new(object);
        if spec.config_source().is_some() {
            w.push("spec.configSource: the feature is removed");
        }
        if !spec.external_id().is_empty() {
            w.push("spec.externalID: this field is deprecated, and is unused by Kubernetes");
        }
        w.cidrs(spec.pod_cidrs());
        w.into_vec()
    },
    status: Some(Part {
        prepare_update: |cx, new, old| {
            keep_all_but_metadata_and_status(new, old);
            if is_absent(old, &[n::STATUS, n::CONFIG]) {
                new.remove(&[n::STATUS, n::CONFIG]);
            }
            gated::drop_unused(cx.gates, new, Some(old), GATED_STATUS);
        },
        validate_update: |_, new, old, e| validation::update(new, old, e),
        ..Part::STATUS
    }),
    cells: Some(cells),
    ..Strategy::DEFAULT
};

/// `SetDefaults_NodeStatus`: what can be used is what is there, unless the kubelet says less.
fn default_allocatable(object: &mut Value) {
    let amounts = object.at(&[n::STATUS, n::ALLOCATABLE]);
    if amounts.is_none_or(Value::is_null)
        && let Some(capacity) = object.at(&[n::STATUS, n::CAPACITY]).cloned()
    {
        object.set(&[n::STATUS, n::ALLOCATABLE], capacity);
    }
}

const GATED: &[Gated] = &[
    (gate::SUPPLEMENTAL_GROUPS_POLICY, &[n::STATUS, n::FEATURES]),
    (
        gate::NODE_DECLARED_FEATURES,
        &[n::STATUS, n::DECLARED_FEATURES],
    ),
    (
        gate::IN_PLACE_POD_VERTICAL_SCALING_SCHEDULER_PREEMPTION,
        &[n::SPEC, n::POD_PREEMPTION_POLICY],
    ),
];
/// Who writes the status itself; a new node may say it whatever its gate.
const GATED_STATUS: &[Gated] = &[(
    gate::KUBELET_IN_USER_NAMESPACE,
    &[n::STATUS, n::NODE_INFO, n::RUNNING_IN_USER_NAMESPACE],
)];
/// Of two gates one is enough.
const HANDLERS: &[Gated] = &[(
    gate::USER_NAMESPACES_SUPPORT,
    &[n::STATUS, n::RUNTIME_HANDLERS],
)];

fn drop_gated(gates: Gates, new: &mut Value, old: Option<&Value>) {
    gated::drop_unused(gates, new, old, GATED);
    if !gates.has(gate::RECURSIVE_READ_ONLY_MOUNTS) {
        // Whatever it was before.
        gated::drop_unused(gates, new, None, HANDLERS);
    }
}

/// `podCIDR` is the first of `podCIDRs`; where they differ, clients knew the one only.
fn one_pod_cidr(object: &mut Value) {
    let spec = NodeView::of(Node::new(object)).spec();
    let (one, all) = (spec.pod_cidr(), spec.pod_cidrs());
    let first = all.first().map(|cidr| cidr.as_str().unwrap_or_default());
    match first {
        None if one.is_empty() => return,
        Some(first) if first == one => return,
        _ => {}
    }
    if one.is_empty() {
        let first = first.unwrap_or_default().to_owned();
        object.set(&[n::SPEC, n::POD_CIDR], first);
    } else {
        let only: Value = one.into();
        object.set(&[n::SPEC, n::POD_CIDRS], vec![only]);
    }
}

fn is_absent(object: &Value, way: &[NameId]) -> bool {
    object.at(way).is_none_or(Value::is_null)
}

fn cells(object: &Value, now: i64) -> Vec<Value> {
    let node = NodeView::of(Node::new(object));
    let or = |text: &str, none: &str| -> Value { if text.is_empty() { none } else { text }.into() };
    let address = |kind: &str| {
        node.status()
            .addresses()
            .iter()
            .find(|a| a.r#type() == kind)
            .map_or("", |a| a.address())
    };
    let ready = node
        .status()
        .conditions()
        .iter()
        .find(|c| c.r#type() == "Ready");
    let mut status = match ready {
        Some(c) if c.status() == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node.spec().unschedulable() {
        status += ",SchedulingDisabled";
    }
    let info = node.status().node_info();
    vec![
        meta::name(object).into(),
        status.into(),
        or(&roles(object), "<none>"),
        age(meta::creation_timestamp(object), now).into(),
        info.kubelet_version().into(),
        or(address("InternalIP"), "<none>"),
        or(address("ExternalIP"), "<none>"),
        or(info.os_image(), "<unknown>"),
        match (info.kernel_version(), info.architecture()) {
            (kernel, "") => or(kernel, "<unknown>"),
            ("", of) => format!("<unknown> ({of})").into(),
            (kernel, of) => format!("{kernel} ({of})").into(),
        },
        or(info.container_runtime_version(), "<unknown>"),
    ]
}

/// Roles are labels, in two spellings.
fn roles(object: &Value) -> String {
    let mut roles: Vec<String> = meta::labels(object)
        .iter()
        .filter_map(|(key, value)| match key.as_str() {
            "kubernetes.io/role" => value.as_str().map(str::to_owned),
            key => key
                .strip_prefix("node-role.kubernetes.io/")
                .map(str::to_owned),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort();
    roles.dedup();
    roles.join(",")
}

#[cfg(test)]
mod tests;
