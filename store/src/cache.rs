//! The cache of one collection: its objects now, its recent events, and how far it has got.
//!
//! Owns: the state that reads and watches are answered from, and the rules by which events change it.
//! [`load`](self::load) fills it, [`run`](self::run) keeps it going.
//!
//! Invariants:
//! - One task writes; readers take snapshots in O(1) and hold no lock while they use them.
//! - The state is only ever seen between two revisions, never inside one.
//! - The revision given out with a snapshot is exact: the snapshot holds everything up to it and
//!   nothing after it. It never goes back.

pub(crate) mod inbox;
mod load;
pub(crate) mod ring;
mod run;
mod state;
pub(crate) mod wake;
mod written;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use futures::FutureExt;
use parking_lot::RwLock;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::collection::{NotReady, ResourceConfig};
use crate::entry::{Decoder, Entry, Transformer, Undecodable};
use crate::line::{Batch, Epoch, Line, Reach, Sink};
use crate::metrics::CollectionMetrics;
use crate::objects::Objects;
use crate::tasks::Tasks;
use crate::watch::initial::Unsent;

use inbox::Inbox;
use ring::Slot;
pub(crate) use state::{Phase, State};
use wake::{Touched, Wakes};
use written::WrittenEntries;

/// The objects of one collection, in one order.
pub(crate) type Entries = Objects<Arc<Entry>>;

pub(crate) struct Cache {
    pub(crate) config: ResourceConfig,
    pub(crate) line: Arc<Line>,
    pub(crate) metrics: CollectionMetrics,
    pub(crate) wakes: Arc<Wakes>,
    pub(crate) state: RwLock<State>,
    /// What this process wrote a moment ago: its events need not be decoded again.
    pub(crate) written: WrittenEntries,
    pub(crate) unsent: Unsent,
    /// With the number of its generation.
    decoder: RwLock<(u64, Arc<dyn Decoder>)>,
    inbox: Inbox,
    /// Everything up to this revision is applied; see [`Cache::frontier`].
    applied: AtomicI64,
    /// The applied revision moved, or the phase changed.
    moved: Notify,
    /// The task has something to do besides events.
    control: Notify,
}

/// An event that is decoded.
pub(crate) struct Change {
    pub(crate) key: Box<str>,
    pub(crate) revision: i64,
    pub(crate) entry: Option<Arc<Entry>>,
}

impl Cache {
    /// Fills the cache and keeps it going, once it is routed.
    pub(crate) fn run(self: &Arc<Self>, tasks: &dyn Tasks) {
        tasks.spawn("watch-cache", run::run(Arc::clone(self)).boxed());
    }

    pub(crate) fn new(config: ResourceConfig, line: Arc<Line>) -> Self {
        Self {
            decoder: RwLock::new((0, Arc::clone(&config.decoder))),
            metrics: CollectionMetrics::default(),
            wakes: Wakes::new(config.indexes.len()),
            state: RwLock::new(State::new(&config)),
            written: WrittenEntries::default(),
            unsent: Unsent::default(),
            inbox: Inbox::default(),
            applied: AtomicI64::new(0),
            moved: Notify::new(),
            control: Notify::new(),
            config,
            line,
        }
    }

    pub(crate) fn decoder(&self) -> Arc<dyn Decoder> {
        Arc::clone(&self.decoder.read().1)
    }

    /// Which decoder is in use: entries made by another one are of no use.
    pub(crate) fn decoder_generation(&self) -> u64 {
        self.decoder.read().0
    }

    pub(crate) fn transformer(&self) -> Option<&Arc<dyn Transformer>> {
        self.config.transformer.as_ref()
    }

    /// The full etcd key of an object.
    pub(crate) fn etcd_key(&self, key: &str) -> String {
        format!("{}{}/{key}", self.line.prefix, self.config.path)
    }

    /// The key below the collection's path; `None` of one that no API server writes there.
    pub(crate) fn own_key<'k>(&self, full: &'k [u8]) -> Option<&'k str> {
        let prefix = self.line.prefix.len() + self.config.path.len() + 1;
        let key = std::str::from_utf8(full.get(prefix..)?).ok()?;
        self.config.has_shape(key).then_some(key)
    }

    /// Another decoder from now on: ends all watches and lists again.
    pub(crate) fn redefine(&self, decoder: Arc<dyn Decoder>) {
        {
            let mut state = self.state.write();
            let mut current = self.decoder.write();
            *current = (current.0 + 1, decoder);
            drop(current);
            state.end_watches();
            state.clear();
            state.relist = true;
            state.phase = Phase::loading();
        }
        self.written.clear();
        self.announce();
    }

    /// Lists again; watches go on.
    pub(crate) fn relist(&self) {
        self.state.write().relist = true;
        self.control.notify_one();
    }

    /// Ends all watches and the task.
    pub(crate) fn close(&self) {
        {
            let mut state = self.state.write();
            state.phase = Phase::Closed;
            state.end_watches();
            state.clear();
        }
        self.announce();
    }

    /// Ends all watches and those that begin from now on; reads go on.
    pub(crate) fn drain(&self) {
        self.state.write().draining = true;
        self.announce();
    }

    fn announce(&self) {
        self.control.notify_one();
        self.moved.notify_waiters();
        self.wakes.wake_all();
    }

    /// Whether reads are answered from the cache.
    pub(crate) fn ready(&self) -> Result<(), NotReady> {
        self.state.read().ready(&self.config.path)
    }

    /// The key that the collection cannot get past, and why.
    pub(crate) fn stalled(&self) -> Option<Arc<str>> {
        match &self.state.read().phase {
            Phase::Live { stalled } => stalled.clone(),
            _ => None,
        }
    }

    /// The objects and the revision that they are exact at. `state` must be this cache's.
    pub(crate) fn frontier(&self, _state: &State) -> i64 {
        // In this order: the line pushes before it moves its frontier, so if nothing is waiting after
        // the frontier was read, all of it is applied. The caller's lock keeps the state still.
        let line = self.line.frontier();
        if self.inbox.is_drained() {
            self.applied.fetch_max(line, Ordering::AcqRel);
        }
        self.applied.load(Ordering::Acquire)
    }

    /// The revision up to which everything is applied.
    pub(crate) fn revision(&self) -> Result<i64, NotReady> {
        let state = self.state.read();
        state.ready(&self.config.path)?;
        Ok(self.frontier(&state))
    }

    /// Waits until everything up to `revision` is applied.
    pub(crate) async fn reach(&self, revision: i64, deadline: Instant) -> Result<Reach, NotReady> {
        if revision <= 0 {
            return self.ready().map(|()| Reach::Reached);
        }
        let began = Instant::now();
        let reached = self.wait_for(revision, deadline).await;
        let waited = began.elapsed().as_secs_f64();
        self.metrics.read_wait.0.observe(waited);
        reached
    }

    async fn wait_for(&self, revision: i64, deadline: Instant) -> Result<Reach, NotReady> {
        match self.line.reach(revision, deadline).await {
            Reach::Reached => {}
            behind => return Ok(behind),
        }
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            {
                let state = self.state.read();
                state.ready(&self.config.path)?;
                if self.frontier(&state) >= revision {
                    return Ok(Reach::Reached);
                }
                if matches!(state.phase, Phase::Live { stalled: Some(_) }) {
                    return Ok(Reach::Silent);
                }
            }
            if tokio::time::timeout_at(deadline, moved).await.is_err() {
                return Ok(Reach::TimedOut);
            }
        }
    }

    /// Waits until reads are answered, or the resource is closed.
    pub(crate) async fn wait_ready(&self) {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if !matches!(self.state.read().phase, Phase::Loading { .. }) {
                return;
            }
            moved.await;
        }
    }

    /// Opens and decodes a stored value, or finds the entry that is known for this revision already.
    pub(crate) async fn decode(
        &self,
        key: &str,
        value: &Bytes,
        revision: i64,
    ) -> Result<Arc<Entry>, Undecodable> {
        if let Some(entry) = self.written.take(key, revision, self.decoder_generation()) {
            return Ok(entry);
        }
        let (value, _) = self.open(key, value).await?;
        self.decode_opened(key, value, revision)
    }

    /// Opens a stored value; whether it is stale comes with it.
    pub(crate) async fn open(
        &self,
        key: &str,
        value: &Bytes,
    ) -> Result<(Bytes, bool), Undecodable> {
        let Some(transformer) = self.transformer() else {
            return Ok((value.clone(), false));
        };
        let full = self.etcd_key(key);
        match transformer.open(&full, value.clone()).await {
            Ok(opened) => Ok((opened.value, opened.stale)),
            Err(e) => {
                self.metrics.decode_errors.inc();
                Err(Undecodable {
                    key: full,
                    reason: e.reason,
                })
            }
        }
    }

    pub(crate) fn decode_opened(
        &self,
        key: &str,
        value: Bytes,
        revision: i64,
    ) -> Result<Arc<Entry>, Undecodable> {
        let stored = u32::try_from(value.len()).unwrap_or(u32::MAX);
        match self.decoder().entry(key, value, revision) {
            Ok(entry) => Ok(Arc::new(Entry { stored, ..entry })),
            Err(Undecodable { reason, .. }) => {
                self.metrics.decode_errors.inc();
                Err(Undecodable {
                    key: self.etcd_key(key),
                    reason,
                })
            }
        }
    }

    /// Applies decoded events, which end with a whole revision.
    fn apply(&self, changes: Vec<Change>) {
        let Some(last) = changes.last().map(|c| c.revision) else {
            return;
        };
        let now = Instant::now();
        let (mut touched, mut dropped) = (Touched::new(), Vec::new());
        {
            let mut state = self.state.write();
            for change in changes {
                state.change(self, change, now, &mut touched);
            }
            state.ring.trim(now, &mut dropped);
            self.applied.fetch_max(last, Ordering::AcqRel);
            self.measure(&state);
        }
        self.wakes.wake(touched);
        self.moved.notify_waiters();
    }

    /// Drops events that have become old, and first objects that nobody takes. Called now and then, since
    /// an idle collection pushes none.
    pub(crate) fn trim(&self) {
        let (now, mut dropped) = (Instant::now(), Vec::<Arc<Slot>>::new());
        self.metrics.watchers_stalled.add(self.unsent.let_go(now));
        let mut state = self.state.write();
        state.ring.trim(now, &mut dropped);
        self.measure(&state);
        drop(state);
    }

    fn measure(&self, state: &State) {
        let clamp = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.objects.set(clamp(state.objects.len()));
        self.metrics.stored_bytes.set(clamp(state.stored_bytes));
        self.metrics.object_bytes.set(clamp(state.object_bytes));
        self.metrics.ring_events.set(clamp(state.ring.len()));
        self.metrics.ring_bytes.set(clamp(state.ring.bytes()));
    }
}

impl Sink for Cache {
    fn push(&self, mut batch: Batch) {
        // Other keys below the path are nobody's.
        let all = batch.events.len();
        batch.events.retain(|e| self.config.has_shape(&e.key));
        let strange = all - batch.events.len();
        if strange > 0 {
            self.metrics.strange_keys.add(strange as u64);
        }
        if !batch.events.is_empty() {
            self.inbox.push(batch);
        }
    }

    fn suspend(&self, epoch: Epoch) {
        {
            let mut state = self.state.write();
            if matches!(state.phase, Phase::Closed) {
                return;
            }
            state.epoch = epoch.number;
            if epoch.replaced {
                state.end_watches();
                state.clear();
                self.applied.store(0, Ordering::Release);
                self.written.clear();
            }
            state.phase = Phase::loading();
        }
        self.moved.notify_waiters();
        if epoch.replaced {
            self.wakes.wake_all();
        }
    }
}
