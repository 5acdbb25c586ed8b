//! What to do about a CronJob. Pure. Source: `pkg/controller/cronjob/cronjob_controllerv2.go`.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job, JobTemplateSpec};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use proto::cron::ParseError;

use super::schedule::{Missed, Never, Recent, Schedule};
use super::zone;
use crate::owners;

/// Clocks of machines differ by a bit: a job may not begin before its time on any of them.
const SKEW: Duration = Duration::from_millis(100);

/// Something to be told in an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Note {
    pub warning: bool,
    pub reason: &'static str,
    pub message: String,
}

impl Note {
    pub(super) fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        let (warning, message) = (false, message.into());
        Self {
            warning,
            reason,
            message,
        }
    }

    pub(super) fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        let (warning, message) = (true, message.into());
        Self {
            warning,
            reason,
            message,
        }
    }
}

/// What is to be done now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// Nothing until the object changes.
    Nothing,
    Later(Duration),
    /// A job of this time, and another look after that.
    Run {
        time: i64,
        then: Duration,
    },
}

fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

/// The condition that a job ended with.
fn ended(job: &Job) -> Option<&'static str> {
    let conditions = job.status.as_ref()?.conditions.as_deref()?;
    let is = |kind: &str| {
        conditions
            .iter()
            .any(|c| c.type_ == kind && c.status == "True")
    };
    ["Complete", "Failed"].into_iter().find(|kind| is(kind))
}

/// Whether a status says that this job runs.
pub(super) fn is_active(status: &CronJobStatus, uid: &str) -> bool {
    let mut active = status.active.iter().flatten();
    active.any(|r| r.uid.as_deref() == Some(uid))
}

/// The job does not run any more.
pub(super) fn deactivate(status: &mut CronJobStatus, uid: &str) {
    if let Some(active) = &mut status.active {
        active.retain(|r| r.uid.as_deref() != Some(uid));
    }
}

/// The ended jobs beyond what is kept for people to look at, oldest first.
pub(super) fn surplus(cron: &CronJob, jobs: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let spec = &cron.spec;
    let of = |kind: &str, limit: Option<i32>| {
        let Some(limit) = limit else {
            return Vec::new();
        };
        let mut all: Vec<_> = jobs.iter().filter(|j| ended(j) == Some(kind)).collect();
        let start = |job: &Job| {
            let status = job.status.as_ref();
            status.and_then(|s| s.start_time.as_ref()).map(|t| t.0)
        };
        // What never started is the youngest.
        all.sort_by_key(|j| (start(j).is_none(), start(j), name(&j.metadata).to_owned()));
        all.truncate(
            all.len()
                .saturating_sub(usize::try_from(limit).unwrap_or(0)),
        );
        all.into_iter().cloned().collect()
    };
    let mut gone = of("Complete", spec.successful_jobs_history_limit);
    gone.extend(of("Failed", spec.failed_jobs_history_limit));
    gone
}

/// Brings a status up to what its jobs show.
pub(super) fn observe(status: &mut CronJobStatus, jobs: &[Arc<Job>]) -> Vec<Note> {
    let mut notes = Vec::new();
    for job in jobs {
        let active = is_active(status, uid(&job.metadata));
        let name = name(&job.metadata);
        let Some(kind) = ended(job) else {
            if !active {
                let text = "Saw a job that the controller did not create or forgot";
                notes.push(Note::warning("UnexpectedJob", format!("{text}: {name}")));
            }
            continue;
        };
        if active {
            deactivate(status, uid(&job.metadata));
            let text = format!("Saw completed job: {name}, condition: {kind}");
            notes.push(Note::normal("SawCompletedJob", text));
        }
        if kind == "Complete" {
            let time = job.status.as_ref().and_then(|s| s.completion_time.clone());
            let before = status.last_successful_time.as_ref();
            if before.is_none_or(|before| time.as_ref().is_some_and(|t| t.0 > before.0)) {
                status.last_successful_time = time;
            }
        }
    }
    notes
}

/// The running jobs of a status that are not among `jobs`.
pub(super) fn missing(status: &CronJobStatus, jobs: &[Arc<Job>]) -> Vec<ObjectReference> {
    let there = |reference: &ObjectReference| {
        jobs.iter()
            .any(|j| j.metadata.uid.is_some() && j.metadata.uid == reference.uid)
    };
    let active = status.active.iter().flatten();
    active.filter(|r| !there(r)).cloned().collect()
}

/// The schedule of a CronJob; a zone that is not known is left out, as validation has it.
pub(super) fn schedule(cron: &CronJob) -> Result<Schedule, ParseError> {
    let spec = &cron.spec;
    let zone = spec.time_zone.as_deref();
    Schedule::parse(&spec.schedule, zone.filter(|z| zone::named(z).is_some()))
}

/// How long until the next time of a schedule that is new.
pub(super) fn first_wait(cron: &CronJob, schedule: &Schedule, now: Timestamp) -> Duration {
    wait(cron, cron.status.as_ref().and_then(last), schedule, now)
}

/// How long until the next time, counted from the last one that had a job.
fn wait(cron: &CronJob, last: Option<i64>, schedule: &Schedule, now: Timestamp) -> Duration {
    let from = match schedule.recent(last.unwrap_or_else(|| created(cron)), now.as_second()) {
        Ok(Recent {
            latest: Some(latest),
            ..
        }) => latest,
        Ok(Recent {
            since,
            missed: Missed::None,
            ..
        }) => since,
        _ => now.as_second(),
    };
    let next = schedule.next(from);
    let next = next.and_then(|next| Timestamp::from_second(next).ok());
    let left = next.map(|next| now.duration_until(next));
    left.map_or(Duration::ZERO, |left| {
        Duration::try_from(left.saturating_add(signed(SKEW))).unwrap_or_default()
    })
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or_default()
}

fn created(cron: &CronJob) -> i64 {
    let created = cron.metadata.creation_timestamp.as_ref();
    created.map_or(0, |t| t.0.as_second())
}

fn last(status: &CronJobStatus) -> Option<i64> {
    status.last_schedule_time.as_ref().map(|t| t.0.as_second())
}

/// What is due, with what is to be told of it.
pub(super) fn due(cron: &CronJob, status: &CronJobStatus, now: Timestamp) -> (Vec<Note>, Due) {
    let mut notes = Vec::new();
    let due = decide(cron, status, now, &mut notes);
    (notes, due)
}

fn decide(cron: &CronJob, status: &CronJobStatus, now: Timestamp, notes: &mut Vec<Note>) -> Due {
    let spec = &cron.spec;
    if cron.metadata.deletion_timestamp.is_some() {
        return Due::Nothing;
    }
    if let Some(zone) = spec
        .time_zone
        .as_deref()
        .filter(|z| zone::named(z).is_none())
    {
        let text = format!("invalid timeZone: {zone:?}: unknown time zone {zone}");
        notes.push(Note::warning("UnknownTimeZone", text));
        return Due::Nothing;
    }
    if spec.suspend == Some(true) {
        return Due::Nothing;
    }
    let text = &spec.schedule;
    if text.contains("TZ") {
        let said = format!(
            "CRON_TZ or TZ used in schedule {text:?} is not officially supported, see \
             https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
        );
        notes.push(Note::warning("UnsupportedSchedule", said));
    }
    let schedule = match schedule(cron) {
        Ok(schedule) => schedule,
        Err(e) => {
            let said = format!("unparseable schedule: {text:?} : {e}");
            notes.push(Note::warning("UnparseableSchedule", said));
            return Due::Nothing;
        }
    };
    let last = last(status);
    let time = match latest(cron, last, &schedule, now) {
        Ok(recent) => {
            if recent.latest.is_some() && recent.missed == Missed::Many {
                let said = "too many missed start times. Set or decrease \
                     .spec.startingDeadlineSeconds or check clock skew";
                notes.push(Note::warning("TooManyMissedTimes", said));
            }
            recent.latest
        }
        Err(e) => {
            let said = format!("invalid schedule: {text} : {e}");
            notes.push(Note::warning("InvalidSchedule", said));
            return Due::Nothing;
        }
    };
    let later = || Due::Later(wait(cron, last, &schedule, now));
    let Some(time) = time else { return later() };
    match refusal(cron, status, time, now) {
        Some(note) => {
            notes.extend(note);
            later()
        }
        None => Due::Run {
            time,
            then: wait(cron, Some(time), &schedule, now),
        },
    }
}

/// What has come of a schedule since the last job, as far back as a job may begin late.
fn latest(
    cron: &CronJob,
    last: Option<i64>,
    schedule: &Schedule,
    now: Timestamp,
) -> Result<Recent, Never> {
    let mut since = last.unwrap_or_else(|| created(cron));
    if let Some(deadline) = cron.spec.starting_deadline_seconds {
        since = since.max(now.as_second().saturating_sub(deadline));
    }
    schedule.recent(since, now.as_second())
}

/// Why no job of that time begins, if none does; what is to be told of it, if anything.
fn refusal(
    cron: &CronJob,
    status: &CronJobStatus,
    time: i64,
    now: Timestamp,
) -> Option<Option<Note>> {
    let spec = &cron.spec;
    let scheduled = Timestamp::from_second(time).unwrap_or_default();
    let late = now.duration_since(scheduled);
    if let Some(deadline) = spec.starting_deadline_seconds
        && late > SignedDuration::from_secs(deadline)
    {
        let when = scheduled.strftime("%a, %d %b %Y %H:%M:%S +0000");
        let text = format!("Missed scheduled time to start a job: {when}");
        return Some(Some(Note::warning("MissSchedule", text)));
    }
    let job = job_name(cron, time);
    let mut active = status.active.iter().flatten();
    if active.any(|r| r.name.as_ref() == Some(&job)) || last(status) == Some(time) {
        return Some(None);
    }
    let runs = status.active.as_ref().is_some_and(|a| !a.is_empty());
    if runs && spec.concurrency_policy.as_deref() == Some("Forbid") {
        let text =
            "Not starting job because prior execution is running and concurrency policy is Forbid";
        return Some(Some(Note::normal("JobAlreadyActive", text)));
    }
    None
}

/// The name of the job of a time: the same job is never made twice.
pub(super) fn job_name(cron: &CronJob, time: i64) -> String {
    format!("{}-{}", name(&cron.metadata), time / 60)
}

/// The job of a time.
pub(super) fn job(cron: &CronJob, time: i64) -> Job {
    let spec = &cron.spec;
    let zone = zone::named(spec.time_zone.as_deref().unwrap_or_default()).unwrap_or(TimeZone::UTC);
    let scheduled = Timestamp::from_second(time).unwrap_or_default();
    let JobTemplateSpec { metadata, spec } = spec.job_template.clone();
    let template = metadata.unwrap_or_default();
    let mut annotations = template.annotations.unwrap_or_default();
    annotations.insert(
        "batch.kubernetes.io/cronjob-scheduled-timestamp".to_owned(),
        rfc3339(scheduled, &zone),
    );
    Job {
        metadata: ObjectMeta {
            name: Some(job_name(cron, time)),
            namespace: cron.metadata.namespace.clone(),
            labels: template.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owners::reference(cron)]),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}

/// A time with the offset of its zone; `Z` where that is none.
fn rfc3339(time: Timestamp, zone: &TimeZone) -> String {
    let offset = zone.to_offset(time);
    if offset.seconds() == 0 {
        return time.to_string();
    }
    time.display_with_offset(offset).to_string()
}

/// A status that has a job of that time.
pub(super) fn activate(status: &mut CronJobStatus, job: ObjectReference, time: i64) {
    status.active.get_or_insert_default().push(job);
    status.last_schedule_time = Timestamp::from_second(time).ok().map(Time);
}

#[cfg(test)]
mod tests;
