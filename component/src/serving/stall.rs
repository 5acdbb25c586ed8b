//! Clients that do not take what they are sent.
//!
//! An answer is asked for its next piece when there is room for it. A client that takes nothing leaves no room, so nobody
//! would ever ask again, and what the answer holds (a list as it was, a place among events, an encoder) would be held for as
//! long as the client likes. So the task that carries an answer also looks how long its last piece has been waiting, and
//! ends it. That is an event of that task alone: there is no sweep over connections, and no timer for an answer that is one
//! piece or waits for something to tell.
//!
//! In HTTP/2 each answer is carried by a task of its own, and only that answer ends; in HTTP/1.1 it is the connection. A
//! connection whose socket takes nothing for as long ends in either.
//!
//! Only answers that say so ([`Impatient`]) end like this: a log that somebody has stopped scrolling waits for him, and the
//! connection that it is on.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// A client may take nothing for so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

tokio::task_local! {
    /// Of the answer that the task carries.
    static CARRIED: Arc<Waiting>;
}

/// Among the extensions of an answer: it ends when the client takes nothing of it for half a minute. For what holds something
/// that others could use.
#[derive(Clone, Copy, Debug)]
pub struct Impatient;

/// How long something has been waiting for the client.
pub(super) struct Waiting {
    born: Instant,
    /// Milliseconds after `born`, and one; 0 while nothing waits.
    since: AtomicU64,
    /// How many excuses there are for it to take long.
    excuses: AtomicUsize,
    /// It has said what there was to say; see [`aboard`](super::aboard).
    settled: AtomicBool,
    /// It was woken, and has not looked since; see there, too.
    rung: AtomicBool,
}

/// While this lives, it may take as long as it likes.
pub(super) struct Excuse(Arc<Waiting>);

impl Drop for Excuse {
    fn drop(&mut self) {
        self.0.excuses.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            since: AtomicU64::new(0),
            excuses: AtomicUsize::new(0),
            settled: AtomicBool::new(false),
            rung: AtomicBool::new(false),
        }
    }
}

impl Waiting {
    /// Of the answer that this task carries, if it carries one.
    pub(super) fn carried() -> Option<Arc<Self>> {
        CARRIED.try_with(Arc::clone).ok()
    }

    /// Lets it take as long as it likes.
    pub(super) fn excuse(self: &Arc<Self>) -> Excuse {
        self.excuses.fetch_add(1, Ordering::Relaxed);
        Excuse(Arc::clone(self))
    }

    /// Something was handed over and waits from now on.
    pub(super) fn begin(&self) {
        let age = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.since.store(age + 1, Ordering::Relaxed);
    }

    /// It was taken.
    pub(super) fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    /// It has nothing to say for now.
    pub(super) fn settle(&self) {
        self.settled.store(true, Ordering::Relaxed);
    }

    /// Whether it has had nothing to say once; told once.
    pub(super) fn take_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed) && self.settled.swap(false, Ordering::Relaxed)
    }

    /// Something woke it. Whether that is news.
    pub(super) fn ring(&self) -> bool {
        !self.rung.swap(true, Ordering::AcqRel)
    }

    /// It looks now, and sees whatever has woken it up to here. Whether something has.
    pub(super) fn look(&self) -> bool {
        self.rung.swap(false, Ordering::AcqRel)
    }

    /// Whether something has woken it that it has not looked at.
    pub(super) fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    fn is_over(&self) -> bool {
        self.since.load(Ordering::Relaxed) == 0
    }

    fn since(&self) -> Option<Instant> {
        if self.excuses.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let age = self.since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.born + Duration::from_millis(age))
    }
}

/// The client took nothing for [`PATIENCE`].
#[derive(thiserror::Error, Debug)]
#[error("the client took nothing for {PATIENCE:?}")]
pub(super) struct Stalled;

/// Carries on with `work` until it is done, or until one of these has been waiting for too long. Answers that are made within
/// are of the first.
pub(super) async fn carry<F: Future>(
    work: F,
    answer: Arc<Waiting>,
    connection: Option<Arc<Waiting>>,
) -> Result<F::Output, Stalled> {
    let mut work = pin!(CARRIED.scope(Arc::clone(&answer), work));
    let mut alarm = Alarm::default();
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        let since = [answer.since(), connection.as_ref().and_then(|c| c.since())];
        match since.into_iter().flatten().min() {
            Some(since) => alarm.poll(since, cx).map(Err),
            None => Poll::Pending,
        }
    })
    .await
}

/// Rings when something has been waiting for too long.
#[derive(Default)]
struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    fn poll(&mut self, since: Instant, cx: &mut Context<'_>) -> Poll<Stalled> {
        let due = since + PATIENCE;
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(due)));
        loop {
            // Set anew only when it rings: what flows would move it with every piece.
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(Stalled);
            }
            timer.as_mut().reset(due);
        }
    }
}

/// A connection that knows since when its socket takes nothing.
pub(super) struct Watched<I> {
    io: I,
    waiting: Arc<Waiting>,
}

impl<I> Watched<I> {
    pub(super) fn new(io: I, waiting: Arc<Waiting>) -> Self {
        Self { io, waiting }
    }

    fn note<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Pending if self.waiting.is_over() => self.waiting.begin(),
            Poll::Pending => {}
            Poll::Ready(_) => self.waiting.end(),
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.note(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        self.note(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.note(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.note(polled)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, into)
    }
}

#[cfg(test)]
mod tests;
