//! The timer of a watch.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::time::{Instant, Sleep, sleep_until};

/// Wakes a watch when something is due without an event.
///
/// To look at a timer costs as much as all else that a watch does when it is woken, and it is woken for every event. So the
/// timer is left alone while it stands at the right time and wakes the right task.
#[derive(Default)]
pub(super) struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
    set: Option<Set>,
}

struct Set {
    at: Instant,
    wakes: Waker,
}

impl Alarm {
    /// Waits until `due`, which may be another one each time. It is `now`.
    pub(super) fn poll(&mut self, due: Instant, now: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if due <= now {
            return Poll::Ready(());
        }
        let is_set = |set: &Set| set.at == due && set.wakes.will_wake(cx.waker());
        if self.set.as_ref().is_some_and(is_set) {
            return Poll::Pending;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        let polled = timer.as_mut().poll(cx);
        self.set = polled.is_pending().then(|| Set {
            at: due,
            wakes: cx.waker().clone(),
        });
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_rings_at_the_time_that_is_asked_for_last() {
        let (start, mut alarm) = (Instant::now(), Alarm::default());
        let second = |n| start + Duration::from_secs(n);
        let noop = &mut Context::from_waker(Waker::noop());
        assert!(alarm.poll(second(50), start, noop).is_pending());
        // Another task, then an earlier and a later time.
        for (due, before) in [(50, 20), (30, 25), (40, 35)] {
            let waited = timeout(
                second(before) - Instant::now(),
                poll_fn(|cx| alarm.poll(second(due), Instant::now(), cx)),
            );
            assert!(waited.await.is_err(), "{due} comes after {before}");
        }
        poll_fn(|cx| alarm.poll(second(40), Instant::now(), cx)).await;
        assert_eq!(Instant::now(), second(40));
        assert!(
            alarm.poll(second(40), Instant::now(), noop).is_ready(),
            "it stays so"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_woken_by_something_else_meanwhile_is_woken_all_the_same() {
        let (due, mut alarm) = (Instant::now() + Duration::from_secs(60), Alarm::default());
        let mut events = tokio::time::interval(Duration::from_secs(7));
        let mut seen = 0;
        poll_fn(|cx| {
            while events.poll_tick(cx).is_ready() && seen < 5 {
                seen += 1;
            }
            alarm.poll(due, Instant::now(), cx)
        })
        .await;
        assert_eq!((seen, Instant::now()), (5, due));
    }
}
