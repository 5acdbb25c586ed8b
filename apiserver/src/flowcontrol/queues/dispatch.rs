//! Who is next.

use super::slots::Phase;
use super::{Dispatch, QueueSet};
use crate::flowcontrol::work::{SERVICE, SeatTime, Work};

impl<W> QueueSet<W> {
    /// Whether a request of that width may start now. One that is wider than the level starts when
    /// nothing else executes.
    pub(super) fn fits(&self, width: u32) -> bool {
        if width > self.limit {
            self.executing == 0
        } else {
            self.in_use + width <= self.limit
        }
    }

    /// Dispatches the request that would end first in the virtual world. None if its seats are not
    /// free: nothing overtakes it, or wide requests would starve.
    pub(super) fn dispatch_one(&mut self) -> Option<Option<W>> {
        let (at, dispatch) = self.find()?;
        let index = *self.queues[at].waiting.front()?;
        let request = self.slots.at(index);
        let asked = request.work;
        if !self.fits(asked.width()) {
            self.slots.at(index).passed_over += 1;
            return None;
        }
        self.dequeue(at, 0, &asked);
        self.robin = at;
        self.dispatch = dispatch;
        let work = asked.narrowed(self.limit);
        let now = self.now;
        let request = self.slots.at(index);
        request.phase = Phase::Executing;
        request.started = now;
        request.work = work;
        let waiter = request.waiter.take();
        self.executing += 1;
        self.in_use += work.width();
        self.counts.dispatched += 1;
        self.change(at, |queue| {
            queue.executing += 1;
            queue.seats_in_use += work.width();
            queue.next += asked.total();
        });
        self.bound(at);
        Some(waiter)
    }

    /// The queue whose oldest request would end first; of several, the one that comes first after the
    /// one that was dispatched from last.
    pub(super) fn find(&self) -> Option<(usize, Dispatch)> {
        let count = self.queues.len();
        let mut best: Option<(SeatTime, usize, usize)> = None;
        let mut found: Option<Dispatch> = None;
        for at in self.backlog.iter().map(|at| *at as usize) {
            let queue = &self.queues[at];
            let work = self.slots.get(*queue.waiting.front()?).work.total();
            let turn = (at + count - self.robin - 1) % count;
            let discounted = queue.next - SeatTime::new(queue.seats_in_use, SERVICE);
            let seen = found.get_or_insert(Dispatch {
                meter: self.meter,
                start: queue.next,
                bounds: (queue.next, queue.next),
                discounted: (discounted, discounted),
            });
            seen.bounds = widened(seen.bounds, queue.next);
            seen.discounted = widened(seen.discounted, discounted);
            let candidate = (queue.next + work, turn, at);
            if best.is_none_or(|best| candidate < best) {
                best = Some(candidate);
                seen.start = queue.next;
            }
        }
        Some((best?.2, found?))
    }

    /// Takes a request out of its queue.
    pub(super) fn dequeue(&mut self, at: usize, position: usize, work: &Work) {
        self.change(at, |queue| {
            queue.waiting.remove(position);
            queue.work -= work.total();
            queue.seats -= work.seats;
            queue.width -= work.width();
        });
        if self.queues[at].waiting.is_empty()
            && let Some(place) = self.backlog.iter().position(|i| *i as usize == at)
        {
            self.backlog.swap_remove(place);
        }
        self.waiting -= 1;
        self.wanted -= work.width();
    }

    /// Nothing is dispatched, in the virtual world, before it arrived: a queue that could not use its
    /// share does not save it up.
    pub(super) fn bound(&mut self, at: usize) {
        if let Some(oldest) = self.queues[at].waiting.front() {
            let arrived = self.slots.get(*oldest).arrived_meter;
            let queue = &mut self.queues[at];
            queue.next = queue.next.max(arrived);
        }
    }
}

fn widened(bounds: (SeatTime, SeatTime), by: SeatTime) -> (SeatTime, SeatTime) {
    (bounds.0.min(by), bounds.1.max(by))
}
