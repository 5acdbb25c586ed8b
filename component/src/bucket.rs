//! Token buckets: so many in a time, and so many at once.
//!
//! Pure: the time comes from outside, as what has passed since any one moment, the same for all calls. It may go back;
//! nothing is gained then, and nothing lost. Source: `golang.org/x/time/rate`, on which `k8s.io/client-go/util/flowcontrol`
//! stands.

use std::time::Duration;

/// How fast a bucket fills, and what it holds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate {
    per_second: f64,
    burst: f64,
}

impl Rate {
    /// So many tokens a second, and at most so many at once.
    #[must_use]
    pub fn new(per_second: f64, burst: u32) -> Self {
        Self {
            per_second,
            burst: burst.into(),
        }
    }
}

/// What there is to be taken.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Below zero what was taken before it was there.
    tokens: f64,
    filled: Duration,
}

impl Bucket {
    #[must_use]
    pub fn full(rate: Rate, now: Duration) -> Self {
        Self {
            tokens: rate.burst,
            filled: now,
        }
    }

    /// Takes a token; how long until it is there.
    pub fn take(&mut self, rate: Rate, now: Duration) -> Duration {
        self.fill(rate, now);
        self.tokens -= 1.0;
        if self.tokens >= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(-self.tokens / rate.per_second).unwrap_or(Duration::MAX)
    }

    /// Takes a token if there is one; whether there was.
    pub fn try_take(&mut self, rate: Rate, now: Duration) -> bool {
        self.fill(rate, now);
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }

    fn fill(&mut self, rate: Rate, now: Duration) {
        let gained = now.saturating_sub(self.filled).as_secs_f64() * rate.per_second;
        self.tokens = (self.tokens + gained).min(rate.burst);
        self.filled = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_in_advance_is_waited_for_in_order() {
        let (rate, now) = (Rate::new(2.0, 1), Duration::from_secs(7));
        let mut bucket = Bucket::full(rate, now);
        let waits = [(); 3].map(|()| bucket.take(rate, now).as_millis());
        assert_eq!(waits, [0, 500, 1000]);
        let after = |millis| {
            let mut bucket = bucket;
            bucket.try_take(rate, now + Duration::from_millis(millis))
        };
        assert_eq!([1400, 1500].map(after), [false, true]);
    }

    #[test]
    fn a_clock_that_goes_back_gives_and_takes_nothing() {
        let (rate, late) = (Rate::new(1.0, 2), Duration::from_secs(1000));
        let mut bucket = Bucket::full(rate, late);
        let took = [(); 3].map(|()| bucket.try_take(rate, Duration::from_secs(10)));
        assert_eq!(took, [true, true, false]);
        assert!(bucket.try_take(rate, Duration::from_secs(11)));
    }
}
