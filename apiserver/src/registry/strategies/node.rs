//! Nodes. Upstream: `pkg/registry/core/node`, `ValidateNode*` in `pkg/apis/core/validation`.

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::view::core_v1::{Node as NodeView, NodeSpec};
use proto::view::{Node, View};
use proto::{Value, meta};

use crate::registry::rules;
use crate::registry::strategy::{Part, Strategy, keep_status};
use crate::registry::warnings::Warnings;
use crate::table::age;

pub static NODE: Strategy = Strategy {
    default: |object| {
        // What can be used is what is there, unless the kubelet says less.
        if object.at(&[n::STATUS, n::ALLOCATABLE]).is_none()
            && let Some(capacity) = object.at(&[n::STATUS, n::CAPACITY]).cloned()
        {
            object.set(&[n::STATUS, n::ALLOCATABLE], capacity);
        }
    },
    prepare_update: |_, new, old| keep_status(new, old),
    validate: |_, object, e| node(object, e),
    validate_update: |_, new, old, e| update(new, old, e),
    warnings: |object, _| {
        let spec = proto::view::core_v1::Node::of(Node::new(object)).spec();
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
        prepare_update: |_, new, old| {
            if let Some(spec) = old.get(n::SPEC) {
                new.set(&[n::SPEC], spec.clone());
            }
        },
        validate_update: |_, new, old, e| update(new, old, e),
        ..Part::STATUS
    }),
    cells: Some(cells),
    ..Strategy::DEFAULT
};

fn spec(object: &Value) -> NodeSpec<'_> {
    NodeView::of(Node::new(object)).spec()
}

fn node(object: &Value, e: &mut Errors<'_>) {
    let spec = spec(object);
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for taint in spec.taints() {
        if rules::required(e, taint, n::KEY) {
            rules::each(e, taint, n::KEY, names::label_key_problems(taint.key()));
        }
        let problems = names::label_value_problems(taint.value());
        if !problems.is_empty() {
            e.invalid(
                Spot::of(taint).field(n::VALUE),
                taint.value(),
                problems.join(";"),
            );
        }
        rules::required_one_of(
            e,
            taint,
            n::EFFECT,
            &["NoSchedule", "PreferNoSchedule", "NoExecute"],
        );
        if seen.contains(&(taint.key(), taint.effect())) {
            e.duplicate(Spot::of(taint), taint.node().value());
        }
        seen.push((taint.key(), taint.effect()));
    }
    for (i, cidr) in spec
        .pod_cidrs()
        .iter()
        .filter_map(Value::as_str)
        .enumerate()
    {
        if cidr.parse::<ipnet::IpNet>().is_err() {
            let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            e.invalid(Spot::of(spec).field(n::POD_CIDRS).index(i), cidr, detail);
        }
    }
    if spec.pod_cidrs().len() > 2 {
        let list = Value::List(spec.pod_cidrs().to_vec());
        e.invalid(
            Spot::of(spec).field(n::POD_CIDRS),
            &list,
            "may specify no more than one CIDR for each IP family",
        );
    }
}

fn update(new: &Value, old: &Value, e: &mut Errors<'_>) {
    node(new, e);
    let (now, was) = (spec(new), spec(old));
    let text = "node updates may not change podCIDR except from \"\" to valid";
    if !was.pod_cidrs().is_empty() && now.pod_cidrs() != was.pod_cidrs() {
        e.forbidden(Spot::of(now).field(n::POD_CIDRS), text);
    }
    if !was.provider_id().is_empty() && now.provider_id() != was.provider_id() {
        e.forbidden(
            Spot::of(now).field(n::PROVIDER_ID),
            "node updates may not change providerID except from \"\" to valid",
        );
    }
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
        or(info.kernel_version(), "<unknown>"),
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
