//! The seats of one level while the server runs: its queues under a lock, a clock, and those who wait.
//!
//! The lock is held for one operation on the queues; who got seats is told after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::demand::Seen;
use super::queues::{Arrival, Discipline, Dispatch, Finished, QueueSet, Ticket};
use super::refusals::Refusals;
use super::timing::{Reading, Timing};
use super::work::{Nanos, SeatTime, Work};

/// Told once there are seats.
pub(super) type Waiter = oneshot::Sender<()>;

/// The time of all pools.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    started: Instant,
    wall: SystemTime,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    pub(super) fn now(&self) -> Nanos {
        Nanos::try_from(self.started.elapsed().as_nanos()).unwrap_or(Nanos::MAX)
    }

    pub(super) fn at(&self, time: Nanos) -> Instant {
        self.started + std::time::Duration::from_nanos(time)
    }

    pub(super) fn wall(&self, time: Nanos) -> SystemTime {
        self.wall + std::time::Duration::from_nanos(time)
    }
}

/// What pools share.
pub(super) struct Shared {
    pub(super) clock: Clock,
    /// Pools in which requests wait for seats that come free at a time.
    alarms: Mutex<Vec<(Nanos, Arc<Pool>)>>,
    alarm_set: Notify,
    /// A level that is not wanted any more has become idle.
    pub(super) idle: Notify,
}

impl Shared {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            clock: Clock::start(),
            alarms: Mutex::default(),
            alarm_set: Notify::new(),
            idle: Notify::new(),
        })
    }

    fn set_alarm(&self, at: Nanos, pool: &Arc<Pool>) {
        let mut alarms = self.alarms.lock();
        match alarms.iter_mut().find(|(_, of)| Arc::ptr_eq(of, pool)) {
            Some((set, _)) => *set = at.min(*set),
            None => alarms.push((at, Arc::clone(pool))),
        }
        drop(alarms);
        self.alarm_set.notify_one();
    }

    /// Wakes pools when seats come free in them. Never returns.
    pub(super) async fn run_alarms(&self) {
        loop {
            let next = self.alarms.lock().iter().map(|(at, _)| *at).min();
            let Some(next) = next else {
                self.alarm_set.notified().await;
                continue;
            };
            let at = tokio::time::Instant::from_std(self.clock.at(next));
            tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                () = self.alarm_set.notified() => continue,
            }
            let due: Vec<Arc<Pool>> = {
                let (mut alarms, now) = (self.alarms.lock(), self.clock.now().max(next));
                alarms
                    .extract_if(.., |(at, _)| *at <= now)
                    .map(|(_, pool)| pool)
                    .collect()
            };
            for pool in due {
                pool.alarmed();
            }
        }
    }
}

/// Upper bounds of upstream's histograms.
const SEATS: &[f64] = &[
    0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0,
];
const REQUESTS: &[f64] = &[0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 1.0];
const DEMAND: &[f64] = &[0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 2.8, 4.0, 6.0];

/// How full a level is, over time.
struct Utilization {
    seats: Timing,
    executing: Timing,
    waiting: Timing,
    demand: Timing,
    /// What is full: seats, and places in queues.
    of_seats: f64,
    of_places: f64,
}

impl Utilization {
    fn new(now: Nanos) -> Self {
        Self {
            seats: Timing::new(now, SEATS),
            executing: Timing::new(now, REQUESTS),
            waiting: Timing::new(now, REQUESTS),
            demand: Timing::new(now, DEMAND),
            of_seats: 1.0,
            of_places: 1.0,
        }
    }

    fn note(&mut self, now: Nanos, set: &QueueSet<Waiter>) {
        let (waiting, executing) = set.requests();
        let (wanted, in_use) = set.seats();
        self.seats.set(now, f64::from(in_use) / self.of_seats);
        self.executing.set(now, executing as f64 / self.of_seats);
        self.waiting.set(now, waiting as f64 / self.of_places);
        self.demand
            .set(now, f64::from(in_use + wanted) / self.of_seats);
    }
}

/// The numbers of a level that are made when they are asked for.
pub(super) struct Series {
    pub(super) seats: Reading,
    pub(super) executing: Reading,
    pub(super) waiting: Reading,
    pub(super) demand: Reading,
    pub(super) meter: SeatTime,
    pub(super) dispatch: Dispatch,
}

/// The seats of one level.
pub(super) struct Pool {
    pub(super) name: Box<str>,
    shared: Arc<Shared>,
    /// The level is not configured any more: it goes when it is idle.
    pub(super) unwanted: AtomicBool,
    state: Mutex<State>,
    refusals: Mutex<Refusals>,
}

struct State {
    set: QueueSet<Waiter>,
    utilization: Utilization,
    /// The alarm that is set.
    alarm: Option<Nanos>,
}

impl Pool {
    pub(super) fn new(
        name: &str,
        shared: &Arc<Shared>,
        discipline: Discipline,
        limit: u32,
    ) -> Arc<Self> {
        let now = shared.clock.now();
        Arc::new(Self {
            name: name.into(),
            shared: Arc::clone(shared),
            unwanted: AtomicBool::new(false),
            state: Mutex::new(State {
                set: QueueSet::new(now, discipline, limit),
                utilization: Utilization::new(now),
                alarm: None,
            }),
            refusals: Mutex::default(),
        })
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// One operation on the queues.
    fn on<R>(
        self: &Arc<Self>,
        operation: impl FnOnce(&mut State, Nanos, &mut Vec<Waiter>) -> R,
    ) -> R {
        let mut seated = Vec::new();
        let (result, alarm, idle) = {
            let mut state = self.state.lock();
            let now = self.shared.clock.now();
            let result = operation(&mut state, now, &mut seated);
            let State {
                set, utilization, ..
            } = &mut *state;
            utilization.note(now, set);
            let idle = set.is_idle();
            let next = set.next_release();
            let earlier = next.filter(|at| state.alarm.is_none_or(|set| *at < set));
            if earlier.is_some() {
                state.alarm = earlier;
            }
            (result, earlier, idle)
        };
        for waiter in seated {
            // Whoever does not listen any more gives the seats back itself.
            let _ = waiter.send(());
        }
        if let Some(at) = alarm {
            self.shared.set_alarm(at, self);
        }
        if idle && self.unwanted.load(Ordering::Relaxed) {
            self.shared.idle.notify_one();
        }
        result
    }

    fn alarmed(self: &Arc<Self>) {
        self.on(|state, now, seated| {
            state.alarm = None;
            state.set.advance(now, seated);
        });
    }

    /// A request arrives. If it has to wait, the other end says when it is over.
    pub(super) fn arrive(
        self: &Arc<Self>,
        work: Work,
        hash: u64,
        about: impl FnOnce(&mut String),
    ) -> (Arrival, Option<oneshot::Receiver<()>>) {
        self.on(|state, now, seated| {
            let arrival = state.set.arrive(now, work, hash, about, seated);
            let waits = match &arrival {
                Arrival::Queued(ticket, _) => {
                    let (told, tells) = oneshot::channel();
                    state.set.wait(ticket, told);
                    Some(tells)
                }
                _ => None,
            };
            (arrival, waits)
        })
    }

    pub(super) fn leave(
        self: &Arc<Self>,
        ticket: Ticket,
        timed_out: bool,
    ) -> Result<Finished, Ticket> {
        self.on(|state, now, seated| state.set.leave(now, ticket, timed_out, seated))
    }

    pub(super) fn finish(self: &Arc<Self>, ticket: Ticket) -> Finished {
        self.on(|state, now, seated| state.set.finish(now, ticket, seated))
    }

    pub(super) fn take_demand(self: &Arc<Self>) -> Seen {
        self.on(|state, now, seated| state.set.take_demand(now, seated))
    }

    /// Changes how requests wait and how many seats there are. `spare` is what fractions are of where
    /// there are none.
    pub(super) fn configure(self: &Arc<Self>, discipline: Discipline, limit: u32, spare: u32) {
        self.on(|state, now, seated| {
            state.set.configure(now, discipline, limit, seated);
            let utilization = &mut state.utilization;
            utilization.of_seats = f64::from(if limit > 0 { limit } else { spare.max(1) });
            utilization.of_places = match discipline {
                Discipline::Queue(q) => (q.queues * q.length.max(1)) as f64,
                Discipline::Exempt | Discipline::Reject => 1.0,
            };
        });
    }

    pub(super) fn is_idle(&self) -> bool {
        self.state.lock().set.is_idle()
    }

    /// Notes a refusal; says after how many seconds to try again.
    pub(super) fn refused(&self) -> u64 {
        let second = self.shared.clock.now() / 1_000_000_000;
        self.refusals.lock().note(second)
    }

    /// A look at the queues, for dumps.
    pub(super) fn look<R>(&self, look: impl FnOnce(&QueueSet<Waiter>) -> R) -> R {
        look(&self.state.lock().set)
    }

    pub(super) fn series(&self) -> Series {
        let mut state = self.state.lock();
        let now = self.shared.clock.now();
        let State {
            set, utilization, ..
        } = &mut *state;
        Series {
            seats: utilization.seats.read(now),
            executing: utilization.executing.read(now),
            waiting: utilization.waiting.read(now),
            demand: utilization.demand.read(now),
            meter: set.meter(),
            dispatch: set.last_dispatch(),
        }
    }
}
