//! What a job and its pods are at a moment. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;

use super::indexes::Indexes;
use super::policy::{Verdict, verdict};
use crate::pods;

/// On pods that the job's status does not count yet.
pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub(super) const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// The wait after the first failure; it doubles with each one.
const BACK_OFF: Duration = Duration::from_secs(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(600);

/// A job, its pods and the time.
pub(super) struct Seen<'s> {
    pub job: &'s Job,
    pub spec: &'s JobSpec,
    pub pods: &'s [Arc<Pod>],
    pub now: Timestamp,
}

impl Seen<'_> {
    pub(super) fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    /// How many indexes there are; 0 if pods have none.
    pub(super) fn completions(&self) -> i32 {
        self.spec.completions.unwrap_or(0)
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    pub(super) fn waits_for_terminating(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed")
    }

    pub(super) fn per_index(&self) -> Option<i32> {
        self.spec.backoff_limit_per_index
    }

    /// A pod that failed. One that is deleted has, unless replacements wait for the end.
    pub(super) fn is_failed(&self, pod: &Pod) -> bool {
        let phase = pods::phase(pod);
        let deleted = pod.metadata.deletion_timestamp.is_some() && phase != "Succeeded";
        phase == "Failed" || (deleted && !self.waits_for_terminating())
    }

    pub(super) fn verdict(&self, pod: &Pod) -> Verdict {
        verdict(self.spec.pod_failure_policy.as_ref(), pod)
    }

    /// A failure that counts.
    pub(super) fn counts(&self, pod: &Pod) -> bool {
        self.verdict(pod) != Verdict::Ignore
    }

    /// The index of a pod, if it is one of the job's.
    pub(super) fn index(&self, pod: &Pod) -> Option<i32> {
        number(&pod.metadata, INDEX).filter(|index| *index < self.completions())
    }

    pub(super) fn active(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter().filter(|pod| pods::is_active(pod))
    }

    /// Pods that the status does not count yet: with the finalizer and an index, and not among `uncounted`.
    pub(super) fn fresh<'f>(
        &'f self,
        uncounted: &'f [String],
        wanted: impl Fn(&Pod) -> bool + 'f,
    ) -> impl Iterator<Item = &'f Arc<Pod>> {
        let known = |pod: &Pod| {
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            uncounted.iter().any(|u| u == uid)
        };
        self.pods.iter().filter(move |pod| {
            is_tracked(pod)
                && !known(pod)
                && (!self.is_indexed() || self.index(pod).is_some())
                && wanted(pod)
        })
    }

    /// Successful indexes: as the status has them, and with those of pods.
    pub(super) fn succeeded_indexes(&self) -> (Indexes, Indexes) {
        let status = self.job.status.as_ref();
        let text = status.and_then(|s| s.completed_indexes.as_deref());
        let before = Indexes::parse(text.unwrap_or_default(), self.completions());
        let new = self
            .pods
            .iter()
            .filter(|p| is_tracked(p) && pods::phase(p) == "Succeeded")
            .filter_map(|p| self.index(p));
        let all = before.with(new);
        (before, all)
    }

    /// Indexes that failed as often as they may.
    pub(super) fn failed_indexes(&self) -> Option<Indexes> {
        let limit = self.per_index()?;
        let status = self.job.status.as_ref();
        let text = status.and_then(|s| s.failed_indexes.as_deref());
        let before = Indexes::parse(text.unwrap_or_default(), self.completions());
        let for_good = |pod: &Pod| {
            let count = number(&pod.metadata, FAILURES).unwrap_or(0);
            match self.verdict(pod) {
                Verdict::FailIndex => true,
                Verdict::Ignore => false,
                Verdict::Count | Verdict::FailJob(_) => count >= limit,
            }
        };
        let new = self
            .pods
            .iter()
            .filter(|p| is_tracked(p) && self.is_failed(p) && for_good(p))
            .filter_map(|p| self.index(p));
        Some(before.with(new))
    }

    /// The last failed pod of each index that is to be tried again: it stays until its successor has its count.
    pub(super) fn last_failures(
        &self,
        succeeded: &Indexes,
        failed: &Indexes,
    ) -> BTreeMap<i32, &Arc<Pod>> {
        let active: Vec<i32> = self.active().filter_map(|p| self.index(p)).collect();
        let mut last: BTreeMap<i32, &Arc<Pod>> = BTreeMap::new();
        for pod in self.fresh(&[], |p| self.is_failed(p)) {
            let Some(index) = self.index(pod) else {
                continue;
            };
            if succeeded.has(index) || failed.has(index) || active.contains(&index) {
                continue;
            }
            let rank = |p: &Pod| (failures(p), finished_at(p));
            if last
                .get(&index)
                .is_none_or(|before| rank(before) <= rank(pod))
            {
                last.insert(index, pod);
            }
        }
        last
    }

    /// How long until an index may be tried again.
    pub(super) fn index_wait(&self, last: Option<&Pod>) -> Duration {
        let Some(last) = last else {
            return Duration::ZERO;
        };
        wait(
            failures(last).saturating_add(1),
            finished_at(last),
            self.now,
        )
    }
}

/// How often a pod's index failed before it, counted or not.
fn failures(pod: &Pod) -> i32 {
    let counted = number(&pod.metadata, FAILURES).unwrap_or(0);
    counted.saturating_add(number(&pod.metadata, IGNORED).unwrap_or(0))
}

/// Whether the job's status still has to count a pod.
pub(super) fn is_tracked(pod: &Pod) -> bool {
    let mut finalizers = pod.metadata.finalizers.iter().flatten();
    finalizers.any(|f| f == FINALIZER)
}

/// A number that is not negative, in an annotation.
pub(super) fn number(meta: &ObjectMeta, key: &str) -> Option<i32> {
    let text = meta.annotations.as_ref()?.get(key)?;
    text.parse().ok().filter(|n| *n >= 0)
}

/// A condition of a job that is true.
pub(super) fn condition<'j>(job: &'j Job, kind: &str) -> Option<&'j JobCondition> {
    let all = job.status.as_ref()?.conditions.as_deref()?;
    all.iter().find(|c| c.type_ == kind && c.status == "True")
}

/// Whether a job has ended.
pub(super) fn is_finished(job: &Job) -> bool {
    condition(job, "Complete").is_some() || condition(job, "Failed").is_some()
}

/// When a pod ended, as well as that is known.
pub(super) fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let of_containers = || {
        let status = pod.status.as_ref()?;
        let main = status.container_statuses.iter().flatten();
        let init = status.init_container_statuses.iter().flatten();
        // Sidecars end last.
        let sidecars = init.filter(|c| is_sidecar(pod, &c.name));
        let ends: Option<Vec<Timestamp>> = main.chain(sidecars).map(end).collect();
        ends?.into_iter().max()
    };
    let unready = || {
        let ready = pods::condition(pod, "Ready").filter(|c| c.status == "False")?;
        ready.last_transition_time.as_ref().map(|t| t.0)
    };
    let deleted = || {
        let Time(at) = pod.metadata.deletion_timestamp.as_ref()?;
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        at.checked_sub(grace).ok()
    };
    let created = || pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    of_containers()
        .or_else(unready)
        .or_else(deleted)
        .or_else(created)
}

fn is_sidecar(pod: &Pod, name: &str) -> bool {
    let init = pod.spec.as_ref().and_then(|s| s.init_containers.as_deref());
    let mut init = init.unwrap_or_default().iter();
    init.any(|c| c.name == name && c.restart_policy.as_deref() == Some("Always"))
}

fn end(container: &ContainerStatus) -> Option<Timestamp> {
    let ended = container.state.as_ref()?.terminated.as_ref()?;
    ended.finished_at.as_ref().map(|t| t.0)
}

/// What is left of the wait after so many failures.
fn wait(failures: i32, last: Option<Timestamp>, now: Timestamp) -> Duration {
    let Some(last) = last.filter(|_| failures > 0) else {
        return Duration::ZERO;
    };
    let doublings = u32::try_from(failures - 1).unwrap_or(0).min(16);
    let whole = BACK_OFF
        .saturating_mul(1 << doublings)
        .min(LONGEST_BACK_OFF);
    let gone = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    whole.saturating_sub(gone)
}

/// Failures since the last success, of a job whose indexes do not count for themselves.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Backoff {
    failures: i32,
    last: Option<Timestamp>,
}

impl Backoff {
    /// With pods that ended since.
    pub(super) fn after<'p>(
        self,
        succeeded: impl Iterator<Item = &'p Arc<Pod>>,
        failed: impl Iterator<Item = &'p Arc<Pod>>,
    ) -> Self {
        let success = succeeded.filter_map(|p| finished_at(p)).max();
        let before = if success.is_some() {
            Self::default()
        } else {
            self
        };
        let later = failed
            .filter_map(|p| finished_at(p))
            .filter(|at| success.is_none_or(|success| *at > success));
        later.fold(before, |all, at| Self {
            failures: all.failures.saturating_add(1),
            last: all.last.max(Some(at)),
        })
    }

    /// How long until the next pod may be made.
    pub(super) fn wait(self, now: Timestamp) -> Duration {
        wait(self.failures, self.last, now)
    }
}
