//! Documents in protobuf, which some clients ask for: `openapi.v2.Document` and `openapi.v3.Document` of
//! `google/gnostic-models`, made of the documents in JSON.
//!
//! Only what our documents have is in the tables of the two; a test holds that nothing is left out.

use serde_json::{Map, Value};

mod v2;
mod v3;

/// A message: its fields by their JSON names, in the order of their numbers.
struct Message {
    fields: &'static [(&'static str, u32, Kind)],
    /// The number under which `x-` fields are kept.
    extensions: u32,
}

/// How a value is written.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    /// Alternatives of a `oneof`, which are written be they empty.
    GivenText,
    GivenFlag,
    GivenNumber,
    /// That there is something; gnostic has no place for what it is.
    Something,
    /// Whatever it is, as YAML.
    Any,
    One(&'static Message),
    Each(&'static Kind),
    /// A message around the value, which it has under a number: one alternative of a `oneof`, or a list
    /// of one.
    In(u32, &'static Kind),
    /// A message with an entry under that number for each name: the name and a value.
    Named(u32, &'static Kind),
    /// What the value itself tells.
    By(fn(&Value) -> &'static Kind),
}

const TEXTS: Kind = Kind::Each(&Kind::Text);

/// The bytes of the v2 document.
pub(super) fn v2(json: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    message(&v2::DOCUMENT, json, &mut out);
    out
}

/// The bytes of a v3 document.
pub(super) fn v3(json: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    message(&v3::DOCUMENT, json, &mut out);
    out
}

fn message(of: &Message, value: &Value, out: &mut Vec<u8>) {
    for (name, number, kind) in of.fields {
        if let Some(value) = value.get(*name) {
            field(*number, *kind, value, out);
        }
    }
    for (name, value) in entries(value).filter(|(name, _)| name.starts_with("x-")) {
        named(of.extensions, name, Kind::Any, value, out);
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn field(number: u32, kind: Kind, value: &Value, out: &mut Vec<u8>) {
    match kind {
        Kind::Text => {
            let text = value.as_str().unwrap_or_default();
            if !text.is_empty() {
                bytes(number, text.as_bytes(), out);
            }
        }
        Kind::Flag => {
            if value.as_bool() == Some(true) {
                varint(u64::from(number) << 3, out);
                out.push(1);
            }
        }
        Kind::Something => bytes(number, &[], out),
        Kind::Any => below(number, out, |out| bytes(2, &yaml(value), out)),
        Kind::One(of) => below(number, out, |out| message(of, value, out)),
        Kind::Each(kind) => {
            for item in value.as_array().into_iter().flatten() {
                field(number, *kind, item, out);
            }
        }
        Kind::In(inner, kind) => below(number, out, |out| field(inner, *kind, value, out)),
        Kind::Named(entry, kind) => below(number, out, |out| {
            for (name, value) in entries(value) {
                named(entry, name, *kind, value, out);
            }
        }),
        Kind::By(kind) => field(number, *kind(value), value, out),
        Kind::GivenText => bytes(number, value.as_str().unwrap_or_default().as_bytes(), out),
        Kind::GivenFlag => {
            varint(u64::from(number) << 3, out);
            out.push(u8::from(value.as_bool() == Some(true)));
        }
        Kind::GivenNumber => {
            varint(u64::from(number) << 3 | 1, out);
            out.extend_from_slice(&value.as_f64().unwrap_or_default().to_le_bytes());
        }
    }
}

/// A pair of a name and a value.
fn named(number: u32, name: &str, kind: Kind, value: &Value, out: &mut Vec<u8>) {
    below(number, out, |out| {
        bytes(1, name.as_bytes(), out);
        field(2, kind, value, out);
    });
}

fn yaml(value: &Value) -> Vec<u8> {
    let mut text = Vec::new();
    // What was made as JSON can be read as JSON.
    if let Ok(tree) = proto::codec::json::parse(value.to_string().as_bytes()) {
        proto::codec::yaml::write(&tree, &mut text);
    }
    text
}

/// A message, whose length stands before it.
fn below(number: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    write(&mut body);
    bytes(number, &body, out);
}

fn bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests;
