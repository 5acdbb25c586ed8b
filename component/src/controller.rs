//! The one runner of controllers.
//!
//! `reconcile(key)` is level-triggered: it reads caches, never the event that woke it, and says when
//! it wants to look again. Retry, back-off, concurrency, spans and metrics are here and nowhere else.
//! Workers start once the caches they read have synced; they end at shutdown after the key they are
//! at, before the caches stop.

use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::queue::{Item, Queue};
use crate::supervisor::{Supervisor, Task};

/// What a reconciliation asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Nothing until the next event.
    Done,
    /// Another look after that time, whatever happens.
    After(Duration),
    /// Another look soon, as if it had failed: something that it waits for is on its way.
    Again,
}

/// A controller: a queue of keys and what to do with one.
pub struct Controller<T, R> {
    /// A stable name, upstream's: `deployment-controller`.
    pub name: &'static str,
    /// Keys in work at the same time.
    pub workers: usize,
    pub queue: Queue<T>,
    pub reconcile: R,
}

impl<T, R, F, E> Controller<T, R>
where
    T: Item + Display,
    R: Fn(T) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Next, E>> + Send + 'static,
    E: Display + Send + 'static,
{
    /// Starts the workers, which wait for `synced` first (`informers.synced()`).
    pub fn start(self, tasks: &Supervisor, synced: impl Future<Output = ()> + Send + 'static) {
        let Self {
            name,
            workers,
            queue,
            reconcile,
        } = self;
        // Of one type, so that the loop is made once and not for each controller.
        let reconcile: Arc<Reconcile<T>> = Arc::new(move |key| {
            let looked = reconcile(key);
            async move { looked.await.map_err(|e| e.to_string()) }.boxed()
        });
        let synced = synced.boxed().shared();
        for number in 0..workers {
            let (queue, reconcile, synced) =
                (queue.clone(), Arc::clone(&reconcile), synced.clone());
            tasks.spawn_graceful(
                Task::Worker,
                format!("{name}/{number}"),
                |stop| async move {
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        () = synced => {}
                    }
                    work(name, &queue, &*reconcile, &stop).await;
                },
            );
        }
    }
}

type Reconcile<T> = dyn Fn(T) -> BoxFuture<'static, Result<Next, String>> + Send + Sync;

async fn work<T: Item + Display>(
    name: &'static str,
    queue: &Queue<T>,
    reconcile: &Reconcile<T>,
    stop: &CancellationToken,
) {
    loop {
        let taken = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            taken = queue.take() => taken,
        };
        let Some(key) = taken else { return };
        let span = tracing::info_span!("reconcile", controller = name, object.r#ref = %*key);
        let done = AssertUnwindSafe(async { reconcile(key.clone()).await })
            .catch_unwind()
            .instrument(span.clone())
            .await;
        let _in = span.enter();
        match done {
            Ok(Ok(Next::Done)) => queue.forget(&key),
            Ok(Ok(Next::After(delay))) => {
                queue.forget(&key);
                queue.add_after(key.clone(), delay);
            }
            Ok(Ok(Next::Again)) => queue.add_failed(key.clone()),
            Ok(Err(e)) => {
                tracing::warn!(
                    error = e,
                    failures = queue.failures(&key) + 1,
                    "Reconciliation failed"
                );
                queue.add_failed(key.clone());
            }
            Err(_) => {
                // The panic itself was printed by its hook.
                tracing::error!("Reconciliation panicked");
                queue.add_failed(key.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::supervisor::Shutdown;
    use parking_lot::Mutex;
    use tokio::sync::oneshot;
    use tokio::time::Instant;

    fn started<F>(
        reconcile: impl Fn(String) -> F + Send + Sync + 'static,
    ) -> (Supervisor, Queue<String>)
    where
        F: Future<Output = Result<Next, String>> + Send + 'static,
    {
        let tasks = Supervisor::current();
        let queue = Queue::new("test", &Metrics::new());
        Controller {
            name: "test",
            workers: 2,
            queue: queue.clone(),
            reconcile,
        }
        .start(&tasks, async {});
        (tasks, queue)
    }

    #[tokio::test(start_paused = true)]
    async fn work_begins_only_when_the_caches_have_synced() {
        let tasks = Supervisor::current();
        let queue = Queue::new("test", &Metrics::new());
        let (synced, wait) = oneshot::channel::<()>();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&seen);
        let reconcile = move |key: String| {
            note.lock().push(key);
            async { Ok::<_, String>(Next::Done) }
        };
        Controller {
            name: "test",
            workers: 2,
            queue: queue.clone(),
            reconcile,
        }
        .start(&tasks, async {
            let _ = wait.await;
        });
        queue.add("a".to_owned());
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(seen.lock().is_empty());
        synced.send(()).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(*seen.lock(), ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_or_a_panic_brings_the_key_back_and_success_forgets_it() {
        let outcomes = Mutex::new(vec![
            Err("no".to_owned()),
            Err("panic".to_owned()),
            Ok(Next::Again),
            Ok(Next::Done),
        ]);
        let (_tasks, queue) = started(move |_| {
            let outcome = outcomes.lock().remove(0);
            async move {
                assert_ne!(outcome, Err("panic".to_owned()), "wanted");
                outcome
            }
        });
        queue.add("a".to_owned());
        tokio::time::sleep(Duration::from_millis(17)).await;
        assert_eq!(
            queue.failures(&"a".to_owned()),
            3,
            "after 5 and 10 ms, waiting for 20"
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(queue.failures(&"a".to_owned()), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_looked_at_again_when_it_asks_for_it() {
        let looks = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&looks);
        let start = Instant::now();
        let (_tasks, queue) = started(move |_| {
            note.lock().push(start.elapsed().as_secs());
            async { Ok(Next::After(Duration::from_secs(30))) }
        });
        queue.add("a".to_owned());
        tokio::time::sleep(Duration::from_secs(95)).await;
        assert_eq!(*looks.lock(), [0, 30, 60, 90]);
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_lets_the_key_in_work_finish_and_takes_no_other() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&seen);
        let (tasks, queue) = started(move |key| {
            let note = Arc::clone(&note);
            async move {
                tokio::time::sleep(Duration::from_secs(3)).await;
                note.lock().push(key);
                Ok(Next::Done)
            }
        });
        for key in ["a", "b", "c"] {
            queue.add(key.to_owned());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        tasks.stop();
        tasks.finished(Shutdown::default()).await.unwrap();
        assert_eq!(*seen.lock(), ["a", "b"]);
    }
}
