//! What is measured of webhooks, under upstream's names (`apiserver/pkg/admission/metrics/metrics.go`).

use std::time::Duration;

use component::metrics::{self, Buckets, Counters, Histograms};
use prometheus_client::metrics::family::Family;

use super::super::Operation;

/// Upstream's, in seconds.
const SECONDS: Buckets = Buckets(&[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0]);
const CONDITION_SECONDS: Buckets = Buckets(&[0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25]);
/// Codes beyond are counted as this one.
const MAX_CODE: u16 = 600;

/// The series of both plugins, which differ in their label `type`.
#[derive(Clone)]
pub(in super::super) struct Families {
    durations: Histograms<4>,
    rejections: Counters<5>,
    failed_open: Counters<2>,
    requests: Counters<5>,
    condition_errors: Counters<4>,
    exclusions: Counters<4>,
    condition_durations: Histograms<4>,
}

impl Families {
    pub(in super::super) fn register(metrics: &metrics::Metrics) -> Self {
        Self {
            durations: metrics.registered(
                "apiserver_admission_webhook_admission_duration_seconds",
                "How long an admission webhook took",
                Family::new_with_constructor(SECONDS),
            ),
            rejections: metrics.registered(
                "apiserver_admission_webhook_rejection_count",
                "Writes that an admission webhook refused, or that were refused because it did not answer",
                Family::default(),
            ),
            failed_open: metrics.registered(
                "apiserver_admission_webhook_fail_open_count",
                "Writes that passed because an admission webhook did not answer",
                Family::default(),
            ),
            requests: metrics.registered(
                "apiserver_admission_webhook_request_total",
                "Calls of admission webhooks by their outcome",
                Family::default(),
            ),
            condition_errors: metrics.registered(
                "apiserver_admission_match_condition_evaluation_errors_total",
                "Match conditions that could not be evaluated",
                Family::default(),
            ),
            exclusions: metrics.registered(
                "apiserver_admission_match_condition_exclusions_total",
                "Writes about which a webhook was not asked because of its match conditions",
                Family::default(),
            ),
            condition_durations: metrics.registered(
                "apiserver_admission_match_condition_evaluation_seconds",
                "How long match conditions took",
                Family::new_with_constructor(CONDITION_SECONDS),
            ),
        }
    }

    pub(super) fn of(&self, kind: &'static str, accessor: &'static str) -> Metrics {
        Metrics {
            families: self.clone(),
            holder: "webhook",
            kind,
            accessor,
        }
    }

    /// What is measured of the match conditions of policies; upstream does not tell mutating ones.
    pub(in super::super) fn of_policies(&self) -> Metrics {
        Metrics {
            families: self.clone(),
            holder: "policy",
            kind: "validate",
            accessor: "validate",
        }
    }
}

/// The series of one plugin.
pub(in super::super) struct Metrics {
    families: Families,
    /// Whose match conditions they are: `webhook` or `policy`.
    holder: &'static str,
    /// `admit` or `validating`.
    kind: &'static str,
    /// The same, as exclusions have it: `admit` or `validate`.
    accessor: &'static str,
}

/// How a call ended.
pub(super) struct Outcome {
    /// Whether the write was refused over it.
    pub(super) rejected: bool,
    /// Whose fault that was, as upstream calls it.
    pub(super) error_type: Option<&'static str>,
    pub(super) code: u16,
}

fn bounded(code: u16) -> String {
    code.min(MAX_CODE).to_string()
}

impl Metrics {
    pub(super) fn is_mutating(&self) -> bool {
        self.kind == "admit"
    }

    pub(super) fn called(
        &self,
        webhook: &str,
        operation: Operation,
        outcome: &Outcome,
        took: Duration,
    ) {
        let name = ("name", webhook.to_owned());
        let kind = ("type", self.kind.to_owned());
        let operation = ("operation", operation.text().to_owned());
        let rejected = ("rejected", outcome.rejected.to_string());
        if let Some(error_type) = outcome.error_type {
            let labels = [
                name.clone(),
                kind.clone(),
                operation.clone(),
                ("error_type", error_type.to_owned()),
                ("rejection_code", bounded(outcome.code)),
            ];
            self.families.rejections.get_or_create(&labels).inc();
        }
        let labels = [
            name.clone(),
            kind.clone(),
            operation.clone(),
            ("code", bounded(outcome.code)),
            rejected.clone(),
        ];
        self.families.requests.get_or_create(&labels).inc();
        let labels = [name, kind, operation, rejected];
        let durations = &self.families.durations;
        durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(super) fn failed_open(&self, webhook: &str) {
        let labels = [("name", webhook.to_owned()), ("type", self.kind.to_owned())];
        self.families.failed_open.get_or_create(&labels).inc();
    }

    fn condition(
        &self,
        webhook: &str,
        kind: &'static str,
        operation: Operation,
    ) -> metrics::Labels<4> {
        [
            ("name", webhook.to_owned()),
            ("kind", self.holder.to_owned()),
            ("type", kind.to_owned()),
            ("operation", operation.text().to_owned()),
        ]
    }

    pub(super) fn excluded(&self, webhook: &str, operation: Operation) {
        let labels = self.condition(webhook, self.accessor, operation);
        self.families.exclusions.get_or_create(&labels).inc();
    }

    pub(in super::super) fn condition_failed(&self, webhook: &str, operation: Operation) {
        let labels = self.condition(webhook, self.kind, operation);
        self.families.condition_errors.get_or_create(&labels).inc();
    }

    pub(in super::super) fn evaluated(&self, webhook: &str, operation: Operation, took: Duration) {
        let labels = self.condition(webhook, self.kind, operation);
        let durations = &self.families.condition_durations;
        durations.get_or_create(&labels).observe(took.as_secs_f64());
    }
}
