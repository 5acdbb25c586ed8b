//! Watches: a cursor on a collection's recent events, and a filter.
//!
//! A watcher has no buffer. Whoever sends its events pulls one when there is room for it, so that a
//! slow client costs nothing but its place, and that only until the events have moved on.
//!
//! Invariants: events come in order, none twice, none left out. What is handed out as a bookmark is a
//! revision up to which everything was handed out before.

mod alarm;
mod cursor;
pub(crate) mod initial;
mod stored;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::spread;
use crate::cache::Cache;
use crate::cache::ring::Slot;
use crate::cache::wake::Term;
use crate::entry::Entry;
use crate::read::{At, Filter, ReadError, Scope};

use alarm::Alarm;
use cursor::{Cursor, Next};
use initial::{Held, Initial};
use stored::{gone, initial_list};

/// Between two bookmarks of a watch; upstream's.
const BOOKMARK: Duration = Duration::from_secs(60);
/// The last bookmark comes this long before the watch ends; upstream's.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);
/// Events looked at under one lock.
const AT_ONCE: usize = 256;

/// A watch to be opened.
#[derive(Clone)]
pub struct WatchQuery {
    pub scope: Scope,
    /// `None` selects everything.
    pub filter: Option<Arc<dyn Filter>>,
    pub begin: Begin,
    /// `allowWatchBookmarks`.
    pub bookmarks: bool,
    /// When the watch ends; a bookmark comes shortly before.
    pub deadline: Option<Instant>,
}

/// Where a watch begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// With the events after this revision.
    Revision(i64),
    /// With the objects as they are, each as an ADDED event, at least as fresh as told;
    /// `end_bookmark` marks their end.
    State { at: At, end_bookmark: bool },
    /// With what changes after this call.
    Now(At),
}

impl Begin {
    /// What the options of a watch mean, after the API's own validation (upstream's
    /// `Cacher.Watch`). `revision` is the `resourceVersion`, `None` when it is not given.
    #[must_use]
    pub fn of_watch(
        revision: Option<i64>,
        send_initial_events: Option<bool>,
        bookmarks: bool,
    ) -> Self {
        match (send_initial_events, revision) {
            (None, None | Some(0)) => Self::State {
                at: At::Any,
                end_bookmark: false,
            },
            (Some(true), revision) => Self::State {
                at: At::of_get(revision),
                end_bookmark: bookmarks,
            },
            (Some(false), None) => Self::Now(At::Latest),
            (Some(false), Some(0)) => Self::Now(At::Any),
            (None | Some(false), Some(revision)) => Self::Revision(revision),
        }
    }
}

/// What a watch tells.
#[derive(Clone, Debug)]
pub enum Event {
    Added(Arc<Entry>),
    Modified(Arc<Entry>),
    /// The object as it was, with the version of the event that deleted it or took it out of the
    /// selection.
    Deleted(Arc<Entry>),
    Bookmark {
        revision: i64,
        /// It ends the initial events: annotate it with `k8s.io/initial-events-end`.
        initial_end: bool,
    },
}

/// Why a watch ended.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It fell behind the events that are kept: an ERROR event with 410.
    #[error("too old resource version")]
    Expired,
    /// The history ended, the resource is not served any more, or its schema changed: the stream is
    /// closed.
    #[error("the watch was reset")]
    Reset,
    /// Its deadline has come: the stream is closed.
    #[error("the watch is over")]
    Over,
}

/// An open watch. Pull events with [`Watcher::next`].
pub struct Watcher {
    cache: Arc<Cache>,
    scope: Scope,
    filter: Option<Arc<dyn Filter>>,
    initial: Option<Arc<Held>>,
    cursor: Cursor,
    /// Events up to this revision are not shown: they were seen in another form.
    after: i64,
    generation: u64,
    deadline: Option<Instant>,
    /// When the next bookmark is.
    bookmark: Option<Instant>,
    alarm: Alarm,
    /// A deletion whose object must be read from etcd first.
    pending: Option<Arc<Slot>>,
}

/// What a look at the recent events gives.
enum Step {
    Event(Event),
    /// An object that left the selection, or everything.
    Gone(Arc<Slot>),
    /// Looked at many, found none: look on.
    More,
    Idle,
}

impl Watcher {
    pub(crate) async fn open(cache: &Arc<Cache>, query: WatchQuery) -> Result<Self, ReadError> {
        let WatchQuery {
            scope,
            filter,
            begin,
            bookmarks,
            deadline,
        } = query;
        cache.ready()?;
        let wanted = match begin {
            Begin::Revision(_) | Begin::State { at: At::Any, .. } | Begin::Now(At::Any) => 0,
            Begin::State {
                at: At::NotOlder(r) | At::Exact(r),
                ..
            }
            | Begin::Now(At::NotOlder(r) | At::Exact(r)) => r,
            Begin::State { at: At::Latest, .. } | Begin::Now(At::Latest) => {
                cache.line.ask().await?
            }
        };
        let mut listed = None;
        if let Begin::State { .. } = begin {
            listed = initial_list(cache, &scope, filter.as_ref(), wanted).await?;
        }
        let term = term(cache, &scope, filter.as_deref());
        // The place among those who are woken and the place in the ring, under one lock: no event
        // falls between them.
        let state = cache.state.read();
        state.ready(&cache.config.path)?;
        let seat = cache.wakes.seat(term);
        let ring = &state.ring;
        let mut initial = None;
        let (at, after) = match begin {
            Begin::Revision(revision) => (
                ring.resume(revision).map_err(|_| ReadError::Expired)?,
                revision,
            ),
            Begin::Now(_) => (ring.next(), wanted),
            Begin::State { end_bookmark, .. } => match listed {
                None => {
                    let revision = cache.frontier(&state);
                    let objects = state.objects.clone();
                    initial = Some(Initial::snapshot(
                        objects,
                        &scope,
                        filter.as_ref(),
                        revision,
                        end_bookmark,
                    ));
                    (ring.next(), 0)
                }
                Some((entries, revision)) => {
                    // Read before the lock was taken: events since then are in the ring.
                    let at = ring
                        .resume(revision.min(cache.frontier(&state)))
                        .map_err(|_| ReadError::Expired)?;
                    initial = Some(Initial::listed(entries, revision, end_bookmark));
                    (at, revision)
                }
            },
        };
        let cursor = Cursor::new(seat, at, ring.next());
        let generation = state.generation;
        drop(state);
        cache.metrics.watchers.add(1);
        let bookmark = bookmarks.then(|| next_bookmark(Instant::now(), deadline));
        let initial = initial.map(|initial| cache.unsent.hold(initial));
        Ok(Self {
            cache: Arc::clone(cache),
            scope,
            filter,
            initial,
            cursor,
            after,
            generation,
            deadline,
            bookmark,
            alarm: Alarm::default(),
            pending: None,
        })
    }

    /// The next event. Dropping the call loses nothing.
    ///
    /// # Errors
    /// When the watch has ended; it stays so.
    pub async fn next(&mut self) -> Result<Event, End> {
        let bucket = self.cursor.bucket();
        loop {
            // One look at the clock for each turn: a watch is woken so often that each would be seen in the figures.
            let now = Instant::now();
            // First, or events without a pause would keep it open.
            if self.deadline.is_some_and(|at| at <= now) {
                return Err(End::Over);
            }
            // Made before looking, it is woken by whatever is not seen then.
            let mut woken = pin!(bucket.wake.notified());
            if let Some(event) = self.next_at(now).await? {
                return Ok(event);
            }
            let due = self.bookmark.into_iter().chain(self.deadline).min();
            let mut looked = Some(now);
            poll_fn(|cx| match woken.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => due.map_or(Poll::Pending, |due| {
                    let now = looked.take().unwrap_or_else(Instant::now);
                    self.alarm.poll(due, now, cx)
                }),
            })
            .await;
        }
    }

    /// Whether objects that were there when it began are still to come, or the bookmark that ends them.
    #[must_use]
    pub fn is_beginning(&self) -> bool {
        self.initial.is_some()
    }

    /// The next event if there is one now. It waits only for etcd, and only in a collection that
    /// keeps no bodies.
    ///
    /// # Errors
    /// As [`Watcher::next`].
    pub async fn try_next(&mut self) -> Result<Option<Event>, End> {
        self.next_at(Instant::now()).await
    }

    async fn next_at(&mut self, now: Instant) -> Result<Option<Event>, End> {
        let result = self.pull(now).await;
        match &result {
            Ok(_) | Err(End::Over) => {}
            Err(End::Expired) => self.cache.metrics.watchers_expired.inc(),
            Err(End::Reset) => self.cache.metrics.watchers_reset.inc(),
        }
        result
    }

    async fn pull(&mut self, now: Instant) -> Result<Option<Event>, End> {
        loop {
            if let Some(slot) = &self.pending {
                let entry = gone(&self.cache, slot).await?;
                self.pending = None;
                return Ok(Some(Event::Deleted(entry)));
            }
            match self.step(now)? {
                Step::Event(event) => return Ok(Some(event)),
                Step::Gone(slot) => self.pending = Some(slot),
                Step::More => {}
                Step::Idle => return Ok(None),
            }
        }
    }

    fn step(&mut self, now: Instant) -> Result<Step, End> {
        let cache = &*self.cache;
        let state = cache.state.read();
        if state.ended(self.generation) {
            return Err(End::Reset);
        }
        if let Some(initial) = &self.initial {
            let end = match initial.next()? {
                initial::Step::Object(entry) => {
                    cache.metrics.initial_events.inc();
                    return Ok(Step::Event(Event::Added(entry)));
                }
                initial::Step::End(bookmark) => bookmark,
            };
            self.initial = None;
            if let Some(revision) = end {
                return Ok(Step::Event(Event::Bookmark {
                    revision,
                    initial_end: true,
                }));
            }
        }
        for _ in 0..AT_ONCE {
            match self.cursor.next(&state.ring)? {
                Next::Slot(slot) => {
                    if let Some(step) = view(slot, self.after, &self.scope, self.filter.as_deref())
                    {
                        return Ok(step);
                    }
                }
                Next::End => {
                    let Some(due) = self.bookmark.as_mut().filter(|due| **due <= now) else {
                        return Ok(Step::Idle);
                    };
                    *due = next_bookmark(now, self.deadline);
                    if state.ready(&cache.config.path).is_err() {
                        return Ok(Step::Idle);
                    }
                    // Everything up to there has been handed out.
                    let revision = cache.frontier(&state);
                    if revision < self.after {
                        return Ok(Step::Idle);
                    }
                    return Ok(Step::Event(Event::Bookmark {
                        revision,
                        initial_end: false,
                    }));
                }
            }
        }
        Ok(Step::More)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.cache.metrics.watchers.add(-1);
    }
}

/// When the bookmark after this moment is, of a watch that ends then.
fn next_bookmark(now: Instant, deadline: Option<Instant>) -> Instant {
    // Spread, so that watches opened together do not write together for ever.
    let next = now + spread(BOOKMARK, 0.9..1.0);
    match deadline.and_then(|d| d.checked_sub(LAST_BOOKMARK)) {
        Some(last) if last > now => next.min(last),
        _ => next,
    }
}

/// What the event is to a watcher. Pure.
fn view(slot: &Arc<Slot>, after: i64, scope: &Scope, filter: Option<&dyn Filter>) -> Option<Step> {
    let entry = slot.new.as_ref().or(slot.old.as_ref())?;
    if slot.revision <= after || !scope.holds(&entry.key) {
        return None;
    }
    let selected = |e: &&Arc<Entry>| filter.is_none_or(|f| f.matches(e));
    match (
        slot.old.as_ref().filter(selected),
        slot.new.as_ref().filter(selected),
    ) {
        (None, None) => None,
        (None, Some(new)) => Some(Step::Event(Event::Added(Arc::clone(new)))),
        (Some(_), Some(new)) => Some(Step::Event(Event::Modified(Arc::clone(new)))),
        (Some(_), None) => Some(Step::Gone(Arc::clone(slot))),
    }
}

/// The narrowest value that every event of the watch has.
fn term(cache: &Cache, scope: &Scope, filter: Option<&dyn Filter>) -> Term {
    let requires = |field: &str| filter.and_then(|f| f.requires(field));
    match (scope, requires("metadata.name")) {
        (Scope::One(key), _) => return Term::Object(key.clone()),
        (Scope::Namespace(namespace), Some(name)) => {
            return Term::Object(format!("{namespace}/{name}").into());
        }
        (Scope::All, Some(name)) if !cache.config.namespaced => return Term::Object(name.into()),
        _ => {}
    }
    let index = cache
        .config
        .indexes
        .iter()
        .enumerate()
        .find_map(|(i, field)| Some((i, requires(field)?)));
    match (index, scope, requires("metadata.namespace")) {
        (Some((i, value)), ..) => Term::Field(i, value.into()),
        (None, Scope::Namespace(namespace), _) => Term::Namespace(namespace.clone()),
        (None, Scope::All, Some(namespace)) if cache.config.namespaced => {
            Term::Namespace(namespace.into())
        }
        _ => Term::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watch_options_mean_what_they_mean_upstream() {
        let state = |at, end_bookmark| Begin::State { at, end_bookmark };
        for (revision, initial, bookmarks, expected) in [
            (None, None, true, state(At::Any, false)),
            (Some(0), None, true, state(At::Any, false)),
            (Some(7), None, false, Begin::Revision(7)),
            (None, Some(true), true, state(At::Latest, true)),
            (Some(0), Some(true), true, state(At::Any, true)),
            (Some(7), Some(true), false, state(At::NotOlder(7), false)),
            (None, Some(false), true, Begin::Now(At::Latest)),
            (Some(0), Some(false), true, Begin::Now(At::Any)),
            (Some(7), Some(false), true, Begin::Revision(7)),
        ] {
            assert_eq!(
                Begin::of_watch(revision, initial, bookmarks),
                expected,
                "{revision:?} {initial:?}"
            );
        }
    }
}
