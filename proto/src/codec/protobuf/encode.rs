//! A conformed tree to protobuf, backwards: tags, lists and maps from the last to the first.

use super::super::layout::{Layout, Tag, Target};
use super::super::leaf;
use super::wire::{Back, FIXED64, VARINT};
use crate::catalogue::{Field, Flags, Kind, MsgId, Shape};
use crate::value::{Map, Value};

/// Writes the content of a message; none is an empty one.
pub(super) fn message(map: Option<&Map>, id: MsgId, back: &mut Back<'_>) {
    let layout = Layout::of(id);
    fields(map, id, layout, &layout.tags, back);
}

fn fields(map: Option<&Map>, id: MsgId, layout: &Layout, tags: &[Tag], back: &mut Back<'_>) {
    for tag in tags.iter().rev() {
        match &tag.to {
            Target::Slot(number) => {
                let field = layout.slot(*number).field;
                let value = map.and_then(|m| m.get(field.name));
                self::field(field, id, tag.tag, value, back);
            }
            Target::Inline(tags) => {
                let mark = back.written();
                fields(map, id, layout, tags, back);
                back.close(tag.tag, mark);
            }
        }
    }
}

fn field(field: &Field, around: MsgId, tag: u16, value: Option<&Value>, back: &mut Back<'_>) {
    match (field.shape, value) {
        (Shape::List, Some(Value::List(items))) => {
            for item in items.iter().rev() {
                element(field, around, tag, Some(item), back);
            }
        }
        (Shape::Map, Some(Value::Map(map))) => {
            for (name, item) in map.iter().rev() {
                let mark = back.written();
                // Bytes that are nil have a key and no value.
                if field.kind != Kind::Bytes || matches!(item, Value::Bytes(_)) {
                    element(field, around, 2, Some(item), back);
                }
                back.field(1, name.as_str().as_bytes());
                back.close(tag, mark);
            }
        }
        (Shape::List | Shape::Map, _) => {}
        (Shape::One, value) => {
            let value = value.filter(|v| leaf::fits(field.kind, v));
            let optional = field.has(Flags::POINTER) || matches!(field.kind, Kind::Bytes | Kind::Strings);
            if value.is_some() || !optional {
                element(field, around, tag, value, back);
            }
        }
    }
}

/// One value of the kind of a field; a node of another type is Go's zero value.
fn element(field: &Field, around: MsgId, tag: u16, value: Option<&Value>, back: &mut Back<'_>) {
    let int = match value {
        Some(Value::Int(i)) => *i,
        Some(Value::Bool(b)) => i64::from(*b),
        _ => 0,
    };
    let text = value.and_then(Value::as_str);
    match field.kind {
        Kind::String => return back.field(tag, text.unwrap_or_default().as_bytes()),
        Kind::Bytes => {
            let bytes: &[u8] = if let Some(Value::Bytes(bytes)) = value { bytes } else { &[] };
            return back.field(tag, bytes);
        }
        Kind::Bool | Kind::Int32 | Kind::Int64 => {
            back.varint(int.cast_unsigned());
            return back.key(tag, VARINT);
        }
        Kind::Float64 => {
            back.bytes(&float(value).to_le_bytes());
            return back.key(tag, FIXED64);
        }
        _ => {}
    }
    let mark = back.written();
    match field.kind {
        Kind::Time | Kind::MicroTime => {
            if let Some((secs, nanos)) = text.and_then(|t| leaf::unix_of(t, field.kind)) {
                back.varint(i64::from(nanos).cast_unsigned());
                back.key(2, VARINT);
                back.varint(secs.cast_unsigned());
                back.key(1, VARINT);
            }
        }
        Kind::Quantity => back.field(1, text.unwrap_or("0").as_bytes()),
        Kind::IntOrString => {
            back.field(3, text.unwrap_or_default().as_bytes());
            back.varint(int.cast_unsigned());
            back.key(2, VARINT);
            back.varint(text.is_some().into());
            back.key(1, VARINT);
        }
        Kind::RawExtension | Kind::FieldsV1 | Kind::Json => match value {
            Some(Value::Raw(raw)) if !raw.is_empty() || field.kind != Kind::FieldsV1 => back.field(1, raw),
            _ => {}
        },
        Kind::Strings => strings(1, value, back),
        Kind::SchemaOrBool | Kind::SchemaOrArray | Kind::SchemaOrStrings => union(field.kind, around, value, back),
        Kind::Message(id) => message(value.and_then(Value::as_map), id, back),
        Kind::String | Kind::Bytes | Kind::Bool | Kind::Int32 | Kind::Int64 | Kind::Float64 => {}
    }
    back.close(tag, mark);
}

fn float(value: Option<&Value>) -> f64 {
    match value {
        Some(Value::Float(f)) => *f,
        #[allow(clippy::cast_precision_loss, reason = "JSON numbers in schemas are doubles")]
        Some(Value::Int(i)) => *i as f64,
        _ => 0.0,
    }
}

fn strings(tag: u16, value: Option<&Value>, back: &mut Back<'_>) {
    for item in value.and_then(Value::as_list).unwrap_or_default().iter().rev() {
        back.field(tag, item.as_str().unwrap_or_default().as_bytes());
    }
}

fn union(kind: Kind, schema: MsgId, value: Option<&Value>, back: &mut Back<'_>) {
    let nested = |tag, value: &Value, back: &mut Back<'_>| {
        let mark = back.written();
        message(value.as_map(), schema, back);
        back.close(tag, mark);
    };
    match (kind, value) {
        (Kind::SchemaOrBool, value) => {
            if let Some(value @ Value::Map(_)) = value {
                nested(2, value, back);
            }
            let allows = !matches!(value, None | Some(Value::Null | Value::Bool(false)));
            back.varint(allows.into());
            back.key(1, VARINT);
        }
        (_, Some(value @ Value::Map(_))) => nested(1, value, back),
        (Kind::SchemaOrStrings, value) => strings(2, value, back),
        (_, Some(Value::List(items))) => {
            for item in items.iter().rev() {
                nested(2, item, back);
            }
        }
        _ => {}
    }
}
