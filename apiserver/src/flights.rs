//! Calls that are made once for all that wait for the same answer.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;

use futures::FutureExt;
use futures::future::{Shared, WeakShared};
use parking_lot::Mutex;

type Call<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The calls that somebody waits for.
pub(crate) struct Flights<K, T: Clone>(Mutex<HashMap<K, WeakShared<Call<T>>>>);

impl<K, T: Clone> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash, T: Clone> Flights<K, T> {
    /// What the call for this key is answered: the one that is under way, or the one that `call` makes.
    pub(crate) async fn join<F>(&self, key: &K, call: impl FnOnce() -> F) -> T
    where
        F: Future<Output = T> + Send + 'static,
    {
        let running = {
            let mut all = self.0.lock();
            match all.get(key).and_then(WeakShared::upgrade) {
                Some(running) => running,
                None => {
                    let call: Call<T> = Box::pin(call());
                    let running = call.shared();
                    if let Some(weak) = running.downgrade() {
                        all.insert(key.clone(), weak);
                    }
                    running
                }
            }
        };
        let waiting = Waiting {
            all: self,
            key,
            running: Some(running.clone()),
        };
        let answer = running.await;
        drop(waiting);
        answer
    }
}

#[cfg(test)]
impl<K, T: Clone> Flights<K, T> {
    /// Whether nobody waits for anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

/// One that waits. The last that goes takes the call with it.
struct Waiting<'a, K: Clone + Eq + Hash, T: Clone> {
    all: &'a Flights<K, T>,
    key: &'a K,
    running: Option<Shared<Call<T>>>,
}

impl<K: Clone + Eq + Hash, T: Clone> Drop for Waiting<'_, K, T> {
    fn drop(&mut self) {
        // Outside the lock: what the call holds is dropped with it.
        drop(self.running.take());
        let mut all = self.all.0.lock();
        let over = |of: &WeakShared<Call<T>>| of.upgrade().is_none_or(|call| call.peek().is_some());
        if all.get(self.key).is_some_and(over) {
            all.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_call_answers_all_that_wait() {
        let flights = Flights::<u8, usize>::default();
        let calls = AtomicUsize::new(0);
        let (open, gate) = tokio::sync::watch::channel(false);
        let call = || {
            let (number, mut gate) = (calls.fetch_add(1, Ordering::Relaxed), gate.clone());
            async move {
                gate.wait_for(|open| *open).await.unwrap();
                number
            }
        };
        let all = futures::future::join_all((0..10).map(|_| flights.join(&0, call)));
        let (all, ()) = tokio::join!(all, async {
            tokio::task::yield_now().await;
            open.send(true).unwrap();
        });
        assert_eq!(all, [0; 10]);
        // Who comes later makes another.
        assert_eq!(flights.join(&0, call).await, 1);
        assert!(flights.is_empty());
    }

    #[tokio::test]
    async fn a_call_that_nobody_waits_for_is_gone() {
        let flights = Flights::<u8, ()>::default();
        let waited = flights.join(&0, std::future::pending);
        assert!(
            tokio::time::timeout(Duration::from_millis(10), waited)
                .await
                .is_err()
        );
        assert!(flights.is_empty());
        flights.join(&0, || async {}).await;
    }
}
