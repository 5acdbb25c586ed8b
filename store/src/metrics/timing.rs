//! How long things take: histograms of plain atomics, and what each kind of request to etcd costs a collection.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Counter;

/// Upstream's buckets of requests to etcd (`storage/etcd3/metrics`), in seconds.
const REQUEST: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];
/// Upstream's buckets of reads that wait for the cache (`storage/cacher/metrics`), in seconds.
const READ_WAIT: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0,
];
/// Upstream's buckets of objects that share a lease (`storage/etcd3/metrics`).
const LEASE_OBJECTS: &[f64] = &[10.0, 50.0, 100.0, 500.0, 1000.0, 2500.0, 5000.0];

/// How often something was how much. It costs nothing until it is first used.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    held: OnceLock<Held>,
}

#[derive(Debug)]
struct Held {
    /// One more than there are bounds: what is above all of them.
    buckets: Box<[AtomicU64]>,
    /// Millionths.
    sum: AtomicU64,
}

/// What a histogram holds.
#[derive(Clone, PartialEq, Debug)]
pub struct Reading {
    pub sum: f64,
    pub count: u64,
    /// Upper bounds, the last one infinite, and how often it was up to each and above the one before.
    pub buckets: Vec<(f64, u64)>,
}

impl Histogram {
    const fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            held: OnceLock::new(),
        }
    }

    pub(crate) fn observe(&self, value: f64) {
        let held = self.held.get_or_init(|| Held {
            buckets: (0..=self.bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        });
        let at = self.bounds.partition_point(|bound| *bound < value);
        held.buckets[at].fetch_add(1, Ordering::Relaxed);
        held.sum
            .fetch_add((value * 1e6).max(0.0) as u64, Ordering::Relaxed);
    }

    /// What it holds; `None` before anything was observed.
    #[must_use]
    pub fn read(&self) -> Option<Reading> {
        let held = self.held.get()?;
        let bounds = self.bounds.iter().copied().chain([f64::MAX]);
        let buckets: Vec<_> = bounds
            .zip(held.buckets.iter().map(|n| n.load(Ordering::Relaxed)))
            .collect();
        Some(Reading {
            sum: held.sum.load(Ordering::Relaxed) as f64 / 1e6,
            count: buckets.iter().map(|(_, n)| n).sum(),
            buckets,
        })
    }
}

/// What is asked of etcd for a collection, in upstream's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Get,
    List,
    /// A list that etcd streams (3.7), to its end.
    ListStream,
    /// A list of keys and versions, for the consistency check.
    ListOnlyKeys,
    Create,
    Update,
    Delete,
}

impl Operation {
    pub const ALL: [Self; 7] = [
        Self::Get,
        Self::List,
        Self::ListStream,
        Self::ListOnlyKeys,
        Self::Create,
        Self::Update,
        Self::Delete,
    ];

    /// Upstream's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::ListStream => "listStream",
            Self::ListOnlyKeys => "listOnlyKeys",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// How long reads waited.
#[derive(Debug)]
pub struct ReadWait(pub Histogram);

impl Default for ReadWait {
    fn default() -> Self {
        Self(Histogram::new(READ_WAIT))
    }
}

/// How many objects leases had.
#[derive(Debug)]
pub struct LeaseObjects(pub Histogram);

impl Default for LeaseObjects {
    fn default() -> Self {
        Self(Histogram::new(LEASE_OBJECTS))
    }
}

/// Requests of one kind.
#[derive(Debug)]
pub struct Requests {
    /// How long they took, in seconds, failed ones included.
    pub took: Histogram,
    pub failed: Counter,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            took: Histogram::new(REQUEST),
            failed: Counter::default(),
        }
    }
}

impl Requests {
    pub(crate) fn record(&self, took: Duration, failed: bool) {
        self.took.observe(took.as_secs_f64());
        if failed {
            self.failed.inc();
        }
    }

    /// Does a request and records it. One that is given up on is not recorded.
    pub(crate) async fn time<T, E>(
        &self,
        request: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let began = Instant::now();
        let outcome = request.await;
        self.record(began.elapsed(), outcome.is_err());
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_up_to_each_bound_and_above_all() {
        let histogram = Histogram::new(&[1.0, 2.0]);
        assert_eq!(histogram.read(), None);
        for value in [0.5, 1.0, 1.5, 2.0, 7.0] {
            histogram.observe(value);
        }
        let expected = Reading {
            sum: 12.0,
            count: 5,
            buckets: vec![(1.0, 2), (2.0, 2), (f64::MAX, 1)],
        };
        assert_eq!(histogram.read(), Some(expected));
    }
}
