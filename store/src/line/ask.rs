//! Group commit of revision asks: many readers share one request to etcd.
//!
//! Invariant: a reader joins only an ask that has not been sent yet. One that is in flight may have
//! read the revision before a write that finished before the reader came.

use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::etcd::Error;

/// Asks in flight at once: with two, a reader that came too late for one waits half a round trip
/// less for its own, and under load many readers still share each.
pub(super) const IN_FLIGHT: usize = 2;

type Reply = Result<i64, Arc<Error>>;

/// Readers that wait for the next ask.
#[derive(Default)]
pub(super) struct Asks {
    /// Those whose ask has not been sent. As long as the requests that the process admits.
    waiting: Mutex<Vec<oneshot::Sender<Reply>>>,
    arrived: Notify,
}

impl Asks {
    /// The answer of an ask that is sent after this call.
    pub(super) async fn join(&self) -> Reply {
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().push(sender);
        self.arrived.notify_one();
        // The sender is dropped unanswered only when the process shuts down.
        answer
            .await
            .unwrap_or_else(|_| Err(Arc::new(Error::Protocol("shutting down"))))
    }

    /// Sends asks, one at a time, as long as readers come.
    pub(super) async fn serve<F: Future<Output = Result<i64, Error>>>(&self, send: impl Fn() -> F) {
        loop {
            self.arrived.notified().await;
            let readers = std::mem::take(&mut *self.waiting.lock());
            if readers.is_empty() {
                continue;
            }
            let reply = send().await.map_err(Arc::new);
            for reader in readers {
                let _ = reader.send(reply.clone()); // gone readers need no answer
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use futures::future::{join_all, poll_immediate};
    use std::cell::RefCell;

    /// Asks that the test answers one by one, and how many were sent.
    struct Scripted {
        asks: Asks,
        open: RefCell<Vec<oneshot::Sender<i64>>>,
    }

    impl Scripted {
        fn new() -> Self {
            Self {
                asks: Asks::default(),
                open: RefCell::default(),
            }
        }

        async fn serve(&self) {
            self.asks
                .serve(|| {
                    let (answer, asked) = oneshot::channel();
                    self.open.borrow_mut().push(answer);
                    async { Ok(asked.await.unwrap()) }
                })
                .await;
        }

        fn answer(&self, revision: i64) {
            self.open.borrow_mut().remove(0).send(revision).unwrap();
        }
    }

    #[tokio::test]
    async fn a_reader_never_joins_an_ask_already_sent() {
        let s = Scripted::new();
        let mut server = std::pin::pin!(s.serve());
        let mut early = std::pin::pin!(s.asks.join());
        assert!(poll_immediate(&mut early).await.is_none());
        assert!(poll_immediate(&mut server).await.is_none());
        assert_eq!(s.open.borrow().len(), 1, "sent for the early reader");
        // A write finishes at revision 8 now; the ask in flight may have read 7.
        let mut late = std::pin::pin!(s.asks.join());
        assert!(poll_immediate(&mut late).await.is_none());
        assert!(poll_immediate(&mut server).await.is_none());
        s.answer(7);
        assert!(poll_immediate(&mut server).await.is_none());
        assert_eq!(poll_immediate(&mut early).await.unwrap().unwrap(), 7);
        assert!(
            poll_immediate(&mut late).await.is_none(),
            "the answer is older than the late reader"
        );
        s.answer(8);
        assert!(poll_immediate(&mut server).await.is_none());
        assert_eq!(poll_immediate(&mut late).await.unwrap().unwrap(), 8);
    }

    #[tokio::test]
    async fn readers_that_come_before_the_send_share_it() {
        let s = Scripted::new();
        let mut server = std::pin::pin!(s.serve());
        let mut readers = join_all((0..100).map(|_| s.asks.join().boxed_local()));
        assert!(poll_immediate(&mut readers).await.is_none());
        assert!(poll_immediate(&mut server).await.is_none());
        assert_eq!(s.open.borrow().len(), 1);
        s.answer(5);
        assert!(poll_immediate(&mut server).await.is_none());
        let answers = poll_immediate(readers).await.unwrap();
        assert!(answers.iter().all(|a| *a.as_ref().unwrap() == 5));
    }
}
