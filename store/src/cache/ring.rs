//! The recent events of one collection, by sequence number.
//!
//! Revisions do not number events (one can hold a thousand), so positions are sequence numbers. A
//! slot links to the previous slot of the same indexed value for each value that somebody watches, so
//! that a watcher woken after a long time walks only its own events.
//!
//! Invariants: slots are in order of revision. Every event after [`Ring::floor`] is in the ring,
//! except within a gap, where the collection was listed anew and only the differences are known: a
//! watcher that was there before may cross it, nobody may start or stop inside.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::entry::Entry;
use crate::objects::Objects;

/// Events younger than this are kept as long as the byte bound allows: a client that reconnects
/// resumes, and bookmarks are sent every minute.
pub(crate) const FRESH: Duration = Duration::from_secs(75);
/// Older events are kept up to this number, since they cost little and save relists.
const SPARE_EVENTS: usize = 100;

/// One event.
pub(crate) struct Slot {
    pub(crate) revision: i64,
    /// The object after the event; `None` when it was deleted.
    pub(crate) new: Option<Arc<Entry>>,
    /// The object before it; `None` when it was created.
    pub(crate) old: Option<Arc<Entry>>,
    /// The old object as a DELETED event shows it, with the event's version; made when first needed.
    pub(crate) gone: OnceLock<Arc<Entry>>,
    pub(crate) links: Box<[Link]>,
    at: Instant,
    weight: usize,
}

/// The previous event of the same indexed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Which watched value: its bucket's number.
    pub(crate) bucket: u64,
    /// Sequence number of the previous event with it; 0 when there was none since it is watched.
    pub(crate) previous: u64,
}

/// The recent events.
pub(crate) struct Ring {
    slots: VecDeque<Arc<Slot>>,
    /// Sequence number of the first slot, or of the next one when there is none. Never 0.
    first: u64,
    /// Every event with a higher revision is here.
    floor: i64,
    bytes: usize,
    max_bytes: usize,
}

impl Ring {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            slots: VecDeque::new(),
            first: 1,
            floor: i64::MAX,
            bytes: 0,
            max_bytes,
        }
    }

    /// Begins anew: there are no events yet after `floor`. Sequence numbers go on.
    pub(crate) fn reset(&mut self, floor: i64) {
        self.first = self.next();
        self.slots.clear();
        self.bytes = 0;
        self.floor = floor;
    }

    /// Whether nothing has begun yet.
    pub(crate) fn is_unused(&self) -> bool {
        self.floor == i64::MAX
    }

    /// The sequence number of the next event.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    #[cfg(test)]
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn get(&self, seq: u64) -> Option<&Arc<Slot>> {
        let at = seq.checked_sub(self.first)?;
        self.slots.get(usize::try_from(at).ok()?)
    }

    /// Appends an event.
    pub(crate) fn push(
        &mut self,
        revision: i64,
        new: Option<Arc<Entry>>,
        old: Option<Arc<Entry>>,
        links: Box<[Link]>,
        now: Instant,
    ) {
        // The old object is held by nothing else any more; the new one mostly by the collection.
        let weight = size_of::<Slot>() + 16 * links.len() + old.as_ref().map_or(0, |e| e.weight());
        self.bytes += weight;
        self.slots.push_back(Arc::new(Slot {
            revision,
            new,
            old,
            gone: OnceLock::new(),
            links,
            at: now,
            weight,
        }));
    }

    /// Drops what is beyond the bounds, into `dropped`, so that large objects die outside locks.
    pub(crate) fn trim(&mut self, now: Instant, dropped: &mut Vec<Arc<Slot>>) {
        while let Some(oldest) = self.slots.front() {
            let stale =
                now.saturating_duration_since(oldest.at) > FRESH && self.slots.len() > SPARE_EVENTS;
            if !stale && self.bytes <= self.max_bytes {
                break;
            }
            self.floor = self.floor.max(oldest.revision);
            self.bytes -= oldest.weight;
            self.first += 1;
            dropped.extend(self.slots.pop_front());
        }
    }

    /// Where to begin to see every event after `revision`; `Err` tells the oldest revision that would
    /// do.
    pub(crate) fn resume(&self, revision: i64) -> Result<u64, i64> {
        if revision < self.floor {
            return Err(self.floor);
        }
        let at = self.slots.partition_point(|slot| slot.revision <= revision);
        Ok(self.first + at as u64)
    }

    /// Turns the current objects into those at `revision` by undoing later events, at most `effort`
    /// of them; `false` when that is not possible.
    pub(crate) fn undo(
        &self,
        objects: &mut Objects<Arc<Entry>>,
        revision: i64,
        effort: usize,
    ) -> bool {
        if revision < self.floor {
            return false;
        }
        let later = self.slots.len() - self.slots.partition_point(|slot| slot.revision <= revision);
        if later > effort {
            return false;
        }
        for slot in self.slots.iter().rev().take(later) {
            match (&slot.old, &slot.new) {
                (Some(old), _) => {
                    objects.insert(Arc::clone(old));
                }
                (None, Some(new)) => {
                    objects.remove(&new.key);
                }
                (None, None) => {}
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Fields, Labels};
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn entry(key: &str, revision: i64) -> Arc<Entry> {
        Arc::new(Entry::new(
            key,
            revision,
            Bytes::from(vec![0; 1000]),
            Labels::default(),
            Fields::default(),
        ))
    }

    fn ring(revisions: &[i64]) -> Ring {
        let mut ring = Ring::new(usize::MAX);
        ring.reset(revisions[0] - 1);
        for &r in revisions {
            ring.push(r, Some(entry("k", r)), None, Box::default(), Instant::now());
        }
        ring
    }

    #[test]
    fn a_revision_with_many_events_is_resumed_as_a_whole() {
        let ring = ring(&[5, 6, 6, 6, 8]);
        assert_eq!(ring.resume(4), Ok(1));
        assert_eq!(ring.resume(5), Ok(2));
        assert_eq!(ring.resume(6), Ok(5));
        assert_eq!(ring.resume(7), Ok(5));
        assert_eq!(ring.resume(100), Ok(6));
        assert_eq!(ring.resume(3), Err(4));
    }

    #[test]
    fn what_is_too_much_goes_oldest_first_and_raises_the_floor() {
        let mut ring = ring(&[5, 6, 6, 7]);
        ring.max_bytes = ring.bytes() / 2;
        let mut dropped = Vec::new();
        ring.trim(Instant::now(), &mut dropped);
        assert_eq!((ring.len(), dropped.len(), ring.first()), (2, 2, 3));
        assert_eq!(ring.resume(6), Ok(4));
        assert_eq!(ring.resume(5), Err(6), "one event of revision 6 is gone");
    }

    #[test]
    fn what_is_fresh_stays_and_of_what_is_old_a_spare_remains() {
        let start = Instant::now();
        let mut ring = Ring::new(usize::MAX);
        ring.reset(0);
        for r in 1..=1000 {
            let at = start + if r <= 500 { Duration::ZERO } else { FRESH / 2 };
            ring.push(r, Some(entry("k", r)), None, Box::default(), at);
        }
        let mut left = |after| {
            ring.trim(start + after, &mut Vec::new());
            ring.len()
        };
        assert_eq!(left(FRESH), 1000, "bookmarks come every minute");
        let a_moment = Duration::from_millis(1);
        assert_eq!(left(FRESH + a_moment), 500);
        assert_eq!(left(FRESH * 10), SPARE_EVENTS);
    }

    proptest! {
        #[test]
        fn undoing_gives_the_state_at_each_past_revision(ops in prop::collection::vec(("[a-d]", any::<bool>()), 1..40)) {
            let (mut ring, mut objects) = (Ring::new(usize::MAX), Objects::new());
            ring.reset(0);
            let mut past = vec![BTreeMap::new()];
            for (i, (key, put)) in ops.into_iter().enumerate() {
                let revision = i as i64 + 1;
                let new = put.then(|| entry(&key, revision));
                let old = match &new {
                    Some(e) => objects.insert(Arc::clone(e)),
                    None => objects.remove(&key),
                };
                ring.push(revision, new, old, Box::default(), Instant::now());
                past.push(objects.iter().map(|e| (e.key.to_string(), e.revision)).collect());
            }
            for (revision, expected) in past.iter().enumerate() {
                let mut at = objects.clone();
                prop_assert!(ring.undo(&mut at, revision as i64, usize::MAX));
                let found: BTreeMap<_, _> = at.iter().map(|e| (e.key.to_string(), e.revision)).collect();
                prop_assert_eq!(&found, expected);
            }
        }
    }
}
