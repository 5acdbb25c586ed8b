//! Workloads: templates of groups of pods, and of groups of groups.

use std::collections::HashSet;

use proto::catalogue::{GateId, Gates, gate, names as n};
use proto::path::{Errors, Spot};
use proto::view::scheduling_v1beta1::{
    CompositePodGroupTemplate, PodGroupTemplate, Workload, WorkloadSpec,
};
use proto::view::{List, Node, View};
use proto::{NameId, Value};

use crate::declarative::of_gates;
use crate::gated::{Gated, drop_unused};
use crate::shown::Internal;
use crate::strategy::Strategy;

/// The level of templates that upstream's text says is the deepest.
const MAX_DEPTH: usize = 4;

pub static WORKLOAD: Strategy = Strategy {
    declarative: Some(|gates, _, _| of_gates(gates, OPTIONS)),
    prepare_create: |cx, new| drop_gated(cx.gates, new, None),
    prepare_update: |cx, new, old| drop_gated(cx.gates, new, Some(old)),
    validate: |_, object, e| workload(object, e),
    validate_update: |_, new, _, e| workload(new, e),
    ..Strategy::DEFAULT
};

/// What rules of workloads ask for.
const OPTIONS: &[GateId] = &[
    gate::TOPOLOGY_AWARE_WORKLOAD_SCHEDULING,
    gate::DRA_WORKLOAD_RESOURCE_CLAIMS,
    gate::POD_GROUP_PREEMPTION_POLICY,
    gate::COMPOSITE_POD_GROUP,
];

const PREEMPTION: Gated = (gate::POD_GROUP_PREEMPTION_POLICY, &[n::PREEMPTION_POLICY]);
const COMPOSITES: Gated = (
    gate::COMPOSITE_POD_GROUP,
    &[n::COMPOSITE_POD_GROUP_TEMPLATES],
);
/// Fields of templates.
const GATED: &[Gated] = &[
    (
        gate::TOPOLOGY_AWARE_WORKLOAD_SCHEDULING,
        &[n::SCHEDULING_CONSTRAINTS],
    ),
    (gate::DRA_WORKLOAD_RESOURCE_CLAIMS, &[n::RESOURCE_CLAIMS]),
    PREEMPTION,
];

fn drop_gated(gates: Gates, new: &mut Value, old: Option<&Value>) {
    let old = old.and_then(|old| old.get(n::SPEC));
    if let Some(spec) = new.get_mut(n::SPEC) {
        drop_below(gates, spec, old);
    }
}

/// Of a specification or a template of groups. Templates of groups are found by place, those of groups of
/// groups by name, as upstream finds them.
fn drop_below(gates: Gates, new: &mut Value, old: Option<&Value>) {
    drop_unused(gates, new, old, &[COMPOSITES]);
    let list = |of: Option<&Value>, field| -> Vec<Value> {
        let list = of.and_then(|of| of.get(field)).and_then(Value::as_list);
        list.unwrap_or_default().to_vec()
    };
    let before = list(old, n::POD_GROUP_TEMPLATES);
    for (i, template) in templates(new, n::POD_GROUP_TEMPLATES).enumerate() {
        drop_unused(gates, template, before.get(i), GATED);
    }
    let before = list(old, n::COMPOSITE_POD_GROUP_TEMPLATES);
    for template in templates(new, n::COMPOSITE_POD_GROUP_TEMPLATES) {
        let named = |other: &&Value| other.get(n::NAME) == template.get(n::NAME);
        let old = before.iter().rfind(named);
        drop_unused(gates, template, old, &[PREEMPTION]);
        drop_below(gates, template, old);
    }
}

fn templates(of: &mut Value, field: NameId) -> impl Iterator<Item = &mut Value> {
    let list = of.get_mut(field).and_then(Value::as_list_mut);
    list.into_iter().flatten()
}

type Composites<'a> = List<'a, CompositePodGroupTemplate<'a>>;
type Groups<'a> = List<'a, PodGroupTemplate<'a>>;

/// `ValidateWorkloadSpec`.
fn workload(object: &Value, e: &mut Errors<'_>) {
    let spec = Workload::of(Node::new(object)).spec();
    let mut names = spec
        .pod_group_templates()
        .iter()
        .map(|t| t.name())
        .collect();
    unique(spec.composite_pod_group_templates(), &mut names, e);
    for template in spec.composite_pod_group_templates() {
        if is_too_deep(template, 1) {
            let below = template.node().get(n::COMPOSITE_POD_GROUP_TEMPLATES);
            let shown = Internal(below, CompositePodGroupTemplate::MESSAGE);
            let detail = format!("maximum template hierarchy depth is {MAX_DEPTH}");
            e.invalid(Spot::of(template), shown, detail);
        }
    }
    priorities(spec, e);
    spec.composite_pod_group_templates()
        .iter()
        .for_each(|t| parents(t, e));
}

/// Names of templates are found once in the whole workload. Of one list declared rules say so.
fn unique<'a>(all: Composites<'a>, names: &mut HashSet<&'a str>, e: &mut Errors<'_>) {
    let duplicate = |view: Spot<'_>, name: &str, names: &HashSet<&str>, e: &mut Errors<'_>| {
        if names.contains(name) {
            e.duplicate(view.field(n::NAME), name);
        }
    };
    for template in all {
        duplicate(Spot::of(template), template.name(), names, e);
    }
    names.extend(all.iter().map(|template| template.name()));
    for template in all {
        let groups = template.pod_group_templates();
        for group in groups {
            duplicate(Spot::of(group), group.name(), names, e);
        }
        names.extend(groups.iter().map(|group| group.name()));
        unique(template.composite_pod_group_templates(), names, e);
    }
}

/// Whether a template at this level reaches the deepest one, which is too deep already.
fn is_too_deep(template: CompositePodGroupTemplate<'_>, level: usize) -> bool {
    let mut below = template.composite_pod_group_templates().iter();
    level == MAX_DEPTH || below.any(|t| is_too_deep(t, level + 1))
}

/// A class and a number.
type Priority<'a> = (&'a str, Option<i64>);

/// All templates have one priority. That they have not is told once.
fn priorities(spec: WorkloadSpec<'_>, e: &mut Errors<'_>) {
    let mut all: Vec<Priority<'_>> = Vec::new();
    of_groups(spec.pod_group_templates(), &mut all);
    let detail = if differ(&all) {
        "detected multiple priority configurations"
    } else {
        of_composites(spec.composite_pod_group_templates(), &mut all);
        if !differ(&all) {
            return;
        }
        "all priority and priorityClassName values must be identical, detected multiple values"
    };
    e.invalid(Spot::of(spec), &Value::Null, detail);
}

fn differ(all: &[Priority<'_>]) -> bool {
    all.windows(2).any(|pair| pair[0] != pair[1])
}

fn of_groups<'a>(groups: Groups<'a>, all: &mut Vec<Priority<'a>>) {
    all.extend(
        groups
            .iter()
            .map(|t| (t.priority_class_name(), t.priority())),
    );
}

fn of_composites<'a>(composites: Composites<'a>, all: &mut Vec<Priority<'a>>) {
    for template in composites {
        all.push((template.priority_class_name(), template.priority()));
        of_composites(template.composite_pod_group_templates(), all);
        of_groups(template.pod_group_templates(), all);
    }
}

/// A template of groups has some.
fn parents(template: CompositePodGroupTemplate<'_>, e: &mut Errors<'_>) {
    let below = template.composite_pod_group_templates();
    if template.pod_group_templates().is_empty() && below.is_empty() {
        let detail = "must have at least one child PodGroupTemplate or CompositePodGroupTemplate";
        e.invalid(Spot::of(template), template.name(), detail);
    }
    below.iter().for_each(|t| parents(t, e));
}
