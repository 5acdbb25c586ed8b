//! The objects that a watch begins with.

use std::sync::Arc;

use crate::cache;
use crate::entry::Entry;
use crate::read::{Entries, Filter, Scope, Snapshot};

/// Objects taken from a snapshot at a time.
const AT_ONCE: usize = 64;

/// The initial events of a watch, not all assembled: a snapshot is read as they are sent.
pub(super) struct Initial {
    rest: Entries,
    ready: std::vec::IntoIter<Arc<Entry>>,
    revision: i64,
    end_bookmark: bool,
}

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

    pub(super) fn next(&mut self) -> Option<Arc<Entry>> {
        if self.ready.len() == 0 {
            self.ready = self.rest.take(AT_ONCE).into_iter();
        }
        self.ready.next()
    }

    /// The revision of the bookmark that ends them, if one is wanted.
    pub(super) fn end(&self) -> Option<i64> {
        self.end_bookmark.then_some(self.revision)
    }
}
