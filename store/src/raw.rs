//! Keys that are no objects of a collection: allocator bitmaps, the addresses of API servers. Read
//! and written directly, never cached.

use std::sync::Arc;

use bytes::Bytes;

use crate::etcd::{self, pb};
use crate::line::Line;
use crate::read::pages::Pages;
use crate::write::Tried;

/// Direct access to keys below the store's prefix; from [`Store::raw`](crate::Store::raw).
#[derive(Clone)]
pub struct Raw {
    pub(crate) line: Arc<Line>,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawValue {
    /// Below the store's prefix.
    pub key: String,
    pub value: Bytes,
    /// The revision that wrote it: what the next write compares.
    pub revision: i64,
}

/// The key is not at the revision that a write expected.
#[derive(thiserror::Error, Debug)]
pub enum RawError {
    /// With what it holds, if anything.
    #[error("the key is at another revision")]
    Conflict(Option<RawValue>),
    #[error(transparent)]
    Etcd(#[from] etcd::Error),
}

impl Raw {
    /// What the key holds now.
    ///
    /// # Errors
    /// What etcd says.
    pub async fn get(&self, key: &str) -> Result<Option<RawValue>, etcd::Error> {
        let request = pb::RangeRequest {
            key: self.full(key).into(),
            ..Default::default()
        };
        let response = self.line.client.range(request).await?;
        Ok(response.kvs.into_iter().next().map(|kv| self.value(kv)))
    }

    /// All keys that begin with `prefix`, in order.
    ///
    /// # Errors
    /// What etcd says.
    pub async fn list(&self, prefix: &str) -> Result<Vec<RawValue>, etcd::Error> {
        let (mut values, mut pages) = (Vec::new(), Pages::new(self.full(prefix), 0));
        while let Some(page) = pages.next(&self.line).await? {
            values.extend(page.kvs.into_iter().map(|kv| self.value(kv)));
        }
        Ok(values)
    }

    /// Writes the key if it is at the revision `expected` (0: it does not exist), and returns the new
    /// revision. With a `ttl`, in seconds, it ends by itself.
    ///
    /// # Errors
    /// [`RawError::Conflict`], or what etcd says.
    pub async fn put(
        &self,
        key: &str,
        expected: i64,
        value: Bytes,
        ttl: Option<i64>,
    ) -> Result<i64, RawError> {
        let full = self.full(key);
        let lease = match ttl {
            // Not shared: whoever asks for a lease of its own renews it by writing.
            Some(ttl) => self.line.noted(self.line.client.grant(ttl).await)?,
            None => 0,
        };
        let put = pb::PutRequest {
            key: full.clone().into(),
            value,
            lease,
        };
        self.tried(
            self.line
                .transact(
                    &full,
                    expected,
                    pb::request_op::Request::RequestPut(put),
                    true,
                )
                .await?,
        )
    }

    /// Deletes the key if it is at the revision `expected`.
    ///
    /// # Errors
    /// [`RawError::Conflict`], or what etcd says.
    pub async fn delete(&self, key: &str, expected: i64) -> Result<i64, RawError> {
        let full = self.full(key);
        let delete = pb::DeleteRangeRequest {
            key: full.clone().into(),
            ..Default::default()
        };
        let op = pb::request_op::Request::RequestDeleteRange(delete);
        self.tried(self.line.transact(&full, expected, op, true).await?)
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.line.prefix)
    }

    fn value(&self, kv: pb::KeyValue) -> RawValue {
        let key = String::from_utf8_lossy(&kv.key[self.line.prefix.len()..]).into_owned();
        RawValue {
            key,
            value: kv.value,
            revision: kv.mod_revision,
        }
    }

    fn tried(&self, tried: Tried) -> Result<i64, RawError> {
        match tried {
            Tried::Done(revision) => Ok(revision),
            Tried::Other(found) => Err(RawError::Conflict(found.map(|kv| self.value(kv)))),
        }
    }
}
