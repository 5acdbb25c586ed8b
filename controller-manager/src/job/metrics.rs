//! `job_controller_*`. Source: `pkg/controller/job/metrics`.

use std::time::Duration;

use component::metrics::{Buckets, Counters, Histograms, Metrics as Registry};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};

use super::indexes::Indexes;

/// From 4 ms on, doubled: upstream's.
const SECONDS: Buckets = Buckets(&[
    0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
    32.768, 65.536,
]);

/// What a look at a job did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    Reconciling,
    Tracking,
    PodsCreated,
    PodsDeleted,
}

impl Action {
    fn name(self) -> String {
        match self {
            Self::Reconciling => "reconciling",
            Self::Tracking => "tracking",
            Self::PodsCreated => "pods_created",
            Self::PodsDeleted => "pods_deleted",
        }
        .to_owned()
    }
}

/// The families; cheap to clone.
#[derive(Clone)]
pub(super) struct Metrics {
    seconds: Histograms<3>,
    syncs: Counters<3>,
    finished: Counters<3>,
    pods_finished: Counters<2>,
    indexes: Counters<2>,
    created: Counters<2>,
}

fn mode(job: &Job) -> String {
    let mode = job.spec.as_ref().and_then(|s| s.completion_mode.as_deref());
    mode.unwrap_or("NonIndexed").to_owned()
}

fn result(good: bool) -> String {
    if good { "succeeded" } else { "failed" }.to_owned()
}

fn grown(before: i32, after: i32) -> u64 {
    u64::try_from(after.saturating_sub(before)).unwrap_or(0)
}

impl Metrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let new = Self {
            seconds: Histograms::new_with_constructor(SECONDS),
            syncs: Counters::default(),
            finished: Counters::default(),
            pods_finished: Counters::default(),
            indexes: Counters::default(),
            created: Counters::default(),
        };
        let m = new.clone();
        registry.register(
            "job_controller_job_sync_duration_seconds",
            "How long looks at jobs take",
            m.seconds,
        );
        registry.register("job_controller_job_syncs_total", "Looks at jobs", m.syncs);
        registry.register(
            "job_controller_jobs_finished_total",
            "Jobs that ended",
            m.finished,
        );
        registry.register(
            "job_controller_job_pods_finished_total",
            "Pods that ended and were counted",
            m.pods_finished,
        );
        registry.register(
            "job_controller_job_finished_indexes_total",
            "Indexes that ended",
            m.indexes,
        );
        registry.register(
            "job_controller_job_pods_creation_total",
            "Pods that were made, by why",
            m.created,
        );
        new
    }

    pub(super) fn synced(&self, job: &Job, action: Action, good: bool, took: Duration) {
        let result = if good { "success" } else { "error" }.to_owned();
        let labels = [
            ("completion_mode", mode(job)),
            ("result", result),
            ("action", action.name()),
        ];
        self.seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        self.syncs.get_or_create(&labels).inc();
    }

    pub(super) fn ended(&self, job: &Job, end: &JobCondition) {
        let labels = [
            ("completion_mode", mode(job)),
            ("result", result(end.type_ == "Complete")),
            ("reason", end.reason.clone().unwrap_or_default()),
        ];
        self.finished.get_or_create(&labels).inc();
    }

    /// Pods that were made, `failed` of which could not be.
    pub(super) fn created(&self, reason: &str, succeeded: usize, failed: usize) {
        for (status, count) in [("succeeded", succeeded), ("failed", failed)] {
            if count > 0 {
                let labels = [("reason", reason.to_owned()), ("status", status.to_owned())];
                let count = u64::try_from(count).unwrap_or(u64::MAX);
                self.created.get_or_create(&labels).inc_by(count);
            }
        }
    }

    /// What a written status counts that the one before did not.
    pub(super) fn counted(&self, job: &Job, before: &JobStatus, after: &JobStatus) {
        let pods = |good: bool, count: u64| {
            if count > 0 {
                let labels = [("completion_mode", mode(job)), ("result", result(good))];
                self.pods_finished.get_or_create(&labels).inc_by(count);
            }
        };
        pods(
            false,
            grown(before.failed.unwrap_or(0), after.failed.unwrap_or(0)),
        );
        let spec = job.spec.as_ref();
        if mode(job) != "Indexed" {
            let good = grown(before.succeeded.unwrap_or(0), after.succeeded.unwrap_or(0));
            return pods(true, good);
        }
        let completions = spec.and_then(|s| s.completions).unwrap_or(0);
        let count = |text: Option<&String>| {
            Indexes::parse(text.map_or("", String::as_str), completions).count()
        };
        let more = |before, after| grown(count(before), count(after));
        let good = more(
            before.completed_indexes.as_ref(),
            after.completed_indexes.as_ref(),
        );
        pods(true, good);
        let bad = more(
            before.failed_indexes.as_ref(),
            after.failed_indexes.as_ref(),
        );
        let per_index = spec.is_some_and(|s| s.backoff_limit_per_index.is_some());
        let limit = if per_index { "perIndex" } else { "global" };
        for (is_good, count) in [(true, good), (false, bad)] {
            if count > 0 {
                let labels = [
                    ("status", result(is_good)),
                    ("backoffLimit", limit.to_owned()),
                ];
                self.indexes.get_or_create(&labels).inc_by(count);
            }
        }
    }
}
