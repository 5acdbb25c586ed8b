//! Listing a collection from etcd while its events go on.
//!
//! A list is exact at one revision. Events that come meanwhile are kept, the last one of each key,
//! and those after the list's revision are put on top. When the collection had objects before, because
//! etcd compacted events that it missed or because it fell behind, the difference becomes events, so
//! that watches go on and miss no final state.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::debug;

use super::inbox::Received;
use super::run::Again;
use super::wake::Touched;
use super::{Cache, Change, Entries, Phase, State};
use crate::entry::{Entry, Undecodable};
use crate::etcd::{self, pb, prefix_end};
use crate::line::{Batch, Epoch, RawEvent, revision};
use crate::read::list::not_utf8;
use crate::read::pages::Pages;

/// For one chunk of a streamed list.
const CHUNK: Duration = Duration::from_secs(30);

/// Why a list failed.
#[derive(thiserror::Error, Debug)]
pub(super) enum LoadError {
    #[error(transparent)]
    Etcd(#[from] etcd::Error),
    #[error(transparent)]
    Shared(Arc<etcd::Error>),
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    #[error("a streamed list stopped for {CHUNK:?}")]
    Slow,
    #[error("a streamed list ended early")]
    Cut,
}

/// The last event of each key that came while the list was read.
#[derive(Default)]
struct Overlay {
    events: HashMap<Box<str>, (i64, Option<Bytes>)>,
    /// Every event up to this revision has been seen.
    through: i64,
}

impl Overlay {
    fn absorb(&mut self, batch: Batch) {
        for RawEvent {
            key,
            revision,
            value,
        } in batch.events
        {
            self.through = revision;
            self.events.insert(key, (revision, value));
        }
    }
}

impl Cache {
    /// Lists the collection and goes live. `Ok(Some(_))` when it has to begin again at once.
    pub(super) async fn load(
        &self,
        epoch: u64,
        epochs: &mut watch::Receiver<Epoch>,
    ) -> Result<Option<Again>, LoadError> {
        // The line lives as long as this, and never closes the semaphore.
        let _permit = self.line.loads.acquire().await;
        self.metrics.loads.inc();
        let known = {
            let mut state = self.state.write();
            if state.epoch > epoch {
                return Ok(Some(Again::Epoch));
            }
            state.epoch = epoch;
            state.relist = false;
            state.objects.clone()
        };
        // Whatever is dropped here, or was lost before, is older than the revision asked for next.
        self.inbox.reset();
        let mut overlay = Overlay::default();
        let started = Instant::now();
        let (at, listed) = {
            let mut fetch = std::pin::pin!(self.fetch(&known));
            loop {
                tokio::select! {
                    fetched = &mut fetch => break fetched?,
                    received = self.inbox.pop() => match received {
                        Received::Lost => return Ok(Some(Again::Lost)),
                        Received::Batch(batch) => {
                            overlay.absorb(batch);
                            self.inbox.applied();
                        }
                    },
                    _ = epochs.changed() => return Ok(Some(Again::Epoch)),
                    () = self.control.notified() => if let Some(again) = self.interrupt(epochs) {
                        return Ok(Some(again));
                    }
                }
            }
        };
        let mut objects: Entries = listed.into_iter().collect();
        let through = at.max(overlay.through);
        for (key, (revision, value)) in overlay.events {
            if revision <= at {
                continue;
            }
            match value {
                Some(value) => {
                    let entry = self.decode(&key, &value, revision).await?;
                    objects.insert(self.config.kept(&entry));
                }
                None => {
                    objects.remove(&key);
                }
            }
        }
        if let Some(again) = self.interrupt(epochs) {
            return Ok(Some(again));
        }
        let count = objects.len();
        if self.install(objects, through, epoch) {
            debug!(resource = %self.config.path, revision = through, objects = count, took = ?started.elapsed(), "watch cache is ready");
            Ok(None)
        } else {
            Ok(Some(Again::Epoch))
        }
    }

    /// All objects at one revision.
    async fn fetch(&self, known: &Entries) -> Result<(i64, Vec<Arc<Entry>>), LoadError> {
        let at = self.line.ask().await.map_err(LoadError::Shared)?;
        let mut entries = Vec::new();
        if self.line.range_stream() {
            match self.stream(at, known, &mut entries).await {
                Err(LoadError::Etcd(etcd::Error::Unimplemented)) => self.line.no_range_stream(),
                other => return other.map(|()| (at, entries)),
            }
        }
        entries.clear();
        let mut pages = Pages::new(self.etcd_key(""), at);
        while let Some(page) = pages.next(&self.line.client).await? {
            self.take(page.kvs, known, &mut entries).await?;
        }
        Ok((at, entries))
    }

    async fn stream(
        &self,
        at: i64,
        known: &Entries,
        entries: &mut Vec<Arc<Entry>>,
    ) -> Result<(), LoadError> {
        let key = Bytes::from(self.etcd_key(""));
        let request = pb::RangeRequest {
            range_end: prefix_end(&key),
            key,
            revision: at,
            ..Default::default()
        };
        let mut chunks = self.line.client.range_stream(request).await?;
        let mut whole = false;
        loop {
            let chunk = tokio::time::timeout(CHUNK, chunks.message())
                .await
                .map_err(|_| LoadError::Slow)?;
            let Some(chunk) = chunk.map_err(etcd::Error::from)? else {
                break;
            };
            let chunk = chunk.range_response.ok_or(LoadError::Cut)?;
            // Only the last chunk has a header.
            whole = revision(chunk.header.as_ref()).is_ok();
            self.take(chunk.kvs, known, entries).await?;
        }
        if whole { Ok(()) } else { Err(LoadError::Cut) }
    }

    async fn take(
        &self,
        kvs: Vec<pb::KeyValue>,
        known: &Entries,
        entries: &mut Vec<Arc<Entry>>,
    ) -> Result<(), Undecodable> {
        let prefix = self.etcd_key("").len();
        entries.reserve(kvs.len());
        for kv in kvs {
            let key = std::str::from_utf8(&kv.key[prefix..]).map_err(|_| not_utf8(&kv.key))?;
            if !self.config.has_shape(key) {
                continue;
            }
            let same = known
                .get(key)
                .filter(|entry| entry.revision == kv.mod_revision);
            let entry = match same {
                Some(entry) => Arc::clone(entry),
                None => self
                    .config
                    .kept(&self.decode(key, &kv.value, kv.mod_revision).await?),
            };
            entries.push(entry);
        }
        // A long list must not keep its thread from others.
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Puts the listed objects in place and answers from now on; `false` when the history they belong
    /// to has ended meanwhile.
    pub(super) fn install(&self, objects: Entries, through: i64, epoch: u64) -> bool {
        let now = Instant::now();
        let mut touched = Touched::new();
        let mut dropped = Vec::new();
        let old = {
            let mut state = self.state.write();
            if state.epoch != epoch || !matches!(state.phase, Phase::Loading { .. }) || state.relist
            {
                return false;
            }
            let before = self.applied.load(Ordering::Acquire);
            let old = std::mem::replace(&mut state.objects, objects);
            if state.ring.is_unused() {
                state.ring.reset(through);
            } else {
                state.differ(self, &old, before, through, now, &mut touched);
                state.ring.trim(now, &mut dropped);
            }
            state.rebuild(&self.config.indexes);
            state.phase = Phase::Live { stalled: None };
            self.applied.store(through, Ordering::Release);
            self.measure(&state);
            old
        };
        drop((old, dropped));
        self.wakes.wake(touched);
        self.moved.notify_waiters();
        true
    }
}

impl State {
    /// Turns the difference between the old and the new objects into events.
    fn differ(
        &mut self,
        cache: &Cache,
        old: &Entries,
        before: i64,
        through: i64,
        now: Instant,
        touched: &mut Touched,
    ) {
        let mut events = difference(old, &self.objects, through);
        // In etcd's order; deletions, whose revision nobody knows any more, last.
        events.sort_by_key(|(change, _)| change.revision);
        self.ring.gap(before, through);
        for (
            Change {
                revision, entry, ..
            },
            old,
        ) in events
        {
            let seq = self.ring.next();
            let links = cache.wakes.link(
                seq,
                old.as_deref(),
                entry.as_deref(),
                &cache.config.indexes,
                touched,
            );
            self.ring.push(revision, entry, old, links, now);
            cache.metrics.events.inc();
        }
    }

    fn rebuild(&mut self, fields: &[Box<str>]) {
        self.object_bytes = self.objects.iter().map(|e| e.weight()).sum();
        for (index, field) in self.indexes.iter_mut().zip(fields) {
            index.clear();
            for entry in &self.objects {
                let value = entry.field(field).unwrap_or_default();
                match index.get_mut(value) {
                    Some(entries) => entries.insert(Arc::clone(entry)),
                    None => index
                        .entry(value.into())
                        .or_default()
                        .insert(Arc::clone(entry)),
                };
            }
        }
    }
}

/// What changed from `old` to `new`, with the object before. Pure.
fn difference(old: &Entries, new: &Entries, through: i64) -> Vec<(Change, Option<Arc<Entry>>)> {
    let mut changes = Vec::new();
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let put = |e: &Arc<Entry>| Change {
        key: e.key.clone(),
        revision: e.revision,
        entry: Some(Arc::clone(e)),
    };
    let gone = |e: &Arc<Entry>| Change {
        key: e.key.clone(),
        revision: through,
        entry: None,
    };
    loop {
        match (old.peek(), new.peek()) {
            (None, None) => return changes,
            (Some(was), Some(is)) if was.key == is.key => {
                if was.revision != is.revision {
                    changes.push((put(is), Some(Arc::clone(was))));
                }
                old.next();
                new.next();
            }
            (Some(was), is) if is.is_none_or(|is| was.key < is.key) => {
                changes.push((gone(was), Some(Arc::clone(was))));
                old.next();
            }
            (_, Some(is)) => {
                changes.push((put(is), None));
                new.next();
            }
            (Some(_), None) => unreachable!("an old object beside no new one is handled above"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Fields, Labels};

    fn objects(of: &[(&str, i64)]) -> Entries {
        let entry = |&(key, revision): &(&str, i64)| {
            Arc::new(Entry::new(
                key,
                revision,
                Bytes::new(),
                Labels::default(),
                Fields::default(),
            ))
        };
        of.iter().map(entry).collect()
    }

    #[test]
    fn the_difference_turns_the_old_objects_into_the_new_ones() {
        let old = objects(&[("a", 1), ("b", 2), ("c", 3), ("e", 4)]);
        let new = objects(&[("b", 2), ("c", 8), ("d", 7)]);
        let changes: Vec<_> = difference(&old, &new, 9)
            .into_iter()
            .map(|(c, was)| {
                (
                    c.key.to_string(),
                    c.revision,
                    c.entry.is_some(),
                    was.map(|e| e.revision),
                )
            })
            .collect();
        let expected = [
            ("a", 9, false, Some(1)),
            ("c", 8, true, Some(3)),
            ("d", 7, true, None),
            ("e", 9, false, Some(4)),
        ];
        assert_eq!(
            changes,
            expected.map(|(k, r, put, was)| (k.to_owned(), r, put, was))
        );
    }
}
