//! Writing objects: transactions on an object's revision, tried first on what the cache holds.

use std::sync::Arc;

use bytes::Bytes;

use crate::cache::Cache;
use crate::entry::{Entry, TransformError, Undecodable};
use crate::etcd::{self, pb};
use crate::line::{Line, revision};
use crate::metrics::Operation;

/// What an update does with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Stores this, in stored form, before the transformer; with a `ttl` in seconds it ends by itself.
    Put {
        value: Bytes,
        ttl: Option<i64>,
    },
    Delete,
    Nothing,
}

/// What a write did.
#[derive(Clone, Debug)]
pub struct Written {
    pub outcome: Outcome,
    /// etcd's revision of the write; without one, that of the object.
    pub revision: i64,
    /// The object as it is served after the write, or as it was before it was deleted, with the
    /// deletion's version. `None` when nothing was done where nothing was.
    pub entry: Option<Arc<Entry>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Put,
    Deleted,
    /// etcd has the object exactly as wanted.
    Unchanged,
}

/// A write that did not happen, or may not have.
#[derive(thiserror::Error, Debug)]
pub enum WriteError {
    #[error("the key {0:?} exists")]
    AlreadyExists(String),
    #[error("the key {0:?} does not exist")]
    NotFound(String),
    /// The object is there but cannot be read.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// An unsafe deletion of an object that can be read.
    #[error("the object {0:?} can be decoded")]
    Decodable(String),
    #[error("the object cannot be sealed: {0}")]
    Transform(#[from] TransformError),
    #[error(transparent)]
    Etcd(#[from] etcd::Error),
}

/// Why an update did not happen, or may not have.
#[derive(thiserror::Error, Debug)]
pub enum UpdateError<E> {
    /// What the caller's function said of the object as etcd has it.
    #[error("refused")]
    Refused(E),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The object an update starts from.
struct Current {
    /// `None`: it does not exist.
    entry: Option<Arc<Entry>>,
    /// What etcd holds; known when it was read from there.
    stored: Option<Stored>,
    /// Read from etcd, not from the cache.
    live: bool,
}

struct Stored {
    value: Bytes,
    /// Sealed with an old key.
    stale: bool,
    lease: i64,
}

/// What is to be done with the object as it is.
enum Decision<E> {
    Refuse(E),
    Keep,
    Put(Bytes, Lease),
    Delete,
    Missing,
}

#[derive(Clone, Copy)]
enum Lease {
    /// Seconds, if any.
    Ttl(Option<i64>),
    /// The one it has.
    Id(i64),
}

impl Current {
    fn revision(&self) -> i64 {
        self.entry.as_ref().map_or(0, |e| e.revision)
    }

    /// A verdict that ends the update without a transaction, which would have found out that the
    /// object is another one.
    fn ends_with<E>(&self, verdict: &Result<Change, E>) -> bool {
        match verdict {
            Ok(Change::Put { .. }) => false,
            Ok(Change::Delete) => self.entry.is_none(),
            Ok(Change::Nothing) | Err(_) => true,
        }
    }

    fn decide<E>(&self, verdict: Result<Change, E>) -> Decision<E> {
        match (verdict, &self.stored) {
            (Err(refusal), _) => Decision::Refuse(refusal),
            (Ok(Change::Nothing), Some(s)) if s.stale => {
                Decision::Put(s.value.clone(), Lease::Id(s.lease))
            }
            (Ok(Change::Nothing), _) => Decision::Keep,
            (Ok(Change::Put { value, .. }), Some(s)) if s.value == value && !s.stale => {
                Decision::Keep
            }
            (Ok(Change::Put { value, ttl }), _) => Decision::Put(value, Lease::Ttl(ttl)),
            (Ok(Change::Delete), _) if self.entry.is_none() => Decision::Missing,
            (Ok(Change::Delete), _) => Decision::Delete,
        }
    }
}

/// What a transaction on a revision did.
pub(crate) enum Tried {
    /// Done, at this revision.
    Done(i64),
    /// The key is at another revision; this is what it holds, if anything.
    Other(Option<pb::KeyValue>),
}

impl Cache {
    pub(crate) async fn create(
        &self,
        key: &str,
        value: Bytes,
        ttl: Option<i64>,
    ) -> Result<Written, WriteError> {
        match self.put(key, 0, &value, Lease::Ttl(ttl), false).await? {
            Tried::Done(revision) => self.put_done(key, value, revision),
            Tried::Other(_) => Err(WriteError::AlreadyExists(self.etcd_key(key))),
        }
    }

    pub(crate) async fn update<E, F, Fut>(
        &self,
        key: &str,
        mut change: F,
    ) -> Result<Written, UpdateError<E>>
    where
        F: FnMut(Option<Arc<Entry>>) -> Fut,
        Fut: Future<Output = Result<Change, E>>,
    {
        let mut current = match self.start_cached(key) {
            Some(current) => current,
            None => self.start_stored(key).await?,
        };
        loop {
            let verdict = change(current.entry.clone()).await;
            if !current.live && current.ends_with(&verdict) {
                // Found on what may be old: it counts only if etcd has the same.
                let seen = current.revision();
                current = self.start_stored(key).await?;
                if current.revision() != seen {
                    continue;
                }
            }
            let tried = match current.decide(verdict) {
                Decision::Refuse(refusal) => return Err(UpdateError::Refused(refusal)),
                Decision::Missing => return Err(WriteError::NotFound(self.etcd_key(key)).into()),
                Decision::Keep => {
                    let revision = current.revision();
                    return Ok(Written {
                        outcome: Outcome::Unchanged,
                        revision,
                        entry: current.entry,
                    });
                }
                Decision::Put(value, lease) => match self
                    .put(key, current.revision(), &value, lease, true)
                    .await?
                {
                    Tried::Done(revision) => return Ok(self.put_done(key, value, revision)?),
                    Tried::Other(found) => found,
                },
                Decision::Delete => match self.delete(key, current.revision()).await? {
                    Tried::Done(revision) => return Ok(self.deleted(current.entry, revision)),
                    Tried::Other(found) => found,
                },
            };
            self.metrics.conflicts.inc();
            current = self
                .current(key, tried.as_ref())
                .await
                .map_err(WriteError::from)?;
        }
    }

    pub(crate) async fn delete_undecodable(
        &self,
        key: &str,
        dry_run: bool,
    ) -> Result<(), WriteError> {
        loop {
            let (found, _) = self.stored(key, 0).await?;
            let kv = found.ok_or_else(|| WriteError::NotFound(self.etcd_key(key)))?;
            if let Ok((value, _)) = self.open(key, &kv.value).await
                && self.decode_opened(key, value, kv.mod_revision).is_ok()
            {
                return Err(WriteError::Decodable(self.etcd_key(key)));
            }
            if dry_run {
                return Ok(());
            }
            if let Tried::Done(_) = self.delete(key, kv.mod_revision).await? {
                return Ok(());
            }
        }
    }

    /// What the cache holds, to start from; `None` when it has nothing to start from.
    fn start_cached(&self, key: &str) -> Option<Current> {
        if !self.config.keep_bodies {
            return None;
        }
        let entry = self.state.read().objects.get(key).cloned()?;
        Some(Current {
            entry: Some(entry),
            stored: None,
            live: false,
        })
    }

    async fn start_stored(&self, key: &str) -> Result<Current, WriteError> {
        let (found, _) = self.stored(key, 0).await?;
        Ok(self.current(key, found.as_ref()).await?)
    }

    async fn current(
        &self,
        key: &str,
        found: Option<&pb::KeyValue>,
    ) -> Result<Current, Undecodable> {
        let Some(kv) = found else {
            return Ok(Current {
                entry: None,
                stored: None,
                live: true,
            });
        };
        let (value, stale) = self.open(key, &kv.value).await?;
        let known = self
            .state
            .read()
            .objects
            .get(key)
            .filter(|e| e.revision == kv.mod_revision)
            .cloned();
        let entry = match known.filter(|_| self.config.keep_bodies) {
            Some(entry) => entry,
            None => self.decode_opened(key, value.clone(), kv.mod_revision)?,
        };
        let stored = Stored {
            value,
            stale,
            lease: kv.lease,
        };
        Ok(Current {
            entry: Some(entry),
            stored: Some(stored),
            live: true,
        })
    }

    /// What etcd holds under a key, and etcd's revision.
    pub(crate) async fn stored(
        &self,
        key: &str,
        at: i64,
    ) -> Result<(Option<pb::KeyValue>, i64), etcd::Error> {
        let key = self.etcd_key(key).into();
        let request = pb::RangeRequest {
            key,
            revision: at,
            ..Default::default()
        };
        let read = self.line.client.range(request);
        let response = self.metrics.of(Operation::Get).time(read).await?;
        let now = revision(response.header.as_ref())?;
        Ok((response.kvs.into_iter().next(), now))
    }

    /// Puts a value if the key is at `expected` (0: absent).
    async fn put(
        &self,
        key: &str,
        expected: i64,
        value: &Bytes,
        lease: Lease,
        look: bool,
    ) -> Result<Tried, WriteError> {
        let full = self.etcd_key(key);
        let sealed = match self.transformer() {
            Some(transformer) => transformer.seal(&full, value.clone()).await?,
            None => value.clone(),
        };
        let operation = if expected == 0 {
            Operation::Create
        } else {
            Operation::Update
        };
        let mut retried = false;
        loop {
            let lease = match lease {
                Lease::Ttl(Some(ttl)) if ttl > 0 => self.line.lease(ttl).await?,
                Lease::Ttl(_) => 0,
                Lease::Id(id) => id,
            };
            let put = pb::PutRequest {
                key: full.clone().into(),
                value: sealed.clone(),
                lease,
            };
            let op = pb::request_op::Request::RequestPut(put);
            let write = self.line.transact(&full, expected, op, look);
            match self.metrics.of(operation).time(write).await {
                // Revoked, or etcd was restored: the next one is good.
                Err(etcd::Error::LeaseNotFound) if !retried => {
                    self.line.leases.forget(lease).await;
                    retried = true;
                }
                other => return Ok(other?),
            }
        }
    }

    async fn delete(&self, key: &str, expected: i64) -> Result<Tried, WriteError> {
        let full = self.etcd_key(key);
        let delete = pb::DeleteRangeRequest {
            key: full.clone().into(),
            ..Default::default()
        };
        let op = pb::request_op::Request::RequestDeleteRange(delete);
        let write = self.line.transact(&full, expected, op, true);
        Ok(self.metrics.of(Operation::Delete).time(write).await?)
    }

    /// The object as it was written.
    fn put_done(&self, key: &str, value: Bytes, revision: i64) -> Result<Written, WriteError> {
        let generation = self.decoder_generation();
        // Whichever comes first, the event or this answer, decodes; the other one takes its entry.
        let known = self
            .state
            .read()
            .objects
            .get(key)
            .filter(|e| e.revision == revision)
            .cloned();
        let entry = match known.filter(|_| self.config.keep_bodies) {
            Some(entry) => entry,
            None => {
                let entry = self.decode_opened(key, value, revision)?;
                if self.line.frontier() < revision {
                    self.written.put(&entry, generation);
                }
                entry
            }
        };
        Ok(Written {
            outcome: Outcome::Put,
            revision,
            entry: Some(entry),
        })
    }

    fn deleted(&self, entry: Option<Arc<Entry>>, revision: i64) -> Written {
        let gone =
            |e: Arc<Entry>| Arc::new(e.reversioned(revision, self.decoder().body_at(&e, revision)));
        Written {
            outcome: Outcome::Deleted,
            revision,
            entry: entry.map(gone),
        }
    }
}

impl Line {
    /// A lease of about this many seconds.
    async fn lease(&self, ttl: i64) -> Result<i64, etcd::Error> {
        let given = self.noted(self.leases.get(&self.client, ttl).await)?;
        if let Some(objects) = given.replaced {
            self.metrics.lease_objects.0.observe(f64::from(objects));
        }
        Ok(given.id)
    }

    /// Does `op` if `key` is at `expected` (0: absent). With `look`, a refusal comes with what the key
    /// holds.
    pub(crate) async fn transact(
        &self,
        key: &str,
        expected: i64,
        op: pb::request_op::Request,
        look: bool,
    ) -> Result<Tried, etcd::Error> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let compare = pb::Compare {
            result: pb::compare::CompareResult::Equal.into(),
            target: pb::compare::CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(pb::compare::TargetUnion::ModRevision(expected)),
        };
        let range = pb::RangeRequest {
            key,
            ..Default::default()
        };
        let get = pb::RequestOp {
            request: Some(pb::request_op::Request::RequestRange(range)),
        };
        let request = pb::TxnRequest {
            compare: vec![compare],
            success: vec![pb::RequestOp { request: Some(op) }],
            failure: if look { vec![get] } else { Vec::new() },
        };
        let response = self.noted(self.client.txn(request).await)?;
        if response.succeeded {
            return Ok(Tried::Done(revision(response.header.as_ref())?));
        }
        let found = response
            .responses
            .into_iter()
            .next()
            .and_then(|r| r.response);
        Ok(Tried::Other(match found {
            Some(pb::response_op::Response::ResponseRange(range)) => range.kvs.into_iter().next(),
            _ => None,
        }))
    }
}
