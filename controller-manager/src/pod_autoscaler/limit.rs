//! How fast and how far a target may be scaled, and what was recommended and done before. Pure.
//!
//! Source: `normalizeDesiredReplicas*` in `pkg/controller/podautoscaler/horizontal.go`.

use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};
use tokio::time::Instant;

use super::usage::ceil;

/// Without a behaviour a target may grow to twice its size at once, or to this.
const FAST_MINIMUM: f64 = 4.0;

/// What was recommended for an autoscaler's target and done to it.
#[derive(Clone, Default, Debug)]
pub(super) struct History {
    recommended: Vec<(i32, Instant)>,
    grown: Vec<(i32, Instant)>,
    shrunk: Vec<(i32, Instant)>,
}

/// What a target has and may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub current: i32,
    pub least: i32,
    pub most: i32,
}

/// A reason and a message.
pub(super) type Said = (&'static str, &'static str);

/// How many there are to be, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limited {
    pub desired: i32,
    /// For the condition `AbleToScale`.
    pub able: Said,
    /// For the condition `ScalingLimited`, and whether it is.
    pub limited: (bool, Said),
}

const READY: Said = ("ReadyForNewScale", "recommended size matches current size");
const HIGHEST: &str = "recent recommendations were higher than current one, applying the highest recent recommendation";
const DOWN_STABILIZED: Said = ("ScaleDownStabilized", HIGHEST);
const UP_STABILIZED: Said = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const WITHIN: Said = (
    "DesiredWithinRange",
    "the desired count is within the acceptable range",
);
const TOO_FEW: Said = (
    "TooFewReplicas",
    "the desired replica count is less than the minimum replica count",
);
const TOO_MANY: Said = (
    "TooManyReplicas",
    "the desired replica count is more than the maximum replica count",
);
const UP_LIMIT: Said = (
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
);
const DOWN_LIMIT: Said = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);

fn seconds(n: i32) -> Duration {
    Duration::from_secs(u64::try_from(n).unwrap_or(0))
}

/// Whether a moment is within a window that ends now.
fn within(at: Instant, window: Duration, now: Instant) -> bool {
    now.saturating_duration_since(at) < window
}

impl History {
    /// The first recommendation is what is there: a manager that begins does not shrink anything at once.
    pub(super) fn begin(&mut self, current: i32, now: Instant) {
        if self.recommended.is_empty() {
            self.recommended.push((current, now));
        }
    }

    /// Notes that a target was scaled.
    pub(super) fn scaled(
        &mut self,
        behavior: &HorizontalPodAutoscalerBehavior,
        before: i32,
        after: i32,
        now: Instant,
    ) {
        let (events, rules) = if after > before {
            (&mut self.grown, &behavior.scale_up)
        } else {
            (&mut self.shrunk, &behavior.scale_down)
        };
        let policies = rules.iter().flat_map(|r| r.policies.iter().flatten());
        let longest = policies.map(|p| p.period_seconds).max().unwrap_or(0);
        events.retain(|(_, at)| within(*at, seconds(longest), now));
        events.push((after.abs_diff(before).try_into().unwrap_or(i32::MAX), now));
    }

    /// Without a behaviour: the highest recommendation of late, within the bounds.
    pub(super) fn plain(
        &mut self,
        bounds: Bounds,
        desired: i32,
        window: Duration,
        now: Instant,
    ) -> Limited {
        self.recommended.retain(|(_, at)| within(*at, window, now));
        let recent = self.recommended.iter().map(|(n, _)| *n).max();
        let stable = recent.map_or(desired, |n| n.max(desired));
        self.recommended.push((desired, now));
        let fastest = ceil((2.0 * f64::from(bounds.current)).max(FAST_MINIMUM));
        let (most, why) = if bounds.most > fastest {
            (fastest, UP_LIMIT)
        } else {
            (bounds.most, TOO_MANY)
        };
        let (allowed, limited) = if stable < bounds.least {
            (bounds.least, TOO_FEW)
        } else if stable > most {
            (most, why)
        } else {
            (stable, WITHIN)
        };
        Limited {
            desired: allowed,
            able: if stable == desired {
                READY
            } else {
                DOWN_STABILIZED
            },
            limited: (allowed != stable, limited),
        }
    }

    /// With a behaviour: its windows, then its rates, then the bounds.
    pub(super) fn with_behavior(
        &mut self,
        behavior: &HorizontalPodAutoscalerBehavior,
        bounds: Bounds,
        desired: i32,
        window: Duration,
        now: Instant,
    ) -> Limited {
        let of = |rules: &Option<HPAScalingRules>| {
            let own = rules.as_ref().and_then(|r| r.stabilization_window_seconds);
            own.map(seconds)
        };
        let up = of(&behavior.scale_up).unwrap_or_default();
        let down = of(&behavior.scale_down).unwrap_or(window);
        let stable = self.stabilized(bounds.current, desired, (up, down), now);
        self.recommended.push((desired, now));
        let able = if stable == desired {
            READY
        } else if desired >= bounds.current {
            UP_STABILIZED
        } else {
            DOWN_STABILIZED
        };
        let (allowed, limited) = self.at_rate(behavior, bounds, stable, now);
        Limited {
            desired: allowed,
            able,
            limited: (allowed != stable, limited),
        }
    }

    /// The recommendation nearest to the current number that all of the windows' agree with.
    fn stabilized(
        &mut self,
        current: i32,
        desired: i32,
        (up, down): (Duration, Duration),
        now: Instant,
    ) -> i32 {
        let (mut lowest, mut highest) = (desired, desired);
        for (recommended, at) in &self.recommended {
            if within(*at, up, now) {
                lowest = lowest.min(*recommended);
            }
            if within(*at, down, now) {
                highest = highest.max(*recommended);
            }
        }
        let longest = up.max(down);
        self.recommended.retain(|(_, at)| within(*at, longest, now));
        current.max(lowest).min(highest)
    }

    fn at_rate(
        &self,
        behavior: &HorizontalPodAutoscalerBehavior,
        bounds: Bounds,
        desired: i32,
        now: Instant,
    ) -> (i32, Said) {
        let current = bounds.current;
        if desired > current {
            let rules = behavior.scale_up.as_ref();
            let limit = rules.map_or(i32::MAX, |r| self.most(r, current, now));
            let limit = limit.max(current);
            let (most, why) = if bounds.most > limit {
                (limit, UP_LIMIT)
            } else {
                (bounds.most, TOO_MANY)
            };
            if desired > most {
                return (most, why);
            }
        } else if desired < current {
            let rules = behavior.scale_down.as_ref();
            let limit = rules.map_or(i32::MIN, |r| self.least(r, current, now));
            let limit = limit.min(current);
            let (least, why) = if bounds.least < limit {
                (limit, DOWN_LIMIT)
            } else {
                (bounds.least, TOO_FEW)
            };
            if desired < least {
                return (least, why);
            }
        }
        (desired, WITHIN)
    }

    /// The number at the beginning of a period.
    fn before(&self, current: i32, period: i32, now: Instant) -> i32 {
        let sum = |events: &[(i32, Instant)]| -> i64 {
            let recent = events
                .iter()
                .filter(|(_, at)| within(*at, seconds(period), now));
            recent.map(|(change, _)| i64::from(*change)).sum()
        };
        let before = i64::from(current) - sum(&self.grown) + sum(&self.shrunk);
        before.try_into().unwrap_or(current)
    }

    fn proposals(
        &self,
        rules: &HPAScalingRules,
        current: i32,
        sign: f64,
        now: Instant,
    ) -> Vec<f64> {
        let policies = rules.policies.iter().flatten();
        let of = policies.map(|policy| {
            let before = f64::from(self.before(current, policy.period_seconds, now));
            let value = sign * f64::from(policy.value);
            match policy.type_.as_str() {
                "Percent" => before * (1.0 + value / 100.0),
                _ => before + value,
            }
        });
        of.collect()
    }

    fn most(&self, rules: &HPAScalingRules, current: i32, now: Instant) -> i32 {
        // Rounded up: one pod could never become more.
        let all = self.proposals(rules, current, 1.0, now);
        let all = all.into_iter().map(ceil);
        match rules.select_policy.as_deref() {
            Some("Disabled") => current,
            Some("Min") => all.min().unwrap_or(i32::MAX),
            _ => all.max().unwrap_or(i32::MIN),
        }
    }

    fn least(&self, rules: &HPAScalingRules, current: i32, now: Instant) -> i32 {
        let all = self.proposals(rules, current, -1.0, now);
        let all = all.into_iter().map(|n| n.trunc() as i32);
        match rules.select_policy.as_deref() {
            Some("Disabled") => current,
            Some("Min") => all.max().unwrap_or(i32::MIN),
            _ => all.min().unwrap_or(i32::MAX),
        }
    }
}

#[cfg(test)]
mod tests;
