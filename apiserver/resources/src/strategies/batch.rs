//! Jobs and cron jobs.
//!
//! Upstream: `pkg/registry/batch`, `pkg/apis/batch/{v1/defaults.go,validation}`.

mod cells;
mod cron_job;
mod indexes;
mod policies;
mod spec;
mod status;
mod update;

#[cfg(test)]
mod tests;

use proto::catalogue::{Gates, gate, names as n};
use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::selector::LabelSelector;
use proto::view::batch_v1::{CronJob, Job, JobSpec};
use proto::view::{Node, View};
use proto::{NameId, Value, meta};

use super::apps::{drop_disabled, lenient_selector};
use super::pod_spec::{self, Options};
use crate::declarative;
use crate::gated::{self, Gated};
use crate::rules;
use crate::shown::Internal;
use crate::strategy::{Part, Strategy, clear_status, keep_status};
use crate::warnings::{Warnings, changed};

const TEMPLATE: [NameId; 2] = [n::SPEC, n::TEMPLATE];
const JOB_SPEC: [NameId; 3] = [n::SPEC, n::JOB_TEMPLATE, n::SPEC];
const JOB_POD: [NameId; 4] = [n::SPEC, n::JOB_TEMPLATE, n::SPEC, n::TEMPLATE];

/// What names a job's pods, under the names of today and those of before 1.27.
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
const UID_LABELS: [&str; 2] = [UID_LABEL, "controller-uid"];

/// `WarningsForJobSpec`, and the name of what makes pods.
fn warnings<'a>(object: &'a Value, old: Option<&Value>, spec: JobSpec<'_>) -> Warnings<'a> {
    /// Of an indexed job's completions and of its pods at a time, together.
    const COMPLETIONS: i64 = 100_000;
    const PARALLELISM: i64 = 10_000;
    let mut w = Warnings::new(object);
    if old.is_none() {
        w.name_of_pods(object);
    }
    if changed(object, old) {
        if spec.completion_mode() == Some("Indexed")
            && spec.completions().unwrap_or(0) > COMPLETIONS
            && spec.parallelism().unwrap_or(0) > PARALLELISM
        {
            w.at(
                Spot::of(spec),
                "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
            );
        }
        pod_spec::warnings::template(&mut w, spec.template());
    }
    w
}

pub static JOB: Strategy = Strategy {
    delete_warning: |options| {
        let unsaid = options.propagation.is_none() && options.orphan_dependents.is_none();
        unsaid.then_some("child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning")
    },
    warnings: |_, object, old| warnings(object, old, Job::of(Node::new(object)).spec()).into_vec(),
    default: |gates, object| {
        pod_spec::default_template(gates, object, &TEMPLATE);
        default_spec(object.ensure(&[n::SPEC]));
        default_labels(object);
    },
    prepare_create: |cx, new| {
        select(new);
        clear_status(new);
        gated::drop_unused(cx.gates, new, None, &[MANAGED_BY]);
        drop_scheduling(cx.gates, new, None, &[n::SPEC]);
        drop_disabled(cx.gates, new, None, &TEMPLATE);
    },
    prepare_update: |cx, new, old| {
        keep_status(new, old);
        drop_scheduling(cx.gates, new, Some(old), &[n::SPEC]);
        drop_disabled(cx.gates, new, Some(old), &TEMPLATE);
    },
    validate: |cx, object, e| {
        let options = Options::of_template(cx, None);
        selected_by_uid(e, object);
        job(e, object, &options);
        name_allows_completions(e, object);
    },
    validate_update: |cx, new, old, e| {
        let spec = Job::of(Node::new(old)).spec();
        let mut options = Options::of_template(cx, Some(spec.template()));
        options.kept.values_of_pods |= spec
            .selector()
            .is_some_and(pod_spec::has_values_that_no_label_has);
        job(e, new, &options);
        update::spec(cx.gates, e, new, old);
        name_allows_completions(e, new);
    },
    declarative: Some(|gates, _, _| declarative::of_gates(gates, &[gate::WORKLOAD_WITH_JOB])),
    status: Some(Part {
        validate_update: |cx, new, old, e| status::update(cx.gates, e, new, old),
        ..Part::STATUS_AND_METADATA
    }),
    fields: &[("status.successful", &["status.succeeded"])],
    cells: Some(cells::job),
    ..Strategy::WITH_STATUS
};

pub static CRON_JOB: Strategy = Strategy {
    default: |gates, object| {
        pod_spec::default_template(gates, object, &JOB_POD);
    },
    prepare_create: |cx, new| {
        clear_status(new);
        drop_scheduling(cx.gates, new, None, &JOB_SPEC);
        drop_disabled(cx.gates, new, None, &JOB_POD);
    },
    prepare_update: |cx, new, old| {
        keep_status(new, old);
        drop_scheduling(cx.gates, new, Some(old), &JOB_SPEC);
        drop_disabled(cx.gates, new, Some(old), &JOB_POD);
    },
    validate: |cx, object, e| {
        cron_job::spec(e, object, None, &Options::of_template(cx, None));
        cron_job::name(e, object);
    },
    validate_update: |cx, new, old, e| {
        let of = CronJob::of(Node::new(old)).spec().job_template().spec();
        let options = Options::of_template(cx, Some(of.template()));
        cron_job::spec(e, new, Some(old), &options);
    },
    declarative: Some(|gates, _, _| declarative::of_gates(gates, &[gate::WORKLOAD_WITH_JOB])),
    status: Some(Part::STATUS_AND_METADATA),
    warnings: |_, object, old| {
        let spec = CronJob::of(Node::new(object)).spec();
        let mut w = warnings(object, old, spec.job_template().spec());
        if old.is_some() && spec.schedule().contains("TZ") {
            // The path is upstream's.
            w.push("cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details");
        }
        w.into_vec()
    },
    cells: Some(cells::cron_job),
    ..Strategy::WITH_STATUS
};

fn text<'v>(object: &'v Value, way: &[NameId]) -> &'v str {
    object.at(way).and_then(Value::as_str).unwrap_or_default()
}

fn number(object: &Value, way: &[NameId]) -> Option<i64> {
    object.at(way).and_then(Value::as_int)
}

/// Whether a condition of an object's status is true.
fn is(object: &Value, condition: &str) -> bool {
    condition_is(object, condition, "True")
}

fn condition_is(object: &Value, condition: &str, status: &str) -> bool {
    let all = object.at(&[n::STATUS, n::CONDITIONS]);
    let mut all = all.and_then(Value::as_list).into_iter().flatten();
    all.any(|c| text(c, &[n::TYPE]) == condition && text(c, &[n::STATUS]) == status)
}

fn default_spec(spec: &mut Value) {
    let spec = spec.make_map();
    let mut fill = |field: NameId, value: Value| {
        if spec.get(field).is_none_or(Value::is_null) {
            spec.insert(field, value);
            return true;
        }
        false
    };
    // One pod, unless it says how many at a time: then any of them may end the job.
    let serial = fill(n::PARALLELISM, 1.into());
    if serial {
        fill(n::COMPLETIONS, 1.into());
    }
    let per_index = spec.contains(n::BACKOFF_LIMIT_PER_INDEX);
    let chooses = spec.contains(n::POD_FAILURE_POLICY);
    let limit = if per_index { i64::from(i32::MAX) } else { 6 };
    let replaces = if chooses {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    for (field, value) in [
        (n::BACKOFF_LIMIT, Value::from(limit)),
        (n::COMPLETION_MODE, "NonIndexed".into()),
        (n::SUSPEND, false.into()),
        (n::POD_REPLACEMENT_POLICY, replaces.into()),
        (n::MANUAL_SELECTOR, false.into()),
    ] {
        if spec.get(field).is_none_or(Value::is_null) {
            spec.insert(field, value);
        }
    }
}

/// A job without labels has those of its pods.
fn default_labels(job: &mut Value) {
    let labels = job.at(&TEMPLATE).map(|t| meta::labels(t).clone());
    if let Some(labels) = labels.filter(|l| !l.is_empty())
        && meta::labels(job).is_empty()
    {
        job.set(&[n::METADATA, n::LABELS], Value::Map(labels));
    }
}

/// Who else than the server's own controller makes the pods; an update cannot change it.
const MANAGED_BY: Gated = (gate::JOB_MANAGED_BY, &[n::SPEC, n::MANAGED_BY]);

/// How a job's pods are scheduled together is behind a gate (WorkloadWithJob).
fn drop_scheduling(gates: Gates, new: &mut Value, old: Option<&Value>, spec: &[NameId]) {
    if gates.has(gate::WORKLOAD_WITH_JOB) {
        return;
    }
    let used = |object: &Value| {
        let spec = object.at(spec);
        spec.is_some_and(|spec| Node::new(spec).get(n::SCHEDULING).is_some())
    };
    if !old.is_some_and(used)
        && let Some(spec) = new.at_mut(spec)
    {
        spec.remove(&[n::SCHEDULING]);
    }
}

/// Labels the pods with their job, and selects them by it, unless the user does.
fn select(job: &mut Value) {
    if is_manual(job) {
        return;
    }
    let (name, uid) = (meta::name(job).to_owned(), meta::uid(job).to_owned());
    let labels = job.ensure(&[n::SPEC, n::TEMPLATE, n::METADATA, n::LABELS]);
    let labels = labels.make_map();
    for (keys, value) in [(NAME_LABELS, &name), (UID_LABELS, &uid)] {
        for key in keys {
            if !labels.contains(key) {
                labels.insert(key, value.as_str());
            }
        }
    }
    let selected = job.ensure(&[n::SPEC, n::SELECTOR, n::MATCH_LABELS]);
    let selected = selected.make_map();
    if !selected.contains(UID_LABEL) {
        selected.insert(UID_LABEL, uid.as_str());
    }
}

fn is_manual(job: &Value) -> bool {
    let manual = job.at(&[n::SPEC, n::MANUAL_SELECTOR]);
    manual.and_then(Value::as_bool) == Some(true)
}

/// `validateGeneratedSelector`: where the server chose the labels, the user has not chosen others.
fn selected_by_uid(e: &mut Errors<'_>, object: &Value) {
    let spec = Job::of(Node::new(object)).spec();
    let Some(selector) = spec.node().get(n::SELECTOR).filter(|_| !is_manual(object)) else {
        return;
    };
    let (name, uid) = (meta::name(object), meta::uid(object));
    if uid.is_empty() {
        e.required(Spot::node(object).field(n::METADATA).field(n::UID), "");
    }
    let [name_label, old_name_label] = NAME_LABELS;
    let [uid_label, old_uid_label] = UID_LABELS;
    let expected = [
        (old_uid_label, uid),
        (old_name_label, name),
        (uid_label, uid),
        (name_label, name),
    ];
    let template = spec.template();
    let labels = meta::labels(template.node().value());
    for (key, value) in expected {
        let at = Spot::of(template).field(n::METADATA).field(n::LABELS);
        let detail = format!("must be '{value}'");
        match labels.get(key).and_then(Value::as_str) {
            None => e.required(at.key(key), detail),
            Some(is) if is != value => {
                let shown = rules::json(template.node().value().at(&[n::METADATA, n::LABELS]));
                e.invalid(at.key(key), shown, detail);
            }
            Some(_) => {}
        }
    }
    let mut all = proto::Map::new();
    for (key, value) in expected {
        all.insert(key, value);
    }
    if LabelSelector::from_object(selector).is_ok_and(|selects| !selects.matches_map(&all)) {
        let shown = Internal(
            Some(selector),
            proto::catalogue::messages::meta_v1::LABEL_SELECTOR,
        );
        e.invalid(Spot::node(selector), shown, "`selector` not auto-generated");
    }
}

/// `ValidateJobSpec` of a job.
fn job(e: &mut Errors<'_>, object: &Value, options: &Options<'_>) {
    let spec = Job::of(Node::new(object)).spec();
    spec::validate(e, spec, options);
    let selector = spec.node().get(n::SELECTOR);
    if selector.is_none() {
        e.required(Spot::of(spec).field(n::SELECTOR), "");
    }
    lenient_selector(e, selector, spec.template(), options);
}

/// Pods of an indexed job have its name, a dash and their number.
fn name_allows_completions(e: &mut Errors<'_>, object: &Value) {
    let spec = Job::of(Node::new(object)).spec();
    let completions = spec.completions().unwrap_or(0);
    if spec.completion_mode() != Some("Indexed") || completions <= 0 {
        return;
    }
    let name = meta::name(object);
    let last = format!("{name}-{}", completions - 1);
    if !names::dns_label_problems(&last).is_empty() {
        let at = Spot::node(object).field(n::METADATA).field(n::NAME);
        let detail = format!("will not able to create pod with invalid DNS label: {last}");
        e.invalid(at, name, detail);
    }
}
