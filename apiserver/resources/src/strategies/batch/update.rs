//! What an update may make of a job.

use proto::catalogue::messages::{batch_v1, core_v1, meta_v1};
use proto::catalogue::{Gates, gate, names as n};
use proto::path::{Errors, Spot};
use proto::view::batch_v1::{Job, JobSpec};
use proto::view::{Node, View};
use proto::{Map, MsgId, NameId, Value};

use super::{TEMPLATE, is, number};
use crate::equal;
use crate::rules;
use crate::shown::Internal;

const CONTAINERS: [NameId; 2] = [n::CONTAINERS, n::INIT_CONTAINERS];

/// `ValidateJobSpecUpdate`, less what holds for new specifications too.
pub(super) fn spec(gates: Gates, e: &mut Errors<'_>, new: &Value, old: &Value) {
    let of = |object| Job::of(Node::new(object)).spec();
    let (now, was) = (of(new), of(old));
    completions(e, now, was);
    stays(e, now, was, n::SELECTOR, Some(meta_v1::LABEL_SELECTOR));
    template(gates, e, new, old);
    stays(e, now, was, n::COMPLETION_MODE, None);
    let policy = batch_v1::POD_FAILURE_POLICY;
    stays(e, now, was, n::POD_FAILURE_POLICY, Some(policy));
    stays(e, now, was, n::BACKOFF_LIMIT_PER_INDEX, None);
    stays(e, now, was, n::MANAGED_BY, None);
    let policy = batch_v1::SUCCESS_POLICY;
    stays(e, now, was, n::SUCCESS_POLICY, Some(policy));
    scheduling_policy(e, now, was);
}

fn policy_of(spec: JobSpec<'_>) -> Option<&Value> {
    let policy = spec
        .node()
        .value()
        .at(&[n::SCHEDULING, n::SCHEDULING_POLICY]);
    policy.filter(|policy| !policy.is_null())
}

/// `validateJobSchedulingUpdate`: a group stays one or none.
fn scheduling_policy(e: &mut Errors<'_>, new: JobSpec<'_>, old: JobSpec<'_>) {
    let basic = |policy: &Value| policy.get(n::BASIC).is_some_and(|basic| !basic.is_null());
    if let (Some(now), Some(was)) = (policy_of(new), policy_of(old))
        && basic(now) != basic(was)
    {
        let detail = "the basic/gang policy variant is immutable after creation; only schedulingPolicy.gang.minCount may be updated";
        e.invalid(Spot::node(now), &Value::Null, detail);
    }
}

fn stays(e: &mut Errors<'_>, new: JobSpec<'_>, old: JobSpec<'_>, field: NameId, of: Option<MsgId>) {
    let (now, was) = (new.node().value(), old.node().value());
    let type_of = batch_v1::JOB_SPEC.field(field);
    if type_of.is_none_or(|of| equal::alike_in(now, was, of)) {
        return;
    }
    let (at, now) = (Spot::of(new).field(field), new.node().get(field));
    match of {
        Some(message) => e.invalid(at, Internal(now, message), rules::IMMUTABLE),
        None => e.invalid(at, rules::json(now), rules::IMMUTABLE),
    }
}

/// An indexed job may get more pods or fewer if all of them run at once.
fn completions(e: &mut Errors<'_>, new: JobSpec<'_>, old: JobSpec<'_>) {
    if new.completion_mode() != Some("Indexed") {
        return stays(e, new, old, n::COMPLETIONS, None);
    }
    if let Some(completions) = new.completions()
        && old.completions() != Some(completions)
        && new.parallelism() != Some(completions)
    {
        let at = Spot::of(new).field(n::COMPLETIONS);
        let text = "can only be modified in tandem with spec.parallelism";
        e.invalid(at, completions, text);
    }
}

/// `validatePodTemplateUpdate`: a job that is suspended and has no pods may say anew where they run and what they need.
fn template(gates: Gates, e: &mut Errors<'_>, new: &Value, old: &Value) {
    let suspended = old.at(&[n::SPEC, n::SUSPEND]).and_then(Value::as_bool) == Some(true);
    let started = old
        .at(&[n::STATUS, n::START_TIME])
        .is_some_and(|t| !t.is_null());
    let active = number(old, &[n::STATUS, n::ACTIVE]).unwrap_or(0);
    let free = suspended && (!started || is(old, "Suspended")) && active == 0;
    let (Some(now), Some(was)) = (new.at(&TEMPLATE), old.at(&TEMPLATE)) else {
        return;
    };
    let moves = if gates.has(gate::MUTABLE_SCHEDULING_DIRECTIVES_FOR_SUSPENDED_JOBS) {
        free
    } else {
        suspended && !started
    };
    let mut allowed = was.clone();
    if moves {
        take_directives(&mut allowed, now);
    }
    if !free || !gates.has(gate::MUTABLE_POD_RESOURCES_FOR_SUSPENDED_JOBS) {
        if !equal::alike(Some(now), Some(&allowed), core_v1::POD_TEMPLATE_SPEC) {
            let shown = Internal(Some(now), core_v1::POD_TEMPLATE_SPEC);
            e.invalid(Spot::node(now), shown, rules::IMMUTABLE);
        }
        return;
    }
    take_resources(&mut allowed, now);
    if !equal::alike_at(now, &allowed, &[n::SPEC], core_v1::POD_SPEC) {
        let shown = Internal(now.at(&[n::SPEC]), core_v1::POD_SPEC);
        e.invalid(Spot::node(now).field(n::SPEC), shown, rules::IMMUTABLE);
    }
}

/// Takes over what says where pods may run.
fn take_directives(template: &mut Value, new: &Value) {
    let (affinity, nodes) = (
        [n::SPEC, n::AFFINITY],
        [n::SPEC, n::AFFINITY, n::NODE_AFFINITY],
    );
    let there = |object: &Value| object.at(&affinity).is_some_and(|a| !a.is_null());
    match (there(new), there(template)) {
        // An affinity to nodes alone may go as a whole, one to nodes may come where there was none.
        (false, true) => {
            template.remove(&nodes);
            if template
                .at(&affinity)
                .and_then(Value::as_map)
                .is_some_and(Map::is_empty)
            {
                template.remove(&affinity);
            }
        }
        (true, false) => template.set(&affinity, Value::object()),
        _ => {}
    }
    for way in [
        &nodes[..],
        &[n::SPEC, n::NODE_SELECTOR],
        &[n::SPEC, n::TOLERATIONS],
        &[n::SPEC, n::SCHEDULING_GATES],
        &[n::METADATA, n::LABELS],
        &[n::METADATA, n::ANNOTATIONS],
    ] {
        template.copy(new, way);
    }
}

/// Takes over the resources of containers, where they are the same ones.
fn take_resources(template: &mut Value, new: &Value) {
    for list in CONTAINERS {
        let way = [n::SPEC, list];
        let news = new.at(&way).and_then(Value::as_list).unwrap_or_default();
        let olds = template.at_mut(&way).and_then(Value::as_list_mut);
        let Some(olds) = olds.filter(|olds| olds.len() == news.len()) else {
            continue;
        };
        for (old, new) in olds.iter_mut().zip(news) {
            if old.get(n::NAME) == new.get(n::NAME) {
                old.copy(new, &[n::RESOURCES]);
            }
        }
    }
}
