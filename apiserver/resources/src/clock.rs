//! Now, as writes note it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time of a write, once in each form.
pub struct Clock {
    pub seconds: i64,
    pub nanos: i32,
    pub text: String,
}

/// Seconds since 1970. What only counts them needs no text, which costs more than a frame of a watch.
#[must_use]
pub fn seconds() -> i64 {
    seconds_of(since_1970())
}

fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn seconds_of(since: Duration) -> i64 {
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl Clock {
    #[must_use]
    pub fn now() -> Self {
        let since = since_1970();
        let seconds = seconds_of(since);
        let nanos = i32::try_from(since.subsec_nanos()).unwrap_or(0);
        Self {
            seconds,
            nanos,
            text: proto::time::print_time(seconds),
        }
    }
}
