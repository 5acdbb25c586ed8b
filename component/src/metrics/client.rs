//! `rest_client_*`: what clients of the process ask the API server.

use std::time::Duration;

use prometheus_client::metrics::family::Family;

use super::{Buckets, Counters, Histograms, Metrics};

const SECONDS: Buckets = Buckets(&[
    0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0,
]);

/// The families of `k8s.io/component-base/metrics/prometheus/restclient`.
#[derive(Clone)]
pub struct Requests {
    total: Counters<3>,
    retries: Counters<3>,
    duration: Histograms<2>,
    limited: Histograms<2>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            total: Family::default(),
            retries: Family::default(),
            duration: Family::new_with_constructor(SECONDS),
            limited: Family::new_with_constructor(SECONDS),
        }
    }
}

impl Requests {
    pub(super) fn register(&self, metrics: &Metrics) {
        metrics.register(
            "rest_client_requests_total",
            "Requests by status code, method and host",
            self.total.clone(),
        );
        metrics.register(
            "rest_client_request_retries_total",
            "Repeated requests by status code, verb and host",
            self.retries.clone(),
        );
        metrics.register(
            "rest_client_request_duration_seconds",
            "Time to the head of the answer, by verb and host",
            self.duration.clone(),
        );
        metrics.register(
            "rest_client_rate_limiter_duration_seconds",
            "Time spent waiting for the client's own rate limit, by verb and host",
            self.limited.clone(),
        );
    }

    /// A request was answered with `code`, or failed with none.
    pub fn answered(&self, code: Option<u16>, method: &str, host: &str, took: Duration) {
        self.total
            .get_or_create(&codes(code, "method", method, host))
            .inc();
        self.duration
            .get_or_create(&verb(method, host))
            .observe(took.as_secs_f64());
    }

    /// A request is sent again.
    pub fn retried(&self, code: Option<u16>, method: &str, host: &str) {
        self.retries
            .get_or_create(&codes(code, "verb", method, host))
            .inc();
    }

    /// A request had to wait for the rate limit.
    pub fn waited(&self, method: &str, host: &str, waited: Duration) {
        self.limited
            .get_or_create(&verb(method, host))
            .observe(waited.as_secs_f64());
    }
}

fn codes(
    code: Option<u16>,
    method_label: &'static str,
    method: &str,
    host: &str,
) -> super::Labels<3> {
    let code = code.map_or_else(|| "<error>".to_owned(), |c| c.to_string());
    [
        ("code", code),
        (method_label, method.to_owned()),
        ("host", host.to_owned()),
    ]
}

fn verb(method: &str, host: &str) -> super::Labels<2> {
    [("verb", method.to_owned()), ("host", host.to_owned())]
}
