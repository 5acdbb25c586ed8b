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
pub(crate) struct WrittenEntries(Mutex<VecDeque<(u64, Arc<Entry>)>>);

impl WrittenEntries {
    /// Remembers an entry made by the decoder of this generation.
    pub(crate) fn put(&self, entry: &Arc<Entry>, generation: u64) {
        let mut entries = self.0.lock();
        let oldest = if entries.len() >= CAPACITY {
            entries.pop_front()
        } else {
            None
        };
        entries.push_back((generation, Arc::clone(entry)));
        drop(entries);
        drop(oldest);
    }

    /// The entry written at this very revision; it leaves.
    pub(crate) fn take(&self, key: &str, revision: i64, generation: u64) -> Option<Arc<Entry>> {
        let mut entries = self.0.lock();
        let at = entries
            .iter()
            .position(|(_, e)| e.revision == revision && *e.key == *key)?;
        let (made, entry) = entries.remove(at)?;
        (made == generation).then_some(entry)
    }

    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }
}
