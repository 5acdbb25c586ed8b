//! Ranges of sizes and costs. Nothing overflows, it saturates.

/// What something costs at least and at most.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CostEstimate {
    pub min: u64,
    pub max: u64,
}

/// The same of sizes.
pub(super) type Size = CostEstimate;

impl CostEstimate {
    pub(super) const UNKNOWN: Self = Self {
        min: 0,
        max: u64::MAX,
    };

    pub(super) const fn fixed(n: u64) -> Self {
        Self { min: n, max: n }
    }

    /// What any other range extends.
    pub(super) const EMPTY: Self = Self {
        min: u64::MAX,
        max: 0,
    };

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_add(other.min),
            max: self.max.saturating_add(other.max),
        }
    }

    pub(super) fn times(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_mul(other.min),
            max: self.max.saturating_mul(other.max),
        }
    }

    /// Rounded up.
    pub(super) fn by(self, factor: f64) -> Self {
        Self {
            min: by(self.min, factor),
            max: by(self.max, factor),
        }
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "upstream counts in doubles; casts saturate"
)]
pub(super) fn by(n: u64, factor: f64) -> u64 {
    (n as f64 * factor).ceil() as u64
}

/// Rounded down. Beyond what a uint holds, Go's conversion gives 2^63 on this hardware.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "upstream counts in doubles; casts saturate"
)]
pub(super) fn down(n: u64, factor: f64) -> u64 {
    const TWO_64: f64 = 18_446_744_073_709_551_616.0;
    let product = n as f64 * factor;
    if product < TWO_64 {
        product as u64
    } else {
        1 << 63
    }
}
