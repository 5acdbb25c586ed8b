//! How `NodeResourcesFit` scores what is left of a node.

use crate::framework::MAX_SCORE;

/// Points of a broken line from utilization (percent) to score (0 to 100).
pub(in crate::plugins) type Shape = Vec<(i64, i64)>;

/// Which nodes are better.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::plugins) enum Strategy {
    /// Those with more left.
    LeastAllocated,
    /// Those with less left.
    MostAllocated,
    /// As the shape says.
    RequestedToCapacityRatio(Shape),
}

impl Strategy {
    /// The weighted mean over resources: weight, requested, capacity (not zero).
    pub(super) fn score(&self, parts: impl Iterator<Item = (i64, i64, i64)>) -> i64 {
        let (mut sum, mut weights) = (0, 0);
        for (weight, requested, capacity) in parts {
            let score = self.one(requested, capacity);
            // A shape's zero is no opinion.
            if score > 0 || !matches!(self, Self::RequestedToCapacityRatio(_)) {
                sum += score * weight;
                weights += weight;
            }
        }
        if weights == 0 {
            return 0;
        }
        match self {
            Self::RequestedToCapacityRatio(_) => rounded(sum, weights),
            _ => sum / weights,
        }
    }

    fn one(&self, requested: i64, capacity: i64) -> i64 {
        let part = |amount: i64| {
            let scaled = i128::from(amount) * i128::from(MAX_SCORE) / i128::from(capacity);
            i64::try_from(scaled).unwrap_or(MAX_SCORE)
        };
        match self {
            Self::LeastAllocated if requested > capacity => 0,
            Self::LeastAllocated => part(capacity - requested),
            Self::MostAllocated => part(requested.min(capacity)),
            Self::RequestedToCapacityRatio(shape) => on_line(shape, part(requested.min(capacity))),
        }
    }
}

/// Rounds half away from zero.
fn rounded(sum: i64, weights: i64) -> i64 {
    (2 * sum + weights) / (2 * weights)
}

/// Where a value lies on the line.
pub(in crate::plugins) fn on_line(shape: &Shape, at: i64) -> i64 {
    let Some(next) = shape.iter().position(|(x, _)| at <= *x) else {
        return shape.last().map_or(0, |(_, y)| *y);
    };
    let (x1, y1) = shape[next];
    match next.checked_sub(1) {
        None => y1,
        Some(before) => {
            let (x0, y0) = shape[before];
            y0 + (y1 - y0) * (at - x0) / (x1 - x0)
        }
    }
}
