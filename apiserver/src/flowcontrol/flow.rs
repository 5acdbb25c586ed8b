//! A schema bound to its level, and the way of a request through it: seated, waiting, refused.
//!
//! Whoever is dropped leaves: a seat is given back, a place in a queue is left, however a request ends.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use http::HeaderValue;
use resources::request::RequestInfo;
use tokio::sync::oneshot;

use super::level::Level;
use super::metrics::{Families, FlowMetrics};
use super::pool::Pool;
use super::queues::{Arrival, Discipline, Ticket};
use super::schema::{Distinguisher, Schema};
use super::work::{Nanos, Work};
use crate::auth::User;

/// The requests of one schema.
pub(super) struct Flow {
    pub(super) schema: Arc<Schema>,
    pub(super) pool: Arc<Pool>,
    pub(super) exempt: bool,
    /// Whether there are queues to choose from, so that flows must be told apart.
    many_queues: bool,
    /// The most seats that one request may take.
    pub(super) most_seats: Option<u32>,
    /// Which schema and level it was, as answers say it.
    pub(super) marks: [HeaderValue; 2],
    pub(super) metrics: FlowMetrics,
    hash: RandomState,
}

/// What becomes of a request at once.
pub(super) enum Start {
    Seated(Seat),
    Waiting(Waiting),
    Refused,
}

impl Flow {
    pub(super) fn new(
        schema: &Arc<Schema>,
        level: &Level,
        pool: &Arc<Pool>,
        nominal: u32,
        families: &Arc<Families>,
        hash: &RandomState,
    ) -> Arc<Self> {
        let header = |text: &str| {
            // UIDs are hexadecimal digits; an object that is imagined has none.
            HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
        };
        Arc::new(Self {
            schema: Arc::clone(schema),
            pool: Arc::clone(pool),
            exempt: level.discipline == Discipline::Exempt,
            many_queues: matches!(level.discipline, Discipline::Queue(q) if q.queues > 1),
            most_seats: level.most_seats(nominal),
            marks: [header(&schema.uid), header(&level.uid)],
            metrics: FlowMetrics::new(families, &schema.name, &level.name),
            hash: hash.clone(),
        })
    }

    /// A request arrives.
    pub(super) fn start(self: &Arc<Self>, work: Work, user: &User, info: &RequestInfo) -> Start {
        let by = self.schema.distinguisher.filter(|_| self.many_queues);
        let who = by.map_or("", |by: Distinguisher| by.of(user, info));
        let hash = if self.many_queues {
            self.hash.hash_one((&*self.schema.name, who))
        } else {
            0
        };
        let about = |to: &mut String| describe(to, &self.schema.name, who, user, info);
        let width = work.width();
        let watch = info.verb == "watch";
        match self.pool.arrive(work, hash, about) {
            (Arrival::Seated(ticket), _) => {
                if !self.exempt {
                    self.metrics.waited(0.0, true);
                }
                Start::Seated(self.seat(ticket, width, watch))
            }
            (Arrival::Queued(ticket, length), tells) => {
                self.metrics.queue_length(length);
                self.metrics.waiting(1, width.into());
                Start::Waiting(Waiting {
                    flow: Arc::clone(self),
                    ticket: Some(ticket),
                    tells,
                    since: self.pool.shared().clock.now(),
                    width,
                    watch,
                })
            }
            (Arrival::Refused(why), _) => {
                self.metrics.rejected(why.reason());
                self.metrics.waited(0.0, false);
                Start::Refused
            }
        }
    }

    fn seat(self: &Arc<Self>, ticket: Ticket, width: u32, watch: bool) -> Seat {
        self.metrics.dispatched(width);
        Seat {
            flow: Arc::clone(self),
            ticket: Some(ticket),
            width,
            watch,
        }
    }
}

/// Fields in the order of the dump, schema and distinguisher first, each behind a zero byte.
fn describe(to: &mut String, schema: &str, who: &str, user: &User, info: &RequestInfo) {
    let group = if info.group.is_empty() {
        ["", ""]
    } else {
        [&*info.group, "/"]
    };
    for field in [schema, who, &user.name, &info.verb, &info.path] {
        to.push_str(field);
        to.push('\0');
    }
    for field in [&info.namespace, &info.name] {
        to.push_str(field);
        to.push('\0');
    }
    for part in [
        group[0],
        group[1],
        &info.version,
        "\0",
        &info.resource,
        "\0",
    ] {
        to.push_str(part);
    }
    to.push_str(&info.subresource);
}

/// Seats that a request has.
pub(super) struct Seat {
    pub(super) flow: Arc<Flow>,
    ticket: Option<Ticket>,
    width: u32,
    watch: bool,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let finished = self.flow.pool.finish(ticket);
            let metrics = &self.flow.metrics;
            metrics.executed(self.width, seconds(finished.took), self.watch);
            metrics.passed_over(finished.passed_over);
        }
    }
}

/// A place in a queue.
pub(super) struct Waiting {
    flow: Arc<Flow>,
    ticket: Option<Ticket>,
    tells: Option<oneshot::Receiver<()>>,
    since: Nanos,
    width: u32,
    watch: bool,
}

impl Waiting {
    /// Waits for the seats; none if that takes too long.
    pub(super) async fn seat(mut self, until: Instant) -> Option<Seat> {
        if let Some(tells) = self.tells.take() {
            let until = tokio::time::Instant::from_std(until);
            // Whether it was told or not: the ticket says what it is worth.
            let _ = tokio::time::timeout_at(until, tells).await;
        }
        self.leave(true)
    }

    /// Leaves the queue, unless there are seats meanwhile.
    fn leave(&mut self, timed_out: bool) -> Option<Seat> {
        let ticket = self.ticket.take()?;
        let flow = &self.flow;
        flow.metrics.waiting(-1, -i64::from(self.width));
        let waited = flow.pool.shared().clock.now().saturating_sub(self.since);
        match flow.pool.leave(ticket, timed_out) {
            Err(ticket) => {
                flow.metrics.waited(seconds(waited), true);
                Some(flow.seat(ticket, self.width, self.watch))
            }
            Ok(left) => {
                flow.metrics.waited(seconds(waited), false);
                flow.metrics.rejected("time-out");
                flow.metrics.passed_over(left.passed_over);
                None
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // A seat that came too late goes back at once.
        drop(self.leave(false));
    }
}

fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / 1e9
}
