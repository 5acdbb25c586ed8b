//! `workqueue_*`: what work queues do.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use std::sync::atomic::AtomicU64;

use super::{Buckets, Counters, Gauges, Histograms, Labels, Metrics};

/// From 10 ns on, by tens: upstream's.
const SECONDS: Buckets = Buckets(&[1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0]);

/// The families of `k8s.io/component-base/metrics/prometheus/workqueue`.
#[derive(Clone)]
pub struct Queues {
    depth: Gauges<1>,
    adds: Counters<1>,
    waited: Histograms<1>,
    worked: Histograms<1>,
    unfinished: Family<Labels<1>, Seconds>,
    longest: Family<Labels<1>, Seconds>,
    retries: Counters<1>,
}

type Seconds = Gauge<f64, AtomicU64>;

/// The metrics of one queue.
#[derive(Clone)]
pub struct QueueMetrics {
    pub(crate) depth: Gauge,
    pub(crate) adds: Counter,
    /// Seconds between being added and being taken.
    pub(crate) waited: Histogram,
    /// Seconds between being taken and being done.
    pub(crate) worked: Histogram,
    pub(crate) unfinished: Seconds,
    pub(crate) longest: Seconds,
    pub(crate) retries: Counter,
}

impl Default for Queues {
    fn default() -> Self {
        Self {
            depth: Family::default(),
            adds: Family::default(),
            waited: Family::new_with_constructor(SECONDS),
            worked: Family::new_with_constructor(SECONDS),
            unfinished: Family::default(),
            longest: Family::default(),
            retries: Family::default(),
        }
    }
}

impl Queues {
    pub(super) fn register(&self, metrics: &Metrics) {
        metrics.register("workqueue_depth", "Keys that wait", self.depth.clone());
        metrics.register(
            "workqueue_adds_total",
            "Keys that were added",
            self.adds.clone(),
        );
        metrics.register(
            "workqueue_queue_duration_seconds",
            "How long keys wait",
            self.waited.clone(),
        );
        metrics.register(
            "workqueue_work_duration_seconds",
            "How long keys are worked on",
            self.worked.clone(),
        );
        metrics.register(
            "workqueue_unfinished_work_seconds",
            "How long the keys in work have been in work, together",
            self.unfinished.clone(),
        );
        metrics.register(
            "workqueue_longest_running_processor_seconds",
            "How long the key that is longest in work has been in work",
            self.longest.clone(),
        );
        metrics.register(
            "workqueue_retries_total",
            "Keys that were added again after a failure",
            self.retries.clone(),
        );
    }

    /// The metrics of the queue `name`.
    #[must_use]
    pub fn of(&self, name: &str) -> QueueMetrics {
        let labels = [("name", name.to_owned())];
        QueueMetrics {
            depth: self.depth.get_or_create_owned(&labels),
            adds: self.adds.get_or_create_owned(&labels),
            waited: self.waited.get_or_create_owned(&labels),
            worked: self.worked.get_or_create_owned(&labels),
            unfinished: self.unfinished.get_or_create_owned(&labels),
            longest: self.longest.get_or_create_owned(&labels),
            retries: self.retries.get_or_create_owned(&labels),
        }
    }
}
