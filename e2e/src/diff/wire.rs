//! Protobuf without a schema, as a JSON value: field numbers as names, each with the list of what it holds.
//!
//! What a field of bytes is, is a guess: a text if it reads as one, a message if it parses as one, else bytes. Two equal
//! fields are guessed alike, so that values made of two messages differ where the messages do.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};

use crate::protobuf::{Held, MAGIC, field};

/// Deeper messages are shown as bytes.
const MAX_DEPTH: usize = 64;

/// A stored value or a body: JSON, or an object in its envelope, or whatever else it is.
pub fn value(bytes: &[u8]) -> Value {
    if matches!(bytes.first(), Some(b'{' | b'['))
        && let Ok(json) = serde_json::from_slice(bytes)
    {
        return json;
    }
    leaf(bytes, 0)
}

/// The frames of a watch in protobuf: each after its length in four bytes, the highest first.
pub fn frames(mut stream: &[u8]) -> Vec<Value> {
    let mut all = Vec::new();
    while let Some((length, rest)) = stream.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let (frame, rest) = rest.split_at(length.min(rest.len()));
        all.push(leaf(frame, 0));
        stream = rest;
    }
    if !stream.is_empty() {
        all.push(leaf(stream, 0));
    }
    all
}

fn leaf(bytes: &[u8], depth: usize) -> Value {
    if let Some(rest) = bytes.strip_prefix(MAGIC) {
        return message(rest, depth).unwrap_or_else(|| raw(bytes));
    }
    let printable = |text: &str| {
        !text
            .chars()
            .any(|letter| letter.is_control() && letter != '\n')
    };
    match std::str::from_utf8(bytes) {
        // A message of one short field looks like a text that begins with a line's end.
        Ok(text) if printable(text) && !text.starts_with('\n') => text.into(),
        text => {
            message(bytes, depth).unwrap_or_else(|| text.map_or_else(|_| raw(bytes), Value::from))
        }
    }
}

fn raw(bytes: &[u8]) -> Value {
    format!("bytes {}", BASE64.encode(bytes)).into()
}

/// The fields of a message; nothing if it is malformed.
fn message(mut bytes: &[u8], depth: usize) -> Option<Value> {
    if depth == MAX_DEPTH {
        return None;
    }
    let mut fields = Map::new();
    while !bytes.is_empty() {
        let (number, held) = field(&mut bytes)?;
        if !(1..1 << 29).contains(&number) {
            return None;
        }
        let held = match held {
            Held::Varint(value) => value.cast_signed().into(),
            Held::Fixed64(fixed) => f64::from_le_bytes(fixed).into(),
            Held::Bytes(bytes) => leaf(bytes, depth + 1),
            Held::Fixed32(fixed) => u32::from_le_bytes(fixed).into(),
        };
        let entry = fields
            .entry(number.to_string())
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(all) = entry {
            all.push(held);
        }
    }
    Some(fields.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_is_read_without_its_schema() {
        // 1: {1: "abc", 2: 5}, 2: 7, 3: ""
        let bytes = b"k8s\0\x0a\x07\x0a\x03abc\x10\x05\x10\x07\x1a\x00";
        let wanted = json!({"1": [{"1": ["abc"], "2": [5]}], "2": [7], "3": [""]});
        assert_eq!(value(bytes), wanted);
    }

    #[test]
    fn what_is_no_message_is_shown_as_bytes_or_text() {
        assert_eq!(value(b"plain"), json!("plain"));
        assert_eq!(value(br#"{"a": 1}"#), json!({"a": 1}));
        assert_eq!(value(&[0xff, 0xff]), json!("bytes //8="));
    }

    #[test]
    fn a_stream_is_cut_into_its_frames() {
        let stream = b"\0\0\0\x05\x0a\x03abc\0\0\0\x02\x10\x07";
        assert_eq!(frames(stream), [json!({"1": ["abc"]}), json!({"2": [7]})]);
    }
}
