//! Reading a range from etcd in pages, all at one revision.

use bytes::Bytes;

use crate::etcd::{Client, Error, pb, prefix_end};
use crate::line::revision;

/// Keys of one page. Small enough that a page of ordinary objects is a megabyte.
pub(crate) const PAGE: i64 = 1000;

/// The pages of the range below a prefix.
pub(crate) struct Pages {
    key: Bytes,
    end: Bytes,
    /// 0 until the first page has told it.
    revision: i64,
    limit: i64,
    keys_only: bool,
    done: bool,
}

/// One page.
pub(crate) struct RawPage {
    pub(crate) kvs: Vec<pb::KeyValue>,
    pub(crate) revision: i64,
    /// Keys from the beginning of this page to the end of the range.
    pub(crate) count: i64,
    pub(crate) more: bool,
}

impl Pages {
    /// At `revision`, or at the newest if it is 0.
    pub(crate) fn new(prefix: String, revision: i64) -> Self {
        let key = Bytes::from(prefix);
        Self {
            end: prefix_end(&key),
            key,
            revision,
            limit: PAGE,
            keys_only: false,
            done: false,
        }
    }

    /// Begins at this full key instead of the prefix.
    pub(crate) fn from(mut self, key: String) -> Self {
        self.key = key.into();
        self
    }

    /// At most so many keys in the next page.
    pub(crate) fn limit(mut self, limit: i64) -> Self {
        self.limit = limit;
        self
    }

    /// Versions without values.
    pub(crate) fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    /// Doubles the pages, up to `most`: a filter lets few objects through.
    pub(crate) fn widen(&mut self, most: i64) {
        self.limit = (self.limit * 2).min(most);
    }

    /// The next page; `None` after the last one.
    pub(crate) async fn next(&mut self, client: &Client) -> Result<Option<RawPage>, Error> {
        if self.done {
            return Ok(None);
        }
        let response = client
            .range(pb::RangeRequest {
                key: self.key.clone(),
                range_end: self.end.clone(),
                limit: self.limit,
                revision: self.revision,
                keys_only: self.keys_only,
                ..Default::default()
            })
            .await?;
        if self.revision == 0 {
            self.revision = revision(response.header.as_ref())?;
        }
        self.done = !response.more;
        if let Some(last) = response.kvs.last() {
            self.key = [&last.key[..], b"\0"].concat().into();
        } else if response.more {
            return Err(Error::Protocol("an empty page that is not the last"));
        }
        Ok(Some(RawPage {
            kvs: response.kvs,
            revision: self.revision,
            count: response.count,
            more: response.more,
        }))
    }
}
