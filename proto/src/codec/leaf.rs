//! The scalar kinds that have a form of their own on the wire: quantities, times, byte strings.

use ::base64::Engine;
use ::base64::alphabet::STANDARD;
use ::base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::DecodeError;
use crate::catalogue::Kind;
use crate::quantity;
use crate::time::civil::Civil;
use crate::time::{self, GO_ZERO};
use crate::value::Value;

const ZERO_TIME: &str = "0001-01-01T00:00:00Z";
const ZERO_MICRO_TIME: &str = "0001-01-01T00:00:00.000000Z";

/// As Go's `base64.StdEncoding`: padded, trailing bits not looked at.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Decodes base64 as Go does, which skips line breaks.
pub(crate) fn from_base64(text: &str) -> Result<Box<[u8]>, DecodeError> {
    let decoded = if memchr::memchr2(b'\n', b'\r', text.as_bytes()).is_some() {
        let joined: Vec<u8> = text
            .bytes()
            .filter(|b| !matches!(b, b'\n' | b'\r'))
            .collect();
        BASE64.decode(joined)
    } else {
        BASE64.decode(text)
    };
    decoded
        .map(Vec::into_boxed_slice)
        .map_err(|_| DecodeError::Base64(corrupt_at(text.as_bytes())))
}

/// Where Go says that base64 is corrupt: at the byte that does not belong there, or at the beginning of
/// a group of four that ends too soon.
fn corrupt_at(text: &[u8]) -> usize {
    let mut rest = text
        .iter()
        .enumerate()
        .filter(|(_, b)| !matches!(b, b'\n' | b'\r'));
    loop {
        let mut start = text.len();
        for i in 0..4 {
            let Some((at, byte)) = rest.next() else {
                return start;
            };
            start = start.min(at);
            let padding = *byte == b'=';
            let ends_well = match i {
                2 if padding => matches!(rest.next(), Some((_, b'='))),
                3 => padding,
                _ => false,
            };
            if ends_well {
                return rest.next().map_or(text.len(), |(at, _)| at);
            }
            if padding || !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')) {
                return at;
            }
        }
    }
}

/// Appends base64.
pub(crate) fn push_base64(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = BASE64
        .encode_slice(bytes, &mut out[start..])
        .expect("the space is what padded base64 takes");
    out.truncate(start + written);
}

pub(crate) fn to_base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// A canonical quantity.
pub(crate) fn quantity(text: &str) -> Result<Box<str>, DecodeError> {
    if is_plainly_canonical(text) {
        Ok(text.into())
    } else {
        Ok(quantity::canonicalize(text)?)
    }
}

/// Canonical at a glance: a short number without sign, fraction or exponent that its suffix cannot
/// absorb. What this refuses may be canonical all the same.
pub(crate) fn is_plainly_canonical(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    // 15 digits and the largest suffix stay clear of the caps and roundings of large quantities,
    // binary ones of 4 digits stay below the next suffix.
    if number.is_empty() || number.len() > 15 || (number.starts_with('0') && number.len() > 1) {
        return false;
    }
    if number == "0" {
        return suffix.is_empty();
    }
    match suffix {
        "" | "m" | "k" | "M" => !number.ends_with("000"),
        "Ki" | "Mi" | "Gi" => {
            number.len() <= 6 && number.parse::<u32>().is_ok_and(|n| !n.is_multiple_of(1024))
        }
        _ => false,
    }
}

/// Whether Go cannot tell `value` from absence in a field of this kind that it holds by value.
pub(crate) fn is_zero(value: &Value, kind: Kind) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) => true,
        Value::Float(f) => *f == 0.0,
        Value::String(text) => match kind {
            Kind::String => text.is_empty(),
            Kind::Quantity => &**text == "0",
            Kind::Time | Kind::MicroTime => is_zero_time(text),
            _ => false,
        },
        _ => false,
    }
}

/// Whether a node has a type that a kind has in a conformed tree. Null does where it stands for a
/// pointer to something empty.
pub(crate) fn fits(kind: Kind, value: &Value) -> bool {
    match kind {
        Kind::String | Kind::Quantity | Kind::Time | Kind::MicroTime => {
            matches!(value, Value::String(_))
        }
        Kind::Bool => matches!(value, Value::Bool(_)),
        Kind::Int32 | Kind::Int64 => matches!(value, Value::Int(_)),
        Kind::Float64 => matches!(value, Value::Float(_) | Value::Int(_)),
        Kind::IntOrString => matches!(value, Value::Int(_) | Value::String(_)),
        Kind::Bytes => matches!(value, Value::Bytes(_)),
        Kind::RawExtension | Kind::FieldsV1 | Kind::Json => {
            matches!(value, Value::Raw(_) | Value::Null)
        }
        Kind::Strings => matches!(value, Value::List(_)),
        Kind::SchemaOrBool => matches!(value, Value::Bool(_) | Value::Map(_)),
        Kind::SchemaOrArray | Kind::SchemaOrStrings => {
            matches!(value, Value::List(_) | Value::Map(_) | Value::Null)
        }
        Kind::Message(_) => matches!(value, Value::Map(_)),
    }
}

/// Go's zero time, which prints as `null`.
pub(crate) fn is_zero_time(text: &str) -> bool {
    text == ZERO_TIME || text == ZERO_MICRO_TIME
}

/// A point in time as a protobuf `Timestamp` carries it; [`None`] is Go's zero time, an empty message.
pub(crate) type Unix = Option<(i64, i32)>;

/// The canonical text of a time of `kind` ([`Kind::Time`] or [`Kind::MicroTime`]).
pub(crate) fn time_text(unix: Unix, kind: Kind) -> Box<str> {
    let (secs, nanos) = unix.unwrap_or((GO_ZERO, 0));
    match kind {
        Kind::MicroTime => time::print_micro_time(secs, nanos),
        _ => time::print_time(secs),
    }
    .into()
}

/// What the canonical text of a time is in protobuf; a text that is no time is the zero time.
pub(crate) fn unix_of(text: &str, kind: Kind) -> Unix {
    if is_zero_time(text) {
        return None;
    }
    let (secs, nanos) = time::unix_of(text)?;
    Some(match kind {
        Kind::MicroTime => (secs, nanos / 1000 * 1000),
        _ => (secs, 0),
    })
}

/// Appends what [`time_text`] makes.
pub(crate) fn push_time(unix: Unix, kind: Kind, out: &mut Vec<u8>) {
    let (secs, nanos) = unix.unwrap_or((GO_ZERO, 0));
    let civil = Civil::of(secs);
    let (Ok(year), 0..1_000_000_000) = (u16::try_from(civil.year), nanos) else {
        out.extend_from_slice(time_text(unix, kind).as_bytes());
        return;
    };
    if year > 9999 {
        out.extend_from_slice(time_text(unix, kind).as_bytes());
        return;
    }
    let two = |n: u8| [b'0' + n / 10, b'0' + n % 10];
    let [c, y] = [year / 100, year % 100].map(|n| two(n.try_into().unwrap_or(0)));
    let [mo, d, h, mi, s] = [
        civil.month,
        civil.day,
        civil.hour,
        civil.minute,
        civil.second,
    ]
    .map(two);
    out.extend_from_slice(&[
        c[0], c[1], y[0], y[1], b'-', mo[0], mo[1], b'-', d[0], d[1], b'T', h[0], h[1], b':',
        mi[0], mi[1], b':', s[0], s[1],
    ]);
    if kind == Kind::MicroTime {
        out.push(b'.');
        let micros = nanos / 1000;
        for place in [100_000, 10_000, 1000, 100, 10, 1] {
            out.push(b'0' + u8::try_from(micros / place % 10).unwrap_or(0));
        }
    }
    out.push(b'Z');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_go_reads_it() {
        assert_eq!(from_base64("aGVs\nbG8=").as_deref(), Ok(&b"hello"[..]));
        assert_eq!(
            from_base64("aGVsbG9=").as_deref(),
            Ok(&b"hello"[..]),
            "trailing bits are not looked at"
        );
        assert_eq!(from_base64("aGV*"), Err(DecodeError::Base64(3)));
        assert_eq!(
            from_base64("aGVsbG8"),
            Err(DecodeError::Base64(4)),
            "padding is required"
        );
        assert_eq!(from_base64("aGVsbG8=x"), Err(DecodeError::Base64(8)));
        assert_eq!(from_base64("aG=V"), Err(DecodeError::Base64(2)));
    }

    #[test]
    fn what_looks_canonical_is() {
        for number in [
            0,
            1,
            7,
            10,
            100,
            512,
            999,
            1000,
            1023,
            1024,
            1025,
            1536,
            2048,
            1_000_001,
            123_456_789_012_345_u64,
        ] {
            for suffix in ["", "m", "k", "M", "G", "Ki", "Mi", "Gi", "Ti"] {
                let text = format!("{number}{suffix}");
                if is_plainly_canonical(&text) {
                    assert_eq!(quantity::canonicalize(&text).as_deref(), Ok(text.as_str()));
                }
            }
        }
    }

    #[test]
    fn a_pushed_time_is_the_printed_one() {
        for secs in [
            GO_ZERO,
            0,
            1,
            -1,
            951_782_400,
            4_102_444_799,
            253_402_300_799,
            253_402_300_800,
            i64::MAX / 4,
        ] {
            for kind in [Kind::Time, Kind::MicroTime] {
                for nanos in [0, 1000, 999_999_999, -5] {
                    let mut out = Vec::new();
                    push_time(Some((secs, nanos)), kind, &mut out);
                    assert_eq!(
                        std::str::from_utf8(&out),
                        Ok(&*time_text(Some((secs, nanos)), kind))
                    );
                }
            }
        }
    }
}
