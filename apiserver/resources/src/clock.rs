//! Now, as writes note it.

/// The time of a write, once in each form.
pub struct Clock {
    pub seconds: i64,
    pub nanos: i32,
    pub text: String,
}

impl Clock {
    #[must_use]
    pub fn now() -> Self {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let nanos = i32::try_from(since.subsec_nanos()).unwrap_or(0);
        Self {
            seconds,
            nanos,
            text: proto::time::print_time(seconds),
        }
    }
}
