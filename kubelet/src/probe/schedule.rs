//! When to probe, and what a row of results means. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;

use super::Kind;
use super::results::Verdict;

/// A probe's numbers, with the defaults of the API.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Timing {
    pub(super) initial_delay: Duration,
    pub(super) period: Duration,
    pub(super) timeout: Duration,
    success_threshold: u32,
    failure_threshold: u32,
}

impl Timing {
    pub(super) fn of(probe: &Probe) -> Self {
        let positive = |value: Option<i32>, default: u32| {
            value
                .and_then(|value| u32::try_from(value).ok())
                .filter(|value| *value > 0)
                .unwrap_or(default)
        };
        let seconds = |value, default| Duration::from_secs(positive(value, default).into());
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            success_threshold: positive(probe.success_threshold, 1),
            failure_threshold: positive(probe.failure_threshold, 3),
        }
    }

    /// How long to wait before the first probe of a container that started `age` ago.
    ///
    /// Readiness is asked for as soon as it may be. The others go by a clock that began with the
    /// container, so that its first period is its own: so it is upstream's, whose clock begins a bit
    /// before.
    pub(super) fn first(&self, kind: Kind, age: Duration) -> Duration {
        let at = match kind {
            Kind::Readiness => self.initial_delay,
            Kind::Startup | Kind::Liveness => {
                let earliest = self.initial_delay.max(age).max(self.period);
                let periods = earliest.as_nanos().div_ceil(self.period.as_nanos());
                let periods = u32::try_from(periods).unwrap_or(u32::MAX);
                self.period.saturating_mul(periods)
            }
        };
        at.saturating_sub(age)
    }

    /// The same where the kubelet was started anew and finds many containers at once: it asks them one
    /// after the other. `share` is random, from 0 to 1.
    pub(super) fn resumed(&self, age: Duration, share: f64) -> Duration {
        let spread = self.period.mul_f64(share.clamp(0.0, 1.0));
        spread.max(self.initial_delay.saturating_sub(age))
    }
}

/// Results in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Row {
    success: bool,
    length: u32,
}

impl Row {
    pub(super) const EMPTY: Self = Self {
        success: true,
        length: 0,
    };

    /// Counts a result; the verdict, once there are enough in a row.
    pub(super) fn count(&mut self, timing: &Timing, result: Verdict) -> Option<Verdict> {
        let success = result == Verdict::Success;
        if success != self.success {
            *self = Self { success, length: 0 };
        }
        self.length = self.length.saturating_add(1);
        let enough = if success {
            timing.success_threshold
        } else {
            timing.failure_threshold
        };
        (self.length >= enough).then_some(result)
    }
}
