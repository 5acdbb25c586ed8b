//! Conversions between types: `ConvertToType` of cel-go's `common/types`.

use std::str::FromStr;

use proto::time::Duration;

use super::{MAX_UNIX, MIN_UNIX, Opaque, Outcome, Timestamp, Value, print};
use crate::error::Error;
use crate::types::Type;

pub(crate) const INT_OVERFLOW: &str = "integer overflow";
pub(crate) const UINT_OVERFLOW: &str = "unsigned integer overflow";
pub(crate) const TIMESTAMP_OVERFLOW: &str = "timestamp overflow";

/// 2^63 and 2^64 as doubles.
const TWO_63: f64 = 9_223_372_036_854_775_808.0;
const TWO_64: f64 = 18_446_744_073_709_551_616.0;

/// The value as one of another type.
pub(crate) fn convert<'a>(value: &Value<'a>, to: &Type) -> Outcome<'a> {
    let converted = match to {
        Type::Int => to_int(value)?,
        Type::Uint => to_uint(value)?,
        Type::Double => to_double(value),
        Type::Bool => to_bool(value),
        Type::Bytes => match value {
            Value::String(text) => Some(Value::bytes(text.as_bytes())),
            Value::Bytes(_) => Some(value.clone()),
            _ => None,
        },
        Type::String => to_text(value)?.map(Value::owned),
        Type::Duration => match value {
            Value::String(text) => Duration::from_str(text).ok().map(|d| Value::Duration(d.0)),
            Value::Duration(_) => Some(value.clone()),
            _ => None,
        },
        Type::Timestamp => to_timestamp(value)?,
        _ => None,
    };
    converted.ok_or_else(|| {
        Error::new(format!(
            "type conversion error from '{}' to '{}'",
            value.type_name(),
            to.name()
        ))
    })
}

fn to_int<'a>(value: &Value<'a>) -> Result<Option<Value<'a>>, Error> {
    Ok(Some(Value::Int(match value {
        Value::Int(i) => *i,
        Value::Uint(u) => i64::try_from(*u).map_err(|_| Error::new(INT_OVERFLOW))?,
        Value::Double(d) => double_to_int(*d)?,
        Value::Duration(nanos) => *nanos,
        Value::Timestamp(time) => time.secs,
        Value::String(text) => match text.parse() {
            Ok(int) => int,
            Err(_) => return Ok(None),
        },
        _ => return Ok(None),
    })))
}

fn to_uint<'a>(value: &Value<'a>) -> Result<Option<Value<'a>>, Error> {
    Ok(Some(Value::Uint(match value {
        Value::Uint(u) => *u,
        Value::Int(i) => u64::try_from(*i).map_err(|_| Error::new(UINT_OVERFLOW))?,
        Value::Double(d) => double_to_uint(*d)?,
        // Go takes no sign here.
        Value::String(text) if !text.starts_with('+') => match text.parse() {
            Ok(uint) => uint,
            Err(_) => return Ok(None),
        },
        _ => return Ok(None),
    })))
}

#[allow(clippy::cast_precision_loss, reason = "that is what the conversion is")]
fn to_double<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    Some(Value::Double(match value {
        Value::Double(d) => *d,
        Value::Int(i) => *i as f64,
        Value::Uint(u) => *u as f64,
        Value::String(text) => go_float(text)?,
        _ => return None,
    }))
}

/// Go's `strconv.ParseFloat`: also with underscores between digits, and hexadecimal. Too large is none.
fn go_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_hex = unsigned.starts_with("0x") || unsigned.starts_with("0X");
    let has_digits = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if !has_digits {
        // What is not a number has no sign.
        let is_signed_nan = unsigned.len() < text.len() && unsigned.eq_ignore_ascii_case("nan");
        return if is_signed_nan {
            None
        } else {
            text.parse().ok()
        };
    }
    let bytes = unsigned.as_bytes();
    let separates = |at: usize| {
        let is_digit = |b: &u8| b.is_ascii_digit() || (is_hex && b.is_ascii_hexdigit());
        let follows = at > 0 && (is_digit(&bytes[at - 1]) || (is_hex && at == 2));
        follows && bytes.get(at + 1).is_some_and(is_digit)
    };
    if !bytes
        .iter()
        .enumerate()
        .all(|(at, b)| *b != b'_' || separates(at))
    {
        return None;
    }
    let plain = unsigned.replace('_', "");
    let value = if is_hex {
        hex_float(&plain[2..])?
    } else {
        plain.parse().ok()?
    };
    value
        .is_finite()
        .then_some(if text.starts_with('-') { -value } else { value })
}

/// `1.8p-2`, without its `0x`. More digits than a double holds are not rounded.
#[allow(clippy::cast_precision_loss, reason = "at most 13 hexadecimal digits")]
fn hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let kept = digits.trim_start_matches('0');
    let kept = &kept[..kept.len().min(13)];
    let leading = digits.len() - digits.trim_start_matches('0').len();
    let value = if kept.is_empty() {
        0
    } else {
        u64::from_str_radix(kept, 16).ok()?
    };
    let exponent: i32 = exponent.parse().ok()?;
    let shift = i32::try_from(whole.len()).ok()? - i32::try_from(leading + kept.len()).ok()?;
    let exponent = exponent.checked_add(shift.checked_mul(4)?)?;
    Some(value as f64 * 2_f64.powi(exponent))
}

fn to_bool<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    match value {
        Value::Bool(b) => Some(Value::Bool(*b)),
        Value::String(text) => match &**text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(Value::Bool(false)),
            _ => None,
        },
        _ => None,
    }
}

/// What `string(value)` gives.
pub(crate) fn to_text(value: &Value<'_>) -> Result<Option<String>, Error> {
    Ok(Some(match value {
        Value::String(text) => text.to_string(),
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Uint(u) => u.to_string(),
        Value::Double(d) => print::go_double(*d),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                return Err(Error::new(
                    "invalid UTF-8 in bytes, cannot convert to string",
                ));
            }
        },
        Value::Duration(nanos) => print::seconds(*nanos),
        Value::Timestamp(time) => time.to_string(),
        Value::Type(ty) => ty.name().to_owned(),
        Value::Opaque(opaque) => match &**opaque {
            Opaque::Ip(ip) => ip.to_string(),
            Opaque::Cidr(cidr) => cidr.to_string(),
            _ => return Ok(None),
        },
        _ => return Ok(None),
    }))
}

fn to_timestamp<'a>(value: &Value<'a>) -> Result<Option<Value<'a>>, Error> {
    let time = match value {
        Value::Timestamp(time) => *time,
        Value::Int(secs) => Timestamp::utc(*secs, 0),
        Value::String(text) => match Timestamp::parse(text) {
            Ok(time) => time,
            Err(_) => return Ok(None),
        },
        _ => return Ok(None),
    };
    if (MIN_UNIX..=MAX_UNIX).contains(&time.secs) {
        Ok(Some(Value::Timestamp(time)))
    } else {
        Err(Error::new(TIMESTAMP_OVERFLOW))
    }
}

/// The integer part, if an int holds it.
#[allow(clippy::cast_possible_truncation, reason = "the range is checked")]
pub(crate) fn double_to_int(d: f64) -> Result<i64, Error> {
    // The bounds themselves are refused, as doubles they stand for more than they are.
    if d > -TWO_63 && d < TWO_63 {
        Ok(d as i64)
    } else {
        Err(Error::new(INT_OVERFLOW))
    }
}

/// The integer part, if a uint holds it.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked"
)]
pub(super) fn double_to_uint(d: f64) -> Result<u64, Error> {
    if (0.0..TWO_64).contains(&d) {
        Ok(d as u64)
    } else {
        Err(Error::new(UINT_OVERFLOW))
    }
}
