//! Who gets how many of the server's seats.
//!
//! Each level has a nominal number of seats by its shares, may lend some and borrow some. From time to
//! time the seats are divided anew, in proportion to smoothed demand and between each level's bounds.
//! Upstream: `util/flowcontrol/conc_alloc.go`, `updateBorrowingLocked` in `apf_controller.go`.

use super::demand::Demand;

/// The least demand that is counted, so that what is left over goes to somebody.
const LEAST: f64 = 0.001;
/// What rounding may have done to sums.
const ROUNDING: f64 = 1e-7;

/// The bounds of a level.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Bounds {
    pub(super) nominal: u32,
    pub(super) min: u32,
    pub(super) max: u32,
}

/// What a level configures of its seats.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shares {
    pub(super) nominal: u32,
    /// In percent of the nominal seats.
    pub(super) lendable: u32,
    /// The same; without bound if none.
    pub(super) borrowing: Option<u32>,
}

impl Shares {
    /// The bounds of a level that has these of `sum` shares of `total` seats. Rounding up may give out
    /// a few seats more than there are.
    #[must_use]
    pub(super) fn bounds(&self, sum: f64, total: u32) -> Bounds {
        let share = if sum > 0.0 {
            f64::from(total) * f64::from(self.nominal) / sum
        } else {
            0.0
        };
        let nominal = share.ceil() as u32;
        let percent = |p: u32| (f64::from(nominal) * f64::from(p) / 100.0).round() as u32;
        let borrowing = self.borrowing.map_or(total, percent);
        Bounds {
            nominal,
            min: nominal.saturating_sub(percent(self.lendable)),
            max: nominal.saturating_add(borrowing),
        }
    }
}

/// A level as it takes part in a division.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Claim {
    pub(super) exempt: bool,
    pub(super) bounds: Bounds,
    pub(super) demand: Demand,
    /// What it has now.
    pub(super) current: u32,
}

impl Claim {
    /// The seats that the level keeps whatever others need: what it used, but no more than its own and
    /// no less than what it does not lend. An exempt one keeps all that it used.
    fn floor(&self) -> u32 {
        let used = self.demand.high_watermark;
        let kept = if self.exempt {
            used
        } else {
            used.min(self.bounds.nominal)
        };
        kept.max(self.bounds.min)
    }

    /// What it would like to have.
    #[must_use]
    pub(super) fn target(&self) -> f64 {
        self.demand.smoothed.max(f64::from(self.floor()))
    }
}

/// The seats of each level, and the fraction of its target that a level gets which meets no bound.
#[must_use]
pub(super) fn divide(claims: &[Claim]) -> (Vec<u32>, f64) {
    let all: u32 = claims.iter().map(|c| c.bounds.nominal).sum();
    let limited = || claims.iter().filter(|c| !c.exempt);
    let exempt: u32 = claims.iter().filter(|c| c.exempt).map(Claim::floor).sum();
    let least: u32 = limited().map(|c| c.bounds.min).sum();
    let floors: u32 = limited().map(Claim::floor).sum();
    // Exempt levels take what they need, others share the rest.
    let left = all.saturating_sub(exempt);
    let give = |of: &dyn Fn(&Claim) -> u32| {
        let seats = |c: &Claim| if c.exempt { c.floor() } else { of(c) };
        claims.iter().map(seats).collect()
    };
    if left <= least {
        return (give(&|c| c.bounds.min), 0.0);
    }
    if left <= floors {
        let fraction = f64::from(left - least) / f64::from(floors - least);
        let between = |c: &Claim| {
            let above = f64::from(c.floor() - c.bounds.min) * fraction;
            c.bounds.min + above.round() as u32
        };
        return (give(&between), 0.0);
    }
    let wishes: Vec<Wish> = limited()
        .map(|c| Wish {
            target: c.target(),
            low: f64::from(c.floor()),
            high: f64::from(c.bounds.max),
        })
        .collect();
    let Some((given, fair)) = fair_allocation(f64::from(all), &wishes) else {
        return (give(&|c| c.current), 0.0);
    };
    let mut given = given.into_iter();
    let seats = claims.iter().map(|c| {
        if c.exempt {
            c.floor()
        } else {
            given.next().unwrap_or_default().round() as u32
        }
    });
    (seats.collect(), fair)
}

/// One part of a sum.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Wish {
    pub(super) target: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Wish {
    fn target(&self) -> f64 {
        self.target.max(LEAST)
    }

    fn at(&self, fraction: f64) -> f64 {
        (fraction * self.target()).min(self.high).max(self.low)
    }
}

/// Divides a sum: every wish gets the same fraction of its target, or the bound that this would break.
/// None if the bounds do not allow the sum.
#[must_use]
pub(super) fn fair_allocation(sum: f64, wishes: &[Wish]) -> Option<(Vec<f64>, f64)> {
    let valid = |w: &Wish| 0.0 <= w.low && w.low <= w.high && w.low <= w.target;
    let total = |of: fn(&Wish) -> f64| wishes.iter().map(of).sum::<f64>();
    let (lowest, highest) = (total(|w| w.low), total(|w| w.high));
    if sum < 0.0 || !wishes.iter().all(valid) || lowest - sum > ROUNDING || sum - highest > ROUNDING
    {
        return None;
    }
    if sum == 0.0 {
        return Some((vec![0.0; wishes.len()], 0.0));
    }
    let ratios = |of: fn(&Wish) -> f64| wishes.iter().map(move |w| of(w) / w.target());
    if lowest - sum > -ROUNDING {
        let fair = ratios(|w| w.low).fold(f64::INFINITY, f64::min);
        return Some((wishes.iter().map(|w| w.low).collect(), fair));
    }
    if sum - highest > -ROUNDING {
        let fair = ratios(|w| w.high).fold(0.0, f64::max);
        return Some((wishes.iter().map(|w| w.high).collect(), fair));
    }
    let fair = fraction_for(sum, wishes);
    Some((wishes.iter().map(|w| w.at(fair)).collect(), fair))
}

/// The fraction at which all wishes together get the sum. What they get grows with the fraction, in
/// straight lines between the fractions at which a bound begins or ends to hold.
fn fraction_for(sum: f64, wishes: &[Wish]) -> f64 {
    let got = |fraction: f64| wishes.iter().map(|w| w.at(fraction)).sum::<f64>();
    let mut corners: Vec<f64> = wishes
        .iter()
        .flat_map(|w| [w.low / w.target(), w.high / w.target()])
        .collect();
    corners.sort_unstable_by(f64::total_cmp);
    let above = corners.partition_point(|corner| got(*corner) < sum);
    let high = corners.get(above).copied().unwrap_or_default();
    let low = above.checked_sub(1).map_or(0.0, |below| corners[below]);
    let (from, to) = (got(low), got(high));
    if to <= from {
        return high;
    }
    low + (high - low) * (sum - from) / (to - from)
}

#[cfg(test)]
mod tests;
