//! Where a pod of the queue is, with its key in the ordered set of that place.

use tokio::time::Instant;

use super::SortKey;

#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Active((SortKey, u64)),
    Backoff((Instant, SortKey, u64)),
    ErrorBackoff((Instant, SortKey, u64)),
    /// Until something happens.
    Unschedulable,
}
