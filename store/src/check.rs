//! The consistency check: a collection's keys and versions against etcd's, at one revision.
//!
//! It finds what must not happen. A collection that differs is listed again, so that it heals, but
//! first it is logged as an error and counted.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, error, warn};

use crate::cache::Cache;
use crate::etcd;
use crate::line::Reach;
use crate::read::pages::Pages;

/// How long a check waits for the cache.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why nothing was compared.
#[derive(thiserror::Error, Debug)]
enum Skipped {
    #[error(transparent)]
    NotReady(#[from] crate::collection::NotReady),
    #[error(transparent)]
    Etcd(#[from] etcd::Error),
    #[error("the cache does not reach revision {0}")]
    Behind(i64),
}

/// The first difference that was found: key and version in the cache and in etcd.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) cached: Option<(String, i64)>,
    pub(crate) stored: Option<(String, i64)>,
}

/// Compares one collection; `None` when it could not be done, `Some(None)` when all is well.
pub(crate) async fn check(cache: &Arc<Cache>) -> Option<Option<Difference>> {
    let path = &cache.config.path;
    match compare(cache).await {
        Ok((revision, None)) => {
            cache.metrics.checks_equal.inc();
            debug!(resource = %path, revision, "watch cache is consistent");
            Some(None)
        }
        Ok((revision, Some(difference))) => {
            cache.metrics.checks_different.inc();
            error!(resource = %path, revision, ?difference, "watch cache differs from etcd; listing again");
            cache.relist();
            Some(Some(difference))
        }
        Err(skipped) => {
            cache.metrics.checks_failed.inc();
            warn!(resource = %path, error = %skipped, "watch cache not compared with etcd");
            None
        }
    }
}

async fn compare(cache: &Cache) -> Result<(i64, Option<Difference>), Skipped> {
    // A cache that says it is exact at a revision, and is waiting for nothing: etcd must agree.
    let (objects, at) = {
        let now = cache.revision()?;
        if cache.reach(now, Instant::now() + PATIENCE).await? != Reach::Reached {
            return Err(Skipped::Behind(now));
        }
        let state = cache.state.read();
        state.ready(&cache.config.path)?;
        (state.objects.clone(), cache.frontier(&state))
    };
    let mut cached = objects.iter().map(|e| (e.key.to_string(), e.revision));
    let mut pages = Pages::new(cache.etcd_key(""), at)
        .keys_only()
        .timed(&cache.metrics);
    while let Some(page) = pages.next(&cache.line).await? {
        for kv in page.kvs {
            let Some(key) = cache.own_key(&kv.key) else {
                continue;
            };
            let (stored, cached) = (Some((key.to_owned(), kv.mod_revision)), cached.next());
            if stored != cached {
                return Ok((at, Some(Difference { cached, stored })));
            }
        }
    }
    let rest = cached.next();
    Ok((
        at,
        rest.map(|rest| Difference {
            cached: Some(rest),
            stored: None,
        }),
    ))
}
