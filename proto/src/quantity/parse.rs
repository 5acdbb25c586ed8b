//! Reading quantities as upstream's `ParseQuantity` does, and the texts it keeps as they are.

use std::str::FromStr;

use super::{Format, NANO, Quantity, write_decimal_suffix};

/// Why a text is not a quantity, in upstream's words.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParseError {
    #[error(r"quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// The form in which a quantity is stored and printed. White space around it is dropped.
///
/// Upstream keeps some texts that are not canonical (`+5`, `1.500`) because they need no other suffix;
/// so does this.
///
/// # Errors
/// If the text is not a quantity.
pub fn canonicalize(text: &str) -> Result<Box<str>, ParseError> {
    let text = text.trim();
    let parts = Parts::split(text)?;
    if parts.is_kept() {
        return Ok(text.into());
    }
    if parts.base == Base::Ten && parts.significant() > DIGITS {
        return Ok(parts.long().print(parts.negative, parts.format));
    }
    Ok(parts.quantity().to_string().into_boxed_str())
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Ok(Parts::split(text)?.quantity())
    }
}

/// What an `i128` can hold of any digits.
const DIGITS: usize = 38;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Base {
    Two,
    Ten,
}

/// A quantity taken apart: `num.denom * base^exponent`.
struct Parts<'a> {
    negative: bool,
    /// Without leading zeros; `0` if nothing is left.
    num: &'a str,
    denom: &'a str,
    base: Base,
    exponent: i32,
    format: Format,
}

impl<'a> Parts<'a> {
    /// Upstream's scanner. It takes more than its regular expression says: no digits at all (`-`,
    /// `Ki`) are zero, unless the number is to be read in decimal arithmetic.
    fn split(text: &'a str) -> Result<Self, ParseError> {
        if text.is_empty() {
            return Err(ParseError::Format);
        }
        let negative = text.starts_with('-');
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (num, rest) = split_digits(unsigned.trim_start_matches('0'));
        let (denom, suffix) = match rest.strip_prefix('.') {
            Some(rest) => split_digits(rest),
            None => ("", rest),
        };
        check_suffix(suffix)?;
        let (base, exponent, format) = interpret(suffix).ok_or(ParseError::Suffix)?;
        let parts = Self {
            negative,
            num: if num.is_empty() { "0" } else { num },
            denom,
            base,
            exponent,
            format,
        };
        let digits = &unsigned[..unsigned.len() - suffix.len()];
        if !digits.contains(|c: char| c.is_ascii_digit()) && !parts.is_short() {
            return Err(ParseError::Numeric);
        }
        Ok(parts)
    }

    /// Upstream reads these into an `int64` and a power of ten, others in decimal arithmetic.
    fn is_short(&self) -> bool {
        let room = match self.base {
            Base::Ten => 18_usize.checked_sub(self.num.len() + self.denom.len()),
            Base::Two if self.denom.is_empty() => {
                let bits = usize::try_from(self.exponent).unwrap_or(0);
                14_usize.checked_sub(self.num.len() + bits * 3 / 10)
            }
            Base::Two => None,
        };
        room.is_some() && self.scale() >= NANO
    }

    /// Short texts that upstream does not print again.
    fn is_kept(&self) -> bool {
        if !self.is_short() {
            return false;
        }
        match self.base {
            Base::Two => {
                self.num
                    .bytes()
                    .fold(0_u8, |low, b| low.wrapping_mul(10).wrapping_add(b - b'0'))
                    & 7
                    != 0
            }
            Base::Ten => {
                let zeros = self.digits().rev().take_while(|d| *d == 0).count();
                self.scale() % 3 == 0 && zeros < 3 && self.digits().next() != Some(0)
            }
        }
    }

    /// The power of ten of the last digit. It wraps like upstream's 32 bits.
    fn scale(&self) -> i32 {
        let exponent = if self.base == Base::Ten {
            self.exponent
        } else {
            0
        };
        exponent.wrapping_sub(i32::try_from(self.denom.len()).unwrap_or(i32::MAX))
    }

    fn digits(&self) -> impl DoubleEndedIterator<Item = u8> {
        self.num.bytes().chain(self.denom.bytes()).map(|b| b - b'0')
    }

    fn significant(&self) -> usize {
        self.num.len() + self.denom.len()
    }

    fn quantity(&self) -> Quantity {
        let amount = match self.base {
            Base::Two => self.binary(),
            Base::Ten if self.significant() <= DIGITS => {
                let mantissa = self.digits().fold(0, |n, d| n * 10 + i128::from(d));
                Quantity {
                    mantissa,
                    exponent: self.scale(),
                    format: self.format,
                }
                .round_up(NANO)
                .0
            }
            Base::Ten => self.long().quantity(self.format),
        };
        if self.negative { -amount } else { amount }
    }

    /// The amount of a binary suffix: exact, then rounded up to a billionth and capped.
    fn binary(&self) -> Quantity {
        let cap = Quantity::new(i64::MAX, Format::BinarySi);
        let Ok(whole) = self.num.parse::<u64>() else {
            return cap;
        };
        // Long multiplication from the last digit of the fraction: `carry` is what is left above the
        // digit at hand, below 10 * 2^60.
        let (mut carry, mut nanos, mut dust) = (0_u64, 0_u64, false);
        for (i, digit) in self.denom.bytes().enumerate().rev() {
            carry += u64::from(digit - b'0') << self.exponent;
            let digit = carry % 10;
            match u32::try_from(i) {
                Ok(i @ 0..9) => nanos += digit * 10_u64.pow(8 - i),
                _ => dust |= digit != 0,
            }
            carry /= 10;
        }
        let whole = (u128::from(whole) << self.exponent) + u128::from(carry);
        let nanos = i128::from(nanos) + i128::from(dust);
        match i64::try_from(whole) {
            Ok(i64::MAX) | Err(_) => cap,
            Ok(0) if nanos > 0 => Quantity {
                mantissa: nanos,
                exponent: NANO,
                format: Format::DecimalSi,
            },
            Ok(whole) if nanos > 0 => {
                let mantissa = i128::from(whole) * 1_000_000_000 + nanos;
                Quantity {
                    mantissa,
                    exponent: NANO,
                    format: Format::BinarySi,
                }
            }
            Ok(whole) => Quantity::new(whole, Format::BinarySi),
        }
    }

    /// The digits, where there are too many for an integer.
    fn long(&self) -> Long {
        let mut long = Long {
            digits: self.digits().collect(),
            exponent: self.scale().into(),
        };
        long.round_up(NANO.into());
        long.reduce();
        long
    }
}

/// An amount of any length, by digits. Costs are linear in their number.
struct Long {
    digits: Vec<u8>,
    exponent: i64,
}

impl Long {
    fn round_up(&mut self, exponent: i64) {
        let Ok(drop @ 1..) = usize::try_from(exponent - self.exponent) else {
            return;
        };
        let dropped = self
            .digits
            .split_off(self.digits.len().saturating_sub(drop));
        self.exponent = exponent;
        if dropped.iter().any(|d| *d != 0) {
            self.increment();
        }
    }

    fn increment(&mut self) {
        for digit in self.digits.iter_mut().rev() {
            *digit = (*digit + 1) % 10;
            if *digit != 0 {
                return;
            }
        }
        self.digits.insert(0, 1);
    }

    /// Drops zeros at both ends.
    fn reduce(&mut self) {
        let zeros = self.digits.iter().rev().take_while(|d| **d == 0).count();
        self.digits.truncate(self.digits.len() - zeros);
        self.exponent += i64::try_from(zeros).unwrap_or(0);
        let zeros = self.digits.iter().take_while(|d| **d == 0).count();
        self.digits.drain(..zeros);
    }

    fn print(&self, negative: bool, format: Format) -> Box<str> {
        if self.digits.is_empty() {
            return "0".into();
        }
        let mut out = String::with_capacity(self.digits.len() + 8);
        if negative {
            out.push('-');
        }
        out.extend(self.digits.iter().map(|d| char::from(b'0' + d)));
        let zeros = self.exponent.rem_euclid(3);
        (0..zeros).for_each(|_| out.push('0'));
        write_decimal_suffix(&mut out, format, self.exponent - zeros)
            .expect("strings take what is written");
        out.into_boxed_str()
    }

    fn quantity(mut self, format: Format) -> Quantity {
        let excess = i64::try_from(self.digits.len().saturating_sub(DIGITS)).unwrap_or(0);
        self.round_up(self.exponent + excess);
        self.reduce();
        let mantissa = self.digits.iter().fold(0, |n, d| n * 10 + i128::from(*d));
        let exponent = i32::try_from(self.exponent).unwrap_or(i32::MAX);
        Quantity {
            mantissa,
            exponent,
            format,
        }
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

/// Letters of any suffix, then a sign, then digits.
fn check_suffix(suffix: &str) -> Result<(), ParseError> {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    if rest.bytes().all(|b| b.is_ascii_digit()) {
        Ok(())
    } else {
        Err(ParseError::Format)
    }
}

fn interpret(suffix: &str) -> Option<(Base, i32, Format)> {
    let decimal = |exponent| Some((Base::Ten, exponent, Format::DecimalSi));
    let binary = |exponent| Some((Base::Two, exponent, Format::BinarySi));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent: i64 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            #[allow(
                clippy::cast_possible_truncation,
                reason = "upstream keeps the low 32 bits"
            )]
            let exponent = exponent as i32;
            Some((Base::Ten, exponent, Format::DecimalExponent))
        }
    }
}
