//! What is counted about probes, under upstream's names.

use component::metrics::{Buckets, Counters, Histograms, Metrics};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Kind;
use crate::make;

/// Prometheus' own.
const BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The values of `result`.
const RESULTS: [&str; 2] = ["successful", "failed"];

pub(super) struct Counts {
    total: Counters<6>,
    duration: Histograms<4>,
    /// Probes with counters, by the uid of their pod: container and kind.
    known: Mutex<BTreeMap<String, BTreeSet<Of>>>,
}

/// Whose counters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Of {
    container: String,
    namespace: String,
    pod: String,
    kind: Kind,
}

impl Of {
    fn total(&self, uid: &str, result: &str) -> [(&'static str, String); 6] {
        [
            ("container", self.container.clone()),
            ("namespace", self.namespace.clone()),
            ("pod", self.pod.clone()),
            ("pod_uid", uid.to_owned()),
            ("probe_type", self.kind.name().to_owned()),
            ("result", result.to_owned()),
        ]
    }

    fn duration(&self) -> [(&'static str, String); 4] {
        [
            ("container", self.container.clone()),
            ("namespace", self.namespace.clone()),
            ("pod", self.pod.clone()),
            ("probe_type", self.kind.name().to_owned()),
        ]
    }
}

impl Counts {
    pub(super) fn registered(metrics: &Metrics) -> Self {
        Self {
            total: metrics.registered(
                "prober_probe_total",
                "Cumulative number of a liveness, readiness or startup probe for a container by result",
                Counters::default(),
            ),
            duration: metrics.registered(
                "prober_probe_duration_seconds",
                "Duration in seconds for a probe response",
                Histograms::new_with_constructor(Buckets(BUCKETS)),
            ),
            known: Mutex::default(),
        }
    }

    /// Counts a probe. Only those that succeeded say how long probes take.
    pub(super) fn count(
        &self,
        pod: &Pod,
        container: &str,
        kind: Kind,
        success: bool,
        took: Duration,
    ) {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let of = Of {
            container: container.to_owned(),
            namespace: text(&pod.metadata.namespace),
            pod: text(&pod.metadata.name),
            kind,
        };
        let uid = make::uid(pod);
        let result = RESULTS[usize::from(!success)];
        self.total.get_or_create(&of.total(uid, result)).inc();
        if success {
            let seconds = took.as_secs_f64();
            self.duration.get_or_create(&of.duration()).observe(seconds);
        }
        let mut known = self.known.lock();
        if !known.get(uid).is_some_and(|all| all.contains(&of)) {
            known.entry(uid.to_owned()).or_default().insert(of);
        }
    }

    pub(super) fn forget_pod(&self, uid: &str) {
        for of in self.known.lock().remove(uid).into_iter().flatten() {
            for result in RESULTS {
                self.total.remove(&of.total(uid, result));
            }
            self.duration.remove(&of.duration());
        }
    }
}
