//! Waiting longer and longer, and not all at the same moment.

use std::ops::Range;
use std::time::Duration;

use rand::Rng;

/// Pauses that double from the first to the last, each spread by half of itself.
pub(crate) struct Backoff {
    first: Duration,
    last: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, last: Duration) -> Self {
        Self {
            first,
            last,
            next: first,
        }
    }

    /// How long to wait this time.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.last);
        spread(pause, 0.5..1.5)
    }

    /// It went well.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// `duration` times something in `range`.
pub(crate) fn spread(duration: Duration, range: Range<f64>) -> Duration {
    duration.mul_f64(rand::rng().random_range(range))
}
