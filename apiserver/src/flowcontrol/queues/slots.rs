//! Requests by number, in slots that are used again.

use super::super::work::{Nanos, SeatTime, Work};

/// What dumps show of a request may be long; a slot does not keep room for more than that.
const ROOM: usize = 1024;

/// The right to one slot. Whoever has it is the request.
#[derive(PartialEq, Eq, Debug)]
pub(in crate::flowcontrol) struct Ticket(u32);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Free,
    Waiting,
    Executing,
}

/// A request that waits or executes.
#[derive(Debug)]
pub(in crate::flowcontrol) struct Request<W> {
    pub(super) index: u32,
    pub(super) phase: Phase,
    /// None if the level has no queues.
    pub(in crate::flowcontrol) queue: Option<u32>,
    pub(in crate::flowcontrol) work: Work,
    pub(in crate::flowcontrol) arrived: Nanos,
    /// R when it arrived.
    pub(super) arrived_meter: SeatTime,
    /// Since when it executes.
    pub(in crate::flowcontrol) started: Nanos,
    /// How often it was next, and there were not seats enough.
    pub(super) passed_over: u32,
    pub(super) waiter: Option<W>,
    /// What dumps show of it.
    pub(in crate::flowcontrol) about: String,
}

impl<W> Request<W> {
    /// Makes a fresh request of what was left in the slot.
    pub(super) fn start(&mut self, now: Nanos, meter: SeatTime, work: Work) {
        self.phase = Phase::Waiting;
        self.queue = None;
        self.work = work;
        self.arrived = now;
        self.arrived_meter = meter;
        self.started = now;
        self.passed_over = 0;
        self.waiter = None;
        self.about.clear();
    }

    #[must_use]
    pub(in crate::flowcontrol) fn is_executing(&self) -> bool {
        self.phase == Phase::Executing
    }
}

/// What is left of a request that was removed.
pub(super) struct Removed {
    pub(in crate::flowcontrol) index: u32,
    pub(in crate::flowcontrol) queue: Option<u32>,
    pub(in crate::flowcontrol) work: Work,
    pub(in crate::flowcontrol) started: Nanos,
    pub(in crate::flowcontrol) passed_over: u32,
}

pub(super) struct Slots<W> {
    all: Vec<Request<W>>,
    free: Vec<u32>,
}

impl<W> Default for Slots<W> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<W> Slots<W> {
    pub(super) fn insert(&mut self, fill: impl FnOnce(&mut Request<W>)) -> Ticket {
        let index = self.free.pop().unwrap_or_else(|| {
            let index = self.all.len() as u32;
            self.all.push(Request {
                index,
                phase: Phase::Free,
                queue: None,
                work: Work::of(0),
                arrived: 0,
                arrived_meter: SeatTime::default(),
                started: 0,
                passed_over: 0,
                waiter: None,
                about: String::new(),
            });
            index
        });
        fill(self.at(index));
        Ticket(index)
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Removed {
        let Ticket(index) = ticket;
        self.free.push(index);
        let request = self.at(index);
        request.phase = Phase::Free;
        request.waiter = None;
        if request.about.capacity() > ROOM {
            request.about = String::new();
        }
        Removed {
            index,
            queue: request.queue,
            work: request.work,
            started: request.started,
            passed_over: request.passed_over,
        }
    }

    pub(super) fn of(&mut self, ticket: &Ticket) -> &mut Request<W> {
        self.at(ticket.0)
    }

    pub(super) fn at(&mut self, index: u32) -> &mut Request<W> {
        &mut self.all[index as usize]
    }

    pub(super) fn get(&self, index: u32) -> &Request<W> {
        &self.all[index as usize]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Request<W>> {
        self.all.iter().filter(|r| r.phase != Phase::Free)
    }
}
