//! What is measured of policies, under upstream's names (`policy/{validating,mutating}/metrics/metrics.go`).

use std::time::Duration;

use component::metrics::{Buckets, Counters, Histograms, Metrics};
use prometheus_client::metrics::family::Family;

/// Upstream's, in seconds.
const SECONDS: Buckets = Buckets(&[0.000_000_5, 0.001, 0.01, 0.1, 1.0]);

/// Checks of one kind of policies.
pub(super) enum Checks {
    Validating(Counters<4>, Histograms<4>),
    Mutating(Counters<3>, Histograms<3>),
}

impl Checks {
    pub(super) fn of_validating(metrics: &Metrics) -> Self {
        Self::Validating(
            metrics.registered(
                "apiserver_validating_admission_policy_check_total",
                "Checks by validating policies, by what followed",
                Family::default(),
            ),
            metrics.registered(
                "apiserver_validating_admission_policy_check_duration_seconds",
                "How long a check by a validating policy took",
                Family::new_with_constructor(SECONDS),
            ),
        )
    }

    pub(super) fn of_mutating(metrics: &Metrics) -> Self {
        Self::Mutating(
            metrics.registered(
                "apiserver_mutating_admission_policy_check_total",
                "Changes by mutating policies",
                Family::default(),
            ),
            metrics.registered(
                "apiserver_mutating_admission_policy_check_duration_seconds",
                "How long a change by a mutating policy took",
                Family::new_with_constructor(SECONDS),
            ),
        )
    }

    /// Notes a check; what was done about it is told of validating policies.
    pub(super) fn observe(
        &self,
        policy: &str,
        binding: &str,
        error_type: &'static str,
        action: Option<&'static str>,
        took: Duration,
    ) {
        let [policy, binding, error_type] = [
            ("policy", policy.to_owned()),
            ("policy_binding", binding.to_owned()),
            ("error_type", error_type.to_owned()),
        ];
        match self {
            Self::Validating(total, durations) => {
                let action = ("enforcement_action", action.unwrap_or_default().to_owned());
                let labels = [policy, binding, error_type, action];
                total.get_or_create(&labels).inc();
                durations.get_or_create(&labels).observe(took.as_secs_f64());
            }
            Self::Mutating(total, durations) => {
                let labels = [policy, binding, error_type];
                total.get_or_create(&labels).inc();
                durations.get_or_create(&labels).observe(took.as_secs_f64());
            }
        }
    }
}

pub(super) const NO_ERROR: &str = "no_error";

/// What kind of failure a message tells of; upstream reads it off the message as well.
pub(super) fn error_type(message: &str) -> &'static str {
    if message.starts_with("compilation") {
        "compile_error"
    } else if message.starts_with("validation failed due to running out of cost budget") {
        "out_of_budget"
    } else {
        "invalid_error"
    }
}
