//! Reading a range from etcd, all at one revision: in pages, and where etcd can (3.7) as a stream.
//!
//! The first page tells whether there is much, and pins the revision: only the last chunk of a stream
//! has a header. A stream that breaks goes on in pages behind its last key, since the revision is known.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};
use tonic::Streaming;
use tracing::debug;

use crate::etcd::{Error, pb, prefix_end};
use crate::line::{Line, revision};
use crate::metrics::{CollectionMetrics, Operation};

/// Keys of the first page when all are wanted; the next ones grow and shrink towards [`PAGE_BYTES`],
/// since an object may have a hundred bytes or a megabyte.
const FIRST_PAGE: i64 = 100;
const PAGE_BYTES: usize = 1 << 20;
/// Keys of the longest page.
pub(crate) const MAX_PAGE: i64 = 10_000;
/// For one chunk of a stream.
const CHUNK: Duration = Duration::from_secs(30);

/// The pages of the range below a prefix.
pub(crate) struct Pages<'m> {
    key: Bytes,
    end: Bytes,
    /// 0 until the first page has told it.
    revision: i64,
    limit: i64,
    keys_only: bool,
    /// Somebody wants all of it.
    whole: bool,
    state: State,
    /// Where requests are recorded.
    metrics: Option<&'m CollectionMetrics>,
}

enum State {
    First,
    Paging,
    /// Since when.
    Streaming(Box<Streaming<pb::RangeStreamResponse>>, Instant),
    Done,
}

/// One page.
pub(crate) struct RawPage {
    pub(crate) kvs: Vec<pb::KeyValue>,
    pub(crate) revision: i64,
    /// Keys from the beginning of this page to the end of the range; not known within a stream.
    pub(crate) count: i64,
    pub(crate) more: bool,
}

impl<'m> Pages<'m> {
    /// At `revision`, or at the newest if it is 0.
    pub(crate) fn new(prefix: String, revision: i64) -> Self {
        let key = Bytes::from(prefix);
        Self {
            end: prefix_end(&key),
            key,
            revision,
            limit: FIRST_PAGE,
            keys_only: false,
            whole: true,
            state: State::First,
            metrics: None,
        }
    }

    /// Records its requests.
    pub(crate) fn timed(mut self, metrics: &'m CollectionMetrics) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Begins at this full key instead of the prefix.
    pub(crate) fn from(mut self, key: String) -> Self {
        self.key = key.into();
        self
    }

    /// At most so many keys in the next page.
    pub(crate) fn limit(mut self, limit: i64) -> Self {
        (self.limit, self.whole) = (limit, false);
        self
    }

    /// Versions without values.
    pub(crate) fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    /// Doubles the pages: a filter lets few objects through.
    pub(crate) fn widen(&mut self) {
        self.limit = (self.limit * 2).min(MAX_PAGE);
    }

    /// The next page; `None` after the last one.
    pub(crate) async fn next(&mut self, line: &Line) -> Result<Option<RawPage>, Error> {
        loop {
            match &mut self.state {
                State::Done => return Ok(None),
                State::Streaming(stream, since) => match chunk(stream).await {
                    Ok(chunk) => {
                        let since = *since;
                        let page = self.took(chunk);
                        if page.as_ref().map_or(true, |page| !page.more) {
                            self.record(Operation::ListStream, since, page.is_err());
                        }
                        return page.map(Some);
                    }
                    // From behind the last key that came.
                    Err(broken) if broken.is_unavailable() => {
                        debug!(error = %broken, "streamed list goes on in pages");
                        let since = *since;
                        self.record(Operation::ListStream, since, true);
                        self.state = State::First;
                    }
                    Err(Error::Unimplemented) => {
                        line.no_range_stream();
                        self.state = State::Paging;
                    }
                    Err(other) => return Err(other),
                },
                State::Paging if self.whole && line.range_stream() => {
                    match line.client.range_stream(self.request(0)).await {
                        Ok(stream) => {
                            line.metrics.list_streams.inc();
                            self.state = State::Streaming(Box::new(stream), Instant::now());
                        }
                        Err(Error::Unimplemented) => line.no_range_stream(),
                        Err(other) => return Err(other),
                    }
                }
                State::First | State::Paging => {
                    let began = Instant::now();
                    let response = line.client.range(self.request(self.limit)).await;
                    let operation = if self.keys_only {
                        Operation::ListOnlyKeys
                    } else {
                        Operation::List
                    };
                    self.record(operation, began, response.is_err());
                    return self.took(response?).map(Some);
                }
            }
        }
    }

    fn record(&self, operation: Operation, began: Instant, failed: bool) {
        if let Some(metrics) = self.metrics {
            metrics.of(operation).record(began.elapsed(), failed);
        }
    }

    fn request(&self, limit: i64) -> pb::RangeRequest {
        pb::RangeRequest {
            key: self.key.clone(),
            range_end: self.end.clone(),
            limit,
            revision: self.revision,
            keys_only: self.keys_only,
            ..Default::default()
        }
    }

    /// Moves behind what came.
    fn took(&mut self, response: pb::RangeResponse) -> Result<RawPage, Error> {
        let streamed = matches!(self.state, State::Streaming(..));
        if self.whole && !streamed {
            self.limit = adapted(self.limit, &response.kvs);
        }
        if self.revision == 0 {
            self.revision = revision(response.header.as_ref())?;
        }
        if let Some(last) = response.kvs.last() {
            self.key = [&last.key[..], b"\0"].concat().into();
        } else if response.more {
            return Err(Error::Protocol("an empty page that is not the last"));
        }
        let last = if streamed {
            response.header.is_some()
        } else {
            !response.more
        };
        if last {
            self.state = State::Done;
        } else if !streamed {
            self.state = State::Paging;
        }
        Ok(RawPage {
            kvs: response.kvs,
            revision: self.revision,
            count: response.count,
            more: !last,
        })
    }
}

/// How many keys to ask for after a page of `limit` keys had these.
fn adapted(limit: i64, kvs: &[pb::KeyValue]) -> i64 {
    let bytes: usize = kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
    match bytes {
        few if few < PAGE_BYTES / 2 => (limit * 2).min(MAX_PAGE),
        many if many > PAGE_BYTES * 2 => (limit / 2).max(1),
        _ => limit,
    }
}

/// The next chunk of a stream. One that ends before its last chunk is broken.
async fn chunk(
    stream: &mut Streaming<pb::RangeStreamResponse>,
) -> Result<pb::RangeResponse, Error> {
    let broken = |why: String| Error::Unavailable(why);
    let chunk = timeout(CHUNK, stream.message())
        .await
        .map_err(|_| broken(format!("a streamed list stopped for {CHUNK:?}")))??;
    let chunk = chunk.ok_or_else(|| broken("a streamed list ended early".into()))?;
    chunk
        .range_response
        .ok_or(Error::Protocol("a chunk of a list without keys"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_the_size_of_objects() {
        let page = |n: i64, size: usize| {
            let kv = pb::KeyValue {
                value: vec![0; size].into(),
                ..Default::default()
            };
            vec![kv; n as usize]
        };
        let settled = |size: usize| {
            let mut limit = FIRST_PAGE;
            for _ in 0..20 {
                limit = adapted(limit, &page(limit, size));
            }
            limit
        };
        assert_eq!(settled(0), MAX_PAGE);
        assert_eq!(settled(1000), 800);
        assert_eq!(settled(1 << 20), 1);
        assert_eq!(settled(10 << 20), 1, "one is asked for whatever it weighs");
    }
}
