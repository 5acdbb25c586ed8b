//! How long admission takes, under upstream's names (`apiserver/pkg/admission/metrics/metrics.go`).
//!
//! Every plugin is observed on every write, so the series of each are kept and looked up once. The
//! summary beside the steps' histogram, which has no quantiles, is left out: sum and count are the
//! histogram's.

use std::sync::OnceLock;
use std::time::Duration;

use component::metrics::{Buckets, Metrics};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::{Operation, Phase};

/// Upstream's, in seconds.
const SECONDS: Buckets = Buckets(&[0.005, 0.025, 0.1, 0.5, 1.0, 2.5]);
/// Operations, each let pass or refused.
const OUTCOMES: usize = 2 * Operation::ALL.len();

/// Names and values, in the order of the names.
type Labels = Vec<(&'static str, &'static str)>;
type Histograms = Family<Labels, Histogram, Buckets>;

/// What is measured of the chain.
pub(super) struct Durations {
    controllers: Histograms,
    steps: Histograms,
}

impl Durations {
    pub(super) fn register(metrics: &Metrics) -> Self {
        Self {
            controllers: metrics.registered(
                "apiserver_admission_controller_admission_duration_seconds",
                "How long one admission plugin took",
                Family::new_with_constructor(SECONDS),
            ),
            steps: metrics.registered(
                "apiserver_admission_step_admission_duration_seconds",
                "How long a step of admission took: all plugins that change, or all that look",
                Family::new_with_constructor(SECONDS),
            ),
        }
    }

    /// The series of a plugin in a phase.
    pub(super) fn plugin(&self, name: &'static str, phase: Phase) -> Series {
        Series {
            family: self.controllers.clone(),
            labels: vec![("name", name)],
            phase,
            known: Default::default(),
        }
    }

    /// The series of a whole phase.
    pub(super) fn step(&self, phase: Phase) -> Series {
        Series {
            family: self.steps.clone(),
            labels: Vec::new(),
            phase,
            known: Default::default(),
        }
    }
}

/// The series of a plugin or of a step, by operation and outcome.
pub(super) struct Series {
    family: Histograms,
    labels: Labels,
    phase: Phase,
    known: [OnceLock<Histogram>; OUTCOMES],
}

impl Series {
    pub(super) fn observe(&self, operation: Operation, rejected: bool, took: Duration) {
        let at = 2 * operation as usize + usize::from(rejected);
        let series = self.known[at].get_or_init(|| {
            let mut labels = self.labels.clone();
            labels.extend([
                ("operation", operation.text()),
                ("rejected", if rejected { "true" } else { "false" }),
                ("type", self.phase.name()),
            ]);
            self.family.get_or_create(&labels).clone()
        });
        series.observe(took.as_secs_f64());
    }
}
