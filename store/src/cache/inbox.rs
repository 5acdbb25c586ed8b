//! Between the line and a collection's task: what was received and is not applied yet.
//!
//! Bounded: a collection that cannot keep up, because a key cannot be opened or decoding is slow,
//! loses its place and is listed again. It holds up nobody else.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::line::Batch;

/// Bytes of keys and values that may wait. A collection that is this far behind is listed faster
/// than it catches up.
const MAX_BYTES: usize = 32 << 20;
/// What an event costs besides its key and value.
const EVENT: usize = 64;

/// What is received and not yet applied.
#[derive(Default)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    wake: Notify,
    /// Batches pushed and not applied; above 0 while batches were lost.
    unapplied: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<Batch>,
    bytes: usize,
    lost: bool,
}

/// What comes out.
#[derive(Debug)]
pub(crate) enum Received {
    Batch(Batch),
    /// Batches were dropped: list again.
    Lost,
}

impl Inbox {
    pub(crate) fn push(&self, batch: Batch) {
        let weight = weight(&batch);
        let mut queue = self.queue.lock();
        // Counted before the line moves its frontier, so that nobody takes it for applied.
        self.unapplied.fetch_add(1, Ordering::Release);
        if queue.lost {
            return;
        }
        if queue.bytes + weight > MAX_BYTES && !queue.batches.is_empty() {
            queue.batches = VecDeque::new();
            queue.lost = true;
        } else {
            queue.bytes += weight;
            queue.batches.push_back(batch);
        }
        drop(queue);
        self.wake.notify_one();
    }

    /// The next batch. Only one task may wait; dropping the wait loses nothing.
    pub(crate) async fn pop(&self) -> Received {
        loop {
            {
                let mut queue = self.queue.lock();
                if queue.lost {
                    return Received::Lost;
                }
                if let Some(batch) = queue.batches.pop_front() {
                    queue.bytes -= weight(&batch);
                    return Received::Batch(batch);
                }
            }
            self.wake.notified().await;
        }
    }

    /// Waits until something is pushed or was pushed since the last wait.
    pub(crate) async fn pushed(&self) {
        self.wake.notified().await;
    }

    /// Whether an event of this key waits.
    pub(crate) fn holds(&self, key: &str) -> bool {
        self.queue
            .lock()
            .batches
            .iter()
            .flat_map(|b| &b.events)
            .any(|e| *e.key == *key)
    }

    /// One batch that came out is applied.
    pub(crate) fn applied(&self) {
        self.unapplied.fetch_sub(1, Ordering::Release);
    }

    /// Whether everything that was pushed is applied.
    pub(crate) fn is_drained(&self) -> bool {
        self.unapplied.load(Ordering::Acquire) == 0
    }

    /// Forgets everything, before a new list is asked for.
    pub(crate) fn reset(&self) {
        let mut queue = self.queue.lock();
        *queue = Queue::default();
        self.unapplied.store(0, Ordering::Release);
    }
}

fn weight(batch: &Batch) -> usize {
    batch
        .events
        .iter()
        .map(|e| EVENT + e.key.len() + e.value.as_ref().map_or(0, bytes::Bytes::len))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::RawEvent;
    use bytes::Bytes;

    #[tokio::test]
    async fn what_is_too_much_is_lost_as_a_whole_and_never_taken_for_applied() {
        let inbox = Inbox::default();
        let batch = |revision, len| Batch {
            after: revision - 1,
            events: vec![RawEvent {
                key: "k".into(),
                revision,
                value: Some(Bytes::from(vec![0; len])),
            }],
        };
        inbox.push(batch(1, 10));
        inbox.push(batch(2, MAX_BYTES));
        assert!(matches!(inbox.pop().await, Received::Lost));
        inbox.push(batch(3, 10));
        assert!(matches!(inbox.pop().await, Received::Lost));
        assert!(!inbox.is_drained());
        inbox.reset();
        assert!(inbox.is_drained());
        inbox.push(batch(4, 10));
        assert!(matches!(inbox.pop().await, Received::Batch(b) if b.events[0].revision == 4));
        assert!(!inbox.is_drained());
        inbox.applied();
        assert!(inbox.is_drained());
    }
}
