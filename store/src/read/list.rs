//! Lists: from the cache where it is exact, else from etcd.

use std::sync::Arc;

use tokio::time::Instant;

use super::page::Snapshot;
use super::pages::{MAX_PAGE, Pages};
use super::{At, Entries, Filter, PATIENCE, Page, Query, ReadError, Scope};
use crate::cache::{Cache, State};
use crate::entry::{Entry, Undecodable};
use crate::etcd::{self, pb};
use crate::line::Reach;
use crate::token::Token;

/// Events that may be undone for a list of the past; more, and etcd is faster.
const MAX_UNDO: usize = 10_000;
/// Objects that cannot be read and are named, of one list; upstream's (`maxCorruptObjErrsToAggregate`).
const MAX_BROKEN: usize = 100;
/// How often a list of the newest state begins anew because etcd compacted it while it was read; the
/// next compaction is minutes away.
const RESTARTS: usize = 3;

/// What a query asks for, after its token is read.
struct Plan {
    scope: Scope,
    filter: Option<Arc<dyn Filter>>,
    at: At,
    /// Below the collection's prefix.
    start: Option<String>,
    limit: usize,
}

impl Plan {
    fn of(query: Query) -> Result<Self, ReadError> {
        let Query {
            scope,
            filter,
            mut at,
            limit,
            continue_token,
        } = query;
        // Upstream: a list that may be arbitrarily old is never cut.
        let limit = if at == At::Any { 0 } else { limit };
        let mut start = None;
        if let Some(token) = continue_token.filter(|_| !matches!(scope, Scope::One(_))) {
            let token = Token::decode(&token)?;
            if !matches!(at, At::Latest | At::Any) {
                return Err(ReadError::RevisionWithContinue);
            }
            at = token.revision.map_or(At::Latest, At::Exact);
            start = Some(scope.prefix() + &token.start);
        }
        Ok(Self {
            scope,
            filter,
            at,
            start,
            limit,
        })
    }

    /// The token for what comes from `key` on.
    fn token(&self, revision: Option<i64>, key: &str) -> String {
        let start = key[self.scope.prefix().len()..].to_owned();
        Token { revision, start }.encode()
    }

    /// etcd has compacted the revision.
    fn expired(&self) -> ReadError {
        match &self.start {
            Some(start) => ReadError::ContinueExpired {
                resume: self.token(None, start),
            },
            None => ReadError::Expired,
        }
    }

    /// The revision to read etcd at; 0 for the newest.
    fn pinned(&self) -> i64 {
        match self.at {
            At::Exact(revision) => revision,
            _ => 0,
        }
    }

    fn wanted(&self) -> i64 {
        match self.at {
            At::NotOlder(revision) | At::Exact(revision) => revision,
            At::Latest | At::Any => 0,
        }
    }
}

impl Cache {
    pub(crate) async fn list(&self, query: Query) -> Result<Page, ReadError> {
        let plan = Plan::of(query)?;
        if self.config.keep_bodies {
            match self.ready() {
                Ok(()) => match self.list_cached(&plan).await? {
                    Some(page) => {
                        self.metrics.cache_reads.inc();
                        self.metrics.cache_lists.inc();
                        if plan.at == At::Latest {
                            self.metrics.consistent_reads.inc();
                        }
                        return Ok(page);
                    }
                    None => self.metrics.read_fallbacks.inc(),
                },
                // Upstream: what costs etcd little may go to it.
                Err(_) if plan.filter.is_none() && plan.limit > 0 => {}
                Err(not_ready) => return Err(not_ready.into()),
            }
        }
        self.metrics.etcd_reads.inc();
        self.metrics.etcd_lists.inc();
        self.list_stored(&plan).await
    }

    /// From etcd, whatever the cache could tell.
    pub(crate) async fn list_from_etcd(&self, query: Query) -> Result<Page, ReadError> {
        self.metrics.etcd_reads.inc();
        self.metrics.etcd_lists.inc();
        self.list_stored(&Plan::of(query)?).await
    }

    /// From the cache; `None` when only etcd can answer.
    async fn list_cached(&self, plan: &Plan) -> Result<Option<Page>, ReadError> {
        let wanted = match plan.at {
            At::Any => 0,
            At::NotOlder(revision) => revision,
            At::Exact(_) if !self.line.reads.past => return Ok(None),
            _ if plan.start.is_some() && !self.line.reads.past => return Ok(None),
            At::Exact(revision) if revision < self.line.compacted() => return Ok(None),
            At::Exact(revision) => revision,
            At::Latest => self.line.ask().await?,
        };
        if wanted > 0 {
            match self.reach(wanted, Instant::now() + PATIENCE).await? {
                Reach::Reached => {}
                Reach::Silent => return Ok(None),
                Reach::TimedOut => {
                    self.metrics.read_timeouts.inc();
                    return Err(ReadError::TooNew {
                        wanted,
                        current: self.line.frontier(),
                    });
                }
            }
        }
        let (objects, revision) = {
            let state = self.state.read();
            state.ready(&self.config.path)?;
            if let At::Exact(revision) = plan.at {
                let mut objects = state.objects.clone();
                if !state.ring.undo(&mut objects, revision, MAX_UNDO) {
                    return Ok(None);
                }
                (objects, revision)
            } else {
                (self.indexed(&state, plan), self.frontier(&state))
            }
        };
        let snapshot = Snapshot::new(
            objects,
            plan.scope.clone(),
            plan.filter.clone(),
            plan.start.as_deref(),
        );
        Ok(Some(cut(snapshot, plan, revision)))
    }

    /// The objects that an index leaves, or all of them.
    fn indexed(&self, state: &State, plan: &Plan) -> crate::cache::Entries {
        let Some(filter) = &plan.filter else {
            return state.objects.clone();
        };
        for (index, field) in state.indexes.iter().zip(&self.config.indexes) {
            if let Some(value) = filter.requires(field) {
                return index.get(value).cloned().unwrap_or_default();
            }
        }
        state.objects.clone()
    }

    /// From etcd itself.
    async fn list_stored(&self, plan: &Plan) -> Result<Page, ReadError> {
        if let Scope::One(key) = &plan.scope {
            return self
                .one_stored(key, plan)
                .await
                .map_err(|e| self.read_error(plan, e));
        }
        let mut restarts = 0;
        loop {
            match self.all_stored(plan).await {
                // No revision was asked for: a newer one is as good.
                Err(ReadError::Etcd(etcd::Error::Compacted))
                    if plan.pinned() == 0 && restarts < RESTARTS =>
                {
                    restarts += 1;
                }
                read => return read.map_err(|e| self.read_error(plan, e)),
            }
        }
    }

    async fn one_stored(&self, key: &str, plan: &Plan) -> Result<Page, ReadError> {
        let (entry, revision) = self.get_stored(key, plan.pinned()).await?;
        let entries = entry
            .into_iter()
            .filter(|e| plan.filter.as_ref().is_none_or(|f| f.matches(e)))
            .collect();
        let revision = not_older(plan, revision)?;
        Ok(Page {
            entries: Entries::ready(entries),
            revision,
            next: None,
            remaining: None,
        })
    }

    async fn all_stored(&self, plan: &Plan) -> Result<Page, ReadError> {
        let mut pages =
            Pages::new(self.etcd_key(&plan.scope.prefix()), plan.pinned()).timed(&self.metrics);
        if let Some(start) = &plan.start {
            pages = pages.from(self.etcd_key(start));
        }
        if plan.limit > 0 {
            pages = pages.limit(i64::try_from(plan.limit).unwrap_or(MAX_PAGE).min(MAX_PAGE));
        }
        let mut list = Stored {
            entries: Vec::new(),
            broken: Vec::new(),
            last: None,
            more: false,
            count: 0,
            revision: plan.pinned(),
        };
        while let Some(page) = pages.next(&self.line).await? {
            list.revision = not_older(plan, page.revision)?;
            list.count = page.count;
            list.more = page.more;
            if self.take_page(page.kvs, plan, &mut list).await? {
                break;
            }
            if plan.limit > 0 {
                pages.widen();
            }
        }
        if !list.broken.is_empty() {
            return Err(ReadError::Unreadable {
                more: list.broken.len() >= MAX_BROKEN,
                objects: list.broken,
            });
        }
        Ok(list.page(plan))
    }

    /// Adds what matches; `true` when the limit is reached.
    async fn take_page(
        &self,
        kvs: Vec<pb::KeyValue>,
        plan: &Plan,
        list: &mut Stored,
    ) -> Result<bool, ReadError> {
        for kv in kvs {
            if plan.limit > 0 && list.entries.len() >= plan.limit {
                list.more = true;
                return Ok(true);
            }
            let Some(key) = self.own_key(&kv.key) else {
                continue;
            };
            list.last = Some(key.to_owned());
            let entry = match self.entry_of(key, &kv).await {
                Ok(entry) => entry,
                Err(broken) => {
                    list.broken.push(broken);
                    if list.broken.len() >= MAX_BROKEN {
                        return Ok(true);
                    }
                    continue;
                }
            };
            if plan.filter.as_ref().is_none_or(|f| f.matches(&entry)) {
                list.entries.push(entry);
            }
        }
        Ok(plan.limit > 0 && list.entries.len() >= plan.limit)
    }

    /// The entry of what etcd holds; the cache's own where it is the same.
    pub(crate) async fn entry_of(
        &self,
        key: &str,
        kv: &pb::KeyValue,
    ) -> Result<Arc<Entry>, Undecodable> {
        if self.config.keep_bodies
            && let Some(entry) = self.state.read().objects.get(key)
            && entry.revision == kv.mod_revision
        {
            return Ok(Arc::clone(entry));
        }
        let (value, _) = self.open(key, &kv.value).await?;
        self.decode_opened(key, value, kv.mod_revision)
    }

    fn read_error(&self, plan: &Plan, error: ReadError) -> ReadError {
        match error {
            ReadError::Etcd(etcd::Error::Compacted) => plan.expired(),
            ReadError::Etcd(etcd::Error::FutureRevision) => ReadError::TooNew {
                wanted: plan.wanted(),
                current: self.line.frontier(),
            },
            other => other,
        }
    }
}

fn not_older(plan: &Plan, revision: i64) -> Result<i64, ReadError> {
    match plan.at {
        At::NotOlder(wanted) if wanted > revision => Err(ReadError::TooNew {
            wanted,
            current: revision,
        }),
        _ => Ok(revision),
    }
}

/// The first page of what is left of a snapshot.
fn cut(mut snapshot: Snapshot, plan: &Plan, revision: i64) -> Page {
    if plan.limit == 0 {
        return Page {
            entries: Entries::snapshot(snapshot),
            revision,
            next: None,
            remaining: None,
        };
    }
    let before = if plan.filter.is_none() {
        snapshot.count()
    } else {
        0
    };
    let entries = snapshot.take(plan.limit);
    let full = entries.len() == plan.limit && snapshot.has_more();
    let next = entries
        .last()
        .filter(|_| full)
        .map(|last| plan.token(Some(revision), &format!("{}\0", last.key)));
    let remaining = (next.is_some() && plan.filter.is_none())
        .then(|| i64::try_from(before - entries.len()).unwrap_or(i64::MAX));
    Page {
        entries: Entries::ready(entries),
        revision,
        next,
        remaining,
    }
}

/// A list while it is read from etcd.
struct Stored {
    entries: Vec<Arc<Entry>>,
    /// What cannot be read.
    broken: Vec<Undecodable>,
    last: Option<String>,
    more: bool,
    count: i64,
    revision: i64,
}

impl Stored {
    fn page(self, plan: &Plan) -> Page {
        let Self {
            entries,
            last,
            more,
            count,
            revision,
            ..
        } = self;
        let next = last
            .filter(|_| more)
            .map(|last| plan.token(Some(revision), &format!("{last}\0")));
        let remaining = (next.is_some() && plan.filter.is_none())
            .then(|| count - i64::try_from(plan.limit).unwrap_or(i64::MAX));
        Page {
            entries: Entries::ready(entries),
            revision,
            next,
            remaining,
        }
    }
}
