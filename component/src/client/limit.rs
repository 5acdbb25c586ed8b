//! The client's own rate limit: a token bucket, as `k8s.io/client-go/util/flowcontrol`.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::bucket::{Bucket, Rate};

/// So many requests per second, and so many at once; clones share the bucket.
#[derive(Clone, Debug)]
pub struct RateLimit {
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    rate: Rate,
    start: Instant,
    bucket: Mutex<Bucket>,
}

impl RateLimit {
    /// Client-go's meaning of the numbers: negative means no limit, 0 means 5 per second, 10 at once.
    #[must_use]
    pub fn new(qps: f32, burst: i32) -> Self {
        if qps < 0.0 {
            return Self::none();
        }
        let qps = if qps == 0.0 { 5.0 } else { qps };
        let burst = if burst <= 0 { 10 } else { burst };
        let rate = Rate::new(qps.into(), burst.unsigned_abs());
        let shared = Shared {
            rate,
            start: Instant::now(),
            bucket: Mutex::new(Bucket::full(rate, Duration::ZERO)),
        };
        Self {
            shared: Some(Arc::new(shared)),
        }
    }

    #[must_use]
    pub fn none() -> Self {
        Self { shared: None }
    }

    /// Takes a token, waiting for it if there is none; returns how long that took. Those who wait are
    /// served in the order in which they came.
    pub async fn wait(&self) -> Duration {
        let delay = self.take();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        delay
    }

    /// How long whoever takes a token now has to wait for it.
    #[must_use]
    pub fn take(&self) -> Duration {
        let Some(shared) = &self.shared else {
            return Duration::ZERO;
        };
        let mut bucket = shared.bucket.lock();
        bucket.take(shared.rate, shared.start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_the_rest_comes_at_the_rate() {
        let limit = RateLimit::new(10.0, 3);
        let start = Instant::now();
        let mut at = Vec::new();
        for _ in 0..6 {
            limit.wait().await;
            at.push(start.elapsed().as_millis());
        }
        assert_eq!(at[..3], [0, 0, 0]);
        assert!(
            (95..=110).contains(&at[3]) && (295..=320).contains(&at[5]),
            "{at:?}"
        );
        tokio::time::sleep(Duration::from_secs(10)).await;
        let waits: Vec<_> = (0..4).map(|_| limit.take()).collect();
        assert!(
            waits[..3].iter().all(Duration::is_zero) && !waits[3].is_zero(),
            "the bucket does not overfill"
        );
    }

    #[test]
    fn a_negative_rate_is_no_limit() {
        let limit = RateLimit::new(-1.0, 1);
        assert!((0..1000).all(|_| limit.take().is_zero()));
    }
}
