//! What is counted of opening and sealing, under upstream's names (`apiserver/pkg/storage/value/metrics.go`).

use std::sync::Arc;
use std::time::Instant;

use component::metrics::{Buckets, Counters, Histograms, Metrics};
use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::GroupResource;
use super::choice::Marked;
use crate::plugin::NOT_GRPC;

/// Upstream's: from five millionths of a second, doubled twenty-four times.
const SECONDS: Buckets = Buckets(&[
    5e-6, 1e-5, 2e-5, 4e-5, 8e-5, 1.6e-4, 3.2e-4, 6.4e-4, 1.28e-3, 2.56e-3, 5.12e-3, 0.01024,
    0.02048, 0.04096, 0.08192, 0.16384, 0.32768, 0.65536, 1.31072, 2.62144, 5.24288, 10.48576,
    20.97152, 41.94304, 83.88608,
]);

/// How it went: what failed is told by its code in gRPC, or as [`NOT_GRPC`].
pub(super) type Outcome = Result<(), &'static str>;

/// Whether a value is opened or sealed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    FromStorage,
    ToStorage,
}

impl Direction {
    /// The direction as a label.
    pub(super) fn label(self) -> (&'static str, String) {
        let name = match self {
            Self::FromStorage => "from_storage",
            Self::ToStorage => "to_storage",
        };
        ("transformation_type", name.to_owned())
    }
}

/// Of all resources; cheap to clone.
#[derive(Clone)]
pub(super) struct Counted {
    done: Counters<4>,
    took: Histograms<2>,
}

impl Counted {
    pub(super) fn register(metrics: &Metrics) -> Self {
        Self {
            done: metrics.registered(
                "apiserver_storage_transformation_operations_total",
                "Values that were opened and sealed, by what came of it",
                Family::default(),
            ),
            took: metrics.registered(
                "apiserver_storage_transformation_duration_seconds",
                "How long it took to open and to seal values",
                Family::new_with_constructor(SECONDS),
            ),
        }
    }

    pub(super) fn of(&self, group: &str, resource: &str) -> OfResource {
        let of = GroupResource {
            group: group.to_owned(),
            resource: resource.to_owned(),
        };
        OfResource {
            all: self.clone(),
            resource: of.to_string(),
            good: RwLock::default(),
        }
    }
}

/// Of one resource.
pub(super) struct OfResource {
    all: Counted,
    resource: String,
    /// What is counted of success, by direction and prefix: a few, so that nothing is made for a value
    /// that goes the usual way.
    good: RwLock<Vec<Arc<Good>>>,
}

struct Good {
    direction: Direction,
    prefix: Arc<[u8]>,
    done: Counter,
    took: Histogram,
}

impl OfResource {
    pub(super) fn start(&self) -> Instant {
        Instant::now()
    }

    /// A value was opened by this layer, or it was refused. Nobody had the prefix if there is none.
    pub(super) fn opened(&self, by: Option<&Marked>, started: Instant, outcome: Outcome) {
        let from = Direction::FromStorage;
        match (by, outcome) {
            (Some(by), outcome) => self.note(from, by, started, outcome),
            (None, outcome) => self.bad(from, "unknown", outcome.err().unwrap_or(NOT_GRPC)),
        }
    }

    /// A value was sealed by this layer, or not.
    pub(super) fn sealed(&self, by: Option<&Marked>, started: Instant, outcome: Outcome) {
        if let Some(by) = by {
            self.note(Direction::ToStorage, by, started, outcome);
        }
    }

    fn note(&self, direction: Direction, by: &Marked, started: Instant, outcome: Outcome) {
        if let Err(status) = outcome {
            return self.bad(direction, &label(direction, &by.prefix), status);
        }
        let same = |of: &&Arc<Good>| of.direction == direction && of.prefix == by.prefix;
        let known = self.good.read().iter().find(same).cloned();
        let of = known.unwrap_or_else(|| self.made(direction, &by.prefix));
        of.done.inc();
        of.took.observe(started.elapsed().as_secs_f64());
    }

    fn made(&self, direction: Direction, prefix: &Arc<[u8]>) -> Arc<Good> {
        let name = label(direction, prefix);
        let took = [direction.label(), ("transformer_prefix", name.clone())];
        let of = Arc::new(Good {
            direction,
            prefix: Arc::clone(prefix),
            done: self.counter(direction, &name, "OK"),
            took: self.all.took.get_or_create(&took).clone(),
        });
        self.good.write().push(Arc::clone(&of));
        of
    }

    fn bad(&self, direction: Direction, prefix: &str, status: &str) {
        self.counter(direction, prefix, status).inc();
    }

    fn counter(&self, direction: Direction, prefix: &str, status: &str) -> Counter {
        let labels = [
            ("resource", self.resource.clone()),
            direction.label(),
            ("transformer_prefix", prefix.to_owned()),
            ("status", status.to_owned()),
        ];
        self.all.done.get_or_create(&labels).clone()
    }
}

/// What upstream calls a layer.
fn label(direction: Direction, prefix: &[u8]) -> String {
    match (direction, prefix) {
        (Direction::FromStorage, []) => "identity".to_owned(),
        _ => String::from_utf8_lossy(prefix).into_owned(),
    }
}
