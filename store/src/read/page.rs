//! The answer of a list. A list without a limit is a snapshot that is read while it is sent; it is
//! never assembled.

use std::ops::Bound;
use std::sync::Arc;

use super::{Filter, Scope};
use crate::cache;
use crate::entry::Entry;

/// A list, or a page of one.
pub struct Page {
    pub entries: Entries,
    /// The list's `metadata.resourceVersion`.
    pub revision: i64,
    /// `metadata.continue`, when there is more.
    pub next: Option<String>,
    /// `metadata.remainingItemCount`; known only without a filter.
    pub remaining: Option<i64>,
}

/// The objects of a page, in order of their keys. Take them with [`Entries::take`] or iterate.
pub struct Entries(Source);

enum Source {
    Ready(std::vec::IntoIter<Arc<Entry>>),
    Snapshot(Snapshot),
}

/// What is left of a snapshot.
pub(crate) struct Snapshot {
    objects: cache::Entries,
    scope: Scope,
    filter: Option<Arc<dyn Filter>>,
    /// The last key that was looked at, or the first one wanted.
    from: Bound<Box<str>>,
}

/// Objects looked at before a snapshot is asked for its next ones.
const AT_ONCE: usize = 256;

impl Entries {
    pub(crate) fn ready(entries: Vec<Arc<Entry>>) -> Self {
        Self(Source::Ready(entries.into_iter()))
    }

    pub(crate) fn snapshot(snapshot: Snapshot) -> Self {
        Self(Source::Snapshot(snapshot))
    }

    /// The next objects, at most `n`; none at the end. Each call costs one descent of a tree, so take
    /// some hundreds.
    pub fn take(&mut self, n: usize) -> Vec<Arc<Entry>> {
        match &mut self.0 {
            Source::Ready(entries) => entries.take(n).collect(),
            Source::Snapshot(snapshot) => snapshot.take(n),
        }
    }

    /// How many there are at most; exact without a filter in a whole collection.
    #[must_use]
    pub fn size_hint(&self) -> usize {
        match &self.0 {
            Source::Ready(entries) => entries.len(),
            Source::Snapshot(snapshot) => snapshot.objects.len(),
        }
    }
}

impl IntoIterator for Entries {
    type Item = Arc<Entry>;
    type IntoIter = IntoIter;
    fn into_iter(self) -> IntoIter {
        IntoIter {
            entries: self,
            ready: Vec::new().into_iter(),
        }
    }
}

/// All objects of a page.
pub struct IntoIter {
    entries: Entries,
    ready: std::vec::IntoIter<Arc<Entry>>,
}

impl Iterator for IntoIter {
    type Item = Arc<Entry>;
    fn next(&mut self) -> Option<Arc<Entry>> {
        if self.ready.len() == 0 {
            self.ready = self.entries.take(AT_ONCE).into_iter();
        }
        self.ready.next()
    }
}

impl Snapshot {
    /// The objects of `scope` that match, from the key `start` on.
    pub(crate) fn new(
        objects: cache::Entries,
        scope: Scope,
        filter: Option<Arc<dyn Filter>>,
        start: Option<&str>,
    ) -> Self {
        let prefix = scope.prefix();
        let from = Bound::Included(start.filter(|s| **s > *prefix).unwrap_or(&prefix).into());
        Self {
            objects,
            scope,
            filter,
            from,
        }
    }

    /// How many objects are left, whether they match or not.
    pub(crate) fn count(&self) -> usize {
        if self.scope == Scope::All && matches!(&self.from, Bound::Included(key) if key.is_empty())
        {
            return self.objects.len();
        }
        self.rest().count()
    }

    fn rest(&self) -> impl Iterator<Item = &Arc<Entry>> {
        // The tree knows where the scope ends: keys that are only counted are not looked at.
        let end = self.scope.end();
        self.objects
            .range(self.from.as_ref().map(|k| &**k), end.as_ref().map(|k| &**k))
    }

    /// The next objects that match.
    pub(crate) fn take(&mut self, n: usize) -> Vec<Arc<Entry>> {
        let mut taken = Vec::with_capacity(n.min(AT_ONCE));
        let mut last = None;
        for entry in self.rest() {
            if taken.len() == n {
                break;
            }
            last = Some(entry);
            if self.filter.as_ref().is_none_or(|f| f.matches(entry)) {
                taken.push(Arc::clone(entry));
            }
        }
        if let Some(last) = last {
            self.from = Bound::Excluded(last.key.clone());
        }
        taken
    }

    /// Whether any object is left, matching or not.
    pub(crate) fn has_more(&self) -> bool {
        self.rest().next().is_some()
    }
}
