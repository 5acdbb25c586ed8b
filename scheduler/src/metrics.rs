//! `scheduler_*`: what the scheduler counts, under upstream's names (`pkg/scheduler/metrics`).

use std::collections::HashMap;

use component::metrics::{Buckets, Counters, Gauges, Histograms, Metrics as Registry};
use prometheus_client::metrics::histogram::Histogram;

use crate::decide::Spent;

/// From 1 ms on, doubling: upstream's.
const SECONDS: Buckets = Buckets(&[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
]);
/// From 10 ms on, doubling.
const SLI_SECONDS: Buckets = Buckets(&[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84,
    327.68, 655.36, 1310.72, 2621.44, 5242.88,
]);
/// From 1 ms on, doubling.
const PREEMPTION_SECONDS: Buckets = Buckets(&[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384, 32.768,
]);
/// From 0.1 ms on, doubling.
const POINT_SECONDS: Buckets = Buckets(&[
    0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0128, 0.0256, 0.0512, 0.1024, 0.2048,
]);
const ATTEMPTS: [f64; 5] = [1.0, 2.0, 4.0, 8.0, 16.0];

/// How an attempt ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Scheduled,
    Unschedulable,
    Error,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Unschedulable => "unschedulable",
            Self::Error => "error",
        }
    }
}

/// The families; cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    attempts: Counters<2>,
    attempt_seconds: Histograms<2>,
    pub algorithm_seconds: Histogram,
    pending: Gauges<1>,
    pub pod_attempts: Histogram,
    sli_seconds: Histograms<1>,
    unschedulable: Gauges<2>,
    cache: Gauges<1>,
    pub preemption_attempts: prometheus_client::metrics::counter::Counter,
    preemption_victims: Histogram,
    preemption_violations: Counters<1>,
    preemption_runs: Counters<1>,
    preemption_seconds: Histograms<2>,
    point_seconds: Histograms<3>,
    incoming: Counters<2>,
}

impl Metrics {
    /// Registers them.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let new = Self {
            attempts: Counters::default(),
            attempt_seconds: Histograms::new_with_constructor(SECONDS),
            algorithm_seconds: Histogram::new(SECONDS.0.iter().copied()),
            pending: Gauges::default(),
            pod_attempts: Histogram::new(ATTEMPTS),
            sli_seconds: Histograms::new_with_constructor(SLI_SECONDS),
            unschedulable: Gauges::default(),
            cache: Gauges::default(),
            preemption_attempts: prometheus_client::metrics::counter::Counter::default(),
            preemption_victims: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]),
            preemption_violations: Counters::default(),
            preemption_runs: Counters::default(),
            preemption_seconds: Histograms::new_with_constructor(PREEMPTION_SECONDS),
            point_seconds: Histograms::new_with_constructor(POINT_SECONDS),
            incoming: Counters::default(),
        };
        let m = new.clone();
        registry.register(
            "scheduler_schedule_attempts_total",
            "Attempts to schedule pods, by result and profile",
            m.attempts,
        );
        registry.register(
            "scheduler_scheduling_attempt_duration_seconds",
            "How long attempts take, algorithm and binding",
            m.attempt_seconds,
        );
        registry.register(
            "scheduler_scheduling_algorithm_duration_seconds",
            "How long decisions take",
            m.algorithm_seconds,
        );
        registry.register(
            "scheduler_pending_pods",
            "Pods that wait, by queue",
            m.pending,
        );
        registry.register(
            "scheduler_pod_scheduling_attempts",
            "Attempts until a pod was scheduled",
            m.pod_attempts,
        );
        registry.register(
            "scheduler_pod_scheduling_sli_duration_seconds",
            "From the first attempt until a pod was scheduled",
            m.sli_seconds,
        );
        registry.register(
            "scheduler_unschedulable_pods",
            "Pods that a plugin rejected, by plugin and profile",
            m.unschedulable,
        );
        registry.register(
            "scheduler_cache_size",
            "Nodes, pods and assumed pods in the cache",
            m.cache,
        );
        registry.register(
            "scheduler_preemption_attempts_total",
            "Attempts to make room by preemption",
            m.preemption_attempts,
        );
        registry.register(
            "scheduler_preemption_victims",
            "Pods that had to go, by attempt",
            m.preemption_victims,
        );
        registry.register(
            "scheduler_preemption_pdb_violations_total",
            "Victims of preemption that a disruption budget would have kept",
            m.preemption_violations,
        );
        registry.register(
            "scheduler_preemption_goroutines_execution_total",
            "Preemptions carried out, by result",
            m.preemption_runs,
        );
        registry.register(
            "scheduler_preemption_execution_duration_seconds",
            "How long it takes to delete all victims of a pod",
            m.preemption_seconds,
        );
        registry.register(
            "scheduler_framework_extension_point_duration_seconds",
            "How long all plugins of an extension point take",
            m.point_seconds,
        );
        registry.register(
            "scheduler_queue_incoming_pods_total",
            "Pods that came to a queue, by queue and event",
            m.incoming,
        );
        new
    }

    /// An attempt ended.
    pub fn attempt(&self, outcome: Outcome, profile: &str, seconds: f64) {
        let labels = [
            ("profile", profile.to_owned()),
            ("result", outcome.name().to_owned()),
        ];
        self.attempts.get_or_create(&labels).inc();
        self.attempt_seconds.get_or_create(&labels).observe(seconds);
    }

    /// So many pods have to go for one, some of them against a budget.
    pub fn victims(&self, victims: usize, violations: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a number of pods on a node")]
        self.preemption_victims.observe(victims as f64);
        if violations > 0 {
            let count = u64::try_from(violations).unwrap_or(u64::MAX);
            let labels = [("preemptor", "pod".to_owned())];
            self.preemption_violations
                .get_or_create(&labels)
                .inc_by(count);
        }
    }

    /// An extension point was passed.
    pub fn point(&self, spent: &Spent, profile: &str) {
        let labels = [
            ("extension_point", spent.point.to_owned()),
            ("profile", profile.to_owned()),
            ("status", spent.status.to_owned()),
        ];
        let seconds = spent.time.as_secs_f64();
        self.point_seconds.get_or_create(&labels).observe(seconds);
    }

    /// So many pods came to queues since the last time, by queue and event.
    pub fn incoming(&self, moves: HashMap<(&'static str, String), u64>) {
        for ((queue, event), count) in moves {
            let labels = [("event", event), ("queue", queue.to_owned())];
            self.incoming.get_or_create(&labels).inc_by(count);
        }
    }

    /// A preemption was carried out.
    pub fn preempted(&self, fine: bool, seconds: f64) {
        let result = if fine { "success" } else { "error" };
        self.preemption_runs
            .get_or_create(&[("result", result.to_owned())])
            .inc();
        let labels = [
            ("preemptor", "pod".to_owned()),
            ("result", result.to_owned()),
        ];
        self.preemption_seconds
            .get_or_create(&labels)
            .observe(seconds);
    }

    /// A pod was scheduled, so long after its first attempt.
    pub fn scheduled(&self, attempts: u32, seconds: f64) {
        self.pod_attempts.observe(attempts.into());
        let label = if attempts >= 15 {
            "15+".to_owned()
        } else {
            attempts.to_string()
        };
        self.sli_seconds
            .get_or_create(&[("attempts", label)])
            .observe(seconds);
    }

    /// How many pods wait for what a plugin said, by plugin and profile; before each scrape.
    pub fn rejections(&self, counts: &HashMap<(&'static str, String), i64>) {
        self.unschedulable.clear();
        for ((plugin, profile), count) in counts {
            let labels = [
                ("plugin", (*plugin).to_owned()),
                ("profile", profile.clone()),
            ];
            self.unschedulable.get_or_create(&labels).set(*count);
        }
    }

    /// Sizes, before each scrape: queue lengths; nodes, pods, assumed pods.
    pub fn sizes(&self, queue: [usize; 4], cache: [usize; 3]) {
        let set = |family: &Gauges<1>, label: &'static str, names: &[&str], values: &[usize]| {
            for (name, value) in names.iter().zip(values) {
                let value = i64::try_from(*value).unwrap_or(i64::MAX);
                family
                    .get_or_create(&[(label, (*name).to_owned())])
                    .set(value);
            }
        };
        set(
            &self.pending,
            "queue",
            &["active", "backoff", "unschedulable", "gated"],
            &queue,
        );
        set(
            &self.cache,
            "type",
            &["nodes", "pods", "assumed_pods"],
            &cache,
        );
    }
}
