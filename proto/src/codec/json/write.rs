//! Appending JSON to a buffer: strings, numbers, raw text, whole trees without a schema.

use super::super::leaf;
use super::scanner::Scanner;
use super::text;
use crate::value::Value;

/// Appends a tree as it is, keys sorted.
pub(super) fn value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(b) => push_bool(*b, out),
        Value::Int(i) => push_int(*i, out),
        Value::Float(f) => push_float(*f, out),
        Value::String(s) => push_string(s, out),
        Value::Bytes(bytes) => push_bytes(bytes, out),
        Value::Raw(raw) => push_raw(raw, out),
        Value::List(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                self::value(item, out);
            }
            out.push(b']');
        }
        Value::Map(map) => {
            out.push(b'{');
            for (i, (name, value)) in map.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                push_string(name.as_str(), out);
                out.push(b':');
                self::value(value, out);
            }
            out.push(b'}');
        }
    }
}

pub(crate) fn push_bool(b: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if b { b"true" } else { b"false" });
}

pub(crate) fn push_int(i: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(i).as_bytes());
}

/// Appends a number as Go does: the shortest digits that read back the same, with an exponent only
/// below 1e-6 and from 1e21. What is no number (it can only come from protobuf) is null.
pub(crate) fn push_float(f: f64, out: &mut Vec<u8>) {
    if !f.is_finite() {
        out.extend_from_slice(b"null");
        return;
    }
    let abs = f.abs();
    if abs == 0.0 || (1e-6..1e21).contains(&abs) {
        out.extend_from_slice(f.to_string().as_bytes());
        return;
    }
    let text = format!("{f:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    out.extend_from_slice(digits.as_bytes());
    out.extend_from_slice(if exponent.starts_with('-') {
        b"e"
    } else {
        b"e+"
    });
    out.extend_from_slice(exponent.as_bytes());
}

/// Appends a base64 string.
pub(crate) fn push_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    leaf::push_base64(bytes, out);
    out.push(b'"');
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The high bits of the bytes of `v` that are `byte`; false positives only above true ones.
fn find(v: u64, byte: u8) -> u64 {
    let v = v ^ (ONES * u64::from(byte));
    v.wrapping_sub(ONES) & !v & HIGHS
}

/// Bytes that may not stand in a string as they are. 0xE2 begins U+2028 and U+2029.
fn is_special(byte: u8) -> bool {
    matches!(byte, 0..0x20 | b'"' | b'\\' | b'<' | b'>' | b'&' | 0xe2)
}

fn special(v: u64) -> u64 {
    let control = v.wrapping_sub(ONES * 0x20) & !v & HIGHS;
    // `<` and `>` differ in one bit only.
    let angle = find(v & (ONES * 0xfd), b'<');
    control | find(v, b'"') | find(v, b'\\') | angle | find(v, b'&') | find(v, 0xe2)
}

/// Appends a string with quotes and Go's escapes.
pub(crate) fn push_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    push_escaped(text.as_bytes(), out);
    out.push(b'"');
}

/// Appends a string that need not be UTF-8; what is not becomes U+FFFD.
pub(crate) fn push_text(bytes: &[u8], out: &mut Vec<u8>) {
    // One look at eight bytes for all that needs a closer one.
    let closer = |v: u64| special(v) | (v & HIGHS);
    let (chunks, rest) = bytes.as_chunks::<8>();
    let plain = chunks.iter().all(|c| closer(u64::from_le_bytes(*c)) == 0)
        && rest.iter().all(|b| b.is_ascii() && !is_special(*b));
    if plain {
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
    } else {
        push_string(&text(bytes), out);
    }
}

fn push_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    let mut done = 0;
    let mut pos = 0;
    while let Some(at) = next_special(bytes, pos) {
        pos = at + 1;
        let escape = match bytes[at..] {
            [0xe2, 0x80, last @ (0xa8 | 0xa9), ..] => {
                out.extend_from_slice(&bytes[done..at]);
                out.extend_from_slice(if last == 0xa8 { b"\\u2028" } else { b"\\u2029" });
                pos = at + 3;
                done = pos;
                continue;
            }
            [0xe2, ..] => continue,
            [b'"', ..] => b"\\\"",
            [b'\\', ..] => b"\\\\",
            [b'\n', ..] => b"\\n",
            [b'\r', ..] => b"\\r",
            [b'\t', ..] => b"\\t",
            [0x08, ..] => b"\\b",
            [0x0c, ..] => b"\\f",
            [byte, ..] => {
                out.extend_from_slice(&bytes[done..at]);
                push_u00(byte, out);
                done = pos;
                continue;
            }
            [] => continue,
        };
        out.extend_from_slice(&bytes[done..at]);
        out.extend_from_slice(escape);
        done = pos;
    }
    out.extend_from_slice(&bytes[done..]);
}

fn push_u00(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u00");
    out.push(HEX[usize::from(byte >> 4)]);
    out.push(HEX[usize::from(byte & 15)]);
}

fn next_special(bytes: &[u8], from: usize) -> Option<usize> {
    let mut pos = from;
    let mut chunks = bytes[from..].chunks_exact(8);
    for chunk in &mut chunks {
        let found = special(u64::from_le_bytes(
            chunk.try_into().expect("chunks of eight"),
        ));
        if found != 0 {
            return Some(pos + (found.trailing_zeros() / 8) as usize);
        }
        pos += 8;
    }
    chunks
        .remainder()
        .iter()
        .position(|b| is_special(*b))
        .map(|i| pos + i)
}

/// Appends raw JSON without the space between its tokens and with Go's escapes. Text that is not JSON
/// (clients can store it by protobuf) is null; upstream fails the whole answer.
pub(crate) fn push_raw(raw: &[u8], out: &mut Vec<u8>) {
    let text = text(raw);
    let mut scanner = Scanner::new(&text);
    if scanner.skip(0).is_err() || scanner.end().is_err() {
        out.extend_from_slice(b"null");
        return;
    }
    let bytes = text.as_bytes();
    if bytes
        .iter()
        .any(|b| matches!(b, b' ' | b'\n' | b'\t' | b'\r' | b'<' | b'>' | b'&' | 0xe2))
    {
        compact(bytes, out);
    } else {
        out.extend_from_slice(bytes);
    }
}

fn compact(json: &[u8], out: &mut Vec<u8>) {
    let mut string = false;
    let mut pos = 0;
    while let Some(byte) = json.get(pos) {
        pos += 1;
        match byte {
            b' ' | b'\n' | b'\t' | b'\r' if !string => continue,
            b'"' => string = !string,
            b'\\' => {
                out.push(b'\\');
                out.extend(json.get(pos));
                pos += 1;
                continue;
            }
            b'<' | b'>' | b'&' => {
                push_u00(*byte, out);
                continue;
            }
            0xe2 if matches!(json[pos..], [0x80, 0xa8 | 0xa9, ..]) => {
                out.extend_from_slice(if json[pos + 1] == 0xa8 {
                    b"\\u2028"
                } else {
                    b"\\u2029"
                });
                pos += 2;
                continue;
            }
            _ => {}
        }
        out.push(*byte);
    }
}

/// Appends well-formed JSON with line breaks and two spaces a level, as `?pretty=true` shows it.
pub fn indent(json: &[u8], out: &mut Vec<u8>) {
    let (mut string, mut depth, mut pos) = (false, 0_usize, 0);
    let line = |depth: usize, out: &mut Vec<u8>| {
        out.push(b'\n');
        out.resize(out.len() + 2 * depth, b' ');
    };
    while let Some(byte) = json.get(pos) {
        pos += 1;
        match byte {
            b'\\' => {
                out.push(b'\\');
                out.extend(json.get(pos));
                pos += 1;
                continue;
            }
            b'"' => string = !string,
            _ if string => {}
            b' ' | b'\n' | b'\t' | b'\r' => continue,
            b'{' | b'[' => {
                out.push(*byte);
                while let Some(b' ' | b'\n' | b'\t' | b'\r') = json.get(pos) {
                    pos += 1;
                }
                if let Some(close @ (b'}' | b']')) = json.get(pos) {
                    out.push(*close);
                    pos += 1;
                } else {
                    depth += 1;
                    line(depth, out);
                }
                continue;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                line(depth, out);
            }
            b',' => {
                out.push(b',');
                line(depth, out);
                continue;
            }
            b':' => {
                out.extend_from_slice(b": ");
                continue;
            }
            _ => {}
        }
        out.push(*byte);
    }
}
