//! Readers that wait for the frontier, by the revision they wait for: moving it wakes those that it
//! passes and nobody else.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The waiting readers.
#[derive(Default)]
pub(super) struct Waiters {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    waiting: BTreeMap<(i64, u64), oneshot::Sender<()>>,
}

/// One waiting reader; leaves when dropped.
pub(super) struct Arrival<'a> {
    waiters: &'a Waiters,
    id: (i64, u64),
    woken: oneshot::Receiver<()>,
}

impl Waiters {
    pub(super) fn register(&self, revision: i64) -> Arrival<'_> {
        let (sender, woken) = oneshot::channel();
        let mut inner = self.inner.lock();
        let id = (revision, inner.next);
        inner.next += 1;
        inner.waiting.insert(id, sender);
        Arrival {
            waiters: self,
            id,
            woken,
        }
    }

    /// Wakes those that wait for `frontier` or less.
    pub(super) fn wake(&self, frontier: i64) {
        let mut inner = self.inner.lock();
        if inner
            .waiting
            .first_key_value()
            .is_none_or(|(&(revision, _), _)| revision > frontier)
        {
            return;
        }
        let later = inner.waiting.split_off(&(frontier + 1, 0));
        let arrived = std::mem::replace(&mut inner.waiting, later);
        drop(inner);
        for sender in arrived.into_values() {
            let _ = sender.send(());
        }
    }
}

impl Arrival<'_> {
    pub(super) async fn arrived(&mut self) {
        // An error means a sender dropped unsent, which `wake` never does.
        let _ = (&mut self.woken).await;
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        self.waiters.inner.lock().waiting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::poll_immediate;

    #[tokio::test]
    async fn the_frontier_wakes_those_it_passes() {
        let waiters = Waiters::default();
        let (mut a, mut b, mut c) = (
            waiters.register(5),
            waiters.register(6),
            waiters.register(7),
        );
        waiters.wake(4);
        assert!(poll_immediate(a.arrived()).await.is_none());
        waiters.wake(6);
        assert!(poll_immediate(a.arrived()).await.is_some());
        assert!(poll_immediate(b.arrived()).await.is_some());
        assert!(poll_immediate(c.arrived()).await.is_none());
        drop((a, b, c));
        assert!(waiters.inner.lock().waiting.is_empty());
    }
}
