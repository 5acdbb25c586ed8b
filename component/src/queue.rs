//! The work queue: keys to look at, each once.
//!
//! What `k8s.io/client-go/util/workqueue` guarantees: a key that is added many times before it is
//! taken is taken once; a key is never worked on twice at the same time; a key that is added while it
//! is worked on is taken again afterwards; keys may be added for later; a key that failed comes back
//! after a time that grows with its failures.
//!
//! There is no task and no tick: whoever waits for a key waits for the next deadline too.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::client::RateLimit;
use crate::metrics::{Metrics, QueueMetrics};

/// What a queue can hold: cheap to clone.
pub trait Item: Clone + Eq + Hash + Send + Sync + 'static {}

impl<T: Clone + Eq + Hash + Send + Sync + 'static> Item for T {}

/// How long keys that failed wait.
#[derive(Clone, Debug)]
pub struct Retry {
    /// After the first failure; doubled with each.
    pub first: Duration,
    pub most: Duration,
    /// What all keys of the queue share on top.
    pub overall: RateLimit,
}

impl Default for Retry {
    /// Client-go's: 5 ms to 1000 s for a key; 10 per second, 100 at once for all.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(5),
            most: Duration::from_secs(1000),
            overall: RateLimit::new(10.0, 100),
        }
    }
}

/// A queue of keys; cheap to clone.
pub struct Queue<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Notify,
    retry: Retry,
    metrics: QueueMetrics,
}

struct State<T> {
    /// Keys to be taken, with the time of their adding.
    ready: VecDeque<(T, Instant)>,
    /// Keys that are in `ready`, or that are to be again when they are done.
    dirty: HashMap<T, Instant>,
    in_work: HashMap<T, Instant>,
    /// Keys for later, by time; the number keeps those of one time apart.
    later: BTreeMap<(Instant, u64), T>,
    /// Where a key is in `later`.
    due: HashMap<T, (Instant, u64)>,
    numbers: u64,
    failures: HashMap<T, u32>,
    stopped: bool,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T: Item> Queue<T> {
    /// A queue with client-go's rates; `name` is its name in metrics.
    #[must_use]
    pub fn new(name: &str, metrics: &Metrics) -> Self {
        Self::with_retry(name, metrics, Retry::default())
    }

    #[must_use]
    pub fn with_retry(name: &str, metrics: &Metrics, retry: Retry) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashMap::new(),
            in_work: HashMap::new(),
            later: BTreeMap::new(),
            due: HashMap::new(),
            numbers: 0,
            failures: HashMap::new(),
            stopped: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Notify::new(),
            retry,
            metrics: metrics.queues().of(name),
        });
        let seen = Arc::downgrade(&shared);
        metrics.before_scrape(move || {
            if let Some(shared) = seen.upgrade() {
                shared.measure();
            }
        });
        Self { shared }
    }

    /// Adds a key, unless it is there already.
    pub fn add(&self, key: T) {
        let mut state = self.shared.state.lock();
        self.shared.add(&mut state, key, Instant::now());
    }

    /// Adds a key after a time; of several times for one key the earliest counts.
    pub fn add_after(&self, key: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let mut state = self.shared.state.lock();
        if !state.stopped && state.later(key, Instant::now() + delay) {
            // All who wait: the one that would keep this time in mind may give up.
            self.shared.changed.notify_waiters();
        }
    }

    /// Adds a key that failed, after a time that grows with its failures.
    pub fn add_failed(&self, key: T) {
        let retry = &self.shared.retry;
        let mut state = self.shared.state.lock();
        let failures = state.failures.entry(key.clone()).or_insert(0);
        // 2^31 times the first delay is beyond any limit.
        let own = retry
            .first
            .saturating_mul(1 << (*failures).min(31))
            .min(retry.most);
        *failures = failures.saturating_add(1);
        drop(state);
        self.shared.metrics.retries.inc();
        self.add_after(key, own.max(retry.overall.take()));
    }

    /// The key is well again: its next failure is the first.
    pub fn forget(&self, key: &T) {
        self.shared.state.lock().failures.remove(key);
    }

    /// How often the key failed since it was well.
    #[must_use]
    pub fn failures(&self, key: &T) -> u32 {
        self.shared
            .state
            .lock()
            .failures
            .get(key)
            .copied()
            .unwrap_or(0)
    }

    /// Takes the next key, waiting for one; none once the queue was stopped. The key is in work until
    /// the guard is dropped.
    pub async fn take(&self) -> Option<Taken<T>> {
        loop {
            // Registered before the look: what is added in between wakes this one, and if this one finds
            // something all the same, the next.
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            let wait = match self.look() {
                Look::Stopped => return None,
                Look::Taken(key) => {
                    return Some(Taken {
                        key,
                        queue: self.clone(),
                    });
                }
                Look::Until(deadline) => deadline,
            };
            match wait {
                Some(deadline) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(deadline) => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    fn look(&self) -> Look<T> {
        let now = Instant::now();
        let mut state = self.shared.state.lock();
        if state.stopped {
            return Look::Stopped;
        }
        while let Some(entry) = state.later.first_entry().filter(|e| e.key().0 <= now) {
            let key = entry.remove();
            state.due.remove(&key);
            self.shared.add(&mut state, key, now);
        }
        let Some((key, added)) = state.ready.pop_front() else {
            return Look::Until(state.later.first_key_value().map(|((at, _), _)| *at));
        };
        state.dirty.remove(&key);
        state.in_work.insert(key.clone(), now);
        self.shared
            .metrics
            .depth
            .set(i64::try_from(state.ready.len()).unwrap_or(i64::MAX));
        self.shared
            .metrics
            .waited
            .observe((now - added).as_secs_f64());
        Look::Taken(key)
    }

    /// Ends the queue: nothing is added or taken any more. Keys that wait are dropped, which is safe
    /// because whoever starts next looks at everything.
    pub fn stop(&self) {
        let mut state = self.shared.state.lock();
        state.stopped = true;
        state.ready.clear();
        state.dirty.clear();
        state.later.clear();
        state.due.clear();
        self.shared.metrics.depth.set(0);
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// Keys that wait to be taken now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.state.lock().ready.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn done(&self, key: &T) {
        let now = Instant::now();
        let mut state = self.shared.state.lock();
        if let Some(began) = state.in_work.remove(key) {
            self.shared
                .metrics
                .worked
                .observe((now - began).as_secs_f64());
        }
        if let Some(added) = state.dirty.get(key).copied() {
            state.ready.push_back((key.clone(), added));
            self.shared
                .metrics
                .depth
                .set(i64::try_from(state.ready.len()).unwrap_or(i64::MAX));
            self.shared.changed.notify_one();
        }
    }
}

enum Look<T> {
    Stopped,
    Taken(T),
    /// Nothing before that time.
    Until(Option<Instant>),
}

impl<T: Item> Shared<T> {
    fn add(&self, state: &mut State<T>, key: T, now: Instant) {
        if state.stopped || state.dirty.contains_key(&key) {
            return;
        }
        state.dirty.insert(key.clone(), now);
        self.metrics.adds.inc();
        if state.in_work.contains_key(&key) {
            return;
        }
        state.ready.push_back((key, now));
        self.metrics
            .depth
            .set(i64::try_from(state.ready.len()).unwrap_or(i64::MAX));
        self.changed.notify_one();
    }

    /// Writes the gauges of what is in work.
    fn measure(&self) {
        let now = Instant::now();
        let state = self.state.lock();
        let ages = state
            .in_work
            .values()
            .map(|began| (now - *began).as_secs_f64());
        let (sum, longest) = ages.fold((0.0, 0.0_f64), |(sum, longest), age| {
            (sum + age, longest.max(age))
        });
        self.metrics.unfinished.set(sum);
        self.metrics.longest.set(longest);
    }
}

impl<T: Item> State<T> {
    /// Notes a key for later, unless it is noted for an earlier time. Says whether it is the next now.
    fn later(&mut self, key: T, at: Instant) -> bool {
        if let Some(known) = self.due.get(&key).copied() {
            if known.0 <= at {
                return false;
            }
            self.later.remove(&known);
        }
        self.numbers += 1;
        self.due.insert(key.clone(), (at, self.numbers));
        self.later.insert((at, self.numbers), key);
        self.later
            .first_key_value()
            .is_some_and(|(first, _)| first.1 == self.numbers)
    }
}

/// A key in work; dropping it says that the work is done.
pub struct Taken<T: Item> {
    key: T,
    queue: Queue<T>,
}

impl<T: Item> Deref for Taken<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.key
    }
}

impl<T: Item> Drop for Taken<T> {
    fn drop(&mut self) {
        self.queue.done(&self.key);
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("ready", &self.shared.state.lock().ready.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
