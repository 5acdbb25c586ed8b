//! Listing a collection from etcd while its events go on.
//!
//! A list is exact at one revision. Events that come meanwhile are kept, the last one of each key,
//! and those after the list's revision are put on top. When the collection had objects before, because
//! etcd compacted events that it missed or because it fell behind, what happened in between is not known
//! event by event: its watches end, and none begins before the list, as upstream's (`cacher.go`,
//! `startCaching`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::inbox::Received;
use super::run::Again;
use super::{Cache, Entries, Phase, State};
use crate::entry::{Entry, Undecodable};
use crate::etcd::{self, pb};
use crate::line::{Batch, Epoch, RawEvent};
use crate::read::pages::Pages;

/// Why a list failed.
#[derive(thiserror::Error, Debug)]
pub(super) enum LoadError {
    #[error(transparent)]
    Etcd(#[from] etcd::Error),
    #[error(transparent)]
    Shared(Arc<etcd::Error>),
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
}

/// The last event of each key that came while the list was read.
#[derive(Default)]
struct Overlay {
    events: HashMap<Box<str>, (i64, Option<Bytes>)>,
    /// Every event up to this revision has been seen.
    through: i64,
}

/// Keys below the collection's path that are not its own.
#[derive(Default)]
struct Strange {
    count: u64,
    first: Option<String>,
}

impl Strange {
    fn note(&mut self, key: &[u8]) {
        self.count += 1;
        self.first
            .get_or_insert_with(|| String::from_utf8_lossy(key).into_owned());
    }

    fn tell(self, cache: &Cache) {
        let Some(first) = self.first else { return };
        cache.metrics.strange_keys.add(self.count);
        warn!(
            resource = %cache.config.path, count = self.count, example = first,
            "keys in etcd that no API server writes are left alone"
        );
    }
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
                    fetched = &mut fetch => match fetched {
                        // Not a failure: the next list is at a newer revision.
                        Err(LoadError::Etcd(etcd::Error::Compacted)) => {
                            return Ok(Some(Again::Compacted));
                        }
                        fetched => break fetched?,
                    },
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
        let (mut entries, mut strange) = (Vec::new(), Strange::default());
        let mut pages = Pages::new(self.etcd_key(""), at).timed(&self.metrics);
        while let Some(page) = pages.next(&self.line).await? {
            self.take(page.kvs, known, &mut entries, &mut strange)
                .await?;
        }
        strange.tell(self);
        Ok((at, entries))
    }

    async fn take(
        &self,
        kvs: Vec<pb::KeyValue>,
        known: &Entries,
        entries: &mut Vec<Arc<Entry>>,
        strange: &mut Strange,
    ) -> Result<(), Undecodable> {
        entries.reserve(kvs.len());
        for kv in kvs {
            let Some(key) = self.own_key(&kv.key) else {
                strange.note(&kv.key);
                continue;
            };
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
        let (old, relisted) = {
            let mut state = self.state.write();
            if state.epoch != epoch || !matches!(state.phase, Phase::Loading { .. }) || state.relist
            {
                return false;
            }
            let old = std::mem::replace(&mut state.objects, objects);
            let relisted = !state.ring.is_unused();
            if relisted {
                state.end_watches();
            }
            state.ring.reset(through);
            state.rebuild(&self.config.indexes);
            state.phase = Phase::Live { stalled: None };
            self.applied.store(through, Ordering::Release);
            self.measure(&state);
            (old, relisted)
        };
        drop(old);
        if relisted {
            self.wakes.wake_all();
        }
        self.moved.notify_waiters();
        true
    }
}

impl State {
    fn rebuild(&mut self, fields: &[Box<str>]) {
        self.object_bytes = self.objects.iter().map(|e| e.weight()).sum();
        self.stored_bytes = self.objects.iter().map(|e| e.stored as usize).sum();
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
