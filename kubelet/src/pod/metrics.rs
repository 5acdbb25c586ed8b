//! What is counted, under upstream's names.

use component::metrics::{Buckets, Counters, Histograms, Metrics};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

/// Prometheus' own buckets.
const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Upstream's for the start of a pod.
const START: &[f64] = &[
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0,
    300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];

pub(super) struct Counts {
    pub(super) started_pods: Counter,
    pub(super) started_pods_errors: Counter,
    pub(super) started_containers: Counters<1>,
    pub(super) started_containers_errors: Counters<2>,
    pub(super) rejected_pods: Counters<1>,
    pub(super) start_duration: Histogram,
    pub(super) worker_duration: Histograms<1>,
    pub(super) status_duration: Histogram,
}

impl Counts {
    pub(super) fn register(metrics: &Metrics) -> Self {
        Self {
            started_pods: metrics.registered(
                "kubelet_started_pods",
                "Cumulative number of pods started",
                Counter::default(),
            ),
            started_pods_errors: metrics.registered(
                "kubelet_started_pods_errors",
                "Cumulative number of errors when starting pods",
                Counter::default(),
            ),
            started_containers: metrics.registered(
                "kubelet_started_containers",
                "Cumulative number of containers started",
                Family::default(),
            ),
            started_containers_errors: metrics.registered(
                "kubelet_started_containers_errors",
                "Cumulative number of errors when starting containers",
                Family::default(),
            ),
            rejected_pods: metrics.registered(
                "kubelet_admission_rejections",
                "Cumulative number pod admission rejections by the Kubelet.",
                Family::default(),
            ),
            start_duration: metrics.registered(
                "kubelet_pod_start_duration_seconds",
                "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
                Histogram::new(START.iter().copied()),
            ),
            worker_duration: metrics.registered(
                "kubelet_pod_worker_duration_seconds",
                "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
                Family::new_with_constructor(Buckets(SECONDS)),
            ),
            status_duration: metrics.registered(
                "kubelet_pod_status_sync_duration_seconds",
                "Duration in seconds to sync a pod status update.",
                Histogram::new(SECONDS.iter().copied()),
            ),
        }
    }
}
