//! Durations in Go's syntax (`1h2m3s`, `1.5s`, `300ms`), as `metav1.Duration` and flags hold them.

use std::fmt;
use std::str::FromStr;

use super::go_quote;

/// A signed number of nanoseconds: Go's `time.Duration`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Duration(pub i64);

/// Why a text is not a duration, in Go's words.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum DurationError {
    #[error("time: invalid duration {}", go_quote(.0.as_bytes()))]
    Invalid(Box<str>),
    #[error("time: missing unit in duration {}", go_quote(.0.as_bytes()))]
    MissingUnit(Box<str>),
    #[error("time: unknown unit {} in duration {}", go_quote(.unit.as_bytes()), go_quote(.text.as_bytes()))]
    UnknownUnit { unit: Box<str>, text: Box<str> },
    #[error("negative duration {}", go_quote(.0.as_bytes()))]
    Negative(Box<str>),
}

const SECOND: u64 = 1_000_000_000;
const LIMIT: u64 = 1 << 63;

impl Duration {
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// None if it is negative.
    #[must_use]
    pub fn to_std(self) -> Option<std::time::Duration> {
        u64::try_from(self.0)
            .ok()
            .map(std::time::Duration::from_nanos)
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let invalid = || DurationError::Invalid(text.into());
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total = 0_u64;
        while !rest.is_empty() {
            let part = part(text, &mut rest)?;
            total = total
                .checked_add(part)
                .filter(|t| *t <= LIMIT)
                .ok_or_else(invalid)?;
        }
        if negative {
            // Two's complement: 2^63 itself has a negative form.
            return Ok(Self(0_i64.wrapping_sub_unsigned(total)));
        }
        i64::try_from(total).map(Self).map_err(|_| invalid())
    }
}

/// Takes one number with its unit off `rest`.
fn part(text: &str, rest: &mut &str) -> Result<u64, DurationError> {
    let invalid = || DurationError::Invalid(text.into());
    let whole = take_digits(rest);
    let fraction = match rest.strip_prefix('.') {
        Some(after) => {
            *rest = after;
            take_digits(rest)
        }
        None => "",
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(invalid());
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| invalid())?
    };
    if whole > LIMIT {
        return Err(invalid());
    }
    let end = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    if name.is_empty() {
        return Err(DurationError::MissingUnit(text.into()));
    }
    let unit = unit(name).ok_or_else(|| DurationError::UnknownUnit {
        unit: name.into(),
        text: text.into(),
    })?;
    *rest = after;
    let value = whole
        .checked_mul(unit)
        .filter(|v| *v <= LIMIT)
        .ok_or_else(invalid)?;
    value
        .checked_add(scaled(fraction, unit))
        .filter(|v| *v <= LIMIT)
        .ok_or_else(invalid)
}

fn unit(name: &str) -> Option<u64> {
    Some(match name {
        "ns" => 1,
        // U+00B5 (micro sign) and U+03BC (Greek mu).
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        _ => return None,
    })
}

/// `0.fraction` units in nanoseconds. Go computes it in doubles, of the digits that fit 63 bits.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the rounding of doubles is what is reproduced; the result is below one hour"
)]
fn scaled(fraction: &str, unit: u64) -> u64 {
    let (mut digits, mut scale) = (0_u64, 1.0);
    for b in fraction.bytes() {
        if digits > (LIMIT - 1) / 10 {
            break;
        }
        let next = digits * 10 + u64::from(b - b'0');
        if next > LIMIT {
            break;
        }
        digits = next;
        scale *= 10.0;
    }
    if digits == 0 {
        0
    } else {
        (digits as f64 * (unit as f64 / scale)) as u64
    }
}

fn take_digits<'a>(rest: &mut &'a str) -> &'a str {
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    *rest = after;
    digits
}

impl fmt::Display for Duration {
    /// The largest units that are not zero, down to seconds with their fraction; below a second one
    /// unit with its fraction: `1h0m0.5s`, `1.5ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        match total {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{total}ns"),
            1_000..1_000_000 => write!(f, "{}\u{b5}s", Decimal(total, 1_000, 3)),
            1_000_000..SECOND => write!(f, "{}ms", Decimal(total, 1_000_000, 6)),
            _ => {
                let minutes = total / SECOND / 60;
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes > 0 {
                    write!(f, "{}m", minutes % 60)?;
                }
                write!(f, "{}s", Decimal(total % (60 * SECOND), SECOND, 9))
            }
        }
    }
}

/// A count of parts, the parts of a whole, and the digits of a part; without trailing zeros.
struct Decimal(u64, u64, usize);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(n, one, width) = self;
        write!(f, "{}", n / one)?;
        if n % one == 0 {
            return Ok(());
        }
        let digits = format!("{:0width$}", n % one);
        write!(f, ".{}", digits.trim_end_matches('0'))
    }
}

impl serde::Serialize for Duration {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Duration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Reads a duration that may not be negative, for time limits.
///
/// # Errors
/// If the text is not a duration in Go's syntax, or is negative.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, DurationError> {
    text.parse::<Duration>()?
        .to_std()
        .ok_or_else(|| DurationError::Negative(text.into()))
}
