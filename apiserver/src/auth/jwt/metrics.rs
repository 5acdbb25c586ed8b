//! What is counted of issuers, under upstream's names
//! (`apiserver/plugin/pkg/authenticator/token/oidc/metrics.go`). Issuers are named by hashes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use component::metrics::{Buckets, Gauges, Histograms, Labels, Metrics};
use parking_lot::Mutex;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::reload::{hash, now};

const SECONDS: Buckets = Buckets(&[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
]);

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Counted {
    server: String,
    latency: Histograms<2>,
    fetched: Family<Labels<3>, Gauge<f64, AtomicU64>>,
    sets: Gauges<3>,
    /// The labels of the set in use, by issuer.
    used: Arc<Mutex<HashMap<String, Labels<3>>>>,
}

impl Counted {
    /// `server` is this server's identity.
    pub(super) fn register(metrics: &Metrics, server: &str) -> Self {
        let name = |what: &str| format!("apiserver_authentication_jwt_authenticator_{what}");
        Self {
            server: hash(server),
            latency: metrics.registered(
                &name("latency_seconds"),
                "How long it took to verify tokens that were not remembered",
                Family::new_with_constructor(SECONDS),
            ),
            fetched: metrics.registered(
                &name("jwks_fetch_last_timestamp_seconds"),
                "When keys of an issuer were last fetched, by what came of it",
                Family::default(),
            ),
            sets: metrics.registered(
                &name("jwks_fetch_last_key_set_info"),
                "The keys of an issuer that are in use, by their hash",
                Family::default(),
            ),
            used: Arc::default(),
        }
    }

    /// A token of an issuer was looked at.
    pub(super) fn verified(&self, issuer_hash: &str, good: bool, took: Duration) {
        let result = if good { "success" } else { "failure" };
        let labels = [
            ("result", result.to_owned()),
            ("jwt_issuer_hash", issuer_hash.to_owned()),
        ];
        self.latency
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// What is counted of one issuer's keys.
    pub(super) fn fetches(&self, issuer: &str) -> Fetches {
        Fetches {
            counted: self.clone(),
            issuer: hash(issuer),
        }
    }

    /// An issuer is none any more.
    pub(super) fn forget(&self, issuer: &str) {
        let of = self.fetches(issuer);
        for result in ["success", "failure"] {
            self.fetched.remove(&of.at(result));
        }
        if let Some(labels) = self.used.lock().remove(&of.issuer) {
            self.sets.remove(&labels);
        }
    }
}

/// What is counted of one issuer's keys.
#[derive(Clone)]
pub(super) struct Fetches {
    counted: Counted,
    issuer: String,
}

impl Fetches {
    fn at(&self, result: &str) -> Labels<3> {
        [
            ("result", result.to_owned()),
            ("jwt_issuer_hash", self.issuer.clone()),
            ("apiserver_id_hash", self.counted.server.clone()),
        ]
    }

    pub(super) fn failed(&self) {
        let gauge = self.counted.fetched.get_or_create(&self.at("failure"));
        gauge.set(now());
    }

    pub(super) fn succeeded(&self, set: &[u8]) {
        let of = &self.counted;
        of.fetched.get_or_create(&self.at("success")).set(now());
        let labels = [
            ("jwt_issuer_hash", self.issuer.clone()),
            ("apiserver_id_hash", of.server.clone()),
            ("hash", hash(&String::from_utf8_lossy(set))),
        ];
        let old = { of.used.lock() }.insert(self.issuer.clone(), labels.clone());
        if let Some(old) = old {
            of.sets.remove(&old);
        }
        of.sets.get_or_create(&labels).set(1);
    }
}
