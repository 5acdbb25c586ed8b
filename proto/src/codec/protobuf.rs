//! Protobuf as upstream stores and serves it (proto2 in gogo's manner).
//!
//! Fields go by ascending tag. What Go holds by value is always written, zero or not; pointers, byte
//! strings and lists only if they are there; maps by ascending key. Stored objects are wrapped in an
//! envelope, `k8s\0` and a `runtime.Unknown` that names version and kind; inside, `kind` and
//! `apiVersion` do not occur.

mod decode;
mod encode;
pub(crate) mod scalar;
pub(crate) mod wire;

use crate::catalogue::MsgId;
use crate::value::Value;

use super::DecodeError;
use wire::{BYTES, Back, Fields};

/// What stored protobuf begins with.
pub const PREFIX: [u8; 4] = *b"k8s\0";

/// The end of an envelope: `contentEncoding` and `contentType`, empty.
const TAIL: [u8; 4] = [0x1a, 0, 0x22, 0];

/// Decodes a message (without envelope) into a conformed tree. Unknown fields are dropped.
///
/// # Errors
/// Truncated or malformed bytes, a known field of the wrong wire type, a quantity that is none, or
/// nesting deeper than [`super::MAX_DEPTH`].
pub fn decode(raw: &[u8], message: MsgId) -> Result<Value, DecodeError> {
    decode::message(raw, message)
}

/// Appends a tree as a message (without envelope). Entries that the message does not have are left
/// out, and a node of another type than its field counts as absent.
pub fn encode(value: &Value, message: MsgId, out: &mut Vec<u8>) {
    let mut back = Back::new(out);
    encode::message(value.as_map(), message, &mut back);
    back.finish();
}

/// Appends a tree in its envelope, as it is stored.
pub fn seal(value: &Value, message: MsgId, api_version: &str, kind: &str, out: &mut Vec<u8>) {
    let mut back = Back::new(out);
    back.bytes(&TAIL);
    let mark = back.written();
    encode::message(value.as_map(), message, &mut back);
    back.close(2, mark);
    type_meta(api_version, kind, &mut back);
    back.finish();
}

/// Appends the envelope around an encoded message.
pub fn envelope(raw: &[u8], api_version: &str, kind: &str, out: &mut Vec<u8>) {
    envelope_head(raw.len(), api_version, kind, out);
    out.extend_from_slice(raw);
    out.extend_from_slice(&TAIL);
}

/// Appends what stands before a message of `len` bytes; [`envelope_tail`] stands after it.
pub fn envelope_head(len: usize, api_version: &str, kind: &str, out: &mut Vec<u8>) {
    let mut back = Back::new(out);
    back.varint(len as u64);
    back.key(2, BYTES);
    type_meta(api_version, kind, &mut back);
    back.finish();
}

#[must_use]
pub fn envelope_tail() -> &'static [u8] {
    &TAIL
}

fn type_meta(api_version: &str, kind: &str, back: &mut Back<'_>) {
    let mark = back.written();
    back.field(2, kind.as_bytes());
    back.field(1, api_version.as_bytes());
    back.close(1, mark);
    back.bytes(&PREFIX);
}

/// An opened envelope.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Envelope<'a> {
    /// `apps/v1`. Invalid UTF-8 reads as empty, which names no kind.
    pub api_version: &'a str,
    pub kind: &'a str,
    /// The message.
    pub raw: &'a [u8],
}

/// Whether bytes are protobuf in an envelope.
#[must_use]
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(&PREFIX)
}

/// Opens an envelope.
///
/// # Errors
/// No envelope, or a malformed one.
pub fn open(bytes: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    let unknown = bytes.strip_prefix(&PREFIX).ok_or(DecodeError::NoEnvelope)?;
    let mut envelope = Envelope {
        api_version: "",
        kind: "",
        raw: &[],
    };
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    let mut fields = Fields::new(unknown, "Unknown");
    while let Some((tag, wire)) = fields.next()? {
        match tag {
            1 => {
                let mut meta = Fields::new(wire.bytes("TypeMeta")?, "TypeMeta");
                while let Some((tag, wire)) = meta.next()? {
                    match tag {
                        1 => envelope.api_version = text(wire.bytes("APIVersion")?),
                        2 => envelope.kind = text(wire.bytes("Kind")?),
                        _ => {}
                    }
                }
            }
            2 => envelope.raw = wire.bytes("Raw")?,
            _ => {}
        }
    }
    Ok(envelope)
}

#[cfg(test)]
mod tests;
