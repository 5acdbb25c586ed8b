//! How long the kubelet's certificates last, and how their renewal goes: upstream's names
//! (`pkg/kubelet/certificate/kubelet.go`, `cmd/kubelet/app/server.go`).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use component::metrics::{Buckets, Metrics};
use k8s_openapi::jiff::SignedDuration;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::MetricConstructor;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::Purpose;
use super::store::Current;

/// From a minute to four years.
const LIVED: Buckets = Buckets(&[
    60.0,
    3600.0,
    14400.0,
    86400.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
    124_416_000.0,
]);

/// The certificate in use, and what is counted of it.
pub(super) struct Counted {
    current: Arc<Mutex<Option<Current>>>,
    failures: Counter,
    /// How long certificates were used that were replaced; of serving certificates only.
    lived: Option<Histogram>,
}

impl Counted {
    pub(super) fn register(purpose: Purpose, metrics: &Metrics) -> Self {
        let (ttl, failures) = match purpose {
            Purpose::Client => (
                "kubelet_certificate_manager_client_ttl_seconds",
                "kubelet_certificate_manager_client_expiration_renew_errors",
            ),
            Purpose::Server => (
                "kubelet_certificate_manager_server_ttl_seconds",
                "kubelet_server_expiration_renew_errors",
            ),
        };
        let left = metrics.registered(
            ttl,
            "How long the certificate lasts; +Inf if there is none, or it has ended",
            Gauge::<f64, AtomicU64>::default(),
        );
        let failures = metrics.registered(
            failures,
            "Failed attempts to renew the certificate",
            Counter::default(),
        );
        let lived = (purpose == Purpose::Server).then(|| {
            metrics.registered(
                "kubelet_certificate_manager_server_rotation_seconds",
                "How long certificates lived before they were replaced",
                LIVED.new_metric(),
            )
        });
        let current = Arc::new(Mutex::new(None::<Current>));
        let shown = Arc::clone(&current);
        metrics.before_scrape(move || {
            let left_of = |c: &Current| SignedDuration::from_secs(c.not_after - now());
            let good = shown.lock().as_ref().map(left_of);
            let good = good.filter(|lasts| !lasts.is_negative());
            left.set(good.map_or(f64::INFINITY, |lasts| lasts.as_secs_f64()));
        });
        Self {
            current,
            failures,
            lived,
        }
    }

    /// A certificate is in use that was there before.
    pub(super) fn found(&self, current: Option<Current>) {
        *self.current.lock() = current;
    }

    pub(super) fn renewed(&self, new: Option<Current>) {
        let old = std::mem::replace(&mut *self.current.lock(), new);
        if let (Some(lived), Some(old)) = (&self.lived, old) {
            let used = SignedDuration::from_secs(now() - old.not_before);
            lived.observe(used.as_secs_f64());
        }
    }

    pub(super) fn failed(&self) {
        self.failures.inc();
    }
}

fn now() -> i64 {
    component::clock::now().as_second()
}
