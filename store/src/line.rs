//! The line: etcd's one history, received once and handed to the collections.
//!
//! Owns the watch, the applied revision ([`Line::frontier`]) and the asks for etcd's revision.
//!
//! Invariants:
//! - One watch carries everything. Order by revision holds within one watch and never across two.
//! - The frontier moves only over complete revisions, and only after every event up to it has been
//!   pushed to its collection. A collection that has applied all it was pushed is therefore exact at
//!   the frontier.
//! - Within an epoch no revision is skipped. When etcd has compacted what a lost watch still needed,
//!   or another history has taken its place, a new epoch begins: collections are suspended first and
//!   list again.
//! - Receiving never waits for a collection: it only splits events by path.

mod ask;
pub(crate) mod assemble;
mod mark;
mod routes;
mod stream;
mod wait;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tracing::error;

use crate::etcd::{self, Client, Leases, pb};
use crate::metrics::StoreMetrics;
use crate::store::Reads;
use crate::tasks::Tasks;
use crate::trace::Tried;

use ask::Asks;
use routes::Routes;
use wait::Waiters;

pub(crate) use routes::Sink;

/// The key under which API servers agree on compactions; upstream's name, outside any prefix.
pub(crate) const COMPACT_KEY: &str = "compact_rev_key";

/// How long a reader waits for the watch alone before etcd is asked how far it is.
const QUIET: Duration = Duration::from_millis(5);
/// Between two progress requests: etcd may drop one while the watch is catching up.
const ASK_AGAIN: Duration = Duration::from_millis(25);
/// Between two lines in the log about a database that is full.
const FULL_AGAIN: Duration = Duration::from_secs(60);
/// Collections listed at once: bounds the memory of responses in flight while all start together.
const PARALLEL_LOADS: usize = 4;

/// One event of one collection.
#[derive(Clone, Debug)]
pub(crate) struct RawEvent {
    /// Below the collection's prefix.
    pub(crate) key: Box<str>,
    pub(crate) revision: i64,
    /// What was put, as etcd holds it; `None` for a deletion. A copy: a slice would keep the whole
    /// response that it came in, up to megabytes, for as long as it waits.
    pub(crate) value: Option<Bytes>,
}

/// Events of one collection, in order; no revision continues in the next batch.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// Every event up to this revision was in earlier batches.
    pub(crate) after: i64,
    pub(crate) events: Vec<RawEvent>,
}

/// A stretch of unbroken history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Epoch {
    /// 0 until the first watch stands.
    pub(crate) number: u64,
    /// The history before this epoch is not the past of this one: another cluster, or one restored
    /// from a backup.
    pub(crate) replaced: bool,
}

/// What [`Line::reach`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reach {
    Reached,
    /// The watch says nothing and may not be asked: etcd itself must answer.
    Silent,
    /// The deadline passed.
    TimedOut,
}

pub(crate) struct Line {
    pub(crate) client: Client,
    /// Begins and ends with a slash.
    pub(crate) prefix: Box<str>,
    pub(crate) leases: Leases,
    pub(crate) metrics: StoreMetrics,
    /// GETs that read etcd directly at the moment.
    pub(crate) lone: AtomicUsize,
    pub(crate) reads: Reads,
    /// Permits for listing whole collections.
    pub(crate) loads: Semaphore,
    asks: Asks,
    frontier: AtomicI64,
    /// The newest compaction seen in [`COMPACT_KEY`].
    compacted: AtomicI64,
    epoch: watch::Sender<Epoch>,
    routes: RwLock<Routes>,
    waiters: Waiters,
    /// A reader waits for a revision that the watch does not show.
    progress_wanted: Notify,
    progress_true: AtomicBool,
    range_stream: AtomicBool,
    /// Something does not fit together: the stream starts over and checks.
    doubt: Notify,
    /// When it was last logged that etcd's database is full.
    full: Mutex<Option<Instant>>,
    start: Instant,
    /// Milliseconds after `start` of the last response on the watch.
    heard: AtomicU64,
}

impl Line {
    /// Starts following etcd.
    pub(crate) fn start(
        client: Client,
        prefix: &str,
        lease_reuse: i64,
        reads: Reads,
        tasks: &dyn Tasks,
    ) -> Arc<Self> {
        let line = Arc::new(Self {
            client,
            prefix: prefix.into(),
            leases: Leases::new(lease_reuse),
            reads,
            metrics: StoreMetrics::default(),
            lone: AtomicUsize::new(0),
            loads: Semaphore::new(PARALLEL_LOADS),
            asks: Asks::default(),
            frontier: AtomicI64::new(0),
            compacted: AtomicI64::new(0),
            epoch: watch::Sender::new(Epoch {
                number: 0,
                replaced: false,
            }),
            routes: RwLock::default(),
            waiters: Waiters::default(),
            progress_wanted: Notify::new(),
            progress_true: AtomicBool::new(false),
            range_stream: AtomicBool::new(false),
            doubt: Notify::new(),
            full: Mutex::default(),
            start: Instant::now(),
            heard: AtomicU64::new(0),
        });
        tasks.spawn("etcd-watch", stream::run(Arc::clone(&line)).boxed());
        for _ in 0..ask::IN_FLIGHT {
            let line = Arc::clone(&line);
            tasks.spawn(
                "etcd-asks",
                async move { line.asks.serve(|| line.send_ask()).await }.boxed(),
            );
        }
        line
    }

    /// The revision up to which every event has been pushed to its collection.
    pub(crate) fn frontier(&self) -> i64 {
        self.frontier.load(Ordering::Acquire)
    }

    /// The newest compaction that is known of; 0 before one is.
    pub(crate) fn compacted(&self) -> i64 {
        self.compacted.load(Ordering::Relaxed)
    }

    pub(crate) fn saw_compaction(&self, revision: i64) {
        self.compacted.fetch_max(revision, Ordering::Relaxed);
    }

    pub(crate) fn epochs(&self) -> watch::Receiver<Epoch> {
        self.epoch.subscribe()
    }

    /// Whether lists may be streamed from the member in use.
    pub(crate) fn range_stream(&self) -> bool {
        self.reads.streams && self.range_stream.load(Ordering::Relaxed)
    }

    pub(crate) fn no_range_stream(&self) {
        self.range_stream.store(false, Ordering::Relaxed);
    }

    /// Registers a collection for the keys below `path` (relative to the prefix, no slash at its end).
    /// Events that happen after this returns are pushed to it.
    ///
    /// # Errors
    /// When the path is taken.
    pub(crate) fn route(&self, path: &str, sink: Arc<dyn Sink>) -> Result<(), PathTaken> {
        self.routes.write().insert(path, sink)
    }

    pub(crate) fn unroute(&self, path: &str) {
        self.routes.write().remove(path);
    }

    /// etcd's revision now: no write that finished before this call has a higher one.
    pub(crate) async fn ask(&self) -> Result<i64, Arc<etcd::Error>> {
        self.metrics.asked.inc();
        let tried = Tried::begin(|| self.client.asked());
        let answer = self.asks.join().await;
        // How it failed, if it did, is told by whoever called.
        if answer.is_ok() {
            tried.ended(&Ok(()));
        }
        answer
    }

    /// A linearizable read of one absent key: its header tells the revision at the cost of no data.
    async fn send_ask(&self) -> Result<i64, etcd::Error> {
        self.metrics.asks.inc();
        let reached = self.frontier();
        let response = self.client.range(self.ask_request()).await;
        match response.and_then(|r| revision(r.header.as_ref())) {
            Ok(revision) if revision < reached => {
                self.doubt.notify_one();
                Err(etcd::Error::OtherCluster)
            }
            Err(etcd::Error::OtherCluster) => {
                self.doubt.notify_one();
                Err(etcd::Error::OtherCluster)
            }
            other => other,
        }
    }

    fn ask_request(&self) -> pb::RangeRequest {
        // The prefix itself ends in a slash, so no object can have it as its key.
        pb::RangeRequest {
            key: Bytes::copy_from_slice(self.prefix.as_bytes()),
            ..Default::default()
        }
    }

    /// Waits until everything up to `revision` has been pushed to the collections.
    pub(crate) async fn reach(&self, revision: i64, deadline: Instant) -> Reach {
        if self.frontier() >= revision {
            return Reach::Reached;
        }
        let mut arrival = self.waiters.register(revision);
        // Once more: it may have moved before the registration.
        if self.frontier() >= revision {
            return Reach::Reached;
        }
        let mut pause = QUIET;
        loop {
            let until = (Instant::now() + pause).min(deadline);
            if tokio::time::timeout_at(until, arrival.arrived())
                .await
                .is_ok()
            {
                return Reach::Reached;
            }
            if until == deadline {
                return Reach::TimedOut;
            }
            if self.progress_true.load(Ordering::Relaxed) {
                self.progress_wanted.notify_one();
                pause = ASK_AGAIN;
            } else if self.silent_for() >= QUIET {
                return Reach::Silent;
            }
        }
    }

    /// Counts and logs a write that etcd has no room for. Reads and watches go on.
    pub(crate) fn noted<T>(&self, written: Result<T, etcd::Error>) -> Result<T, etcd::Error> {
        if let Err(etcd::Error::NoSpace) = &written {
            self.metrics.no_space.inc();
            let (mut last, now) = (self.full.lock(), Instant::now());
            if last.is_none_or(|at| now.duration_since(at) >= FULL_AGAIN) {
                *last = Some(now);
                error!(
                    "etcd's database has reached its quota and takes no writes until somebody compacts, \
                     defragments and disarms the alarm"
                );
            }
        }
        written
    }

    fn hear(&self) {
        self.heard
            .store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn silent_for(&self) -> Duration {
        self.start
            .elapsed()
            .saturating_sub(Duration::from_millis(self.heard.load(Ordering::Relaxed)))
    }

    /// Hands events over and moves the frontier; `applied` is the revision that is complete with them.
    pub(crate) fn deliver(&self, events: Vec<pb::Event>, applied: i64) {
        let after = self.frontier();
        if !events.is_empty() {
            self.metrics.events.add(events.len() as u64);
            let split = self
                .routes
                .read()
                .split(&self.prefix, events, |key, value| self.foreign(key, value));
            for (sink, events) in split {
                sink.push(Batch { after, events });
            }
        }
        if applied > after {
            self.frontier.store(applied, Ordering::Release);
            self.waiters.wake(applied);
        }
    }

    /// A key that belongs to no collection.
    fn foreign(&self, key: &[u8], value: Option<&Bytes>) {
        self.metrics.foreign_events.inc();
        if key == COMPACT_KEY.as_bytes()
            && let Some(revision) = value.and_then(|v| std::str::from_utf8(v).ok()?.parse().ok())
        {
            self.saw_compaction(revision);
        }
    }

    /// Begins an epoch: every event after `start` will be pushed.
    pub(crate) fn begin(&self, start: i64, replaced: bool) {
        let epoch = Epoch {
            number: self.epoch.borrow().number + 1,
            replaced,
        };
        self.metrics.epochs.inc();
        // Held to the end: a collection that registers meanwhile is either suspended with the others or
        // sees the new epoch, and none reads the old frontier as its own.
        let routes = self.routes.read();
        for sink in routes.sinks() {
            sink.suspend(epoch);
        }
        if replaced {
            self.compacted.store(0, Ordering::Relaxed);
        }
        self.frontier.store(start, Ordering::Release);
        self.epoch.send_replace(epoch);
        drop(routes);
        self.waiters.wake(start);
    }
}

/// Two collections for one path.
#[derive(thiserror::Error, Debug, PartialEq, Eq)]
#[error("another collection has the path {0:?}")]
pub struct PathTaken(pub(crate) String);

/// The revision in a header.
pub(crate) fn revision(header: Option<&pb::ResponseHeader>) -> Result<i64, etcd::Error> {
    header
        .map(|h| h.revision)
        .ok_or(etcd::Error::Protocol("an answer without a header"))
}
