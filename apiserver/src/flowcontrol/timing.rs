//! Histograms of a number over time: one observation a nanosecond, made when the number changes.
//!
//! Upstream: `component-base/metrics/prometheusextension/timing_histogram.go`.

use super::work::Nanos;

/// The sum, the number of observations, and upper bounds with what is in each bucket alone.
pub(super) type Reading = (f64, u64, Vec<(f64, u64)>);

/// For how long a number was in each bucket.
#[derive(Clone, Debug)]
pub(super) struct Timing {
    bounds: &'static [f64],
    /// Nanoseconds by bucket; the last one is of what is above all bounds.
    weights: Vec<u64>,
    sum: f64,
    value: f64,
    bucket: usize,
    last: Nanos,
}

impl Timing {
    #[must_use]
    pub(super) fn new(now: Nanos, bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            weights: vec![0; bounds.len() + 1],
            sum: 0.0,
            value: 0.0,
            bucket: bucket(bounds, 0.0),
            last: now,
        }
    }

    /// The number is another from now on.
    pub(super) fn set(&mut self, now: Nanos, value: f64) {
        self.advance(now);
        self.value = value;
        self.bucket = bucket(self.bounds, value);
    }

    fn advance(&mut self, now: Nanos) {
        let passed = now.saturating_sub(self.last);
        self.last = self.last.max(now);
        self.weights[self.bucket] += passed;
        self.sum += self.value * passed as f64;
    }

    /// The histogram up to now.
    pub(super) fn read(&mut self, now: Nanos) -> Reading {
        self.advance(now);
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets = bounds.zip(self.weights.iter().copied()).collect();
        (self.sum, self.weights.iter().sum(), buckets)
    }
}

fn bucket(bounds: &[f64], value: f64) -> usize {
    bounds
        .iter()
        .position(|b| value <= *b)
        .unwrap_or(bounds.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_nanosecond_is_observed() {
        let mut timing = Timing::new(0, &[0.0, 0.5, 1.0]);
        timing.set(10, 0.5);
        timing.set(40, 2.0);
        let (sum, count, buckets) = timing.read(50);
        assert!((sum - 35.0).abs() < 1e-9);
        assert_eq!(count, 50);
        let weights: Vec<u64> = buckets.iter().map(|b| b.1).collect();
        assert_eq!(weights, [10, 30, 0, 10]);
    }
}
