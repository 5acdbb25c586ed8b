//! Numbers that may be names or percentages: ports, `maxUnavailable`, `minAvailable`.
//!
//! Upstream's `apimachinery/pkg/util/intstr`. The values themselves are
//! [`IntOrStr`](crate::view::IntOrStr).

use std::fmt;

use crate::path::quote;
use crate::view::IntOrStr;

/// Why a value is neither a number nor a percentage, in upstream's words.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum Error {
    #[error("invalid value for IntOrString: invalid type: string is not a percentage")]
    NotAPercentage,
    #[error("invalid value for IntOrString: invalid value {}: strconv.Atoi: parsing {}: invalid syntax", quote(.0), quote(number(.0)))]
    NotANumber(String),
    #[error("invalid value for IntOrString: invalid value {}: strconv.Atoi: parsing {}: value out of range", quote(.0), quote(number(.0)))]
    OutOfRange(String),
}

fn number(percentage: &str) -> &str {
    percentage.strip_suffix('%').unwrap_or(percentage)
}

impl<'a> IntOrStr<'a> {
    /// Reads a flag or an annotation: what is a 32-bit number is one, all else a string.
    #[must_use]
    pub fn parse(text: &'a str) -> Self {
        text.parse::<i32>()
            .map_or(Self::Str(text), |n| Self::Int(n.into()))
    }

    #[must_use]
    pub fn is_percentage(self) -> bool {
        matches!(self, Self::Str(s) if s.ends_with('%'))
    }

    /// The number, or `total` times the percentage, rounded as asked. Upstream's
    /// `GetScaledValueFromIntOrPercent`; it computes in doubles, and so does this.
    ///
    /// # Errors
    /// If it is a string that is not a percentage.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "counts are far below 2^53; what is beyond saturates"
    )]
    pub fn scaled(self, total: i64, round_up: bool) -> Result<i64, Error> {
        let text = match self {
            Self::Int(n) => return Ok(n),
            Self::Str(text) => text,
        };
        let digits = text.strip_suffix('%').ok_or(Error::NotAPercentage)?;
        let percent: i64 = digits
            .parse()
            .map_err(|e: std::num::ParseIntError| match e.kind() {
                std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                    Error::OutOfRange(text.into())
                }
                _ => Error::NotANumber(text.into()),
            })?;
        let value = percent as f64 * total as f64 / 100.0;
        Ok(if round_up {
            value.ceil()
        } else {
            value.floor()
        } as i64)
    }
}

impl fmt::Display for IntOrStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(n) => n.fmt(f),
            Self::Str(s) => f.write_str(s),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked_and_numbers_do_not_scale() {
        for (value, total, up, down) in [
            (IntOrStr::Str("25%"), 10, 3, 2),
            (IntOrStr::Str("100%"), 7, 7, 7),
            (IntOrStr::Str("0%"), 7, 0, 0),
            (IntOrStr::Str("-5%"), 10, 0, -1),
            (IntOrStr::Int(3), 10, 3, 3),
            // In doubles 29 * 100 / 100 is exact; a factor of 0.29 would not be.
            (IntOrStr::Str("29%"), 100, 29, 29),
        ] {
            assert_eq!(value.scaled(total, true), Ok(up));
            assert_eq!(value.scaled(total, false), Ok(down));
        }
    }

    #[test]
    fn errors_are_upstreams() {
        let text = |s| IntOrStr::Str(s).scaled(1, true).unwrap_err().to_string();
        assert_eq!(
            text("5"),
            "invalid value for IntOrString: invalid type: string is not a percentage"
        );
        assert_eq!(
            text("a%"),
            r#"invalid value for IntOrString: invalid value "a%": strconv.Atoi: parsing "a": invalid syntax"#
        );
        assert_eq!(
            text("99999999999999999999%"),
            r#"invalid value for IntOrString: invalid value "99999999999999999999%": strconv.Atoi: parsing "99999999999999999999": value out of range"#
        );
    }
}
