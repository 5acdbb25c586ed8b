//! A conformed tree to the JSON of a message.

use super::super::layout::{Empty, Layout, Slot};
use super::super::leaf;
use super::write::{push_bool, push_bytes, push_float, push_int, push_raw, push_string};
use crate::catalogue::{Field, Flags, Kind, MsgId, Shape};
use crate::value::{Map, Value};

/// Appends a message; none is an empty one.
pub(super) fn message(map: Option<&Map>, message: MsgId, out: &mut Vec<u8>) {
    out.push(b'{');
    let mut open = false;
    for slot in &Layout::of(message).fields {
        let value = map.and_then(|m| m.get(slot.field.name)).filter(|v| shows(slot, v));
        if value.is_none() && slot.empty == Empty::Omit {
            continue;
        }
        if open {
            out.push(b',');
        }
        open = true;
        out.extend_from_slice(slot.key.as_bytes());
        match value {
            Some(value) => field(slot.field, message, value, out),
            None => empty(slot.empty, out),
        }
    }
    out.push(b'}');
}

/// Appends what stands for an absent field that is not omitted.
pub(crate) fn empty(empty: Empty, out: &mut Vec<u8>) {
    match empty {
        Empty::Omit => {}
        Empty::Null => out.extend_from_slice(b"null"),
        Empty::Text(text) => out.extend_from_slice(text.as_bytes()),
        Empty::Message(id) => message(None, id, out),
    }
}

/// Whether a node counts as given.
pub(crate) fn shows(slot: &Slot, value: &Value) -> bool {
    let field = slot.field;
    let kept_empty = field.has(Flags::POINTER) || slot.empty != Empty::Omit;
    match (field.shape, value) {
        (Shape::List, Value::List(items)) => kept_empty || !items.is_empty(),
        (Shape::Map, Value::Map(map)) => kept_empty || !map.is_empty(),
        (Shape::List | Shape::Map, _) => false,
        (Shape::One, _) if slot.zero_is_absent && leaf::is_zero(value, field.kind) => false,
        (Shape::One, _) => match (field.kind, value) {
            (Kind::Bytes, Value::Bytes(bytes)) => kept_empty || !bytes.is_empty(),
            (Kind::Strings, Value::List(items)) => kept_empty || !items.is_empty(),
            (kind, value) => leaf::fits(kind, value),
        },
    }
}

fn field(field: &Field, around: MsgId, value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::List(items) if field.shape == Shape::List => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                element(field, around, item, out);
            }
            out.push(b']');
        }
        Value::Map(map) if field.shape == Shape::Map => {
            out.push(b'{');
            for (i, (name, item)) in map.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                push_string(name.as_str(), out);
                out.push(b':');
                element(field, around, item, out);
            }
            out.push(b'}');
        }
        value => element(field, around, value, out),
    }
}

/// One value of the kind of a field; a node of another type shows as Go's zero value.
fn element(field: &Field, around: MsgId, value: &Value, out: &mut Vec<u8>) {
    match (field.kind, value) {
        (Kind::String | Kind::Quantity | Kind::IntOrString, Value::String(text)) => push_string(text, out),
        (Kind::Time | Kind::MicroTime, Value::String(text)) if !leaf::is_zero_time(text) => push_string(text, out),
        (Kind::Bool | Kind::SchemaOrBool, Value::Bool(b)) => push_bool(*b, out),
        (Kind::Int32 | Kind::Int64 | Kind::IntOrString | Kind::Float64, Value::Int(i)) => push_int(*i, out),
        (Kind::Float64, Value::Float(f)) => push_float(*f, out),
        (Kind::Bytes, Value::Bytes(bytes)) => push_bytes(bytes, out),
        (Kind::RawExtension | Kind::FieldsV1 | Kind::Json, Value::Raw(raw)) => push_raw(raw, out),
        (Kind::Strings, Value::List(items)) => strings(items, out),
        (Kind::SchemaOrStrings, Value::List(items)) if !items.is_empty() => strings(items, out),
        (Kind::SchemaOrArray, Value::List(items)) if !items.is_empty() => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                message(item.as_map(), around, out);
            }
            out.push(b']');
        }
        (Kind::SchemaOrBool | Kind::SchemaOrArray | Kind::SchemaOrStrings, Value::Map(map)) => {
            message(Some(map), around, out);
        }
        (Kind::Message(id), Value::Map(map)) => message(Some(map), id, out),
        (kind, _) if field.has(Flags::ELEMENT_POINTER) || !has_zero(kind) => out.extend_from_slice(b"null"),
        (kind, _) => zero(kind, out),
    }
}

fn strings(items: &[Value], out: &mut Vec<u8>) {
    out.push(b'[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_string(item.as_str().unwrap_or_default(), out);
    }
    out.push(b']');
}

/// Whether the zero value of a kind shows as something else than null.
fn has_zero(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::String | Kind::Bool | Kind::Int32 | Kind::Int64 | Kind::Float64 | Kind::Quantity | Kind::IntOrString
            | Kind::SchemaOrBool | Kind::Message(_)
    )
}

fn zero(kind: Kind, out: &mut Vec<u8>) {
    let text: &[u8] = match kind {
        Kind::String => b"\"\"",
        Kind::Quantity => b"\"0\"",
        Kind::Bool | Kind::SchemaOrBool => b"false",
        Kind::Message(id) => return message(None, id, out),
        _ => b"0",
    };
    out.extend_from_slice(text);
}
