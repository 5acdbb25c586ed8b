//! Between the clock's times and those of objects.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// A time of an object. One before 1970 is 1970: nothing here happened then.
pub(crate) fn system(time: &Time) -> SystemTime {
    let nanos = time.0.as_nanosecond();
    let since = u64::try_from(nanos).map_or(Duration::ZERO, Duration::from_nanos);
    UNIX_EPOCH + since
}

/// A time in whole seconds, as objects have them.
pub(crate) fn object(at: SystemTime) -> Option<Time> {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).ok()?;
    Timestamp::from_second(seconds).ok().map(Time)
}

/// Now, in whole seconds.
pub(crate) fn now() -> Time {
    object(SystemTime::now()).unwrap_or_else(|| Time(component::clock::now()))
}
