//! Reading one object.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::time::Instant;

use super::{At, PATIENCE, ReadError};
use crate::cache::Cache;
use crate::entry::Entry;
use crate::etcd::pb;
use crate::line::{Reach, revision};
use crate::metrics::Operation;

/// How long a read that etcd can answer as well waits for the cache.
const SHORT: std::time::Duration = std::time::Duration::from_millis(50);

/// Counts a read that goes to etcd by itself.
struct Lone<'a>(&'a AtomicUsize);

impl<'a> Lone<'a> {
    /// `None` when one is on its way already: then it is better to share an ask.
    fn enter(count: &'a AtomicUsize) -> Option<Self> {
        count
            .compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
            // Not made otherwise: its end would be that of whoever is on his way.
            .then(|| Self(count))
    }
}

impl Drop for Lone<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Cache {
    pub(crate) async fn get(&self, key: &str, at: At) -> Result<Option<Arc<Entry>>, ReadError> {
        let wanted = match at {
            At::Latest => return self.get_latest(key).await,
            At::Exact(revision) => return Ok(self.get_stored(key, revision).await?.0),
            At::Any => 0,
            At::NotOlder(revision) => revision,
        };
        if self.config.keep_bodies && self.ready().is_ok() {
            match self.reach(wanted, Instant::now() + PATIENCE).await {
                Ok(Reach::Reached) => {
                    self.metrics.cache_reads.inc();
                    return Ok(self.state.read().objects.get(key).cloned());
                }
                Ok(Reach::TimedOut) => {
                    self.metrics.read_timeouts.inc();
                    return Err(ReadError::TooNew {
                        wanted,
                        current: self.line.frontier(),
                    });
                }
                Ok(Reach::Silent) | Err(_) => self.metrics.read_fallbacks.inc(),
            }
        }
        let (entry, current) = self.get_stored(key, 0).await?;
        if current < wanted {
            Err(ReadError::TooNew { wanted, current })
        } else {
            Ok(entry)
        }
    }

    /// As fresh as etcd: by one read of the key itself when nobody else reads, by an ask that many
    /// share under load.
    async fn get_latest(&self, key: &str) -> Result<Option<Arc<Entry>>, ReadError> {
        if !self.config.keep_bodies || self.ready().is_err() {
            return Ok(self.get_stored(key, 0).await?.0);
        }
        let asked = match Lone::enter(&self.line.lone) {
            Some(_lone) => {
                let (version, now) = self.version(key).await?;
                let state = self.state.read();
                let cached = state.objects.get(key);
                if state.ready(&self.config.path).is_ok()
                    && cached.map_or(0, |e| e.revision) == version
                {
                    self.metrics.cache_reads.inc();
                    return Ok(cached.cloned());
                }
                now
            }
            None => self.line.ask().await?,
        };
        // The cache is a moment behind; where it is more, etcd answers.
        if let Ok(Reach::Reached) = self.reach(asked, Instant::now() + SHORT).await {
            self.metrics.cache_reads.inc();
            return Ok(self.state.read().objects.get(key).cloned());
        }
        self.metrics.read_fallbacks.inc();
        Ok(self.get_stored(key, 0).await?.0)
    }

    /// The revision that wrote the key (0: absent), and etcd's revision.
    async fn version(&self, key: &str) -> Result<(i64, i64), ReadError> {
        let key = Bytes::from(self.etcd_key(key));
        let request = pb::RangeRequest {
            key,
            keys_only: true,
            ..Default::default()
        };
        let read = self.line.client.range(request);
        let response = self.metrics.of(Operation::Get).time(read).await?;
        let now = revision(response.header.as_ref())?;
        Ok((response.kvs.first().map_or(0, |kv| kv.mod_revision), now))
    }

    /// What etcd has at a revision (0: now), and etcd's revision.
    pub(crate) async fn get_stored(
        &self,
        key: &str,
        at: i64,
    ) -> Result<(Option<Arc<Entry>>, i64), ReadError> {
        self.metrics.etcd_reads.inc();
        let (found, now) = self.stored(key, at).await?;
        let entry = match found {
            Some(kv) => Some(self.entry_of(key, &kv).await?),
            None => None,
        };
        Ok((entry, if at > 0 { at } else { now }))
    }
}
