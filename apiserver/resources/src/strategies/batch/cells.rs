//! The columns of jobs and cron jobs.

use proto::catalogue::names as n;
use proto::view::batch_v1::{CronJob, Job};
use proto::view::{Node, View};
use proto::{Value, meta};

use super::{JOB_SPEC, is, number, text};
use crate::strategies::apps::{images, selector_text};
use crate::table::{age, human_duration};

pub(super) fn job(object: &Value, now: i64) -> Vec<Value> {
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

pub(super) fn cron_job(object: &Value, now: i64) -> Vec<Value> {
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
