//! What this process wrote a moment ago, so that the event of its own write finds the entry made
//! already: half of the decoding (and of the decryption) under writes is saved.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::entry::Entry;

/// Writes whose events have not come yet; an event takes about a round trip.
const CAPACITY: usize = 128;

/// Entries of own writes.
#[derive(Default)]
pub(crate) struct WrittenEntries(Mutex<VecDeque<Arc<Entry>>>);

impl WrittenEntries {
    pub(crate) fn put(&self, entry: &Arc<Entry>) {
        let mut entries = self.0.lock();
        let oldest = if entries.len() >= CAPACITY { entries.pop_front() } else { None };
        entries.push_back(Arc::clone(entry));
        drop(entries);
        drop(oldest);
    }

    /// The entry written at this very revision; it leaves.
    pub(crate) fn take(&self, key: &str, revision: i64) -> Option<Arc<Entry>> {
        let mut entries = self.0.lock();
        let at = entries.iter().position(|e| e.revision == revision && *e.key == *key)?;
        entries.remove(at)
    }

    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }
}
