//! Jobs and cron jobs.
//!
//! Upstream: `pkg/registry/batch`, `pkg/apis/batch/{v1/defaults.go,validation}`.

use proto::catalogue::names as n;
use proto::path::{Errors, Spot};
use proto::view::batch_v1::{CronJob, Job, JobSpec};
use proto::view::{Node, View};
use proto::{NameId, Value, meta};

use super::apps::{images, selector_and_template, selector_text};
use super::pod_spec;
use crate::registry::rules;
use crate::registry::strategy::{Strategy, clear_status};
use crate::registry::warnings::{Warnings, changed};
use crate::table::{age, human_duration};

const TEMPLATE: [NameId; 2] = [n::SPEC, n::TEMPLATE];
const JOB_SPEC: [NameId; 3] = [n::SPEC, n::JOB_TEMPLATE, n::SPEC];
const JOB_POD: [NameId; 4] = [n::SPEC, n::JOB_TEMPLATE, n::SPEC, n::TEMPLATE];

/// What names a job's pods, under the names of today and those of before 1.27.
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
const UID_LABELS: [&str; 2] = [UID_LABEL, "controller-uid"];

/// What may follow the failure or the end of a job's pod.
const POLICIES: &[&str] = &["OnFailure", "Never"];

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
    warnings: |object, old| warnings(object, old, Job::of(Node::new(object)).spec()).into_vec(),
    default: |object| {
        pod_spec::default_template(object, &TEMPLATE);
        default_spec(object.ensure(&[n::SPEC]));
        let labels = object.at(&TEMPLATE).map(|t| meta::labels(t).clone());
        if let Some(labels) = labels.filter(|l| !l.is_empty())
            && meta::labels(object).is_empty()
        {
            object.set(&[n::METADATA, n::LABELS], Value::Map(labels));
        }
    },
    prepare_create: |_, new| {
        clear_status(new);
        select(new);
    },
    validate: |_, object, e| job(object, e),
    validate_update: |_, new, old, e| {
        job(new, e);
        let (now, was) = (
            Job::of(Node::new(new)).spec(),
            Job::of(Node::new(old)).spec(),
        );
        for field in [
            n::SELECTOR,
            n::COMPLETION_MODE,
            n::POD_FAILURE_POLICY,
            n::BACKOFF_LIMIT_PER_INDEX,
            n::MANAGED_BY,
            n::SUCCESS_POLICY,
        ] {
            rules::immutable(e, now, was, field);
        }
        let indexed = text(new, &[n::SPEC, n::COMPLETION_MODE]) == "Indexed";
        if !indexed {
            rules::immutable(e, now, was, n::COMPLETIONS);
        }
        // Where its pods run may be said as long as it has none.
        if old.at(&[n::SPEC, n::SUSPEND]).and_then(Value::as_bool) != Some(true) {
            rules::immutable(e, now, was, n::TEMPLATE);
        }
    },
    fields: &[("status.successful", &["status.succeeded"])],
    cells: Some(job_cells),
    ..Strategy::WITH_STATUS
};

pub static CRON_JOB: Strategy = Strategy {
    default: |object| {
        pod_spec::default_template(object, &JOB_POD);
    },
    validate: |_, object, e| cron_job(object, e),
    validate_update: |_, new, _, e| cron_job(new, e),
    warnings: |object, old| {
        let spec = CronJob::of(Node::new(object)).spec();
        let mut w = warnings(object, old, spec.job_template().spec());
        if old.is_some() && spec.schedule().contains("TZ") {
            // The path is upstream's.
            w.push("cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details");
        }
        w.into_vec()
    },
    cells: Some(cron_job_cells),
    ..Strategy::WITH_STATUS
};

fn text<'v>(object: &'v Value, way: &[NameId]) -> &'v str {
    object.at(way).and_then(Value::as_str).unwrap_or_default()
}

fn number(object: &Value, way: &[NameId]) -> Option<i64> {
    object.at(way).and_then(Value::as_int)
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

/// Labels the pods with their job, and selects them by it, unless the user does.
fn select(job: &mut Value) {
    let manual = job.at(&[n::SPEC, n::MANUAL_SELECTOR]);
    if manual.and_then(Value::as_bool) == Some(true) {
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

fn job(object: &Value, e: &mut Errors<'_>) {
    let spec = Job::of(Node::new(object)).spec();
    selector_and_template(e, spec.node(), spec.template(), POLICIES);
    for field in [
        n::PARALLELISM,
        n::COMPLETIONS,
        n::BACKOFF_LIMIT,
        n::BACKOFF_LIMIT_PER_INDEX,
        n::ACTIVE_DEADLINE_SECONDS,
    ] {
        rules::not_negative(e, spec, field);
    }
    let completions = number(object, &[n::SPEC, n::COMPLETIONS]);
    let indexed = text(object, &[n::SPEC, n::COMPLETION_MODE]) == "Indexed";
    if indexed && completions.is_none() {
        e.required(
            Spot::of(spec).field(n::COMPLETIONS),
            "when completion mode is Indexed",
        );
    }
}

fn cron_job(object: &Value, e: &mut Errors<'_>) {
    let spec = CronJob::of(Node::new(object)).spec();
    if rules::required(e, spec, n::SCHEDULE)
        && let Err(problem) = proto::cron::Schedule::parse(spec.schedule())
    {
        let at = Spot::of(spec).field(n::SCHEDULE);
        e.invalid(at, spec.schedule(), problem.to_string());
    }
    rules::one_of(
        e,
        spec,
        n::CONCURRENCY_POLICY,
        &["Allow", "Forbid", "Replace"],
    );
    for field in [
        n::STARTING_DEADLINE_SECONDS,
        n::SUCCESSFUL_JOBS_HISTORY_LIMIT,
        n::FAILED_JOBS_HISTORY_LIMIT,
    ] {
        rules::not_negative(e, spec, field);
    }
}

fn is(object: &Value, condition: &str) -> bool {
    let all = object.at(&[n::STATUS, n::CONDITIONS]);
    let mut all = all.and_then(Value::as_list).into_iter().flatten();
    all.any(|c| text(c, &[n::TYPE]) == condition && text(c, &[n::STATUS]) == "True")
}

fn job_cells(object: &Value, now: i64) -> Vec<Value> {
    let succeeded = number(object, &[n::STATUS, n::SUCCEEDED]).unwrap_or(0);
    let completions = match (
        number(object, &[n::SPEC, n::COMPLETIONS]),
        number(object, &[n::SPEC, n::PARALLELISM]),
    ) {
        (Some(all), _) => format!("{succeeded}/{all}"),
        (None, Some(many)) if many > 1 => format!("{succeeded}/1 of {many}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let going = !text(object, &[n::METADATA, n::DELETION_TIMESTAMP]).is_empty();
    let status = match () {
        () if is(object, "Complete") => "Complete",
        () if is(object, "Failed") => "Failed",
        () if going => "Terminating",
        () if is(object, "Suspended") => "Suspended",
        () if is(object, "FailureTarget") => "FailureTarget",
        () if is(object, "SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    };
    let seconds = |field| {
        let time = proto::time::unix_of(text(object, &[n::STATUS, field]));
        time.map(|(seconds, _)| seconds)
    };
    let took = seconds(n::START_TIME).map(|start| {
        let end = seconds(n::COMPLETION_TIME).unwrap_or(now);
        human_duration(end - start)
    });
    let spec = Job::of(Node::new(object)).spec();
    let (names, images) = images(spec.template());
    vec![
        meta::name(object).into(),
        status.into(),
        completions.into(),
        took.unwrap_or_default().into(),
        age(meta::creation_timestamp(object), now).into(),
        names.into(),
        images.into(),
        selector_text(spec.node()).into(),
    ]
}

fn cron_job_cells(object: &Value, now: i64) -> Vec<Value> {
    let or_none = |value: &str| {
        if value.is_empty() {
            "<none>".to_owned()
        } else {
            value.to_owned()
        }
    };
    let last = match text(object, &[n::STATUS, n::LAST_SCHEDULE_TIME]) {
        "" => "<none>".to_owned(),
        time => age(time, now),
    };
    let suspended = object.at(&[n::SPEC, n::SUSPEND]).and_then(Value::as_bool);
    let suspended = suspended.map_or("<unset>", |s| if s { "True" } else { "False" });
    let active = object.at(&[n::STATUS, n::ACTIVE]).and_then(Value::as_list);
    let active = i64::try_from(active.map_or(0, |l| l.len())).unwrap_or(i64::MAX);
    let job = CronJob::of(Node::new(object)).spec().job_template().spec();
    let (names, images) = images(job.template());
    let selector = object.at(&JOB_SPEC).map(|s| selector_text(Node::new(s)));
    vec![
        meta::name(object).into(),
        text(object, &[n::SPEC, n::SCHEDULE]).into(),
        or_none(text(object, &[n::SPEC, n::TIME_ZONE])).into(),
        suspended.into(),
        active.into(),
        last.into(),
        age(meta::creation_timestamp(object), now).into(),
        names.into(),
        images.into(),
        selector.unwrap_or_else(|| "<none>".into()).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job_of(json: &str) -> Value {
        let mut job = proto::codec::json::parse(json.as_bytes()).unwrap();
        (JOB.default)(&mut job);
        job
    }

    #[test]
    fn a_job_is_one_pod_unless_it_says_more() {
        let counts = |json| {
            let job = job_of(json);
            let of = |field| number(&job, &[n::SPEC, field]);
            (of(n::COMPLETIONS), of(n::PARALLELISM), of(n::BACKOFF_LIMIT))
        };
        assert_eq!(counts(r#"{"spec":{}}"#), (Some(1), Some(1), Some(6)));
        let queue = r#"{"spec":{"parallelism":3}}"#;
        assert_eq!(counts(queue), (None, Some(3), Some(6)));
        let indexed = r#"{"spec":{"completions":3,"backoffLimitPerIndex":1}}"#;
        assert_eq!(counts(indexed), (Some(3), Some(1), Some(2_147_483_647)));
    }

    #[test]
    fn a_job_selects_its_pods_by_its_uid() {
        let mut job = job_of(r#"{"metadata":{"name":"j","uid":"u"},"spec":{}}"#);
        select(&mut job);
        let labels = meta::labels(job.at(&TEMPLATE).unwrap());
        assert_eq!(labels.len(), 4);
        let selected = job.at(&[n::SPEC, n::SELECTOR, n::MATCH_LABELS]).unwrap();
        assert_eq!(selected.get(UID_LABEL).and_then(Value::as_str), Some("u"));
        let manual = r#"{"metadata":{"name":"j","uid":"u"},"spec":{"manualSelector":true}}"#;
        let mut job = job_of(manual);
        select(&mut job);
        assert!(job.at(&[n::SPEC, n::SELECTOR]).is_none());
    }
}
