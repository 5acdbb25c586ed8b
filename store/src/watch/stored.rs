//! What a watch needs from etcd itself, because the cache does not have it.

use std::sync::Arc;

use tokio::time::Instant;

use super::End;
use crate::cache::Cache;
use crate::cache::ring::Slot;
use crate::entry::Entry;
use crate::line::Reach;
use crate::read::{At, Filter, PATIENCE, Query, ReadError, Scope};

/// The old object of an event with the event's version, made once for all watchers.
pub(super) async fn gone(cache: &Cache, slot: &Slot) -> Result<Arc<Entry>, End> {
    if let Some(entry) = slot.gone.get() {
        return Ok(Arc::clone(entry));
    }
    let old = slot
        .old
        .as_ref()
        .expect("only an object that was there can be gone");
    let read;
    let old = if cache.config.keep_bodies {
        old
    } else {
        // Bodies are not kept: etcd has it at the revision before.
        read = cache
            .get_stored(&old.key, slot.revision - 1)
            .await
            .ok()
            .and_then(|(e, _)| e)
            .ok_or(End::Expired)?;
        &read
    };
    let decoder = cache.decoder();
    let make = || Arc::new(old.reversioned(slot.revision, decoder.body_at(old, slot.revision)));
    Ok(Arc::clone(slot.gone.get_or_init(make)))
}

/// The initial objects where the cache cannot give them: without bodies, or when it cannot tell
/// whether it is fresh enough.
pub(super) async fn initial_list(
    cache: &Cache,
    scope: &Scope,
    filter: Option<&Arc<dyn Filter>>,
    wanted: i64,
) -> Result<Option<(Vec<Arc<Entry>>, i64)>, ReadError> {
    let reached = if wanted > 0 {
        cache.reach(wanted, Instant::now() + PATIENCE).await?
    } else {
        Reach::Reached
    };
    let at = match reached {
        Reach::Reached if cache.config.keep_bodies => return Ok(None),
        Reach::Reached => At::Exact(cache.revision()?),
        Reach::Silent => At::NotOlder(wanted),
        Reach::TimedOut => {
            return Err(ReadError::TooNew {
                wanted,
                current: cache.line.frontier(),
            });
        }
    };
    let page = cache
        .list_from_etcd(Query {
            filter: filter.cloned(),
            ..Query::new(scope.clone(), at)
        })
        .await?;
    Ok(Some((page.entries.into_iter().collect(), page.revision)))
}
