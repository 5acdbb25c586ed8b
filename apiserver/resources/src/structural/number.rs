//! Numbers against their bounds: `numberValidator` of `kube-openapi/pkg/validation/validate`.
//!
//! A whole number is compared with bounds that are made whole first, so a `multipleOf` below one fits no
//! whole number. Bounds are doubles; one that is no value of the type is an error of its own.

use proto::Value;

use super::text::{Path, float};
use super::values::{Judge, is_whole};
use super::{Flags, Schema};

#[derive(Clone, Copy)]
pub(super) enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Int(i) => Some(Self::Int(*i)),
            Value::Float(f) => Some(Self::Float(*f)),
            _ => None,
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "as Go converts")]
    fn float(self) -> f64 {
        match self {
            Self::Int(i) => i as f64,
            Self::Float(f) => f,
        }
    }
}

/// What a double is as a whole number in Go on amd64: beyond the range, the smallest.
#[allow(clippy::cast_possible_truncation, reason = "in range")]
pub(super) fn to_int(f: f64) -> i64 {
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&f) {
        f as i64
    } else {
        i64::MIN
    }
}

/// The range that type and format give.
#[derive(Clone, Copy)]
pub(super) struct Range<'a> {
    kind: &'static str,
    format: Option<&'a str>,
}

impl<'a> Range<'a> {
    pub(super) const ANY: Self = Self {
        kind: "",
        format: None,
    };

    pub(super) fn integer(format: Option<&'a str>) -> Self {
        Self {
            kind: "integer",
            format,
        }
    }

    pub(super) fn number(format: Option<&'a str>) -> Self {
        Self {
            kind: "number",
            format,
        }
    }

    fn has(self, number: Number) -> bool {
        let whole = || match number {
            Number::Int(i) => Some(i),
            Number::Float(f) => f.to_string().parse().ok(),
        };
        match (self.kind, self.format) {
            ("integer", Some("int32")) => whole().is_some_and(|i| i32::try_from(i).is_ok()),
            ("integer", _) => whole().is_some(),
            #[allow(
                clippy::cast_possible_truncation,
                reason = "beyond the range is infinite"
            )]
            ("number", Some("float")) => (number.float() as f32).is_finite(),
            _ => true,
        }
    }
}

/// Checks a number: its range, then `multipleOf`, minimum and maximum.
pub(super) fn check(
    judge: &mut Judge<'_>,
    s: &Schema,
    range: Range<'_>,
    number: Number,
    at: &Path<'_>,
) {
    in_range(judge, range, number, "Checked", at);
    let Some(bounds) = s.bounds() else {
        return;
    };
    if let Some(factor) = bounds.multiple_of {
        let exact = in_range(judge, range, Number::Float(factor), "MultipleOf", at);
        multiple(judge, number, factor, exact, at);
    }
    if let Some(min) = bounds.minimum {
        let exact = in_range(judge, range, Number::Float(min), "Minimum boundary", at);
        let exclusive = s.flags.has(Flags::EXCLUSIVE_MINIMUM);
        bound(judge, number, min, exact, Side::Min, exclusive, at);
    }
    if let Some(max) = bounds.maximum {
        let exact = in_range(judge, range, Number::Float(max), "Maximum boundary", at);
        let exclusive = s.flags.has(Flags::EXCLUSIVE_MAXIMUM);
        bound(judge, number, max, exact, Side::Max, exclusive, at);
    }
}

/// Whether a value or a bound is within the range of its type.
fn in_range(
    judge: &mut Judge<'_>,
    range: Range<'_>,
    number: Number,
    what: &str,
    at: &Path<'_>,
) -> bool {
    let fits = range.has(number);
    if !fits {
        judge.general(|| {
            let format = match range.format {
                Some(format) => format!("with format {format}"),
                None => "(default format)".to_owned(),
            };
            let (kind, path) = (range.kind, at.text());
            format!("{what} value must be of type {kind} {format} in {path}")
        });
    }
    fits
}

fn multiple(judge: &mut Judge<'_>, number: Number, factor: f64, exact: bool, at: &Path<'_>) {
    let (shown, factor_shown, positive, fits) = match number {
        Number::Int(i) if exact => {
            let whole = to_int(factor);
            let fits = whole > 0 && i % whole == 0;
            (i.to_string(), whole.to_string(), whole > 0, fits)
        }
        number => {
            let value = number.float();
            let times = if factor < 1.0 {
                1.0 / factor * value
            } else {
                value / factor
            };
            (float(value), float(factor), factor > 0.0, is_whole(times))
        }
    };
    if !positive {
        judge.must_be_positive(at, &factor_shown);
    } else if !fits {
        judge.invalid(
            at,
            || shown,
            || format!("should be a multiple of {factor_shown}"),
        );
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Min,
    Max,
}

fn bound(
    judge: &mut Judge<'_>,
    number: Number,
    bound: f64,
    exact: bool,
    side: Side,
    exclusive: bool,
    at: &Path<'_>,
) {
    let (outside, equal, shown, bound_shown) = match number {
        Number::Int(i) if exact => {
            let bound = to_int(bound);
            let outside = if side == Side::Min {
                i < bound
            } else {
                i > bound
            };
            (outside, i == bound, i.to_string(), bound.to_string())
        }
        number => {
            let f = number.float();
            let outside = if side == Side::Min {
                f < bound
            } else {
                f > bound
            };
            #[allow(clippy::float_cmp, reason = "what exclusive means")]
            (outside, f == bound, float(f), float(bound))
        }
    };
    if outside || exclusive && equal {
        let than = match side {
            Side::Min => "greater than",
            Side::Max => "less than",
        };
        let or = if exclusive { "" } else { " or equal to" };
        judge.invalid(
            at,
            || shown,
            || format!("should be {than}{or} {bound_shown}"),
        );
    }
}
