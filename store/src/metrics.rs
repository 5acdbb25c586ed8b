//! What the store counts. Plain atomics: whoever exports metrics reads them and gives them upstream's
//! names.

mod timing;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

pub use timing::{Histogram, LeaseObjects, Operation, ReadWait, Reading, Requests};

/// A number that only grows.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn inc(&self) {
        self.add(1);
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Default, Debug)]
pub struct Gauge(AtomicI64);

impl Gauge {
    pub(crate) fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, n: i64) {
        self.0.store(n, Ordering::Relaxed);
    }

    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Of one store: its line to etcd.
#[derive(Default, Debug)]
pub struct StoreMetrics {
    /// Watch streams that were opened; the first one included.
    pub streams: Counter,
    /// Histories begun: 1 after start, more after compaction under a lost watch or a replaced etcd.
    pub epochs: Counter,
    /// Of them, those that are not the past's continuation: another cluster, or a restored backup.
    pub replaced: Counter,
    /// Whether the etcd in use falls short of what a store makes use of; see
    /// [`Shortcoming`](crate::etcd::Shortcoming).
    pub shortcoming: Gauge,
    /// Writes that etcd refused because its database has reached its quota.
    pub no_space: Counter,
    /// Events received, foreign keys included.
    pub events: Counter,
    /// Events of keys that belong to no collection.
    pub foreign_events: Counter,
    /// Revision reads sent to etcd, and the readers that shared them.
    pub asks: Counter,
    pub asked: Counter,
    /// Lists that etcd streamed.
    pub list_streams: Counter,
    /// Progress requests sent.
    pub progress_requests: Counter,
    /// Compactions done by this process.
    pub compactions: Counter,
    /// How many objects a lease had been given when the next one was granted.
    pub lease_objects: LeaseObjects,
}

/// Of one collection.
#[derive(Default, Debug)]
pub struct CollectionMetrics {
    /// Times the collection was listed from etcd: 1 after start.
    pub loads: Counter,
    pub load_errors: Counter,
    /// Events applied.
    pub events: Counter,
    /// Stored values that could not be decoded, or not be opened.
    pub decode_errors: Counter,
    /// Keys below the collection's path that no API server writes, met in lists and events. They are
    /// left alone.
    pub strange_keys: Counter,
    /// Reads answered from the cache, and those that etcd had to answer.
    pub cache_reads: Counter,
    pub etcd_reads: Counter,
    /// Linearizable reads that gave up waiting for the cache and went to etcd, and those that failed.
    pub read_fallbacks: Counter,
    pub read_timeouts: Counter,
    /// Lists answered from the cache, and by etcd.
    pub cache_lists: Counter,
    pub etcd_lists: Counter,
    /// Lists as fresh as etcd that the cache answered.
    pub consistent_reads: Counter,
    /// How long reads waited for the cache to be fresh enough, in seconds.
    pub read_wait: ReadWait,
    /// What was asked of etcd; in the order of [`Operation::ALL`].
    pub requests: [Requests; Operation::ALL.len()],
    /// Objects held, bytes of objects as etcd holds them, and bytes of objects and of recent events in memory.
    pub objects: Gauge,
    pub stored_bytes: Gauge,
    pub object_bytes: Gauge,
    pub ring_events: Gauge,
    pub ring_bytes: Gauge,
    /// Open watches.
    pub watchers: Gauge,
    /// Objects that watches began with.
    pub initial_events: Counter,
    /// Watches ended because they fell behind the recent events, and because the history was reset.
    pub watchers_expired: Counter,
    pub watchers_reset: Counter,
    /// First objects of watches that were dropped because nobody took them.
    pub watchers_stalled: Counter,
    /// Update transactions that found another revision than expected.
    pub conflicts: Counter,
    /// Comparisons of cache and etcd: equal, different, not made.
    pub checks_equal: Counter,
    pub checks_different: Counter,
    pub checks_failed: Counter,
}

impl CollectionMetrics {
    /// Requests of this kind.
    #[must_use]
    pub fn of(&self, operation: Operation) -> &Requests {
        &self.requests[operation as usize]
    }
}
