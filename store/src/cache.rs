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
pub(crate) mod wake;
mod written;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
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

use inbox::Inbox;
use ring::{Ring, Slot};
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

pub(crate) struct State {
    pub(crate) phase: Phase,
    /// The epoch that the state belongs to, or is being listed for.
    epoch: u64,
    pub(crate) objects: Entries,
    /// By index, then by value.
    pub(crate) indexes: Vec<HashMap<Box<str>, Entries>>,
    pub(crate) ring: Ring,
    /// Watches of another generation have ended.
    pub(crate) generation: u64,
    /// The collection is to be listed again: it was found to differ, or its decoder is another one.
    pub(crate) relist: bool,
    object_bytes: usize,
}

/// Whether reads and watches are answered.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// Being listed; with what went wrong the last time.
    Loading {
        since: Instant,
        failure: Option<Arc<str>>,
    },
    /// Answering; with the key that it cannot get past, if there is one.
    Live { stalled: Option<Arc<str>> },
    /// The resource is not served any more.
    Closed,
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
        let indexes = config.indexes.len();
        Self {
            decoder: RwLock::new((0, Arc::clone(&config.decoder))),
            metrics: CollectionMetrics::default(),
            wakes: Wakes::new(indexes),
            state: RwLock::new(State {
                phase: Phase::Loading {
                    since: Instant::now(),
                    failure: None,
                },
                epoch: 0,
                objects: Entries::new(),
                indexes: vec![HashMap::new(); indexes],
                ring: Ring::new(config.ring_bytes),
                generation: 0,
                relist: false,
                object_bytes: 0,
            }),
            written: WrittenEntries::default(),
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
            state.phase = Phase::Loading {
                since: Instant::now(),
                failure: None,
            };
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
        match self.decoder().entry(key, value, revision) {
            Ok(entry) => Ok(Arc::new(entry)),
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

    /// Drops events that have become old. Called now and then, since an idle collection pushes none.
    pub(crate) fn trim(&self) {
        let mut dropped: Vec<Arc<Slot>> = Vec::new();
        let mut state = self.state.write();
        state.ring.trim(Instant::now(), &mut dropped);
        self.measure(&state);
        drop(state);
    }

    fn measure(&self, state: &State) {
        let clamp = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.objects.set(clamp(state.objects.len()));
        self.metrics.object_bytes.set(clamp(state.object_bytes));
        self.metrics.ring_events.set(clamp(state.ring.len()));
        self.metrics.ring_bytes.set(clamp(state.ring.bytes()));
    }
}

impl Sink for Cache {
    fn push(&self, mut batch: Batch) {
        // Other keys below the path are nobody's.
        batch.events.retain(|e| self.config.has_shape(&e.key));
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
            state.phase = Phase::Loading {
                since: Instant::now(),
                failure: None,
            };
        }
        self.moved.notify_waiters();
        if epoch.replaced {
            self.wakes.wake_all();
        }
    }
}

impl State {
    pub(crate) fn ready(&self, path: &str) -> Result<(), NotReady> {
        match &self.phase {
            Phase::Live { .. } => Ok(()),
            Phase::Loading { since, failure } => Err(NotReady {
                path: path.into(),
                down_for: since.elapsed(),
                failure: failure.clone(),
            }),
            Phase::Closed => {
                let failure = Some(Arc::from("the resource is not served any more"));
                Err(NotReady {
                    path: path.into(),
                    down_for: std::time::Duration::ZERO,
                    failure,
                })
            }
        }
    }

    fn end_watches(&mut self) {
        self.generation += 1;
    }

    fn clear(&mut self) {
        self.objects = Entries::new();
        self.indexes.iter_mut().for_each(HashMap::clear);
        self.ring.reset(i64::MAX);
        self.object_bytes = 0;
    }

    /// Applies one event.
    fn change(&mut self, cache: &Cache, change: Change, now: Instant, touched: &mut Touched) {
        let Change {
            key,
            revision,
            entry,
        } = change;
        if self
            .objects
            .get(&key)
            .is_some_and(|known| known.revision >= revision)
        {
            return;
        }
        let kept = entry.as_ref().map(|e| cache.config.kept(e));
        let old = match &kept {
            Some(kept) => {
                self.object_bytes += kept.weight();
                self.objects.insert(Arc::clone(kept))
            }
            None => self.objects.remove(&key),
        };
        if let Some(old) = &old {
            self.object_bytes -= old.weight();
        }
        if old.is_none() && entry.is_none() {
            return; // deleted before we knew it
        }
        self.reindex(&cache.config.indexes, old.as_ref(), kept.as_ref());
        let links = cache.wakes.link(
            self.ring.next(),
            old.as_deref(),
            entry.as_deref(),
            &cache.config.indexes,
            touched,
        );
        self.ring.push(revision, entry, old, links, now);
        cache.metrics.events.inc();
    }

    fn reindex(&mut self, fields: &[Box<str>], old: Option<&Arc<Entry>>, new: Option<&Arc<Entry>>) {
        for (index, field) in self.indexes.iter_mut().zip(fields) {
            let value =
                |e: Option<&Arc<Entry>>| e.map(|e| e.field(field).unwrap_or_default().to_owned());
            let (before, after) = (value(old), value(new));
            if let (Some(value), Some(old)) = (&before, old)
                && before != after
                && let Some(entries) = index.get_mut(value.as_str())
            {
                entries.remove(&old.key);
                if entries.is_empty() {
                    index.remove(value.as_str());
                }
            }
            if let (Some(value), Some(new)) = (after, new) {
                index
                    .entry(value.into())
                    .or_default()
                    .insert(Arc::clone(new));
            }
        }
    }
}
