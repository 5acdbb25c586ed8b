//! A place in the ring.
//!
//! A watcher of one value follows the links of its bucket from the newest event back to its place and
//! then hands them out in order; events of others cost it nothing, however many there were. A watcher
//! of everything, and one that is far behind, looks at every event.

use std::collections::VecDeque;
use std::sync::Arc;

use super::End;
use crate::cache::ring::{Ring, Slot};
use crate::cache::wake::{Bucket, Seat};

/// Events that are followed by links; beyond, looking at every event is as good.
const MAX_LINKED: usize = 128;

pub(super) struct Cursor {
    seat: Seat,
    /// Events before this one are done with.
    at: u64,
    /// Below this, every event is looked at; above, those of the bucket.
    scan_to: u64,
    /// Events of the bucket that come next, in order.
    linked: VecDeque<u64>,
}

/// What comes next.
pub(super) enum Next<'a> {
    /// Perhaps an event of the watcher.
    Slot(&'a Arc<Slot>),
    End,
}

impl Cursor {
    /// Begins with the event `at`; from `now` on, the seat's bucket has links.
    pub(super) fn new(seat: Seat, at: u64, now: u64) -> Self {
        Self {
            seat,
            at,
            scan_to: now,
            linked: VecDeque::new(),
        }
    }

    pub(super) fn bucket(&self) -> Arc<Bucket> {
        self.seat.bucket()
    }

    /// The next event to look at; the cursor moves past it.
    pub(super) fn next<'a>(&mut self, ring: &'a Ring) -> Result<Next<'a>, End> {
        if self.linked.is_empty() && self.at >= self.scan_to {
            if self.seat.is_all() {
                self.scan_to = ring.next();
            } else if self.seat.head() >= self.at {
                self.follow(ring)?;
            }
        }
        let seq = match self.linked.pop_front() {
            Some(seq) => seq,
            None if self.at < self.scan_to => self.at,
            None => return Ok(Next::End),
        };
        let slot = ring.get(seq).ok_or(End::Expired)?;
        self.at = seq + 1;
        Ok(Next::Slot(slot))
    }

    /// Finds the bucket's events since the cursor, from the newest back.
    fn follow(&mut self, ring: &Ring) -> Result<(), End> {
        let (mut seq, mut oldest) = (self.seat.head(), self.at);
        while seq >= self.at {
            // An event of ours that is not there any more.
            let slot = ring.get(seq).ok_or(End::Expired)?;
            // One more than the most tells that there are too many.
            if self.linked.len() <= MAX_LINKED {
                self.linked.push_front(seq);
            }
            oldest = seq;
            seq = slot
                .links
                .iter()
                .find(|l| l.bucket == self.seat.id)
                .map_or(0, |l| l.previous);
        }
        if self.linked.len() > MAX_LINKED {
            self.linked.clear();
            self.at = oldest;
            self.scan_to = ring.next();
        }
        Ok(())
    }
}
