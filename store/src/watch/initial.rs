//! The objects that a watch begins with.
//!
//! They are a snapshot, which keeps what is overwritten and deleted meanwhile in memory. A client that
//! does not take them loses them: whoever sends events cannot end such a watch, since a connection
//! without room is not asked for anything, so the collection's upkeep lets go of them here.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::End;
use crate::cache;
use crate::entry::Entry;
use crate::read::{Entries, Filter, Scope, Snapshot};

/// Objects taken from a snapshot at a time.
const AT_ONCE: usize = 64;
/// A client that takes nothing for so long is not coming back.
const STALLED: Duration = Duration::from_secs(30);

/// The initial events of a watch, not all assembled: a snapshot is read as they are sent.
pub(super) struct Initial {
    rest: Entries,
    ready: std::vec::IntoIter<Arc<Entry>>,
    revision: i64,
    end_bookmark: bool,
}

/// The initial events while they are being sent.
pub(super) struct Held(Mutex<State>);

struct State {
    /// `None`: nobody took them.
    initial: Option<Initial>,
    taken: Instant,
}

/// What comes next of them.
pub(super) enum Step {
    Object(Arc<Entry>),
    /// There are no more; with the revision of the bookmark that ends them, if one is wanted.
    End(Option<i64>),
}

/// The initial events that a collection's watches have not sent yet.
#[derive(Default)]
pub(crate) struct Unsent(Mutex<Vec<Weak<Held>>>);

impl Initial {
    pub(super) fn snapshot(
        objects: cache::Entries,
        scope: &Scope,
        filter: Option<&Arc<dyn Filter>>,
        revision: i64,
        end_bookmark: bool,
    ) -> Self {
        let snapshot = Snapshot::new(objects, scope.clone(), filter.cloned(), None);
        Self {
            rest: Entries::snapshot(snapshot),
            ready: Vec::new().into_iter(),
            revision,
            end_bookmark,
        }
    }

    pub(super) fn listed(entries: Vec<Arc<Entry>>, revision: i64, end_bookmark: bool) -> Self {
        Self {
            rest: Entries::ready(Vec::new()),
            ready: entries.into_iter(),
            revision,
            end_bookmark,
        }
    }

    fn next(&mut self) -> Option<Arc<Entry>> {
        if self.ready.len() == 0 {
            self.ready = self.rest.take(AT_ONCE).into_iter();
        }
        self.ready.next()
    }
}

impl Held {
    pub(super) fn next(&self) -> Result<Step, End> {
        let mut state = self.0.lock();
        let initial = state.initial.as_mut().ok_or(End::Expired)?;
        let step = match initial.next() {
            Some(entry) => Step::Object(entry),
            None => Step::End(initial.end_bookmark.then_some(initial.revision)),
        };
        state.taken = Instant::now();
        Ok(step)
    }
}

impl Unsent {
    /// Holds the events for as long as they are being taken.
    pub(super) fn hold(&self, initial: Initial) -> Arc<Held> {
        let held = Arc::new(Held(Mutex::new(State {
            initial: Some(initial),
            taken: Instant::now(),
        })));
        self.0.lock().push(Arc::downgrade(&held));
        held
    }

    /// Lets go of what nobody takes; how much that was.
    pub(crate) fn let_go(&self, now: Instant) -> u64 {
        // Large snapshots die outside the lock.
        let mut stalled = Vec::new();
        self.0.lock().retain(|held| {
            let Some(held) = held.upgrade() else {
                return false;
            };
            let mut state = held.0.lock();
            if now.saturating_duration_since(state.taken) < STALLED {
                return true;
            }
            stalled.extend(state.initial.take());
            false
        });
        stalled.len() as u64
    }
}
