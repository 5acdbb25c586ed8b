//! Points in time and durations, as `metav1.Time`, `metav1.MicroTime` and `metav1.Duration` read and
//! print them.
//!
//! There is no clock here: a point in time is seconds since 1970-01-01T00:00:00Z and nanoseconds, and
//! whoever knows the time passes it in. Reading follows Go's `time.Parse` with the layouts of
//! `apimachinery/pkg/apis/meta/v1/{time,micro_time}.go`, its leniencies (a one-digit hour, a comma
//! before the fraction, offsets up to 24:60) and its error texts included; printing is always in UTC,
//! a `Time` without its fraction, a `MicroTime` with six digits.

pub mod civil;
mod duration;

use std::fmt::Write;

use civil::Civil;
pub use duration::{Duration, DurationError, parse_duration};

/// Go's zero time, 0001-01-01T00:00:00Z, which upstream prints as `null`.
pub const GO_ZERO: i64 = -62_135_596_800;

/// Why a text is not a time, in the words of Go's `time.ParseError`.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum ParseError {
    #[error(
        "parsing time {} as \"{layout}\": cannot parse {} as \"{element}\"",
        go_quote(value),
        go_quote(rest)
    )]
    Element {
        value: Box<[u8]>,
        layout: &'static str,
        /// The part of the value that stands where `element` of the layout is expected.
        rest: Box<[u8]>,
        element: &'static str,
    },
    #[error("parsing time {}: {what} out of range", go_quote(value))]
    Range {
        value: Box<[u8]>,
        what: &'static str,
    },
    #[error("parsing time {}: extra text: {}", go_quote(value), go_quote(rest))]
    Extra { value: Box<[u8]>, rest: Box<[u8]> },
}

/// The canonical form of a `metav1.Time`: UTC, whole seconds.
///
/// # Errors
/// If Go's `time.Parse(time.RFC3339, text)` refuses it.
pub fn canonical_time(text: &str) -> Result<Box<str>, ParseError> {
    let (secs, _) = parse_time(text)?;
    Ok(print_time(secs).into_boxed_str())
}

/// The canonical form of a `metav1.MicroTime`: UTC, six digits of fraction.
///
/// # Errors
/// If Go's `time.Parse` with six required digits of fraction refuses it.
pub fn canonical_micro_time(text: &str) -> Result<Box<str>, ParseError> {
    let (secs, nanos) = parse_micro_time(text)?;
    Ok(print_micro_time(secs, nanos).into_boxed_str())
}

/// Reads a `metav1.Time`: seconds since 1970 and the nanoseconds that its canonical form drops.
///
/// # Errors
/// If Go's `time.Parse(time.RFC3339, text)` refuses it.
pub fn parse_time(text: &str) -> Result<(i64, i32), ParseError> {
    Scanner::read(text, "2006-01-02T15:04:05Z07:00", Fraction::Any)
}

/// Reads a `metav1.MicroTime`: seconds since 1970 and nanoseconds.
///
/// # Errors
/// If Go's `time.Parse` with six required digits of fraction refuses it.
pub fn parse_micro_time(text: &str) -> Result<(i64, i32), ParseError> {
    Scanner::read(text, "2006-01-02T15:04:05.000000Z07:00", Fraction::Six)
}

/// Seconds since 1970 and nanoseconds of a time in either canonical form. Unlike the readers of
/// what clients send it also takes the years beyond 0 to 9999 that [`print_time`] can print.
#[must_use]
pub fn unix_of(text: &str) -> Option<(i64, i32)> {
    if let Ok(unix) = parse_time(text) {
        return Some(unix);
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let dash = digits.find('-').filter(|len| (4..=12).contains(len))?;
    let year: i64 = digits[..dash].parse().ok()?;
    // The rest is read in a year of the same kind, 400 years being a whole number of days.
    let mut proxy = format!("{:04}", (sign * year).rem_euclid(400));
    proxy.push_str(&digits[dash..]);
    let (secs, nanos) = parse_time(&proxy).ok()?;
    let eras = (sign * year).div_euclid(400);
    Some((
        secs.checked_add(eras.checked_mul(146_097 * 86_400)?)?,
        nanos,
    ))
}

/// `2006-01-02T15:04:05Z`.
#[must_use]
pub fn print_time(secs: i64) -> String {
    let mut out = String::with_capacity(20);
    push_seconds(&mut out, secs);
    out.push('Z');
    out
}

/// `2006-01-02T15:04:05.000000Z`; what is below a microsecond is dropped.
#[must_use]
pub fn print_micro_time(secs: i64, nanos: i32) -> String {
    let mut out = String::with_capacity(27);
    let secs = secs.saturating_add(i64::from(nanos.div_euclid(1_000_000_000)));
    push_seconds(&mut out, secs);
    let _ = write!(out, ".{:06}Z", nanos.rem_euclid(1_000_000_000) / 1000);
    out
}

fn push_seconds(out: &mut String, secs: i64) {
    let c = Civil::of(secs);
    if c.year < 0 {
        out.push('-');
    }
    let _ = write!(
        out,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        c.year.unsigned_abs(),
        c.month,
        c.day,
        c.hour,
        c.minute,
        c.second
    );
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fraction {
    /// None, or any number of digits after a point or a comma.
    Any,
    /// Exactly six characters after a point or a comma.
    Six,
}

/// Reads the elements of a layout one after the other, as Go does: each error names the element of
/// the layout and the text that stands in its place.
struct Scanner<'a> {
    value: &'a [u8],
    rest: &'a [u8],
    layout: &'static str,
}

impl<'a> Scanner<'a> {
    fn read(
        text: &'a str,
        layout: &'static str,
        fraction: Fraction,
    ) -> Result<(i64, i32), ParseError> {
        let mut s = Self {
            value: text.as_bytes(),
            rest: text.as_bytes(),
            layout,
        };
        let year = s.year()?;
        s.literal(b'-', "-")?;
        let month = s.two_digits("01")?;
        if !(1..=12).contains(&month) {
            return Err(s.range("month"));
        }
        s.literal(b'-', "-")?;
        let day = s.two_digits("02")?;
        s.literal(b'T', "T")?;
        let hour = s.hour()?;
        s.literal(b':', ":")?;
        let minute = s.below_sixty("04", "minute")?;
        s.literal(b':', ":")?;
        let second = s.below_sixty("05", "second")?;
        let nanos = match fraction {
            Fraction::Any => s.optional_fraction(),
            Fraction::Six => s.six_digits()?,
        };
        let offset = s.zone()?;
        if !s.rest.is_empty() {
            return Err(ParseError::Extra {
                value: s.value.into(),
                rest: s.rest.into(),
            });
        }
        if day < 1 || day > civil::days_in_month(year, month) {
            return Err(s.range("day"));
        }
        let civil = Civil {
            year,
            month,
            day,
            hour,
            minute,
            second,
        };
        Ok((civil.unix() - offset, nanos))
    }

    fn bad(&self, rest: &[u8], element: &'static str) -> ParseError {
        ParseError::Element {
            value: self.value.into(),
            layout: self.layout,
            rest: rest.into(),
            element,
        }
    }

    fn range(&self, what: &'static str) -> ParseError {
        ParseError::Range {
            value: self.value.into(),
            what,
        }
    }

    fn literal(&mut self, byte: u8, element: &'static str) -> Result<(), ParseError> {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                Ok(())
            }
            _ => Err(self.bad(self.rest, element)),
        }
    }

    fn year(&mut self) -> Result<i64, ParseError> {
        let digits = self.rest.first_chunk::<4>().and_then(|d| number(d));
        let year = digits.ok_or_else(|| self.bad(self.rest, "2006"))?;
        self.rest = &self.rest[4..];
        Ok(year.into())
    }

    fn two_digits(&mut self, element: &'static str) -> Result<u8, ParseError> {
        let n = two_digits(self.rest).ok_or_else(|| self.bad(self.rest, element))?;
        self.rest = &self.rest[2..];
        Ok(n)
    }

    /// One digit is enough if no second follows.
    fn hour(&mut self) -> Result<u8, ParseError> {
        let len = self
            .rest
            .iter()
            .take(2)
            .take_while(|b| b.is_ascii_digit())
            .count();
        let hour = number(&self.rest[..len]).and_then(|n| u8::try_from(n).ok());
        let hour = hour.ok_or_else(|| self.bad(self.rest, "15"))?;
        self.rest = &self.rest[len..];
        if hour < 24 {
            Ok(hour)
        } else {
            Err(self.range("hour"))
        }
    }

    fn below_sixty(&mut self, element: &'static str, what: &'static str) -> Result<u8, ParseError> {
        let n = self.two_digits(element)?;
        if n < 60 { Ok(n) } else { Err(self.range(what)) }
    }

    fn optional_fraction(&mut self) -> i32 {
        let [b'.' | b',', digits @ ..] = self.rest else {
            return 0;
        };
        let len = digits.iter().take_while(|b| b.is_ascii_digit()).count();
        if len == 0 {
            return 0;
        }
        self.rest = &digits[len..];
        nanoseconds(&digits[..len.min(9)]).unwrap_or(0)
    }

    /// Go reads the six characters as an integer, so that a plus sign passes and a minus sign is a
    /// fraction out of range.
    fn six_digits(&mut self) -> Result<i32, ParseError> {
        let bad = self.bad(self.rest, ".000000");
        let Some(([b'.' | b',', digits @ ..], rest)) = self.rest.split_first_chunk::<7>() else {
            return Err(bad);
        };
        let nanos = match digits {
            [b'-', digits @ ..] if number(digits).is_some_and(|n| n > 0) => {
                return Err(self.range("fractional second"));
            }
            [b'-' | b'+', digits @ ..] => number(digits)
                .and_then(|n| i32::try_from(n).ok())
                .map(|n| n * 1000),
            digits => nanoseconds(digits),
        };
        self.rest = rest;
        nanos.ok_or(bad)
    }

    /// The offset from UTC in seconds.
    fn zone(&mut self) -> Result<i64, ParseError> {
        if let [b'Z', rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(0);
        }
        let bad = self.bad(self.rest, "Z07:00");
        let Some(([sign, h0, h1, b':', m0, m1], rest)) = self.rest.split_first_chunk::<6>() else {
            return Err(bad);
        };
        let (hours, minutes) = (two_digits(&[*h0, *h1]), two_digits(&[*m0, *m1]));
        if hours.is_some() && minutes.is_some_and(|m| m > 60) {
            return Err(self.range("time zone offset minute"));
        }
        if hours.is_some_and(|h| h > 24) {
            return Err(self.range("time zone offset hour"));
        }
        let (Some(hours), Some(minutes)) = (hours, minutes) else {
            return Err(bad);
        };
        let offset = (i64::from(hours) * 60 + i64::from(minutes)) * 60;
        self.rest = rest;
        match sign {
            b'+' => Ok(offset),
            b'-' => Ok(-offset),
            _ => Err(bad),
        }
    }
}

fn two_digits(text: &[u8]) -> Option<u8> {
    number(text.get(..2)?).and_then(|n| u8::try_from(n).ok())
}

/// A number of one to nine digits and nothing else.
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    digits.iter().try_fold(0, |n, b| {
        b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0'))
    })
}

/// The digits after the point, at most nine.
fn nanoseconds(digits: &[u8]) -> Option<i32> {
    let missing = u32::try_from(9 - digits.len().min(9)).unwrap_or(0);
    number(digits).and_then(|n| i32::try_from(n * 10_u32.pow(missing)).ok())
}

/// Quotes as the errors of Go's time package do: what is not printable ASCII byte by byte.
pub(crate) fn go_quote(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for b in text {
        match b {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(*b));
            }
            0x20..0x80 => out.push(char::from(*b)),
            _ => {
                let _ = write!(out, "\\x{b:02x}");
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
