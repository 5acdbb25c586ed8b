//! What is counted of the signer, under upstream's names (`externaljwt/metrics/metrics.go`).

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use component::metrics::{Buckets, Counters, Histograms, Metrics};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Error;
use crate::plugin;
use crate::reload::now;

const SECONDS: Buckets = Buckets(&[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
]);

type Time = Gauge<f64, AtomicU64>;

pub(super) struct Counted {
    fetched_at: Time,
    data: Time,
    fetches: Counters<1>,
    signatures: Counters<1>,
    took: Histograms<2>,
}

impl Counted {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let name = |what: &str| format!("apiserver_externaljwt_{what}");
        Self {
            fetched_at: metrics.registered(
                &name("fetch_keys_success_timestamp"),
                "When the signer's keys were last fetched",
                Time::default(),
            ),
            data: metrics.registered(
                &name("fetch_keys_data_timestamp"),
                "When the signer got the keys that it said last",
                Time::default(),
            ),
            fetches: metrics.registered(
                &name("fetch_keys_request_total"),
                "Times that the signer was asked for its keys, by what came of it",
                Family::default(),
            ),
            signatures: metrics.registered(
                &name("sign_request_total"),
                "Tokens that were to be signed, by what came of it",
                Family::default(),
            ),
            took: metrics.registered(
                &name("request_duration_seconds"),
                "How long calls of the signer took, by what came of them",
                Family::new_with_constructor(SECONDS),
            ),
        }
    }

    pub(super) fn called(&self, method: &str, outcome: &str, took: Duration) {
        let labels = [
            ("method", format!("/v1.ExternalJWTSigner/{method}")),
            ("code", outcome.to_owned()),
        ];
        self.took.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Keys were fetched, of this time, or not.
    pub(super) fn fetched(&self, data: Result<f64, &Error>) {
        count(&self.fetches, data.err());
        if let Ok(data) = data {
            self.fetched_at.set(now());
            self.data.set(data);
        }
    }

    pub(super) fn signed(&self, error: Option<&Error>) {
        count(&self.signatures, error);
    }
}

fn count(of: &Counters<1>, error: Option<&Error>) {
    let code = match error {
        None => plugin::code_name(tonic::Code::Ok),
        Some(Error::Call(failed)) => plugin::code_name(failed.code),
        // Upstream's word for what is no failure of gRPC.
        Some(Error::Answer(_)) => plugin::NOT_GRPC,
    };
    of.get_or_create(&[("code", code.to_owned())]).inc();
}
