//! A conformed tree to the JSON of a message.

use super::super::layout::{Empty, Layout, Slot, numbers};
use super::super::leaf;
use super::super::slots::Slots;
use super::write::{push_bool, push_bytes, push_float, push_int, push_raw, push_string};
use crate::catalogue::{Field, Flags, Kind, MsgId, Shape};
use crate::value::{Map, Value};

/// Appends a message; none is an empty one.
pub(super) fn message(map: Option<&Map>, id: MsgId, out: &mut Vec<u8>) {
    Encoder {
        out,
        stack: Vec::with_capacity(128),
    }
    .message(map, id);
}

/// Appends what stands for an absent field that is not omitted.
pub(crate) fn empty(empty: Empty, out: &mut Vec<u8>) {
    match empty {
        Empty::Omit => {}
        Empty::Null => out.extend_from_slice(b"null"),
        Empty::Text(text) => out.extend_from_slice(text.as_bytes()),
        Empty::Message(id) => empty_message(id, out),
    }
}

fn empty_message(id: MsgId, out: &mut Vec<u8>) {
    let layout = Layout::of(id);
    out.push(b'{');
    for (i, number) in numbers(layout.always).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let slot = layout.slot(number);
        out.extend_from_slice(slot.key.as_bytes());
        empty(slot.empty, out);
    }
    out.push(b'}');
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

/// Writes messages; holds the entries of those being written.
struct Encoder<'v, 'o> {
    out: &'o mut Vec<u8>,
    stack: Vec<&'v Value>,
}

impl<'v> Encoder<'v, '_> {
    fn message(&mut self, map: Option<&'v Map>, id: MsgId) {
        let layout = Layout::of(id);
        let slots = Slots::of(map, layout, &mut self.stack);
        self.out.push(b'{');
        let mut open = false;
        for number in numbers(slots.present() | layout.always) {
            let slot = layout.slot(number);
            let value = slots
                .get(&self.stack, number)
                .copied()
                .filter(|v| shows(slot, v));
            if value.is_none() && slot.empty == Empty::Omit {
                continue;
            }
            if open {
                self.out.push(b',');
            }
            open = true;
            self.out.extend_from_slice(slot.key.as_bytes());
            match value {
                Some(value) => self.field(slot.field, id, value),
                None => empty(slot.empty, self.out),
            }
        }
        self.out.push(b'}');
        slots.leave(&mut self.stack);
    }

    fn field(&mut self, field: &Field, around: MsgId, value: &'v Value) {
        match value {
            Value::List(items) if field.shape == Shape::List => {
                self.out.push(b'[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        self.out.push(b',');
                    }
                    self.element(field, around, item);
                }
                self.out.push(b']');
            }
            Value::Map(map) if field.shape == Shape::Map => {
                self.out.push(b'{');
                for (i, (name, item)) in map.iter().enumerate() {
                    if i > 0 {
                        self.out.push(b',');
                    }
                    push_string(name.as_str(), self.out);
                    self.out.push(b':');
                    self.element(field, around, item);
                }
                self.out.push(b'}');
            }
            value => self.element(field, around, value),
        }
    }

    /// One value of the kind of a field; a node of another type shows as Go's zero value.
    fn element(&mut self, field: &Field, around: MsgId, value: &'v Value) {
        match (field.kind, value) {
            (Kind::String | Kind::Quantity | Kind::IntOrString, Value::String(text)) => {
                push_string(text, self.out)
            }
            (Kind::Time | Kind::MicroTime, Value::String(text)) if !leaf::is_zero_time(text) => {
                push_string(text, self.out)
            }
            (Kind::Bool | Kind::SchemaOrBool, Value::Bool(b)) => push_bool(*b, self.out),
            (Kind::Int32 | Kind::Int64 | Kind::IntOrString | Kind::Float64, Value::Int(i)) => {
                push_int(*i, self.out)
            }
            (Kind::Float64, Value::Float(f)) => push_float(*f, self.out),
            (Kind::Bytes, Value::Bytes(bytes)) => push_bytes(bytes, self.out),
            (Kind::RawExtension | Kind::FieldsV1 | Kind::Json, Value::Raw(raw)) => {
                push_raw(raw, self.out)
            }
            (Kind::Strings, Value::List(items)) => self.strings(items),
            (Kind::SchemaOrStrings, Value::List(items)) if !items.is_empty() => self.strings(items),
            (Kind::SchemaOrArray, Value::List(items)) if !items.is_empty() => {
                self.out.push(b'[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        self.out.push(b',');
                    }
                    self.message(item.as_map(), around);
                }
                self.out.push(b']');
            }
            (Kind::SchemaOrBool | Kind::SchemaOrArray | Kind::SchemaOrStrings, Value::Map(map)) => {
                self.message(Some(map), around);
            }
            (Kind::Message(id), Value::Map(map)) => self.message(Some(map), id),
            (kind, _) if field.has(Flags::ELEMENT_POINTER) || !has_zero(kind) => {
                self.out.extend_from_slice(b"null")
            }
            (kind, _) => zero(kind, self.out),
        }
    }

    fn strings(&mut self, items: &[Value]) {
        self.out.push(b'[');
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            push_string(item.as_str().unwrap_or_default(), self.out);
        }
        self.out.push(b']');
    }
}

/// Whether the zero value of a kind shows as something else than null.
fn has_zero(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::String
            | Kind::Bool
            | Kind::Int32
            | Kind::Int64
            | Kind::Float64
            | Kind::Quantity
            | Kind::IntOrString
            | Kind::SchemaOrBool
            | Kind::Message(_)
    )
}

fn zero(kind: Kind, out: &mut Vec<u8>) {
    let text: &[u8] = match kind {
        Kind::String => b"\"\"",
        Kind::Quantity => b"\"0\"",
        Kind::Bool | Kind::SchemaOrBool => b"false",
        Kind::Message(id) => return empty_message(id, out),
        _ => b"0",
    };
    out.extend_from_slice(text);
}
