//! The scalars that are messages of their own on the wire.

use super::super::{DecodeError, leaf};
use super::wire::Fields;
use crate::catalogue::Kind;
use crate::time::GO_ZERO;

type Result<T> = std::result::Result<T, DecodeError>;

/// Upstream shifts the bits of a varint into 32 and drops what does not fit.
#[allow(clippy::cast_possible_truncation, reason = "as upstream")]
pub(crate) fn int32(n: u64) -> i32 {
    n as i32
}

/// A `Timestamp`: none is Go's zero time.
pub(crate) fn timestamp(raw: &[u8], kind: Kind) -> Result<leaf::Unix> {
    let (mut secs, mut nanos) = (0, 0);
    if raw.is_empty() {
        return Ok(None);
    }
    let mut fields = Fields::new(raw, "Timestamp");
    while let Some((tag, wire)) = fields.next()? {
        match tag {
            1 => secs = wire.varint("Seconds")?.cast_signed(),
            2 => nanos = int32(wire.varint("Nanos")?),
            _ => {}
        }
    }
    // Only micro times keep a fraction, and six digits of it.
    let nanos = if kind == Kind::MicroTime {
        nanos / 1000 * 1000
    } else {
        0
    };
    Ok(if (secs, nanos) == (GO_ZERO, 0) {
        None
    } else {
        Some((secs, nanos))
    })
}

/// What an `IntOrString` is: a number, or the bytes of a string.
pub(crate) fn int_or_bytes(raw: &[u8]) -> Result<std::result::Result<i32, &[u8]>> {
    let (mut is_string, mut int, mut text): (_, _, &[u8]) = (false, 0, &[]);
    let mut fields = Fields::new(raw, "IntOrString");
    while let Some((tag, wire)) = fields.next()? {
        match tag {
            1 => is_string = wire.varint("Type")? == 1,
            2 => int = int32(wire.varint("IntVal")?),
            3 => text = wire.bytes("StrVal")?,
            _ => {}
        }
    }
    Ok(if is_string { Err(text) } else { Ok(int) })
}

/// The one field of `RawExtension`, `FieldsV1` and `JSON`.
pub(crate) fn raw(raw: &[u8]) -> Result<Option<&[u8]>> {
    let mut found = None;
    let mut fields = Fields::new(raw, "Raw");
    while let Some((tag, wire)) = fields.next()? {
        if tag == 1 {
            found = Some(wire.bytes("Raw")?);
        }
    }
    Ok(found)
}
