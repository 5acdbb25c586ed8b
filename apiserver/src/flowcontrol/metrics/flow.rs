//! What is counted of one flow: handles of its own series, made when they are first needed, so that a
//! request looks up nothing.

use std::sync::{Arc, OnceLock};

use component::metrics::Labels;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::Families;

/// One flow's series.
pub(in crate::flowcontrol) struct FlowMetrics {
    families: Arc<Families>,
    schema: Box<str>,
    level: Box<str>,
    dispatched: OnceLock<Counter>,
    waiting: OnceLock<(Gauge, Gauge)>,
    executing: OnceLock<(Gauge, Gauge)>,
    queue_length: OnceLock<Histogram>,
    waited: [OnceLock<Histogram>; 2],
    executed: [OnceLock<Histogram>; 2],
    watches: OnceLock<Histogram>,
    seats: OnceLock<Histogram>,
}

impl FlowMetrics {
    pub(in crate::flowcontrol) fn new(families: &Arc<Families>, schema: &str, level: &str) -> Self {
        Self {
            families: Arc::clone(families),
            schema: schema.into(),
            level: level.into(),
            dispatched: OnceLock::new(),
            waiting: OnceLock::new(),
            executing: OnceLock::new(),
            queue_length: OnceLock::new(),
            waited: Default::default(),
            executed: Default::default(),
            watches: OnceLock::new(),
            seats: OnceLock::new(),
        }
    }

    fn labels(&self) -> Labels<2> {
        [
            ("flow_schema", self.schema.to_string()),
            ("priority_level", self.level.to_string()),
        ]
    }

    pub(in crate::flowcontrol) fn estimated(&self, seats: u32) {
        let of = || self.families.seats.get_or_create(&self.labels()).clone();
        self.seats.get_or_init(of).observe(seats.into());
    }

    pub(in crate::flowcontrol) fn watches(&self, count: u32) {
        let of = || self.families.watches.get_or_create(&self.labels()).clone();
        self.watches.get_or_init(of).observe(count.into());
    }

    pub(in crate::flowcontrol) fn rejected(&self, reason: &str) {
        let [schema, level] = self.labels();
        let labels = [schema, level, ("reason", reason.to_owned())];
        self.families.rejected.get_or_create(&labels).inc();
    }

    pub(in crate::flowcontrol) fn queue_length(&self, length: usize) {
        let of = || {
            let family = &self.families.queue_length;
            family.get_or_create(&self.labels()).clone()
        };
        self.queue_length.get_or_init(of).observe(length as f64);
    }

    /// Somebody is in a queue, or leaves it.
    pub(in crate::flowcontrol) fn waiting(&self, requests: i64, seats: i64) {
        let (all, all_seats) = self.waiting.get_or_init(|| {
            let (f, labels) = (&self.families, self.labels());
            (
                f.waiting.get_or_create(&labels).clone(),
                f.waiting_seats.get_or_create(&labels).clone(),
            )
        });
        all.inc_by(requests);
        all_seats.inc_by(seats);
    }

    pub(in crate::flowcontrol) fn waited(&self, seconds: f64, executed: bool) {
        let of = || {
            let [schema, level] = self.labels();
            let labels = [("execute", executed.to_string()), schema, level];
            self.families.waited.get_or_create(&labels).clone()
        };
        self.waited[usize::from(executed)]
            .get_or_init(of)
            .observe(seconds);
    }

    /// Somebody got seats.
    pub(in crate::flowcontrol) fn dispatched(&self, seats: u32) {
        let of = || {
            let family = &self.families.dispatched;
            family.get_or_create(&self.labels()).clone()
        };
        self.dispatched.get_or_init(of).inc();
        self.executing(1, seats.into());
    }

    fn executing(&self, requests: i64, seats: i64) {
        let (all, all_seats) = self.executing.get_or_init(|| {
            let (f, labels) = (&self.families, self.labels());
            (
                f.executing.get_or_create(&labels).clone(),
                f.executing_seats.get_or_create(&labels).clone(),
            )
        });
        all.inc_by(requests);
        all_seats.inc_by(seats);
    }

    /// Somebody gives seats back.
    pub(in crate::flowcontrol) fn executed(&self, seats: u32, seconds: f64, watch: bool) {
        self.executing(-1, -i64::from(seats));
        let of = || {
            let [schema, level] = self.labels();
            let kind = if watch { "watch" } else { "regular" };
            let labels = [schema, level, ("type", kind.to_owned())];
            self.families.executed.get_or_create(&labels).clone()
        };
        self.executed[usize::from(watch)]
            .get_or_init(of)
            .observe(seconds);
    }

    pub(in crate::flowcontrol) fn passed_over(&self, times: u32) {
        if times > 0 {
            let family = &self.families.no_accommodation;
            family.get_or_create(&self.labels()).inc_by(times.into());
        }
    }
}
