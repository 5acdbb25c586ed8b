//! Quantities: `100m`, `1.5Gi`, `12e6`.
//!
//! A quantity is an exact decimal number and the family of suffixes it was written with; upstream's
//! `apimachinery/pkg/api/resource`. On reading, amounts below a billionth round up and binary ones are
//! capped at 2^63-1. Printing takes the largest suffix that leaves an integer.
//!
//! Numbers here have 38 significant digits, ten more than the range that upstream documents (2^63-1
//! down to billionths) needs; what is longer rounds away from zero. Only [`canonicalize`], through
//! which everything stored goes, keeps any length, as upstream does.
//!
//! Two faults of upstream are not repeated. Decimal amounts beyond `E` print with an exponent
//! (`1000E` as `1e21`; upstream drops the suffix and stores `1`), and an amount that does not fit an
//! integer saturates (upstream answers 0, or the low 64 bits).

mod parse;

use std::cmp::Ordering;
use std::fmt;

pub use parse::{ParseError, canonicalize};

/// The family of suffixes a quantity prints with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySi,
    /// `12M`
    DecimalSi,
}

/// Powers of ten for [`Quantity::scaled_value`] and [`Quantity::round_up`].
pub const NANO: i32 = -9;
pub const MICRO: i32 = -6;
pub const MILLI: i32 = -3;

/// An amount. Equality and order are those of the numbers; the format does not count.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    mantissa: i128,
    /// The amount is `mantissa * 10^exponent`.
    exponent: i32,
    format: Format,
}

impl Default for Quantity {
    fn default() -> Self {
        Self::new(0, Format::DecimalSi)
    }
}

impl Quantity {
    #[must_use]
    pub const fn new(value: i64, format: Format) -> Self {
        Self::scaled(value, 0, format)
    }

    /// `value` thousandths.
    #[must_use]
    pub const fn milli(value: i64, format: Format) -> Self {
        Self::scaled(value, MILLI, format)
    }

    /// `value * 10^exponent`.
    #[must_use]
    pub const fn scaled(value: i64, exponent: i32, format: Format) -> Self {
        Self {
            mantissa: value as i128,
            exponent,
            format,
        }
    }

    #[must_use]
    pub fn format(self) -> Format {
        self.format
    }

    #[must_use]
    pub fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    /// The number and the power of ten it counts, as they were written: of `1000m` these are 1000 and -3.
    #[must_use]
    pub fn parts(self) -> (i128, i32) {
        (self.mantissa, self.exponent)
    }

    /// -1, 0 or 1.
    #[must_use]
    pub fn signum(self) -> i32 {
        match self.mantissa {
            0 => 0,
            1.. => 1,
            _ => -1,
        }
    }

    /// True if there is no fraction.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self.round_up(0).1
    }

    /// The amount rounded away from zero to an integer.
    #[must_use]
    pub fn value(self) -> i64 {
        self.scaled_value(0)
    }

    /// The amount in thousandths, rounded away from zero.
    #[must_use]
    pub fn milli_value(self) -> i64 {
        self.scaled_value(MILLI)
    }

    /// The amount in units of `10^exponent`, rounded away from zero. Saturates.
    #[must_use]
    pub fn scaled_value(self, exponent: i32) -> i64 {
        let saturated = if self.mantissa < 0 {
            i64::MIN
        } else {
            i64::MAX
        };
        self.checked_scaled_value(exponent).unwrap_or(saturated)
    }

    /// The same, or none if it does not fit.
    #[must_use]
    pub fn checked_scaled_value(self, exponent: i32) -> Option<i64> {
        let rounded = self.round_up(exponent).0;
        let up = rounded.exponent.checked_sub(exponent)?;
        i64::try_from(shift_up(rounded.mantissa, up)?).ok()
    }

    /// Rounds away from zero to a multiple of `10^exponent`, and tells whether that lost nothing.
    #[must_use]
    pub fn round_up(self, exponent: i32) -> (Self, bool) {
        if self.exponent >= exponent {
            return (self, true);
        }
        let (mantissa, exact) = shift_down(self.mantissa, exponent.saturating_sub(self.exponent));
        (
            Self {
                mantissa,
                exponent,
                ..self
            },
            exact,
        )
    }

    /// The nearest double, give or take the rounding of one multiplication.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "an approximation is asked for")]
    pub fn as_f64(self) -> f64 {
        match self.exponent {
            0 => self.mantissa as f64,
            e @ -22..0 => self.mantissa as f64 / 10_f64.powi(-e),
            e => self.mantissa as f64 * 10_f64.powi(e),
        }
    }

    /// The sum. Of two amounts the format of the first stays, unless that is zero.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.is_zero() {
            other.format
        } else {
            self.format
        };
        if self.is_zero() || other.is_zero() {
            let sum = if self.is_zero() { other } else { self };
            return Self { format, ..sum };
        }
        let (a, b, exponent) = align(self, other);
        match a.checked_add(b) {
            Some(mantissa) => Self {
                mantissa,
                exponent,
                format,
            },
            None => Self {
                mantissa: shift_down(a, 1).0 + shift_down(b, 1).0,
                exponent: exponent + 1,
                format,
            },
        }
    }

    /// The difference, in the format that [`Quantity::plus`] would give.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(-other)
    }

    /// The product with an integer.
    #[must_use]
    pub fn times(self, factor: i64) -> Self {
        let factor = i128::from(factor);
        if let Some(mantissa) = self.mantissa.checked_mul(factor) {
            return Self { mantissa, ..self };
        }
        // 19 digits come with the factor: take as many from the amount.
        let (mantissa, _) = shift_down(self.mantissa, 19);
        Self {
            mantissa: mantissa.saturating_mul(factor),
            exponent: self.exponent.saturating_add(19),
            ..self
        }
    }

    /// The same amount without trailing zeros in the mantissa.
    fn reduced(self) -> Self {
        let (mut mantissa, mut exponent) = (self.mantissa, self.exponent);
        if mantissa == 0 {
            return Self {
                exponent: 0,
                ..self
            };
        }
        // Division of 64 bits is several times cheaper, and nearly every amount fits.
        if let Ok(mut small) = i64::try_from(mantissa) {
            while small % 10 == 0 && exponent < i32::MAX {
                small /= 10;
                exponent += 1;
            }
            return Self {
                mantissa: small.into(),
                exponent,
                ..self
            };
        }
        while mantissa % 10 == 0 && exponent < i32::MAX {
            mantissa /= 10;
            exponent += 1;
        }
        Self {
            mantissa,
            exponent,
            ..self
        }
    }

    /// The power of ten above the first digit.
    fn magnitude(self) -> i64 {
        i64::from(digits(self.mantissa)) + i64::from(self.exponent)
    }
}

impl std::ops::Neg for Quantity {
    type Output = Self;
    fn neg(self) -> Self {
        Self {
            mantissa: self.mantissa.saturating_neg(),
            ..self
        }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Self::plus)
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.exponent == other.exponent {
            return self.mantissa.cmp(&other.mantissa);
        }
        let sign = self.signum();
        if sign != other.signum() || sign == 0 {
            return sign.cmp(&other.signum());
        }
        // Never by aligning first: 1e2147483647 has an exponent that no integer can hold.
        let by_magnitude = self.magnitude().cmp(&other.magnitude()).then_with(|| {
            let (a, b) = (self.mantissa.unsigned_abs(), other.mantissa.unsigned_abs());
            let by = self.exponent.abs_diff(other.exponent);
            // Of equal magnitude, the one that overflows when aligned is the larger.
            if self.exponent > other.exponent {
                pow10(by)
                    .and_then(|p| a.checked_mul(p))
                    .map_or(Ordering::Greater, |a| a.cmp(&b))
            } else {
                pow10(by)
                    .and_then(|p| b.checked_mul(p))
                    .map_or(Ordering::Less, |b| a.cmp(&b))
            }
        });
        if sign < 0 {
            by_magnitude.reverse()
        } else {
            by_magnitude
        }
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that allows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.format == Format::BinarySi
            && let Some((mantissa, suffix)) = self.binary()
        {
            return write!(f, "{mantissa}{suffix}");
        }
        let exact = self.reduced();
        if exact.is_zero() {
            return f.write_str("0");
        }
        let zeros = exact.exponent.rem_euclid(3);
        write!(
            f,
            "{}{}",
            exact.mantissa,
            &"00"[..usize::from(zeros > 0) + usize::from(zeros > 1)]
        )?;
        write_decimal_suffix(f, self.format, i64::from(exact.exponent - zeros))
    }
}

impl Quantity {
    /// Mantissa and suffix in powers of 1024; none for amounts that print in decimal although they
    /// were given in binary: fractions, what is below 1024, and what an integer cannot hold.
    fn binary(self) -> Option<(i128, &'static str)> {
        let (whole, exact) = self.round_up(0);
        let mut value = shift_up(whole.mantissa, whole.exponent)?;
        if !exact || value.unsigned_abs() < 1024 {
            return None;
        }
        let mut power = 0;
        while value % 1024 == 0 && power + 1 < BINARY_SUFFIXES.len() {
            value /= 1024;
            power += 1;
        }
        Some((value, BINARY_SUFFIXES[power]))
    }
}

/// By powers of 1024.
const BINARY_SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// By powers of 1000, from a billionth.
const DECIMAL_SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

/// The suffix for `10^exponent`, a multiple of three.
fn write_decimal_suffix(f: &mut impl fmt::Write, format: Format, exponent: i64) -> fmt::Result {
    let si = usize::try_from(exponent / 3 + 3)
        .ok()
        .and_then(|i| DECIMAL_SUFFIXES.get(i));
    match si {
        _ if exponent == 0 => Ok(()),
        Some(suffix) if format != Format::DecimalExponent => f.write_str(suffix),
        _ => write!(f, "e{exponent}"),
    }
}

/// The number of decimal digits.
fn digits(n: i128) -> u32 {
    n.unsigned_abs().checked_ilog10().map_or(0, |log| log + 1)
}

fn pow10(n: u32) -> Option<u128> {
    10_u128.checked_pow(n)
}

/// `n * 10^by`, if it fits; `by` is not negative.
fn shift_up(n: i128, by: i32) -> Option<i128> {
    if n == 0 {
        return Some(0);
    }
    let factor = 10_i128.checked_pow(u32::try_from(by).ok()?)?;
    n.checked_mul(factor)
}

/// `n / 10^by` rounded away from zero, and whether that was exact.
fn shift_down(n: i128, by: i32) -> (i128, bool) {
    let divisor = u32::try_from(by)
        .ok()
        .and_then(|by| 10_i128.checked_pow(by));
    let Some(divisor) = divisor else {
        return (n.signum(), n == 0);
    };
    let rest = n % divisor;
    (n / divisor + rest.signum(), rest == 0)
}

/// Brings two amounts that are not zero to one exponent: the smaller one where that fits, else the
/// smallest at which the larger amount still fits, to which the other rounds away from zero.
fn align(a: Quantity, b: Quantity) -> (i128, i128, i32) {
    let low = a.exponent.min(b.exponent);
    let at = |q: Quantity, exponent: i32| shift_up(q.mantissa, q.exponent.checked_sub(exponent)?);
    if let (Some(a), Some(b)) = (at(a, low), at(b, low)) {
        return (a, b, low);
    }
    let (a, b) = (a.reduced(), b.reduced());
    let magnitude = a.magnitude().max(b.magnitude());
    // 38 digits always fit.
    let exponent = i32::try_from(magnitude - 38)
        .unwrap_or(i32::MAX)
        .max(a.exponent.min(b.exponent));
    let at = |q: Quantity| {
        let q = q.round_up(exponent).0;
        shift_up(q.mantissa, q.exponent.saturating_sub(exponent)).unwrap_or(i128::MAX)
    };
    (at(a), at(b), exponent)
}

#[cfg(test)]
mod tests;
