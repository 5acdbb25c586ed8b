//! A conformed tree to protobuf, backwards: tags, lists and maps from the last to the first.

use super::super::layout::{Layout, Tags, Target};
use super::super::leaf;
use super::super::slots::Slots;
use super::wire::{Back, FIXED64, VARINT};
use crate::catalogue::{Field, Flags, Kind, MsgId, Shape};
use crate::value::{Map, Value};

/// Writes messages; holds the entries of those being written.
pub(super) struct Encoder<'v, 'b, 'o> {
    back: &'b mut Back<'o>,
    stack: Vec<&'v Value>,
}

/// Writes the content of a message; none is an empty one.
pub(super) fn message(map: Option<&Map>, id: MsgId, back: &mut Back<'_>) {
    Encoder {
        back,
        stack: Vec::with_capacity(128),
    }
    .message(map, id);
}

impl<'v> Encoder<'v, '_, '_> {
    fn message(&mut self, map: Option<&'v Map>, id: MsgId) {
        let layout = Layout::of(id);
        let slots = Slots::of(map, layout, &mut self.stack);
        self.fields(&slots, id, layout, &layout.tags);
        slots.leave(&mut self.stack);
    }

    fn fields(&mut self, slots: &Slots, id: MsgId, layout: &'static Layout, tags: &Tags) {
        for tag in tags.rows.iter().rev() {
            match &tag.to {
                Target::Slot(number) => {
                    let value = slots.get(&self.stack, *number).copied();
                    self.field(layout.slot(*number).field, id, tag.tag, value);
                }
                Target::Inline(tags) => {
                    let mark = self.back.written();
                    self.fields(slots, id, layout, tags);
                    self.back.close(tag.tag, mark);
                }
            }
        }
    }

    fn field(&mut self, field: &Field, around: MsgId, tag: u16, value: Option<&'v Value>) {
        match (field.shape, value) {
            (Shape::List, Some(Value::List(items))) => {
                for item in items.iter().rev() {
                    self.element(field, around, tag, Some(item));
                }
            }
            (Shape::Map, Some(Value::Map(map))) => {
                for (name, item) in map.iter().rev() {
                    let mark = self.back.written();
                    // Bytes that are nil have a key and no value.
                    if field.kind != Kind::Bytes || matches!(item, Value::Bytes(_)) {
                        self.element(field, around, 2, Some(item));
                    }
                    self.back.field(1, name.as_str().as_bytes());
                    self.back.close(tag, mark);
                }
            }
            (Shape::List | Shape::Map, _) => {}
            (Shape::One, value) => {
                let value = value.filter(|v| leaf::fits(field.kind, v));
                let optional =
                    field.has(Flags::POINTER) || matches!(field.kind, Kind::Bytes | Kind::Strings);
                if value.is_some() || !optional {
                    self.element(field, around, tag, value);
                }
            }
        }
    }

    /// One value of the kind of a field; a node of another type is Go's zero value.
    fn element(&mut self, field: &Field, around: MsgId, tag: u16, value: Option<&'v Value>) {
        let int = match value {
            Some(Value::Int(i)) => *i,
            Some(Value::Bool(b)) => i64::from(*b),
            _ => 0,
        };
        let text = value.and_then(Value::as_str);
        match field.kind {
            Kind::String => return self.back.field(tag, text.unwrap_or_default().as_bytes()),
            Kind::Bytes => {
                let bytes: &[u8] = if let Some(Value::Bytes(bytes)) = value {
                    bytes
                } else {
                    &[]
                };
                return self.back.field(tag, bytes);
            }
            Kind::Bool | Kind::Int32 | Kind::Int64 => {
                self.back.varint(int.cast_unsigned());
                return self.back.key(tag, VARINT);
            }
            Kind::Float64 => {
                self.back.bytes(&float(value).to_le_bytes());
                return self.back.key(tag, FIXED64);
            }
            _ => {}
        }
        let mark = self.back.written();
        match field.kind {
            Kind::Time | Kind::MicroTime => {
                if let Some((secs, nanos)) = text.and_then(|t| leaf::unix_of(t, field.kind)) {
                    self.back.varint(i64::from(nanos).cast_unsigned());
                    self.back.key(2, VARINT);
                    self.back.varint(secs.cast_unsigned());
                    self.back.key(1, VARINT);
                }
            }
            Kind::Quantity => self.back.field(1, text.unwrap_or("0").as_bytes()),
            Kind::IntOrString => {
                self.back.field(3, text.unwrap_or_default().as_bytes());
                self.back.varint(int.cast_unsigned());
                self.back.key(2, VARINT);
                self.back.varint(text.is_some().into());
                self.back.key(1, VARINT);
            }
            Kind::RawExtension | Kind::FieldsV1 | Kind::Json => match value {
                Some(Value::Raw(raw)) if !raw.is_empty() || field.kind != Kind::FieldsV1 => {
                    self.back.field(1, raw)
                }
                _ => {}
            },
            Kind::Strings => self.strings(1, value),
            Kind::SchemaOrBool | Kind::SchemaOrArray | Kind::SchemaOrStrings => {
                self.union(field.kind, around, value)
            }
            Kind::Message(id) => self.message(value.and_then(Value::as_map), id),
            Kind::String | Kind::Bytes | Kind::Bool | Kind::Int32 | Kind::Int64 | Kind::Float64 => {
            }
        }
        self.back.close(tag, mark);
    }

    fn strings(&mut self, tag: u16, value: Option<&'v Value>) {
        for item in value
            .and_then(Value::as_list)
            .unwrap_or_default()
            .iter()
            .rev()
        {
            self.back
                .field(tag, item.as_str().unwrap_or_default().as_bytes());
        }
    }

    fn union(&mut self, kind: Kind, schema: MsgId, value: Option<&'v Value>) {
        match (kind, value) {
            (Kind::SchemaOrBool, value) => {
                if let Some(value @ Value::Map(_)) = value {
                    self.schema(2, schema, value);
                }
                let allows = !matches!(value, None | Some(Value::Null | Value::Bool(false)));
                self.back.varint(allows.into());
                self.back.key(1, VARINT);
            }
            (_, Some(value @ Value::Map(_))) => self.schema(1, schema, value),
            (Kind::SchemaOrStrings, value) => self.strings(2, value),
            (_, Some(Value::List(items))) => {
                for item in items.iter().rev() {
                    self.schema(2, schema, item);
                }
            }
            _ => {}
        }
    }

    fn schema(&mut self, tag: u16, id: MsgId, value: &'v Value) {
        let mark = self.back.written();
        self.message(value.as_map(), id);
        self.back.close(tag, mark);
    }
}

fn float(value: Option<&Value>) -> f64 {
    match value {
        Some(Value::Float(f)) => *f,
        #[allow(
            clippy::cast_precision_loss,
            reason = "JSON numbers in schemas are doubles"
        )]
        Some(Value::Int(i)) => *i as f64,
        _ => 0.0,
    }
}
