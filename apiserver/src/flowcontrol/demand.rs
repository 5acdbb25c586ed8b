//! How many seats a priority level could use, over time.
//!
//! Upstream: `fairqueuing/integrator.go`, `seatDemandStats` in `util/flowcontrol/apf_controller.go`.

use super::work::Nanos;

/// How much of the smoothed demand is left after one adjustment: a half-life of five minutes.
const DECAY: f64 = 0.977;

/// Sums a number up over time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Integrator {
    since: Nanos,
    last: Nanos,
    value: f64,
    area: f64,
    squares: f64,
    most: f64,
}

/// What was seen between two adjustments.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Seen {
    pub(super) seconds: f64,
    pub(super) average: f64,
    pub(super) deviation: f64,
    pub(super) most: f64,
}

impl Integrator {
    #[must_use]
    pub(super) fn new(now: Nanos) -> Self {
        Self {
            since: now,
            last: now,
            value: 0.0,
            area: 0.0,
            squares: 0.0,
            most: 0.0,
        }
    }

    /// The number is another from now on.
    pub(super) fn set(&mut self, now: Nanos, value: u32) {
        self.advance(now);
        self.value = f64::from(value);
        self.most = self.most.max(self.value);
    }

    fn advance(&mut self, now: Nanos) {
        let seconds = now.saturating_sub(self.last) as f64 / 1e9;
        self.last = self.last.max(now);
        self.area += self.value * seconds;
        self.squares += self.value * self.value * seconds;
    }

    /// What was seen since the last time, and begins anew.
    pub(super) fn take(&mut self, now: Nanos) -> Seen {
        self.advance(now);
        let seconds = self.last.saturating_sub(self.since) as f64 / 1e9;
        let mut seen = Seen {
            seconds,
            most: self.most,
            ..Seen::default()
        };
        if seconds > 0.0 {
            seen.average = self.area / seconds;
            // Rounding may leave less than nothing.
            let variance = self.squares / seconds - seen.average * seen.average;
            seen.deviation = variance.max(0.0).sqrt();
        }
        let value = self.value;
        *self = Self {
            value,
            most: value,
            ..Self::new(self.last)
        };
        seen
    }
}

/// The demand that limits are adjusted to: follows growth at once, and decline slowly.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Demand {
    pub(super) average: f64,
    pub(super) deviation: f64,
    pub(super) high_watermark: u32,
    pub(super) smoothed: f64,
}

impl Demand {
    pub(super) fn update(&mut self, seen: Seen) {
        self.high_watermark = seen.most.round() as u32;
        if seen.seconds <= 0.0 {
            return;
        }
        self.average = seen.average;
        self.deviation = seen.deviation;
        let envelope = seen.average + seen.deviation;
        let decayed = DECAY * self.smoothed + (1.0 - DECAY) * envelope;
        self.smoothed = envelope.max(decayed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    #[test]
    fn averages_are_weighted_by_time() {
        let mut demand = Integrator::new(0);
        demand.set(0, 2);
        demand.set(3 * SECOND, 10);
        let seen = demand.take(4 * SECOND);
        assert!((seen.average - 4.0).abs() < 1e-9);
        assert!((seen.deviation - 12f64.sqrt()).abs() < 1e-9);
        assert!((seen.most - 10.0).abs() < 1e-9);
        // The level at the beginning counts for the next period.
        demand.set(5 * SECOND, 0);
        let seen = demand.take(6 * SECOND);
        assert!((seen.average - 5.0).abs() < 1e-9);
        assert!((seen.most - 10.0).abs() < 1e-9);
        assert!(demand.take(7 * SECOND).most.abs() < 1e-9);
    }

    #[test]
    fn smoothed_demand_rises_at_once_and_halves_in_five_minutes() {
        let seen = |average: f64| Seen {
            seconds: 10.0,
            average,
            deviation: 0.0,
            most: average,
        };
        let mut demand = Demand::default();
        demand.update(seen(100.0));
        assert!((demand.smoothed - 100.0).abs() < 1e-9);
        for _ in 0..30 {
            demand.update(seen(0.0));
        }
        assert!((45.0..55.0).contains(&demand.smoothed), "{demand:?}");
        // A period without length tells a peak only.
        let before = demand.smoothed;
        demand.update(Seen {
            most: 7.0,
            ..Seen::default()
        });
        assert_eq!(demand.high_watermark, 7);
        assert!((demand.smoothed - before).abs() < 1e-9);
    }
}
