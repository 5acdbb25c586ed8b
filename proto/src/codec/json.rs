//! JSON, as Go's `encoding/json` and `sigs.k8s.io/json` read and write it.
//!
//! Reading is one pass over the text, directed by the message. Names are case-sensitive. Invalid
//! UTF-8 and halves of surrogate pairs become U+FFFD. Writing follows the order and the omissions of
//! Go's structs and escapes `<`, `>`, `&`, U+2028 and U+2029, as the API server does.

mod decode;
mod encode;
mod parse;
mod problems;
mod scanner;
mod write;

use std::borrow::Cow;

use crate::catalogue::MsgId;
use crate::value::Value;

use super::DecodeError;

pub(crate) use encode::{empty as push_empty, shows};
pub use write::indent;
pub(crate) use write::{
    push_bool, push_bytes, push_float, push_int, push_raw, push_string, push_text,
};

/// What to do about fields that the message does not have and fields given twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strictness {
    /// Drop them silently (`fieldValidation=Ignore`).
    Lenient,
    /// Drop them, and tell (`Warn` and `Strict`).
    Strict,
}

/// A decoded message.
#[derive(Clone, PartialEq, Debug)]
pub struct Decoded {
    pub value: Value,
    /// `unknown field "spec.foo"` and `duplicate field "metadata.labels.x"`, in the order of the
    /// text, without repetition, at most 100. Empty when [`Strictness::Lenient`].
    pub problems: Vec<String>,
}

/// Decodes a message into a conformed tree. `kind` and `apiVersion` are fields like others.
///
/// # Errors
/// A syntax error anywhere; else the first value that does not fit its field.
pub fn decode(
    bytes: &[u8],
    message: MsgId,
    strictness: Strictness,
) -> Result<Decoded, DecodeError> {
    decode::decode(&text(bytes), message, strictness)
}

/// Reads JSON without a schema: whole numbers that fit are [`Value::Int`], others [`Value::Float`].
/// Of keys given twice the last wins.
///
/// # Errors
/// A syntax error, a number beyond a double, or nesting deeper than [`super::MAX_DEPTH`].
pub fn parse(bytes: &[u8]) -> Result<Value, DecodeError> {
    parse::parse(&text(bytes), Strictness::Lenient).map(|d| d.value)
}

/// [`parse`], telling of keys given twice.
///
/// # Errors
/// As [`parse`].
pub fn parse_strict(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    parse::parse(&text(bytes), Strictness::Strict)
}

/// Appends a tree as it is, keys sorted. Bytes become base64, raw text is compacted.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    write::value(value, out);
}

/// Appends a tree as the JSON of a message: fields in the order of the Go struct, empty ones omitted
/// or shown as Go does. Entries of a message that it does not have are left out, and a node of another
/// type than its field counts as absent.
pub fn encode(value: &Value, message: MsgId, out: &mut Vec<u8>) {
    encode::message(value.as_map(), message, out);
}

/// Whether bytes are one JSON value.
#[must_use]
pub fn is_valid(bytes: &[u8]) -> bool {
    let text = text(bytes);
    let mut scanner = scanner::Scanner::new(&text);
    scanner.skip(0).is_ok() && scanner.end().is_ok()
}

/// The bytes as text; what is not UTF-8 becomes U+FFFD, byte by byte, as in Go.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    lossy(bytes)
}

/// Text with U+FFFD in the place of every byte that is not UTF-8.
pub(crate) fn lossy(mut bytes: &[u8]) -> Cow<'_, str> {
    let mut error = match std::str::from_utf8(bytes) {
        Ok(text) => return Cow::Borrowed(text),
        Err(error) => error,
    };
    let mut out = String::with_capacity(bytes.len() + 8);
    loop {
        let (valid, rest) = bytes.split_at(error.valid_up_to());
        out.push_str(std::str::from_utf8(valid).unwrap_or_default());
        out.push(char::REPLACEMENT_CHARACTER);
        bytes = rest.get(1..).unwrap_or_default();
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                out.push_str(text);
                return Cow::Owned(out);
            }
            Err(e) => error = e,
        }
    }
}

/// A byte in an error, as Go quotes it: single quotes, the byte taken as a character.
pub(super) fn quote_byte(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        0x80..=0x9f => format!("'\\u{byte:04x}'"),
        0xa0 | 0xad => format!("'\\u{byte:04x}'"),
        _ => {
            let quoted = crate::path::quote(char::from(byte).encode_utf8(&mut [0; 4]));
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}

#[cfg(test)]
mod tests;
