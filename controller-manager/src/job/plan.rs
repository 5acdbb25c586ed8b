//! What to do about a job's pods, and what becomes of its status. Pure.
//!
//! Source: `syncJob`, `manageJob` and `trackJobStatusAndRemoveFinalizers` in `pkg/controller/job/job_controller.go`.
//!
//! A pod that ended is counted in three steps, so that none is lost or counted twice: its UID goes into the status, its
//! finalizer is taken away, the UID becomes a number.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::indexes::Indexes;
use super::metrics::Action;
use super::policy::{Verdict, enough};
use super::view::{Backoff, Seen, condition, is_tracked};
use crate::pods::{self, Ranked};
use crate::status::{nonzero, whole};

/// Pods made or deleted at a time, and UIDs in a status.
const AT_ONCE: usize = 500;

/// A pod to make.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct New {
    pub index: Option<i32>,
    /// The pod of that index that failed last, whose count goes on.
    pub after: Option<Arc<Pod>>,
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    pub create: Vec<New>,
    pub delete: Vec<Arc<Pod>>,
    /// Deleted pods keep their finalizers: they are counted first.
    pub counts_deleted: bool,
    /// `SuccessCriteriaMet`, `FailureTarget`, or `Failed` if the target was told before.
    pub end: Option<JobCondition>,
    /// Whether the job's being suspended is to be told.
    pub managed: bool,
    pub wait: Option<Duration>,
    pub backoff: Backoff,
    succeeded: i32,
    /// Failures that count, of all time.
    failures: i32,
    before: Indexes,
    failed: Option<Indexes>,
    /// UIDs of failed pods that stay until their successors are there.
    kept: Vec<String>,
}

/// What was done of a plan.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Done {
    pub created: usize,
    pub deleted: usize,
    pub deleted_ready: usize,
}

/// The status, and the pods that it counts.
#[derive(Debug)]
pub(super) struct Told {
    pub status: JobStatus,
    /// Pods whose finalizers go once the status is written.
    pub release: Vec<Arc<Pod>>,
    /// The last condition, once all pods are counted.
    pub end: Option<JobCondition>,
    /// The job was suspended or resumed just now.
    pub turned: Option<bool>,
}

pub(super) fn made(
    kind: &str,
    is: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> JobCondition {
    JobCondition {
        type_: kind.to_owned(),
        status: if is { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// The plan.
pub(super) fn plan(seen: &Seen<'_>, backoff: Backoff) -> Plan {
    let status = seen.job.status.clone().unwrap_or_default();
    let uncounted = status.uncounted_terminated_pods.unwrap_or_default();
    let (old_good, old_bad) = (
        uncounted.succeeded.unwrap_or_default(),
        uncounted.failed.unwrap_or_default(),
    );
    let good = || seen.fresh(&old_good, |p| pods::phase(p) == "Succeeded");
    let bad = || seen.fresh(&old_bad, |p| seen.is_failed(p));
    let failed = status.failed.unwrap_or(0)
        + whole(old_bad.len())
        + whole(bad().filter(|p| seen.counts(p)).count());
    let (before, indexes) = if seen.is_indexed() {
        seen.succeeded_indexes()
    } else {
        Default::default()
    };
    let succeeded = if seen.is_indexed() {
        indexes.count()
    } else {
        status.succeeded.unwrap_or(0) + whole(old_good.len()) + whole(good().count())
    };
    let failed_indexes = seen.failed_indexes().filter(|_| seen.is_indexed());
    let none = Indexes::default();
    let kept = match &failed_indexes {
        Some(failed) => seen.last_failures(&indexes, failed),
        None => Default::default(),
    };
    let mut plan = Plan {
        create: Vec::new(),
        delete: Vec::new(),
        counts_deleted: false,
        end: ended(seen, failed, &indexes, failed_indexes.as_ref()),
        managed: false,
        wait: until_deadline(seen).filter(|left| !left.is_zero()),
        backoff: backoff.after(good(), bad()),
        succeeded,
        failures: failed,
        before,
        failed: failed_indexes.clone(),
        kept: kept.values().map(|p| uid(p).to_owned()).collect(),
    };
    if plan.end.is_some() {
        plan.delete = seen.active().cloned().collect();
        plan.counts_deleted = true;
    } else if seen.job.metadata.deletion_timestamp.is_none() {
        plan.managed = true;
        plan.delete = surplus(seen, succeeded);
        if plan.delete.is_empty() && !seen.is_suspended() {
            let failed = failed_indexes.as_ref().unwrap_or(&none);
            plan.create(seen, &indexes.merged(failed), |index| {
                kept.get(&index).copied()
            });
        }
    }
    plan
}

/// How the job ends, if it does.
fn ended(
    seen: &Seen<'_>,
    failed: i32,
    indexes: &Indexes,
    failed_indexes: Option<&Indexes>,
) -> Option<JobCondition> {
    let (job, now) = (seen.job, seen.now);
    if let Some(met) = condition(job, "SuccessCriteriaMet") {
        return Some(met.clone());
    }
    if let Some(target) = condition(job, "FailureTarget") {
        return Some(last(target, now));
    }
    let fail =
        |reason: &str, message: &str| Some(made("FailureTarget", true, reason, message, now));
    for pod in seen.pods.iter().filter(|p| seen.is_failed(p)) {
        if let Verdict::FailJob(why) = seen.verdict(pod) {
            return fail("PodFailurePolicy", &why);
        }
    }
    let limit = seen.spec.backoff_limit.unwrap_or(6);
    if failed > limit || restarted_too_often(seen, limit) {
        return fail(
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        );
    }
    if until_deadline(seen).is_some_and(|left| left.is_zero()) {
        return fail(
            "DeadlineExceeded",
            "Job was active longer than specified deadline",
        );
    }
    if !seen.is_indexed() {
        return None;
    }
    if let Some(failed) = failed_indexes {
        let (count, completions) = (failed.count(), seen.completions());
        if seen
            .spec
            .max_failed_indexes
            .is_some_and(|most| count > most)
        {
            let text = "Job has exceeded the specified maximal number of failed indexes";
            return fail("MaxFailedIndexesExceeded", text);
        }
        if count > 0 && count + indexes.count() >= completions {
            return fail("FailedIndexes", "Job has failed indexes");
        }
    }
    let said = enough(
        seen.spec.success_policy.as_ref(),
        seen.completions(),
        indexes,
    )?;
    Some(made(
        "SuccessCriteriaMet",
        true,
        "SuccessPolicy",
        &said,
        now,
    ))
}

/// The condition that follows the first one.
fn last(first: &JobCondition, now: Timestamp) -> JobCondition {
    let kind = match first.type_.as_str() {
        "FailureTarget" => "Failed",
        _ => "Complete",
    };
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    made(kind, true, &text(&first.reason), &text(&first.message), now)
}

/// Restarts in place count as failures.
fn restarted_too_often(seen: &Seen<'_>, limit: i32) -> bool {
    let spec = seen.spec.template.spec.as_ref();
    if spec.and_then(|s| s.restart_policy.as_deref()) != Some("OnFailure") {
        return false;
    }
    let of = |pod: &Arc<Pod>| -> i64 {
        let status = pod.status.as_ref();
        let main = status.and_then(|s| s.container_statuses.as_deref());
        let init = status.and_then(|s| s.init_container_statuses.as_deref());
        let all = main
            .unwrap_or_default()
            .iter()
            .chain(init.unwrap_or_default());
        all.map(|c| i64::from(c.restart_count)).sum()
    };
    let running = seen
        .pods
        .iter()
        .filter(|p| matches!(pods::phase(p), "Running" | "Pending"));
    let restarts: i64 = running.map(of).sum();
    restarts > 0 && restarts >= i64::from(limit)
}

/// The time until the deadline, if the job has one and runs.
fn until_deadline(seen: &Seen<'_>) -> Option<Duration> {
    let seconds = seen.spec.active_deadline_seconds?;
    if seen.is_suspended() {
        return None;
    }
    let started = seen.job.status.as_ref().and_then(|s| s.start_time.as_ref());
    let started = started.map_or(seen.now, |t| t.0);
    let gone = Duration::try_from(seen.now.duration_since(started)).unwrap_or_default();
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).saturating_sub(gone))
}

/// How many pods are to be active.
fn wanted(seen: &Seen<'_>, succeeded: i32) -> usize {
    let parallelism = seen.spec.parallelism.unwrap_or(1);
    let count = match seen.spec.completions {
        _ if seen.is_suspended() => 0,
        None if succeeded > 0 => return seen.active().count(),
        None => parallelism,
        Some(all) => all.saturating_sub(succeeded).min(parallelism),
    };
    usize::try_from(count).unwrap_or(0)
}

fn ranked(pod: &Pod) -> Ranked<'_> {
    Ranked { pod, crowd: 0 }
}

/// Active pods that have to go: twins, those without a valid index, and the youngest of what is too much.
fn surplus(seen: &Seen<'_>, succeeded: i32) -> Vec<Arc<Pod>> {
    let mut active: Vec<&Arc<Pod>> = seen.active().collect();
    active.sort_by(|a, b| ranked(a).order(&ranked(b), seen.now));
    let too_many = active.len().saturating_sub(wanted(seen, succeeded));
    let (mut gone, mut left) = (Vec::new(), Vec::new());
    if seen.is_indexed() {
        let mut taken = Vec::new();
        for pod in active.iter().rev().copied() {
            match seen.index(pod) {
                Some(index) if !taken.contains(&index) => {
                    taken.push(index);
                    left.insert(0, pod);
                }
                _ => gone.push(pod),
            }
        }
    } else {
        left = active;
    }
    let more = too_many.saturating_sub(gone.len());
    gone.extend(left.into_iter().take(more));
    gone.into_iter().take(AT_ONCE).cloned().collect()
}

impl Plan {
    fn create<'p>(
        &mut self,
        seen: &'p Seen<'_>,
        closed: &Indexes,
        last: impl Fn(i32) -> Option<&'p Arc<Pod>>,
    ) {
        let ending = || seen.pods.iter().filter(|p| pods::is_terminating(p));
        let mut busy = seen.active().count();
        if seen.waits_for_terminating() {
            busy += ending().count();
        }
        let count = wanted(seen, self.succeeded)
            .saturating_sub(busy)
            .min(AT_ONCE);
        if count == 0 {
            return;
        }
        if seen.per_index().is_none() {
            let wait = self.backoff.wait(seen.now);
            if !wait.is_zero() {
                return self.look_in(wait);
            }
        }
        if !seen.is_indexed() {
            self.create = vec![
                New {
                    index: None,
                    after: None
                };
                count
            ];
            return;
        }
        let mut taken = closed.with(seen.active().filter_map(|p| seen.index(p)));
        if seen.waits_for_terminating() {
            taken = taken.with(ending().filter_map(|p| seen.index(p)));
        }
        for index in taken.missing(count, seen.completions()) {
            let after = last(index);
            let wait = seen.index_wait(after.map(AsRef::as_ref));
            if wait.is_zero() {
                let (index, after) = (Some(index), after.cloned());
                self.create.push(New { index, after });
            } else {
                self.look_in(wait);
            }
        }
    }

    /// What carrying it out is called in metrics.
    pub(super) fn action(&self) -> Action {
        match () {
            () if !self.managed => Action::Reconciling,
            () if !self.delete.is_empty() => Action::PodsDeleted,
            () if !self.create.is_empty() => Action::PodsCreated,
            () => Action::Tracking,
        }
    }

    /// Why pods are made, as metrics have it.
    pub(super) fn why_created(&self, seen: &Seen<'_>) -> &'static str {
        let ends = seen.pods.iter().any(|p| pods::is_terminating(p));
        match self.failures > 0 {
            true if seen.waits_for_terminating() => "recreate_failed",
            failed if failed || ends => "recreate_terminating_or_failed",
            _ => "new",
        }
    }

    fn look_in(&mut self, wait: Duration) {
        self.wait = Some(self.wait.map_or(wait, |before| before.min(wait)));
    }

    /// The status after the plan was carried out as far as `done` says.
    pub(super) fn told(&self, seen: &Seen<'_>, done: Done, resets_start: bool) -> Told {
        let now = seen.now;
        let mut status = seen.job.status.clone().unwrap_or_default();
        if status.start_time.is_none() && !seen.is_suspended() {
            status.start_time = Some(Time(now));
        }
        let active = (seen.active().count() + done.created).saturating_sub(done.deleted);
        let ready = seen.active().filter(|p| pods::is_ready(p)).count();
        let ending = seen.pods.iter().filter(|p| pods::is_terminating(p)).count();
        status.active = nonzero(whole(active));
        status.ready = Some(whole(ready.saturating_sub(done.deleted_ready)));
        status.terminating = Some(whole(ending + done.deleted));
        // Not all could be deleted: there is more to count.
        let mut end = self.end.clone();
        if self.counts_deleted && done.deleted < self.delete.len() {
            end = None;
        }
        let enough = match seen.spec.completions {
            None => self.succeeded > 0,
            Some(all) => self.succeeded >= all,
        };
        let mut turned = None;
        if self.end.is_none() && enough && active == 0 {
            let text = "Reached expected number of succeeded pods";
            end = Some(made(
                "SuccessCriteriaMet",
                true,
                "CompletionsReached",
                text,
                now,
            ));
        } else if self.managed {
            turned = turn(&mut status, seen.is_suspended(), now);
            match turned {
                Some(true) if resets_start => status.start_time = None,
                Some(false) => status.start_time = Some(Time(now)),
                _ => {}
            }
        }
        let (release, all) = self.count(seen, &mut status, end.as_ref());
        if let Some(first) = end.as_ref().filter(|e| e.type_ != "Failed") {
            if condition(seen.job, &first.type_).is_none() {
                status
                    .conditions
                    .get_or_insert_default()
                    .push(first.clone());
            }
            end = Some(last(first, now));
        }
        Told {
            status,
            release,
            end: end.filter(|_| all),
            turned,
        }
    }

    /// Puts what ended into the status; the pods that are in it then, and whether these are all.
    fn count(
        &self,
        seen: &Seen<'_>,
        status: &mut JobStatus,
        end: Option<&JobCondition>,
    ) -> (Vec<Arc<Pod>>, bool) {
        let tracked = |all: &str| seen.pods.iter().any(|p| is_tracked(p) && uid(p) == all);
        settle(status, tracked);
        let uncounted = status.uncounted_terminated_pods.get_or_insert_default();
        let good = uncounted.succeeded.get_or_insert_default();
        let bad = uncounted.failed.get_or_insert_default();
        let mut indexes: Vec<i32> = Vec::new();
        let (mut release, mut is_all) = (Vec::new(), true);
        let failing = end.is_some_and(|e| e.type_ != "SuccessCriteriaMet");
        let mut ordered: Vec<&Arc<Pod>> = seen.pods.iter().filter(|p| is_tracked(p)).collect();
        ordered.sort_by_key(|p| seen.index(p));
        for pod in ordered {
            let failed = seen.is_failed(pod);
            if !self.may_go(seen, pod, failed, end.is_some()) {
                continue;
            }
            release.push(Arc::clone(pod));
            let own = uid(pod).to_owned();
            let index = seen.index(pod);
            if pods::phase(pod) == "Succeeded" && !bad.contains(&own) {
                match index.filter(|_| seen.is_indexed()) {
                    Some(index) if !self.before.has(index) => indexes.push(index),
                    None if !seen.is_indexed() && !good.contains(&own) => good.push(own),
                    _ => {}
                }
            } else if (failed || failing)
                && !bad.contains(&own)
                && (!seen.is_indexed() || index.is_some())
                && seen.counts(pod)
            {
                bad.push(own);
            }
            if good.len() + bad.len() + indexes.len() >= AT_ONCE {
                is_all = false;
                break;
            }
        }
        if seen.is_indexed() {
            let all = self.before.with(indexes);
            status.succeeded = nonzero(all.count());
            status.completed_indexes = Some(all.to_string()).filter(|t| !t.is_empty());
            status.failed_indexes = self.failed.as_ref().map(ToString::to_string);
        }
        (release, is_all)
    }

    fn may_go(&self, seen: &Seen<'_>, pod: &Pod, failed: bool, ending: bool) -> bool {
        let kept = self.kept.iter().any(|u| u == uid(pod));
        seen.job.metadata.deletion_timestamp.is_some()
            || ending
            || pods::phase(pod) == "Succeeded"
            || (failed && !kept)
    }
}

/// Makes numbers of UIDs whose pods have no finalizer any more.
pub(super) fn settle(status: &mut JobStatus, tracked: impl Fn(&str) -> bool) {
    let Some(uncounted) = status.uncounted_terminated_pods.as_mut() else {
        return;
    };
    for (uids, count) in [
        (&mut uncounted.succeeded, &mut status.succeeded),
        (&mut uncounted.failed, &mut status.failed),
    ] {
        let uids = uids.get_or_insert_default();
        let before = uids.len();
        uids.retain(|uid| tracked(uid));
        let counted = whole(before - uids.len());
        *count = nonzero(count.unwrap_or(0).saturating_add(counted));
    }
}

/// Ends a job whose pods are all counted; whether it has.
pub(super) fn finish(status: &mut JobStatus, end: &JobCondition) -> bool {
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let left = [uncounted.succeeded, uncounted.failed];
    if left.iter().flatten().any(|l| !l.is_empty()) || status.terminating.unwrap_or(0) > 0 {
        return false;
    }
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != end.type_);
    conditions.push(end.clone());
    if end.type_ == "Complete" {
        status.completion_time = end.last_transition_time.clone();
    }
    true
}

/// Tells whether the job is suspended; which it is, if that is new.
fn turn(status: &mut JobStatus, suspended: bool, now: Timestamp) -> Option<bool> {
    let new = if suspended {
        made("Suspended", true, "JobSuspended", "Job suspended", now)
    } else {
        made("Suspended", false, "JobResumed", "Job resumed", now)
    };
    let all = status.conditions.get_or_insert_default();
    match all.iter_mut().find(|c| c.type_ == "Suspended") {
        Some(old) if old.status == new.status => None,
        Some(old) => {
            *old = new;
            Some(suspended)
        }
        None if suspended => {
            all.push(new);
            Some(true)
        }
        None => None,
    }
}

/// Whether another controller has the job.
pub(super) fn is_foreign(job: &Job) -> bool {
    let by = job.spec.as_ref().and_then(|s| s.managed_by.as_deref());
    by.is_some_and(|by| by != "kubernetes.io/job-controller")
}

#[cfg(test)]
mod tests;
