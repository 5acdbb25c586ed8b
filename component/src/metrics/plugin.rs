//! `rest_client_exec_plugin_*`: what credential plugins of the process's clients give.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use k8s_openapi::jiff::SignedDuration;
use parking_lot::Mutex;
use prometheus_client::metrics::family::MetricConstructor;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::{Buckets, Counters, Metrics};
use crate::clock::now;

/// From ten minutes to four years: too often, as it should be, too rarely.
const LIVED: Buckets = Buckets(&[
    600.0,
    1800.0,
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

/// The families of `k8s.io/component-base/metrics/prometheus/restclient` that are about plugins.
#[derive(Clone)]
pub struct Plugins {
    calls: Counters<2>,
    lived: Histogram,
    left: Gauge<f64, AtomicU64>,
    ends: Arc<Ends>,
}

/// When certificates end, in Unix seconds, by plugin.
#[derive(Default)]
struct Ends {
    next: AtomicU64,
    of: Mutex<BTreeMap<u64, i64>>,
}

impl Default for Plugins {
    fn default() -> Self {
        Self {
            calls: Counters::default(),
            lived: LIVED.new_metric(),
            left: Gauge::default(),
            ends: Arc::default(),
        }
    }
}

impl Plugins {
    pub(super) fn register(&self, metrics: &Metrics) {
        metrics.register(
            "rest_client_exec_plugin_call_total",
            "Runs of credential plugins, by exit code and how they ended",
            self.calls.clone(),
        );
        metrics.register(
            "rest_client_exec_plugin_certificate_rotation_age",
            "How long certificates of credential plugins lived before they were replaced",
            self.lived.clone(),
        );
        metrics.register(
            "rest_client_exec_plugin_ttl_seconds",
            "How long the certificate of a credential plugin lasts that ends first; negative if it has \
             ended, +Inf if there is none",
            self.left.clone(),
        );
        let (left, ends) = (self.left.clone(), Arc::clone(&self.ends));
        metrics.before_scrape(move || {
            let first = ends.of.lock().values().min().copied();
            left.set(first.map_or(f64::INFINITY, |end| {
                SignedDuration::from_secs(end - now().as_second()).as_secs_f64()
            }));
        });
    }

    /// One plugin more.
    pub(crate) fn add(&self) -> Plugin {
        Plugin {
            id: self.ends.next.fetch_add(1, Ordering::Relaxed),
            shared: self.clone(),
            current: Mutex::new(None),
        }
    }
}

/// What is counted of one plugin.
pub(crate) struct Plugin {
    id: u64,
    shared: Plugins,
    current: Mutex<Option<Certificate>>,
}

/// A certificate that a plugin gave.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) pem: String,
    /// From when to when, in Unix seconds.
    pub(crate) valid: (i64, i64),
}

impl Plugin {
    /// It was run.
    pub(crate) fn called(&self, code: i32, how: &str) {
        let labels = [("code", code.to_string()), ("call_status", how.to_owned())];
        self.shared.calls.get_or_create(&labels).inc();
    }

    /// It gave this certificate, or none.
    pub(crate) fn gave(&self, new: Option<Certificate>) {
        let mut ends = self.shared.ends.of.lock();
        match &new {
            Some(new) => ends.insert(self.id, new.valid.1),
            None => ends.remove(&self.id),
        };
        drop(ends);
        let mut current = self.current.lock();
        if *current == new {
            return;
        }
        if let Some(old) = std::mem::replace(&mut *current, new) {
            let lived = SignedDuration::from_secs(now().as_second() - old.valid.0);
            self.shared.lived.observe(lived.as_secs_f64());
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.shared.ends.of.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(metrics: &Metrics, sample: &str) -> f64 {
        let (_, text) = metrics.answer("");
        let name = format!("rest_client_exec_plugin_{sample} ");
        let line = text.lines().find_map(|l| l.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("{name}: {text}"))
            .parse()
            .unwrap()
    }

    fn until(left: i64) -> Option<Certificate> {
        let now = now().as_second();
        Some(Certificate {
            pem: left.to_string(),
            valid: (now - 1000, now + left),
        })
    }

    #[test]
    fn the_certificate_that_ends_first_is_told_of_and_how_long_each_lived() {
        let metrics = Metrics::new();
        let left = || value(&metrics, "ttl_seconds");
        let lived = || value(&metrics, "certificate_rotation_age_count");
        assert_eq!((left(), lived()), (f64::INFINITY, 0.0));
        let (one, two) = (metrics.plugins().add(), metrics.plugins().add());
        one.gave(until(5000));
        two.gave(until(9000));
        assert!((4000.0..=5000.0).contains(&left()));
        let same = one.current.lock().clone();
        one.gave(same);
        assert_eq!(lived(), 0.0, "it is the same one");
        one.gave(until(20_000));
        assert_eq!(lived(), 1.0);
        assert!(value(&metrics, "certificate_rotation_age_sum") >= 1000.0);
        assert!((8000.0..=9000.0).contains(&left()));
        two.gave(None);
        assert_eq!(lived(), 2.0);
        assert!(left() > 10_000.0);
        drop(one);
        assert_eq!(left(), f64::INFINITY);
    }
}
