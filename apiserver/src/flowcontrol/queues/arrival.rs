//! Where a request goes that arrives.

use super::slots::{Phase, Ticket};
use super::{Arrival, QueueSet, Queuing, Refusal};
use crate::flowcontrol::shuffle::MOST_CARDS;
use crate::flowcontrol::work::Work;

impl<W> QueueSet<W> {
    pub(super) fn seat(&mut self, work: Work, about: impl FnOnce(&mut String)) -> Arrival {
        let (now, meter) = (self.now, self.meter);
        let ticket = self.slots.insert(|request| {
            request.start(now, meter, work);
            request.phase = Phase::Executing;
            about(&mut request.about);
        });
        self.executing += 1;
        self.in_use += work.width();
        self.counts.dispatched += 1;
        Arrival::Seated(ticket)
    }

    pub(super) fn refuse(&mut self, why: Refusal) -> Arrival {
        self.counts.rejected += 1;
        Arrival::Refused(why)
    }

    pub(super) fn join(
        &mut self,
        queuing: &Queuing,
        work: Work,
        hash: u64,
        about: impl FnOnce(&mut String),
        out: &mut Vec<W>,
    ) -> Arrival {
        let at = self.choose(queuing, hash);
        if self.in_use >= self.limit && self.queues[at].waiting() >= queuing.length {
            self.bound(at);
            return self.refuse(Refusal::QueueFull);
        }
        let (now, meter) = (self.now, self.meter);
        let ticket = self.slots.insert(|request| {
            request.start(now, meter, work);
            request.queue = Some(at as u32);
            about(&mut request.about);
        });
        self.enqueue(at, &ticket, &work);
        let length = self.queues[at].waiting();
        self.bound(at);
        self.settle(out);
        match self.slots.of(&ticket).phase {
            Phase::Executing => Arrival::Seated(ticket),
            _ => Arrival::Queued(ticket, length),
        }
    }

    /// The queue of the hand with the least work waiting. Looking begins at another card each time, or
    /// flows whose hands overlap would meet more often than they must.
    fn choose(&mut self, queuing: &Queuing, hash: u64) -> usize {
        let mut hand = [0; MOST_CARDS];
        let cards = queuing.dealer.deal(hash, &mut hand);
        let offset = self.enqueued % cards;
        self.enqueued = self.enqueued.wrapping_add(1);
        let seen = (0..cards).map(|i| hand[(offset + i) % cards]);
        seen.min_by_key(|at| self.queues[*at].work)
            .unwrap_or_default()
    }

    fn enqueue(&mut self, at: usize, ticket: &Ticket, work: &Work) {
        let meter = self.meter;
        let index = self.slots.of(ticket).index;
        self.change(at, |queue| {
            if !queue.is_busy() {
                queue.next = meter;
            }
            queue.waiting.push_back(index);
            queue.work += work.total();
            queue.seats += work.seats;
            queue.width += work.width();
        });
        if self.queues[at].waiting() == 1 {
            self.backlog.push(at as u32);
        }
        self.waiting += 1;
        self.wanted += work.width();
    }
}
