//! Waiting longer after each failure.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

/// Exponential back-off with jitter, which starts over after a quiet time.
pub(crate) struct Backoff {
    policy: Policy,
    next: Duration,
    last: Option<Instant>,
}

/// The numbers of a back-off.
#[derive(Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) first: Duration,
    pub(crate) most: Duration,
    /// A wait is drawn from once to `1 + jitter` times its nominal length.
    pub(crate) jitter: f64,
    /// Without a failure for that long, it starts over.
    pub(crate) reset: Duration,
}

impl Policy {
    /// Client-go's reflector.
    pub(crate) const REFLECTOR: Self = Self {
        first: Duration::from_millis(800),
        most: Duration::from_secs(30),
        jitter: 1.0,
        reset: Duration::from_secs(120),
    };
}

impl Backoff {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy,
            next: policy.first,
            last: None,
        }
    }

    /// How long to wait after a failure that happened just now.
    pub(crate) fn failed(&mut self) -> Duration {
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last > self.policy.reset) {
            self.next = self.policy.first;
        }
        self.last = Some(now);
        let nominal = self.next;
        self.next = (nominal * 2).min(self.policy.most);
        nominal.mul_f64(1.0 + rand::rng().random::<f64>() * self.policy.jitter)
    }
}
