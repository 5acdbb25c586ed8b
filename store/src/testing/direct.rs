//! What tests do to etcd behind a store's back.

use bytes::Bytes;

use super::Etcd;
use crate::etcd::{Client, pb, prefix_end};

/// A client of a test's etcd. Its calls panic where etcd refuses, since then the test is broken.
#[derive(Clone)]
pub struct Direct {
    pub(super) client: Client,
}

impl Direct {
    /// Straight to this etcd.
    #[must_use]
    pub fn to(etcd: &Etcd) -> Self {
        Self {
            client: etcd.client(),
        }
    }

    /// Writes a key and returns the revision.
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn put(&self, key: &str, value: &str) -> i64 {
        self.put_leased(&[(key, value)], 0).await
    }

    /// Writes a key that need not be text.
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn put_bytes(&self, key: &[u8], value: &[u8]) -> i64 {
        let put = pb::PutRequest {
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value),
            lease: 0,
        };
        self.transact([pb::request_op::Request::RequestPut(put)])
            .await
    }

    /// How many keys begin with `prefix`.
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn count(&self, prefix: &str) -> i64 {
        let key = Bytes::copy_from_slice(prefix.as_bytes());
        let request = pb::RangeRequest {
            range_end: prefix_end(&key),
            key,
            count_only: true,
            ..Default::default()
        };
        self.client
            .range(request)
            .await
            .expect("etcd answers")
            .count
    }

    /// Writes keys in one revision, attached to a lease (0: none).
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn put_leased(&self, pairs: &[(&str, &str)], lease: i64) -> i64 {
        let ops = pairs.iter().map(|(key, value)| {
            pb::request_op::Request::RequestPut(pb::PutRequest {
                key: Bytes::copy_from_slice(key.as_bytes()),
                value: Bytes::copy_from_slice(value.as_bytes()),
                lease,
            })
        });
        self.transact(ops).await
    }

    /// Deletes a key and returns the revision.
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn delete(&self, key: &str) -> i64 {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let delete = pb::DeleteRangeRequest {
            key,
            ..Default::default()
        };
        self.transact([pb::request_op::Request::RequestDeleteRange(delete)])
            .await
    }

    async fn transact(&self, ops: impl IntoIterator<Item = pb::request_op::Request>) -> i64 {
        let success = ops
            .into_iter()
            .map(|op| pb::RequestOp { request: Some(op) })
            .collect();
        let request = pb::TxnRequest {
            success,
            ..Default::default()
        };
        let response = self
            .client
            .txn(request)
            .await
            .expect("etcd takes the transaction");
        response.header.expect("etcd sends headers").revision
    }

    /// A lease of an hour.
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn lease(&self) -> i64 {
        self.client
            .grant(3600)
            .await
            .expect("etcd grants the lease")
    }

    /// Ends a lease and its keys, in one revision.
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn revoke(&self, lease: i64) {
        self.client
            .revoke(lease)
            .await
            .expect("etcd knows the lease");
    }

    /// Forgets the history up to a revision.
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn compact(&self, revision: i64) {
        self.client.compact(revision).await.expect("etcd compacts");
    }

    /// The lease that a key is attached to, its value and its revision.
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn get(&self, key: &str) -> Option<(i64, String, i64)> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let response = self
            .client
            .range(pb::RangeRequest {
                key,
                ..Default::default()
            })
            .await
            .expect("etcd answers");
        let kv = response.kvs.into_iter().next()?;
        Some((
            kv.lease,
            String::from_utf8_lossy(&kv.value).into_owned(),
            kv.mod_revision,
        ))
    }

    /// etcd's revision.
    ///
    /// # Panics
    /// When etcd refuses.
    pub async fn revision(&self) -> i64 {
        self.header().await.revision
    }

    pub(super) async fn header(&self) -> pb::ResponseHeader {
        let key = Bytes::from_static(b"/");
        let request = pb::RangeRequest {
            range_end: prefix_end(&key),
            key,
            count_only: true,
            ..Default::default()
        };
        let response = self.client.range(request).await.expect("etcd answers");
        response.header.expect("etcd sends headers")
    }
}
