//! What fairness counts, under upstream's names (`util/flowcontrol/metrics/metrics.go`).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use component::metrics::{Buckets, Counters, Gauges, Histograms, Labels, Metrics};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::allocation::Claim;
use super::pool::Series;

mod flow;
mod utilization;

pub(super) use flow::FlowMetrics;
pub(super) use utilization::Utilization;

const SECONDS: Buckets = Buckets(&[
    0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0,
]);
const LENGTHS: Buckets = Buckets(&[0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0]);
const SEATS: Buckets = Buckets(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0]);
const WATCHES: Buckets = Buckets(&[0.0, 1.0, 10.0, 100.0, 1000.0, 10000.0]);

/// Gauges of numbers that need not be whole.
type Levels<const N: usize> = Family<Labels<N>, Gauge<f64, AtomicU64>>;

/// Everything that is counted by flow or by level.
pub(super) struct Families {
    rejected: Counters<3>,
    dispatched: Counters<2>,
    waiting: Gauges<2>,
    waiting_seats: Gauges<2>,
    executing: Gauges<2>,
    executing_seats: Gauges<2>,
    queue_length: Histograms<2>,
    waited: Histograms<3>,
    executed: Histograms<3>,
    watches: Histograms<2>,
    seats: Histograms<2>,
    no_accommodation: Counters<2>,
    nominal: Levels<1>,
    lower: Levels<1>,
    upper: Levels<1>,
    current: Levels<1>,
    high_watermark: Levels<1>,
    average: Levels<1>,
    deviation: Levels<1>,
    smoothed: Levels<1>,
    target: Levels<1>,
    fair: Gauge<f64, AtomicU64>,
    meter: Levels<1>,
    dispatch_meter: Levels<1>,
    latest: Levels<1>,
    bounds: Levels<2>,
    discounted: Levels<2>,
}

impl Families {
    pub(super) fn register(metrics: &Metrics) -> Arc<Self> {
        let all = Self {
            rejected: Family::default(),
            dispatched: Family::default(),
            waiting: Family::default(),
            waiting_seats: Family::default(),
            executing: Family::default(),
            executing_seats: Family::default(),
            queue_length: Family::new_with_constructor(LENGTHS),
            waited: Family::new_with_constructor(SECONDS),
            executed: Family::new_with_constructor(SECONDS),
            watches: Family::new_with_constructor(WATCHES),
            seats: Family::new_with_constructor(SEATS),
            no_accommodation: Family::default(),
            nominal: Family::default(),
            lower: Family::default(),
            upper: Family::default(),
            current: Family::default(),
            high_watermark: Family::default(),
            average: Family::default(),
            deviation: Family::default(),
            smoothed: Family::default(),
            target: Family::default(),
            fair: Gauge::default(),
            meter: Family::default(),
            dispatch_meter: Family::default(),
            latest: Family::default(),
            bounds: Family::default(),
            discounted: Family::default(),
        };
        all.register_flows(metrics);
        all.register_levels(metrics);
        Arc::new(all)
    }

    fn register_flows(&self, metrics: &Metrics) {
        let name = |name: &str| format!("apiserver_flowcontrol_{name}");
        metrics.register(
            &name("rejected_requests_total"),
            "Requests that were refused",
            self.rejected.clone(),
        );
        metrics.register(
            &name("dispatched_requests_total"),
            "Requests that got their seats",
            self.dispatched.clone(),
        );
        metrics.register(
            &name("request_dispatch_no_accommodation_total"),
            "How often the next request had to wait because its seats were not all free",
            self.no_accommodation.clone(),
        );
        let gauges = [
            (
                "current_inqueue_requests",
                "Requests in queues",
                &self.waiting,
            ),
            (
                "current_inqueue_seats",
                "Seats that requests in queues wait for",
                &self.waiting_seats,
            ),
            (
                "current_executing_requests",
                "Requests that have seats; watches until they are initialized",
                &self.executing,
            ),
            (
                "current_executing_seats",
                "Seats that are in use",
                &self.executing_seats,
            ),
        ];
        for (last, help, family) in gauges {
            metrics.register(&name(last), help, family.clone());
        }
        let histograms = [
            (
                "request_queue_length_after_enqueue",
                "The length of the queue, as each request sees it that is put into one",
                &self.queue_length,
            ),
            (
                "watch_count_samples",
                "Watches that a write is told to",
                &self.watches,
            ),
            (
                "work_estimated_seats",
                "Seats that requests are expected to need",
                &self.seats,
            ),
        ];
        for (last, help, family) in histograms {
            metrics.register(&name(last), help, family.clone());
        }
        let times = [
            (
                "request_wait_duration_seconds",
                "How long requests waited for their seats",
                &self.waited,
            ),
            (
                "request_execution_seconds",
                "How long requests had their seats; watches until they were initialized",
                &self.executed,
            ),
        ];
        for (last, help, family) in times {
            metrics.register(&name(last), help, family.clone());
        }
    }

    fn register_levels(&self, metrics: &Metrics) {
        let name = |name: &str| format!("apiserver_flowcontrol_{name}");
        let by_level = [
            ("nominal_limit_seats", "Configured seats", &self.nominal),
            ("lower_limit_seats", "Seats that are not lent", &self.lower),
            (
                "upper_limit_seats",
                "Seats with all that may be borrowed",
                &self.upper,
            ),
            (
                "current_limit_seats",
                "Seats that the level has now",
                &self.current,
            ),
            (
                "demand_seats_high_watermark",
                "The most seats that could be used at once in the last period",
                &self.high_watermark,
            ),
            (
                "demand_seats_average",
                "Seats that could be used in the last period",
                &self.average,
            ),
            (
                "demand_seats_stdev",
                "Deviation of the seats that could be used in the last period",
                &self.deviation,
            ),
            (
                "demand_seats_smoothed",
                "Seats that could be used, smoothed",
                &self.smoothed,
            ),
            (
                "target_seats",
                "Seats that the level should have",
                &self.target,
            ),
            (
                "current_r",
                "Progress of the level's queues in seat-seconds",
                &self.meter,
            ),
            (
                "dispatch_r",
                "Progress at the last dispatch",
                &self.dispatch_meter,
            ),
            (
                "latest_s",
                "Virtual start of the last request dispatched from a queue",
                &self.latest,
            ),
        ];
        for (last, help, family) in by_level {
            metrics.register(&name(last), help, family.clone());
        }
        metrics.register(
            &name("next_s_bounds"),
            "Least and most, over queues, of the virtual start of the oldest waiting request",
            self.bounds.clone(),
        );
        metrics.register(
            &name("next_discounted_s_bounds"),
            "The same without what is in progress",
            self.discounted.clone(),
        );
        metrics.register(
            &name("seat_fair_frac"),
            "The fraction of its target that each level gets which meets no bound",
            self.fair.clone(),
        );
    }

    /// The limits of a level, and the demand that they come from.
    pub(super) fn adjusted(&self, level: &str, claim: &Claim) {
        let set = |family: &Levels<1>, value: f64| {
            family.get_or_create(&one(level)).set(value);
        };
        let (bounds, demand) = (claim.bounds, claim.demand);
        set(&self.nominal, bounds.nominal.into());
        set(&self.lower, bounds.min.into());
        set(&self.upper, bounds.max.into());
        set(&self.current, claim.current.into());
        set(&self.high_watermark, demand.high_watermark.into());
        set(&self.average, demand.average);
        set(&self.deviation, demand.deviation);
        set(&self.smoothed, demand.smoothed);
        set(&self.target, claim.target());
    }

    pub(super) fn fair(&self, fraction: f64) {
        self.fair.set(fraction);
    }

    /// Where the queues of a level stand.
    pub(super) fn progress(&self, level: &str, series: &Series) {
        let set = |family: &Levels<1>, value: f64| {
            family.get_or_create(&one(level)).set(value);
        };
        let between = |family: &Levels<2>, (least, most): (f64, f64)| {
            for (bound, value) in [("min", least), ("max", most)] {
                let labels = [
                    ("bound", bound.to_owned()),
                    ("priority_level", level.to_owned()),
                ];
                family.get_or_create(&labels).set(value);
            }
        };
        set(&self.meter, series.meter.seconds());
        let last = &series.dispatch;
        set(&self.dispatch_meter, last.meter.seconds());
        set(&self.latest, last.start.seconds());
        between(
            &self.bounds,
            (last.bounds.0.seconds(), last.bounds.1.seconds()),
        );
        between(
            &self.discounted,
            (last.discounted.0.seconds(), last.discounted.1.seconds()),
        );
    }

    /// A level is gone; so are its numbers.
    pub(super) fn forget(&self, level: &str) {
        for family in [
            &self.nominal,
            &self.lower,
            &self.upper,
            &self.current,
            &self.high_watermark,
            &self.average,
            &self.deviation,
            &self.smoothed,
            &self.target,
            &self.meter,
            &self.dispatch_meter,
            &self.latest,
        ] {
            family.remove(&one(level));
        }
    }
}

fn one(level: &str) -> Labels<1> {
    [("priority_level", level.to_owned())]
}
