//! Answers that their connection carries.
//!
//! In HTTP/2 each answer is a task, so that one that takes long to make holds up no other. A watch is another thing: once it has
//! sent what there was, it says a little when something happens, and so do the watches beside it, of the same event. As tasks
//! they would all be woken, would contend for their connection from every thread, and would wake it, one after the other. So an
//! answer that says that it is [`Quiet`] comes aboard when it first has nothing to say: from then on the task of its connection
//! asks it for more, and writes what all of them say at once.
//!
//! HTTP/2 wakes an answer by that answer's own turn: what it hands over takes the room that it had, and the room that it then
//! asks for comes at once. It looks for more in the same turn, so another would be for nothing. So an answer says when it looks
//! ([`Waiting::look`]): what woke it before that is seen.
//!
//! Invariants: an answer is in one place, its own task or here; it is asked once when it comes, so that nothing that woke its
//! task is lost; it ends with its connection; one that panics ends alone.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::FutureExt;
use futures::task::AtomicWaker;
use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::task::coop::unconstrained;

use super::stall::{Waiting, carry};

/// Among the extensions of an answer: what it says after it has first had nothing to say is little, and quickly made. In HTTP/2
/// the task of its connection carries it then.
#[derive(Clone, Copy, Debug)]
pub struct Quiet;

type Answer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One on its way aboard.
struct Coming {
    answer: Answer,
    waiting: Arc<Waiting>,
}

/// Where answers come aboard a connection, and where those that are woken say so.
struct Entrance {
    /// As many as a connection has streams at most. None once the connection is over.
    coming: Mutex<Option<Vec<Coming>>>,
    /// The places of answers that were woken; some may have looked since.
    woken: Mutex<Vec<usize>>,
    /// The answers have their turns, after which it is seen who was woken meanwhile: the task need not be.
    turns: AtomicBool,
    /// The connection's.
    task: AtomicWaker,
}

impl Entrance {
    /// Hands an answer over; `Err` if there is no connection any more.
    fn enter(&self, answer: Coming) -> Result<(), Coming> {
        match &mut *self.coming.lock() {
            Some(coming) => coming.push(answer),
            None => return Err(answer),
        }
        self.task.wake();
        Ok(())
    }
}

/// Starts the tasks of an HTTP/2 connection, most of which carry an answer each.
#[derive(Clone)]
pub(super) struct Carriers {
    entrance: Arc<Entrance>,
    /// Answers that ended because nothing was taken.
    stalled: Counter,
}

impl<F> Executor<F> for Carriers
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, work: F) {
        let (entrance, stalled) = (Arc::clone(&self.entrance), self.stalled.clone());
        let waiting = Arc::new(Waiting::default());
        let carried = carry(work, Arc::clone(&waiting), None);
        let mut answer: Answer = Box::pin(async move {
            if carried.await.is_err() {
                stalled.inc();
            }
        });
        TokioExecutor::new().execute(async move {
            let settled = poll_fn(|cx| match answer.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(false),
                Poll::Pending if waiting.take_settled() => Poll::Ready(true),
                Poll::Pending => Poll::Pending,
            });
            if settled.await
                && let Err(coming) = entrance.enter(Coming { answer, waiting })
            {
                // It will find that out itself.
                coming.answer.await;
            }
        });
    }
}

/// The answers that a connection carries. Asked for more at every turn of the connection's task, before the connection itself.
pub(super) struct Aboard {
    entrance: Arc<Entrance>,
    places: Vec<Option<Carried>>,
    /// Places without an answer.
    free: Vec<usize>,
    /// Those who have their turn; empty between two.
    now: Vec<usize>,
}

struct Carried {
    answer: Answer,
    waiting: Arc<Waiting>,
    waker: Waker,
}

/// Wakes one answer.
struct Bell {
    place: usize,
    waiting: Arc<Waiting>,
    entrance: Arc<Entrance>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.waiting.ring() {
            self.entrance.woken.lock().push(self.place);
            if !self.entrance.turns.load(Ordering::SeqCst) {
                self.entrance.task.wake();
            }
        }
    }
}

impl Aboard {
    /// Of a new connection, with what starts its tasks. `stalled` counts answers that end because nothing is taken.
    pub(super) fn new(stalled: Counter) -> (Self, Carriers) {
        let entrance = Arc::new(Entrance {
            coming: Mutex::new(Some(Vec::new())),
            woken: Mutex::new(Vec::new()),
            turns: AtomicBool::new(false),
            task: AtomicWaker::new(),
        });
        let aboard = Self {
            entrance: Arc::clone(&entrance),
            places: Vec::new(),
            free: Vec::new(),
            now: Vec::new(),
        };
        (aboard, Carriers { entrance, stalled })
    }

    /// Lets those say more that were woken, each once, so that the connection writes what they all say: whoever is woken after
    /// it has looked has the next turn. The task is woken when others are.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        self.entrance.task.register(cx.waker());
        self.entrance.turns.store(true, Ordering::SeqCst);
        let coming = self.entrance.coming.lock().as_mut().map(std::mem::take);
        for answer in coming.into_iter().flatten() {
            self.seat(answer);
        }
        std::mem::swap(&mut self.now, &mut *self.entrance.woken.lock());
        let mut now = std::mem::take(&mut self.now);
        for place in now.drain(..) {
            self.turn(place);
        }
        self.now = now;
        // Whoever is woken from here on wakes the task; the others are among these.
        self.entrance.turns.store(false, Ordering::SeqCst);
        let mut woken = self.entrance.woken.lock();
        woken.retain(|place| {
            let carried = self.places.get(*place).and_then(Option::as_ref);
            carried.is_some_and(|carried| carried.waiting.is_rung())
        });
        if !woken.is_empty() {
            cx.waker().wake_by_ref();
        }
    }

    /// Asks the answer of a place for more, if it is there and has not looked since it was woken.
    fn turn(&mut self, place: usize) {
        let Some(carried) = self.places.get_mut(place).and_then(Option::as_mut) else {
            return; // it ended, and somebody still had its waker
        };
        if !carried.waiting.look() {
            return;
        }
        let Carried { answer, waker, .. } = carried;
        // The budget of a task is for one answer, and here are many: what bounds each is what its stream may hold.
        let mut turn = unconstrained(answer.as_mut());
        let mut turn = AssertUnwindSafe(&mut turn).catch_unwind();
        if turn.poll_unpin(&mut Context::from_waker(waker)).is_ready() {
            self.places[place] = None;
            self.free.push(place);
        }
    }

    /// Gives an answer a place, and its first turn.
    fn seat(&mut self, Coming { answer, waiting }: Coming) {
        let place = self.free.pop().unwrap_or(self.places.len());
        let bell = Arc::new(Bell {
            place,
            waiting: Arc::clone(&waiting),
            entrance: Arc::clone(&self.entrance),
        });
        let waker = Waker::from(Arc::clone(&bell));
        waiting.look();
        bell.wake_by_ref();
        let carried = Some(Carried {
            answer,
            waiting,
            waker,
        });
        match self.places.get_mut(place) {
            Some(free) => *free = carried,
            None => self.places.push(carried),
        }
    }
}

impl Drop for Aboard {
    fn drop(&mut self) {
        // They know the entrance; it must not know them.
        let coming = self.entrance.coming.lock().take();
        drop(coming);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Notify;

    use super::*;

    /// What an answer does when it is woken after it settled.
    #[derive(Clone, Copy, PartialEq)]
    enum Then {
        Ends,
        Panics,
    }

    /// An answer that settles at once; `turns` counts how often it was asked for more.
    async fn answer(turns: Arc<AtomicUsize>, wake: Arc<Notify>, then: Then) {
        let mut woken = std::pin::pin!(wake.notified());
        poll_fn(|cx| {
            turns.fetch_add(1, Ordering::Relaxed);
            if turns.load(Ordering::Relaxed) == 1 {
                Waiting::carried().expect("it is carried").settle();
            }
            woken.as_mut().poll(cx)
        })
        .await;
        assert!(then == Then::Ends, "it panics");
    }

    /// The connection's task, until `enough` says so.
    async fn turn(aboard: &mut Aboard, enough: impl Fn(&Aboard) -> bool) {
        poll_fn(|cx| {
            aboard.poll(cx);
            match enough(aboard) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    impl Aboard {
        fn count(&self) -> usize {
            self.places.iter().flatten().count()
        }
    }

    #[tokio::test]
    async fn who_wakes_itself_waits_until_the_others_had_their_turn() {
        let (mut aboard, carriers) = Aboard::new(Counter::default());
        let turns: [Arc<AtomicUsize>; 8] = Default::default();
        for turns in &turns {
            let turns = turns.clone();
            carriers.execute(poll_fn(move |cx| {
                Waiting::carried().expect("it is carried").settle();
                // Once by its own task.
                if turns.fetch_add(1, Ordering::Relaxed) > 0 {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }));
        }
        for _ in 0..turns.len() {
            tokio::task::yield_now().await;
        }
        let had = || turns.each_ref().map(|turns| turns.load(Ordering::Relaxed));
        for turn in 2..5 {
            aboard.poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(had(), [turn; 8]);
        }
    }

    #[tokio::test]
    async fn who_looks_after_it_was_woken_needs_no_other_turn() {
        let (mut aboard, carriers) = Aboard::new(Counter::default());
        let (turns, wake) = (Arc::<AtomicUsize>::default(), Arc::<AtomicWaker>::default());
        let (counted, kept) = (turns.clone(), wake.clone());
        carriers.execute(poll_fn(move |cx| {
            let waiting = Waiting::carried().expect("it is carried");
            counted.fetch_add(1, Ordering::Relaxed);
            cx.waker().wake_by_ref();
            waiting.look();
            waiting.settle();
            kept.register(cx.waker());
            Poll::Pending
        }));
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        let asked_again = Arc::new(Asked::default());
        let waker = Waker::from(asked_again.clone());
        let mut poll = |turns_now| {
            aboard.poll(&mut Context::from_waker(&waker));
            assert_eq!(turns.load(Ordering::Relaxed), turns_now);
        };
        // Its task had some: each time it woke itself.
        let before = turns.load(Ordering::Relaxed);
        poll(before + 1);
        poll(before + 1);
        assert_eq!(asked_again.0.load(Ordering::Relaxed), 0);
        wake.wake();
        assert_eq!(asked_again.0.load(Ordering::Relaxed), 1);
        poll(before + 2);
    }

    #[derive(Default)]
    struct Asked(AtomicUsize);

    impl Wake for Asked {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn an_answer_that_settled_is_carried_by_its_connection() {
        let (mut aboard, carriers) = Aboard::new(Counter::default());
        let (turns, wake) = (Arc::<AtomicUsize>::default(), Arc::<Notify>::default());
        carriers.execute(answer(turns.clone(), wake.clone(), Then::Ends));
        turn(&mut aboard, |aboard| aboard.count() == 1).await;
        // Once by its task and once when it came aboard.
        assert_eq!(turns.load(Ordering::Relaxed), 2);
        wake.notify_one();
        tokio::task::yield_now().await;
        assert_eq!(turns.load(Ordering::Relaxed), 2, "no other task has it");
        turn(&mut aboard, |aboard| aboard.count() == 0).await;
        assert_eq!(turns.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn an_answer_that_does_not_settle_stays_a_task() {
        let (mut aboard, carriers) = Aboard::new(Counter::default());
        let (begun, done) = (Arc::<Notify>::default(), Arc::<Notify>::default());
        let (waits, says) = (begun.clone(), done.clone());
        carriers.execute(async move {
            waits.notified().await;
            says.notify_one();
        });
        tokio::task::yield_now().await;
        begun.notify_one();
        done.notified().await;
        aboard.poll(&mut Context::from_waker(Waker::noop()));
        assert!(aboard.count() == 0);
    }

    #[tokio::test]
    async fn one_that_panics_ends_alone() {
        let (mut aboard, carriers) = Aboard::new(Counter::default());
        let wakes: [Arc<Notify>; 2] = Default::default();
        for (wake, then) in wakes.iter().zip([Then::Panics, Then::Ends]) {
            carriers.execute(answer(Arc::default(), wake.clone(), then));
        }
        turn(&mut aboard, |aboard| aboard.count() == 2).await;
        wakes[0].notify_one();
        turn(&mut aboard, |aboard| aboard.count() == 1).await;
        wakes[1].notify_one();
        turn(&mut aboard, |aboard| aboard.count() == 0).await;
    }

    #[tokio::test]
    async fn answers_end_with_their_connection() {
        let (mut aboard, carriers) = Aboard::new(Counter::default());
        let turns: [Arc<AtomicUsize>; 2] = Default::default();
        let execute = |turns: &Arc<AtomicUsize>| {
            carriers.execute(answer(turns.clone(), Arc::default(), Then::Ends));
        };
        execute(&turns[0]);
        turn(&mut aboard, |aboard| aboard.count() == 1).await;
        // This one is at the entrance.
        execute(&turns[1]);
        tokio::task::yield_now().await;
        drop(aboard);
        assert!(turns.iter().all(|turns| Arc::strong_count(turns) == 1));
    }
}
