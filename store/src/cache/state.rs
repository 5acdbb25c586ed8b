//! The state of one collection, and what an event does to it. Who holds it decides when.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ring::Ring;
use super::wake::Touched;
use super::{Cache, Change, Entries};
use crate::collection::{NotReady, ResourceConfig};
use crate::entry::Entry;

pub(crate) struct State {
    pub(crate) phase: Phase,
    /// The epoch that the state belongs to, or is being listed for.
    pub(super) epoch: u64,
    pub(crate) objects: Entries,
    /// By index, then by value.
    pub(crate) indexes: Vec<HashMap<Box<str>, Entries>>,
    pub(crate) ring: Ring,
    /// Watches of another generation have ended.
    pub(crate) generation: u64,
    /// Watches have ended, and none begins any more: the server stops.
    pub(crate) draining: bool,
    /// The collection is to be listed again: it was found to differ, or its decoder is another one.
    pub(crate) relist: bool,
    /// Of the objects: in memory, and as etcd holds them.
    pub(super) object_bytes: usize,
    pub(super) stored_bytes: usize,
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

impl Phase {
    pub(super) fn loading() -> Self {
        Self::Loading {
            since: Instant::now(),
            failure: None,
        }
    }
}

impl State {
    /// Of a collection that has not been listed yet.
    pub(super) fn new(config: &ResourceConfig) -> Self {
        Self {
            phase: Phase::loading(),
            epoch: 0,
            objects: Entries::new(),
            indexes: vec![HashMap::new(); config.indexes.len()],
            ring: Ring::new(config.ring_bytes),
            generation: 0,
            draining: false,
            relist: false,
            object_bytes: 0,
            stored_bytes: 0,
        }
    }

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
                    down_for: Duration::ZERO,
                    failure,
                })
            }
        }
    }

    pub(super) fn end_watches(&mut self) {
        self.generation += 1;
    }

    /// Whether watches of a generation have ended.
    pub(crate) fn ended(&self, generation: u64) -> bool {
        self.draining || self.generation != generation
    }

    pub(super) fn clear(&mut self) {
        self.objects = Entries::new();
        self.indexes.iter_mut().for_each(HashMap::clear);
        self.ring.reset(i64::MAX);
        (self.object_bytes, self.stored_bytes) = (0, 0);
    }

    /// Applies one event.
    pub(super) fn change(
        &mut self,
        cache: &Cache,
        change: Change,
        now: Instant,
        touched: &mut Touched,
    ) {
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
                self.stored_bytes += kept.stored as usize;
                self.objects.insert(Arc::clone(kept))
            }
            None => self.objects.remove(&key),
        };
        if let Some(old) = &old {
            self.object_bytes -= old.weight();
            self.stored_bytes -= old.stored as usize;
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
