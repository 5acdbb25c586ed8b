//! What is counted of plugins and their keys, under upstream's names (`envelope/metrics/metrics.go`).
//! Keys are named by hashes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use component::metrics::{Buckets, Counters, Gauges, Histograms, Labels, Metrics};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::envelope::BadKeyId;
use crate::encryption::metrics::Direction;
use crate::reload::{hash, now};

/// Upstream's: from a tenth of a millisecond, doubled nineteen times.
const SECONDS: Buckets = Buckets(&[
    0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0128, 0.0256, 0.0512, 0.1024, 0.2048,
    0.4096, 0.8192, 1.6384, 3.2768, 6.5536, 13.1072, 26.2144, 52.4288,
]);
/// Upstream's, of what comes in between two values: from a minute, doubled nine times.
const BETWEEN: Buckets = Buckets(&[
    60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3840.0, 7680.0, 15360.0, 30720.0,
]);
/// Upstream's, of making a key: from five millionths of a second, doubled thirteen times.
const GENERATION: Buckets = Buckets(&[
    5e-6, 1e-5, 2e-5, 4e-5, 8e-5, 1.6e-4, 3.2e-4, 6.4e-4, 1.28e-3, 2.56e-3, 5.12e-3, 0.01024,
    0.02048, 0.04096,
]);
/// Keys that are told of; of more, those that were used longest ago are not.
const MOST_KEYS: usize = 100;

type Times<const N: usize> = Family<Labels<N>, Gauge<f64, AtomicU64>>;

/// What is counted of all plugins; cheap to clone.
#[derive(Clone)]
pub(in crate::encryption) struct Registered(Arc<All>);

struct All {
    /// This server's identity, hashed.
    server: String,
    latency: Histograms<3>,
    uses: Counters<4>,
    last_use: Times<4>,
    last_status: Times<3>,
    bad_key_ids: Counters<2>,
    cached: Gauges<1>,
    misses: Counter,
    /// Of the first version.
    fill: Gauge<f64, AtomicU64>,
    between: Histograms<1>,
    /// When a value was last opened and sealed.
    arrivals: [Mutex<Option<(Instant, Histogram)>>; 2],
    generation: Histogram,
    failed_generations: Counter,
    used: Mutex<Vec<Arc<Used<4>>>>,
    told: Mutex<Vec<Arc<Used<3>>>>,
}

impl Registered {
    /// `server` is this server's identity.
    pub(in crate::encryption) fn register(metrics: &Metrics, server: &str) -> Self {
        let name = |what: &str| format!("apiserver_envelope_encryption_{what}");
        Self(Arc::new(All {
            server: hash(server),
            latency: metrics.registered(
                &name("kms_operations_latency_seconds"),
                "How long calls of key management services took, by what came of them",
                Family::new_with_constructor(SECONDS),
            ),
            uses: metrics.registered(
                &name("key_id_hash_total"),
                "Values that were opened and sealed, by the service's key",
                Family::default(),
            ),
            last_use: metrics.registered(
                &name("key_id_hash_last_timestamp_seconds"),
                "When a service's key was last used",
                Family::default(),
            ),
            last_status: metrics.registered(
                &name("key_id_hash_status_last_timestamp_seconds"),
                "When a service last said that it seals with a key",
                Family::default(),
            ),
            bad_key_ids: metrics.registered(
                &name("invalid_key_id_from_status_total"),
                "Names of keys from services that cannot be such",
                Family::default(),
            ),
            cached: metrics.registered(
                &name("dek_source_cache_size"),
                "Keys of values that are remembered: about what a restarted server would ask the service for",
                Family::default(),
            ),
            misses: metrics.registered(
                "apiserver_storage_envelope_transformation_cache_misses_total",
                "Values whose key was not remembered",
                Counter::default(),
            ),
            fill: metrics.registered(
                &name("dek_cache_fill_percent"),
                "The part of the keys that a service of the first version may have remembered which is remembered",
                Gauge::default(),
            ),
            between: metrics.registered(
                &name("dek_cache_inter_arrival_time_seconds"),
                "The time between two values that services of the first version open or seal",
                Family::new_with_constructor(BETWEEN),
            ),
            arrivals: Default::default(),
            generation: metrics.registered(
                "apiserver_storage_data_key_generation_duration_seconds",
                "How long it took to make keys of values",
                GENERATION.new_metric(),
            ),
            failed_generations: metrics.registered(
                "apiserver_storage_data_key_generation_failures_total",
                "Keys of values that could not be made",
                Counter::default(),
            ),
            used: Mutex::default(),
            told: Mutex::default(),
        }))
    }

    /// What is counted of one plugin.
    pub(super) fn of(&self, provider: &str) -> Counted {
        Counted {
            all: Arc::clone(&self.0),
            provider: provider.into(),
        }
    }
}

/// What is counted of one plugin; cheap to clone.
#[derive(Clone)]
pub(super) struct Counted {
    all: Arc<All>,
    provider: Arc<str>,
}

impl Counted {
    fn provider(&self) -> (&'static str, String) {
        ("provider_name", self.provider.to_string())
    }

    pub(super) fn called(&self, method: &str, outcome: &str, took: Duration) {
        let labels = [
            self.provider(),
            ("method_name", format!("/v2.KeyManagementService/{method}")),
            ("grpc_status_code", outcome.to_owned()),
        ];
        self.all
            .latency
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    pub(super) fn missed(&self) {
        self.all.misses.inc();
    }

    pub(super) fn cached(&self, keys: usize) {
        let gauge = self.all.cached.get_or_create(&[self.provider()]);
        gauge.set(i64::try_from(keys).unwrap_or(i64::MAX));
    }

    /// So many keys are remembered of the most that may be: of the first version, all plugins in one.
    pub(super) fn filled(&self, keys: usize, most: usize) {
        self.all.fill.set(keys as f64 / most as f64);
    }

    /// A value came that is to be opened or sealed: of the first version, all plugins in one.
    pub(super) fn arrived(&self, direction: Direction) {
        let all = &self.all;
        let now = Instant::now();
        let mut arrival = all.arrivals[direction as usize].lock();
        let (last, between) = arrival.get_or_insert_with(|| {
            let between = all.between.get_or_create(&[direction.label()]);
            (now, between.clone())
        });
        between.observe(now.saturating_duration_since(*last).as_secs_f64());
        *last = now;
    }

    /// Makes a key.
    ///
    /// # Errors
    /// What `make` fails with.
    pub(super) fn generated<T, E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let started = Instant::now();
        let made = make();
        if made.is_ok() {
            self.all.generation.observe(started.elapsed().as_secs_f64());
        } else {
            self.all.failed_generations.inc();
        }
        made
    }

    pub(super) fn bad_key_id(&self, bad: BadKeyId) {
        let labels = [self.provider(), ("error", bad.code().to_owned())];
        self.all.bad_key_ids.get_or_create(&labels).inc();
    }

    /// The uses of a key: kept by whoever uses it, so that its name is hashed once.
    pub(super) fn uses(&self, key_id: &str, direction: Direction) -> Uses {
        let labels = [
            direction.label(),
            self.provider(),
            ("key_id_hash", hash(key_id)),
            ("apiserver_id_hash", self.all.server.clone()),
        ];
        Uses {
            all: Arc::clone(&self.all),
            of: Used::new(labels),
        }
    }

    /// The plugin said that it seals with this key.
    pub(super) fn said(&self, key_id: &str) {
        let all = &self.all;
        let labels = [
            self.provider(),
            ("key_id_hash", hash(key_id)),
            ("apiserver_id_hash", all.server.clone()),
        ];
        let known = all
            .told
            .lock()
            .iter()
            .find(|of| of.labels == labels)
            .cloned();
        let of = known.unwrap_or_else(|| Used::new(labels));
        of.tell(&all.told, |labels| {
            all.last_status.remove(labels);
        });
        all.last_status.get_or_create(&of.labels).set(now());
    }
}

/// A row of labels that is told as long as it is among those that were used last.
struct Used<const N: usize> {
    labels: Labels<N>,
    last: AtomicU64,
    told: AtomicBool,
}

impl<const N: usize> Used<N> {
    fn new(labels: Labels<N>) -> Arc<Self> {
        Arc::new(Self {
            labels,
            last: AtomicU64::new(0),
            told: AtomicBool::new(false),
        })
    }

    /// Notes a use; whoever was used longest ago goes if there are too many.
    fn tell(self: &Arc<Self>, all: &Mutex<Vec<Arc<Self>>>, forget: impl Fn(&Labels<N>)) {
        self.last.store(now().to_bits(), Ordering::Relaxed);
        if self.told.load(Ordering::Relaxed) {
            return;
        }
        let mut all = all.lock();
        if self.told.swap(true, Ordering::Relaxed) {
            return;
        }
        // Somebody else may tell of the same key, such as a provider before the file was read again.
        all.retain(|of| of.labels != self.labels);
        if all.len() >= MOST_KEYS {
            let oldest = { all.iter().enumerate() }
                .min_by_key(|(_, of)| of.last.load(Ordering::Relaxed))
                .map(|(at, _)| at);
            if let Some(gone) = oldest.map(|at| all.swap_remove(at)) {
                gone.told.store(false, Ordering::Relaxed);
                forget(&gone.labels);
            }
        }
        all.push(Arc::clone(self));
    }
}

/// The uses of a key.
pub(super) struct Uses {
    all: Arc<All>,
    of: Arc<Used<4>>,
}

impl Uses {
    pub(super) fn note(&self) {
        let all = &self.all;
        self.of.tell(&all.used, |labels| {
            all.uses.remove(labels);
            all.last_use.remove(labels);
        });
        all.uses.get_or_create(&self.of.labels).inc();
        all.last_use.get_or_create(&self.of.labels).set(now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_keys_those_used_last_are_told_of() {
        let metrics = Metrics::new();
        let counted = Registered::register(&metrics, "server").of("p");
        let uses: Vec<Uses> = (0..=MOST_KEYS)
            .map(|i| counted.uses(&format!("key-{i}"), Direction::FromStorage))
            .collect();
        let told = |key: &str| {
            let (_, text) = metrics.answer("");
            let line = format!("key_id_hash=\"{}\"", hash(key));
            text.lines()
                .filter(|l| l.starts_with("apiserver_envelope_encryption_key_id_hash_total{"))
                .find(|l| l.contains(&line))
                .map(|l| l.rsplit(' ').next().unwrap_or_default().to_owned())
        };
        for (at, of) in uses[..MOST_KEYS].iter().enumerate() {
            of.note();
            // In this order, however coarse the clock is.
            of.of.last.store((at as f64).to_bits(), Ordering::Relaxed);
        }
        uses[0].note();
        assert_eq!(told("key-0").as_deref(), Some("2"));
        uses[MOST_KEYS].note();
        assert_eq!(told("key-1"), None, "it was used longest ago");
        assert_eq!(told("key-0").as_deref(), Some("2"));
        uses[1].note();
        assert_eq!(told("key-1").as_deref(), Some("1"));
    }
}
