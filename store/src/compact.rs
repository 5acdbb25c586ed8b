//! Compaction: API servers, ours and upstream's, together forget what is older than one interval.
//!
//! The protocol is upstream's (`storage/etcd3/compact.go`). The version of one key is a clock: who
//! first moves it on compacts, up to the revision it remembers from the tick before; the others see
//! that they came late and remember the new time. The key's value tells everybody, over the watch,
//! what has been compacted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracing::{debug, warn};

use crate::etcd::{self, pb};
use crate::line::{COMPACT_KEY, Line, revision};

/// Where a compactor stands.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Tick {
    /// The version of the key when it was last seen.
    time: i64,
    /// The revision at that moment: what the next tick compacts.
    revision: i64,
}

/// Compacts every `interval`, for as long as the process lives.
pub(crate) async fn run(line: Arc<Line>, interval: Duration) {
    let mut tick = Tick::default();
    loop {
        tokio::time::sleep(interval).await;
        match compact(&line, tick).await {
            Ok(next) => tick = next,
            Err(error) => warn!(%error, "compaction failed"),
        }
    }
}

/// One tick.
pub(crate) async fn compact(line: &Line, tick: Tick) -> Result<Tick, etcd::Error> {
    let key = Bytes::from_static(COMPACT_KEY.as_bytes());
    let compare = pb::Compare {
        result: pb::compare::CompareResult::Equal.into(),
        target: pb::compare::CompareTarget::Version.into(),
        key: key.clone(),
        target_union: Some(pb::compare::TargetUnion::Version(tick.time)),
    };
    let put = pb::PutRequest {
        key: key.clone(),
        value: tick.revision.to_string().into(),
        lease: 0,
    };
    let get = pb::RangeRequest {
        key,
        ..Default::default()
    };
    let op = |request| {
        vec![pb::RequestOp {
            request: Some(request),
        }]
    };
    let request = pb::TxnRequest {
        compare: vec![compare],
        success: op(pb::request_op::Request::RequestPut(put)),
        failure: op(pb::request_op::Request::RequestRange(get)),
    };
    let response = line.noted(line.client.txn(request).await)?;
    let now = revision(response.header.as_ref())?;
    if !response.succeeded {
        let found = response
            .responses
            .into_iter()
            .next()
            .and_then(|r| r.response);
        let kv = match found {
            Some(pb::response_op::Response::ResponseRange(range)) => range.kvs.into_iter().next(),
            _ => None,
        };
        // Absent: somebody deleted the key, and time begins anew.
        let (time, compacted) = kv.map_or((0, 0), |kv| {
            (
                kv.version,
                std::str::from_utf8(&kv.value)
                    .ok()
                    .and_then(|v| v.parse().ok())
                    .unwrap_or(0),
            )
        });
        line.saw_compaction(compacted);
        return Ok(Tick {
            time,
            revision: now,
        });
    }
    let next = Tick {
        time: tick.time + 1,
        revision: now,
    };
    if tick.revision > 0 {
        // The first tick only looks.
        match line.client.compact(tick.revision).await {
            Ok(()) => {
                line.metrics.compactions.inc();
                line.saw_compaction(tick.revision);
                debug!(revision = tick.revision, "compacted etcd");
            }
            // Already compacted further, by somebody outside the protocol.
            Err(etcd::Error::Compacted) => {}
            Err(error) => {
                warn!(%error, "compaction failed");
            }
        }
    }
    Ok(next)
}
