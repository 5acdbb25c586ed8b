//! What kube-proxy counts, under upstream's names (`pkg/proxy/metrics/metrics.go`).

use std::time::{Duration, SystemTime};

use component::metrics::{Buckets, Counters, Histograms, Metrics as Registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family as Labelled;
use prometheus_client::metrics::gauge::Gauge;

use crate::nft::Family;

/// From 1 ms on, doubling.
const SYNC: Buckets = Buckets(&[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
]);

/// To half a second by quarters, to a minute by seconds, to two by five, to five by thirty.
const PROGRAMMING: Buckets = Buckets(&[
    0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
    16.0, 17.0, 18.0, 19.0, 20.0, 21.0, 22.0, 23.0, 24.0, 25.0, 26.0, 27.0, 28.0, 29.0, 30.0, 31.0,
    32.0, 33.0, 34.0, 35.0, 36.0, 37.0, 38.0, 39.0, 40.0, 41.0, 42.0, 43.0, 44.0, 45.0, 46.0, 47.0,
    48.0, 49.0, 50.0, 51.0, 52.0, 53.0, 54.0, 55.0, 56.0, 57.0, 58.0, 59.0, 60.0, 65.0, 70.0, 75.0,
    80.0, 85.0, 90.0, 95.0, 100.0, 105.0, 110.0, 115.0, 120.0, 150.0, 180.0, 210.0, 240.0, 270.0,
    300.0,
]);

type Seconds = Gauge<f64, std::sync::atomic::AtomicU64>;
type FamilyLabel = [(&'static str, String); 1];

/// kube-proxy's own metrics; cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics {
    sync: Histograms<1>,
    full_sync: Histograms<1>,
    partial_sync: Histograms<1>,
    last: Labelled<FamilyLabel, Seconds>,
    last_queued: Labelled<FamilyLabel, Seconds>,
    failures: Counters<1>,
    cleanup_failures: Counters<1>,
    programming: Histograms<1>,
    no_local: component::metrics::Gauges<2>,
    conntrack: Histograms<1>,
    conntrack_deleted: Counters<1>,
    pub(crate) endpoint_changes: Counter,
    pub(crate) endpoint_changes_pending: Gauge,
    pub(crate) service_changes: Counter,
    pub(crate) service_changes_pending: Gauge,
    healthz: Counters<1>,
    livez: Counters<1>,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let sync = || Histograms::<1>::new_with_constructor(SYNC);
        let new = Self {
            sync: sync(),
            full_sync: sync(),
            partial_sync: sync(),
            last: Labelled::default(),
            last_queued: Labelled::default(),
            failures: Counters::default(),
            cleanup_failures: Counters::default(),
            programming: Histograms::new_with_constructor(PROGRAMMING),
            no_local: Labelled::default(),
            conntrack: sync(),
            conntrack_deleted: Counters::default(),
            endpoint_changes: Counter::default(),
            endpoint_changes_pending: Gauge::default(),
            service_changes: Counter::default(),
            service_changes_pending: Gauge::default(),
            healthz: Counters::default(),
            livez: Counters::default(),
        };
        new.register(registry);
        new
    }

    fn register(&self, registry: &Registry) {
        let name = |rest: &str| format!("kubeproxy_{rest}");
        macro_rules! register {
            ($($field:ident: $rest:literal, $help:literal;)*) => {
                $(registry.register(&name($rest), $help, self.$field.clone());)*
            };
        }
        register! {
            sync: "sync_proxy_rules_duration_seconds", "How long a sync of the rules took";
            full_sync: "sync_full_proxy_rules_duration_seconds", "How long a sync of all rules took";
            partial_sync: "sync_partial_proxy_rules_duration_seconds", "How long a sync of what had changed took";
            last: "sync_proxy_rules_last_timestamp_seconds", "When rules were last synced";
            last_queued: "sync_proxy_rules_last_queued_timestamp_seconds", "When a sync was last asked for";
            failures: "sync_proxy_rules_nftables_sync_failures_total", "Syncs that failed";
            cleanup_failures: "sync_proxy_rules_nftables_cleanup_failures_total", "Cleanups of stale chains that failed";
            programming: "network_programming_duration_seconds", "From a change of a Service or Pod to the rules for it";
            no_local: "sync_proxy_rules_no_local_endpoints_total", "Services with the policy Local and no endpoint on the node";
            conntrack: "conntrack_reconciler_sync_duration_seconds", "How long a look for stale connections took";
            conntrack_deleted: "conntrack_reconciler_deleted_entries_total", "Stale connections that were ended";
            endpoint_changes: "sync_proxy_rules_endpoint_changes_total", "Changes of EndpointSlices";
            endpoint_changes_pending: "sync_proxy_rules_endpoint_changes_pending", "Changes of EndpointSlices that are not in the rules yet";
            service_changes: "sync_proxy_rules_service_changes_total", "Changes of Services";
            service_changes_pending: "sync_proxy_rules_service_changes_pending", "Changes of Services that are not in the rules yet";
            healthz: "proxy_healthz_total", "Answers to /healthz by status";
            livez: "proxy_livez_total", "Answers to /livez by status";
        }
    }

    pub(crate) fn queued(&self, family: Family) {
        self.last_queued.get_or_create(&label(family)).set(now());
    }

    pub(crate) fn synced(&self, family: Family, full: bool, took: Duration) {
        let label = label(family);
        let seconds = took.as_secs_f64();
        self.sync.get_or_create(&label).observe(seconds);
        let kind = if full {
            &self.full_sync
        } else {
            &self.partial_sync
        };
        kind.get_or_create(&label).observe(seconds);
        self.last.get_or_create(&label).set(now());
    }

    pub(crate) fn failed(&self, family: Family) {
        self.failures.get_or_create(&label(family)).inc();
    }

    pub(crate) fn programmed(&self, family: Family, took: Duration) {
        let metric = self.programming.get_or_create(&label(family));
        metric.observe(took.as_secs_f64());
    }

    pub(crate) fn no_local(&self, family: Family, counted: crate::proxier::NoLocal) {
        for (policy, n) in [
            ("internal", counted.internal),
            ("external", counted.external),
        ] {
            let label = [
                ("traffic_policy", policy.to_owned()),
                ("ip_family", family.name().to_owned()),
            ];
            let n = i64::try_from(n).unwrap_or(i64::MAX);
            self.no_local.get_or_create(&label).set(n);
        }
    }

    pub(crate) fn cleaned(&self, family: Family, took: Duration, ended: usize) {
        let label = label(family);
        self.conntrack
            .get_or_create(&label)
            .observe(took.as_secs_f64());
        self.conntrack_deleted
            .get_or_create(&label)
            .inc_by(ended as u64);
    }

    pub(crate) fn answered(&self, path: &str, code: http::StatusCode) {
        let counters = if path == "/livez" {
            &self.livez
        } else {
            &self.healthz
        };
        let label = [("code", code.as_str().to_owned())];
        counters.get_or_create(&label).inc();
    }
}

fn label(family: Family) -> FamilyLabel {
    [("ip_family", family.name().to_owned())]
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}
