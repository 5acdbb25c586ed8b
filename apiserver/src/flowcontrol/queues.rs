//! The queues of one priority level: who gets a seat, who waits, who is refused.
//!
//! Fair queuing for requests that need several seats for an unknown time. A meter R says how many
//! seat-seconds each busy queue has been given so far. A queue's next request starts, in this virtual
//! world, when the queue's share reaches it, and the request that would end first is the next to be
//! dispatched; what a request took more or less than it was taken for is charged to its queue when it
//! ends. Upstream: `util/flowcontrol/fairqueuing/queueset` and its `doc.go` (KEP-1040).
//!
//! Pure: time is an argument, whoever waits is a value that is handed back on dispatch. Each operation
//! first brings the meter up to date, and at its end dispatches all that can be.
//!
//! Invariants: seats in use are those of executing requests and of work that lingers after them; a slot
//! belongs to exactly one [`Ticket`], which is consumed when the request leaves.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::demand::{Integrator, Seen};
use super::shuffle::Dealer;
use super::work::{Nanos, SERVICE, SeatTime, Work};

mod arrival;
mod dispatch;
mod slots;

use slots::{Phase, Slots};
pub(super) use slots::{Request, Ticket};

/// What a level does with requests for which there is no seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Discipline {
    /// There is always one.
    Exempt,
    Reject,
    Queue(Queuing),
}

/// How requests wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Queuing {
    /// One hand for each flow.
    pub(super) dealer: Dealer,
    pub(super) queues: usize,
    /// How many may wait in one queue.
    pub(super) length: usize,
}

/// What becomes of a request that arrives.
#[derive(Debug)]
pub(super) enum Arrival {
    Seated(Ticket),
    /// It waits: say with what in [`QueueSet::wait`].
    Queued(Ticket, usize),
    Refused(Refusal),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    ConcurrencyLimit,
    QueueFull,
}

impl Refusal {
    /// As metrics call it.
    #[must_use]
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::QueueFull => "queue-full",
        }
    }
}

/// One queue. It is busy while requests wait in it or execute from it.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<u32>,
    /// R at which the next request is dispatched in the virtual world.
    next: SeatTime,
    pub(super) executing: u32,
    pub(super) seats_in_use: u32,
    /// Sums over the waiting requests.
    pub(super) work: SeatTime,
    pub(super) seats: u32,
    pub(super) width: u32,
}

impl Queue {
    fn is_busy(&self) -> bool {
        self.executing > 0 || !self.waiting.is_empty()
    }

    #[must_use]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    #[must_use]
    pub(super) fn next_dispatch(&self) -> SeatTime {
        self.next
    }
}

/// How often what happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    pub(super) dispatched: u64,
    pub(super) rejected: u64,
    pub(super) timed_out: u64,
    pub(super) cancelled: u64,
}

/// The last dispatch from a queue: R, where its queue stood, and between which bounds the queues with
/// waiting requests stood, without and with what is in progress.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Dispatch {
    pub(super) meter: SeatTime,
    pub(super) start: SeatTime,
    pub(super) bounds: (SeatTime, SeatTime),
    pub(super) discounted: (SeatTime, SeatTime),
}

/// What a finished request leaves to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Finished {
    /// How often it was next, and there were not seats enough.
    pub(super) passed_over: u32,
    /// For how long it had its seats.
    pub(super) took: Nanos,
}

/// The queues of a level. `W` is who waits.
pub(super) struct QueueSet<W> {
    discipline: Discipline,
    limit: u32,
    queues: Vec<Queue>,
    /// Queues in which requests wait, in no order.
    backlog: Vec<u32>,
    slots: Slots<W>,
    /// R, and when it was that.
    meter: SeatTime,
    now: Nanos,
    /// The queue that was dispatched from last.
    robin: usize,
    /// How many requests were ever put into a queue.
    enqueued: usize,
    busy: u32,
    waiting: usize,
    executing: usize,
    in_use: u32,
    wanted: u32,
    /// When seats of ended requests come free: time, queue, seats.
    lingering: BinaryHeap<Reverse<(Nanos, Option<u32>, u32)>>,
    demand: Integrator,
    counts: Counts,
    dispatch: Dispatch,
}

impl<W> QueueSet<W> {
    #[must_use]
    pub(super) fn new(now: Nanos, discipline: Discipline, limit: u32) -> Self {
        let mut set = Self {
            discipline,
            limit,
            queues: Vec::new(),
            backlog: Vec::new(),
            slots: Slots::default(),
            meter: SeatTime::default(),
            now,
            robin: 0,
            enqueued: 0,
            busy: 0,
            waiting: 0,
            executing: 0,
            in_use: 0,
            wanted: 0,
            lingering: BinaryHeap::new(),
            demand: Integrator::new(now),
            counts: Counts::default(),
            dispatch: Dispatch::default(),
        };
        set.resize();
        set
    }

    /// Changes how requests wait and how many seats there are. What waits goes on waiting; queues that
    /// are too many go when they are empty.
    pub(super) fn configure(
        &mut self,
        now: Nanos,
        discipline: Discipline,
        limit: u32,
        out: &mut Vec<W>,
    ) {
        self.sync(now);
        self.discipline = discipline;
        self.limit = limit;
        self.resize();
        self.settle(out);
    }

    /// Takes in a request. `about` says what dumps show of it.
    pub(super) fn arrive(
        &mut self,
        now: Nanos,
        work: Work,
        hash: u64,
        about: impl FnOnce(&mut String),
        out: &mut Vec<W>,
    ) -> Arrival {
        self.sync(now);
        let arrival = match self.discipline {
            Discipline::Exempt => self.seat(work, about),
            Discipline::Reject if self.fits(work.width()) => self.seat(work, about),
            Discipline::Reject => self.refuse(Refusal::ConcurrencyLimit),
            Discipline::Queue(queuing) => self.join(&queuing, work, hash, about, out),
        };
        self.settle(out);
        arrival
    }

    /// Who is told when the request gets its seats.
    pub(super) fn wait(&mut self, ticket: &Ticket, waiter: W) {
        self.slots.of(ticket).waiter = Some(waiter);
    }

    /// A waiting request goes without having been served.
    ///
    /// # Errors
    /// The ticket, if the request has its seats already.
    pub(super) fn leave(
        &mut self,
        now: Nanos,
        ticket: Ticket,
        timed_out: bool,
        out: &mut Vec<W>,
    ) -> Result<Finished, Ticket> {
        let request = self.slots.of(&ticket);
        let Some(queue) = request.queue.filter(|_| request.phase == Phase::Waiting) else {
            return Err(ticket);
        };
        self.sync(now);
        let request = self.slots.remove(ticket);
        let at = queue as usize;
        let position = self.queues[at]
            .waiting
            .iter()
            .position(|index| *index == request.index);
        if let Some(position) = position {
            self.dequeue(at, position, &request.work);
        }
        self.bound(at);
        self.counts.rejected += 1;
        self.counts.cancelled += 1;
        self.counts.timed_out += u64::from(timed_out);
        self.settle(out);
        Ok(Finished {
            passed_over: request.passed_over,
            took: 0,
        })
    }

    /// A request that had its seats is done.
    pub(super) fn finish(&mut self, now: Nanos, ticket: Ticket, out: &mut Vec<W>) -> Finished {
        self.sync(now);
        let request = self.slots.remove(ticket);
        let took = self.now.saturating_sub(request.started);
        self.executing -= 1;
        if let Some(queue) = request.queue {
            let at = queue as usize;
            // It was charged for the usual time; now the truth is known.
            let unused = SeatTime::difference(request.work.seats, SERVICE, took);
            self.change(at, |queue| {
                queue.executing -= 1;
                queue.next -= unused;
            });
            self.bound(at);
        }
        let width = request.work.width();
        match request.work.last {
            0 => self.release(request.queue, width),
            last => {
                let until = self.now.saturating_add(last);
                self.lingering.push(Reverse((until, request.queue, width)));
            }
        }
        self.settle(out);
        Finished {
            passed_over: request.passed_over,
            took,
        }
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, now: Nanos, out: &mut Vec<W>) {
        self.sync(now);
        self.settle(out);
    }

    /// When [`QueueSet::advance`] is needed if nothing else happens.
    #[must_use]
    pub(super) fn next_release(&self) -> Option<Nanos> {
        let Reverse((at, ..)) = self.lingering.peek().filter(|_| self.waiting > 0)?;
        Some(*at)
    }

    /// The demand since the last time.
    pub(super) fn take_demand(&mut self, now: Nanos, out: &mut Vec<W>) -> Seen {
        self.advance(now, out);
        self.demand.take(now)
    }

    #[must_use]
    pub(super) fn is_idle(&self) -> bool {
        self.waiting == 0 && self.executing == 0
    }

    /// Waiting and executing requests.
    #[must_use]
    pub(super) fn requests(&self) -> (usize, usize) {
        (self.waiting, self.executing)
    }

    /// Seats that are wanted and seats that are in use.
    #[must_use]
    pub(super) fn seats(&self) -> (u32, u32) {
        (self.wanted, self.in_use)
    }

    #[must_use]
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    #[must_use]
    pub(super) fn meter(&self) -> SeatTime {
        self.meter
    }

    #[must_use]
    pub(super) fn last_dispatch(&self) -> Dispatch {
        self.dispatch
    }

    #[must_use]
    pub(super) fn queues(&self) -> &[Queue] {
        &self.queues
    }

    /// Every request that is here, with its place in its queue if it waits.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Request<W>, Option<usize>)> {
        self.slots.iter().map(|request| {
            let waits = request.queue.filter(|_| request.phase == Phase::Waiting);
            let place = waits.and_then(|queue| {
                let waiting = &self.queues[queue as usize].waiting;
                waiting.iter().position(|index| *index == request.index)
            });
            (request, place)
        })
    }
}

/// Time.
impl<W> QueueSet<W> {
    /// Brings the meter, and seats that came free meanwhile, up to date.
    fn sync(&mut self, now: Nanos) {
        while let Some(Reverse((until, queue, seats))) = self.lingering.peek().copied() {
            if until > now {
                break;
            }
            self.lingering.pop();
            self.run_to(until);
            self.release(queue, seats);
            self.note();
        }
        self.run_to(now);
    }

    fn run_to(&mut self, now: Nanos) {
        // Clocks of two threads may be read in one order and used in the other.
        let passed = now.saturating_sub(self.now);
        self.now = self.now.max(now);
        if self.busy > 0 {
            let given = (self.in_use + self.wanted).min(self.limit);
            self.meter += SeatTime::new(given, passed).split(self.busy);
        }
    }

    fn note(&mut self) {
        self.demand.set(self.now, self.in_use + self.wanted);
    }

    /// The end of every operation.
    fn settle(&mut self, out: &mut Vec<W>) {
        while self.waiting > 0 && self.in_use < self.limit {
            match self.dispatch_one() {
                Some(waiter) => out.extend(waiter),
                None => break,
            }
        }
        self.note();
    }
}

/// Bookkeeping.
impl<W> QueueSet<W> {
    /// Changes a queue and keeps count of the busy ones.
    fn change(&mut self, at: usize, change: impl FnOnce(&mut Queue)) {
        let queue = &mut self.queues[at];
        let before = queue.is_busy();
        change(queue);
        match (before, queue.is_busy()) {
            (false, true) => self.busy += 1,
            (true, false) => self.busy -= 1,
            _ => {}
        }
    }

    fn release(&mut self, queue: Option<u32>, seats: u32) {
        self.in_use -= seats;
        if let Some(at) = queue {
            self.queues[at as usize].seats_in_use -= seats;
            self.resize();
        }
    }

    /// As many queues as there should be, and at the end those that are still in use.
    fn resize(&mut self) {
        let wanted = match self.discipline {
            Discipline::Queue(queuing) => queuing.queues,
            Discipline::Exempt | Discipline::Reject => 0,
        };
        if self.queues.len() < wanted {
            self.queues.resize_with(wanted, Queue::default);
        }
        while self.queues.len() > wanted
            && self
                .queues
                .last()
                .is_some_and(|q| !q.is_busy() && q.seats_in_use == 0)
        {
            self.queues.pop();
        }
        self.robin = self.robin.min(self.queues.len().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests;
