//! Protobuf to a conformed tree, directed by a message.

use super::super::layout::{Layout, Tags, Target, zero_of};
use super::super::slots::Parts;
use super::super::{DecodeError, MAX_DEPTH, Reopened, json, leaf};
use super::scalar::{int_or_bytes, int32, raw, timestamp};
use super::wire::{Fields, Wire};
use crate::catalogue::{Field, Flags, Kind, MsgId, Shape};
use crate::name::Name;
use crate::value::{Map, Value};

type Result<T> = std::result::Result<T, DecodeError>;

pub(super) fn message(raw: &[u8], id: MsgId) -> Result<Value> {
    let mut decoder = Decoder {
        stack: Vec::with_capacity(128),
        reopened: Reopened::default(),
        depth: 0,
    };
    decoder.message(raw, id, None).map(Value::Map)
}

struct Decoder {
    /// The values of the messages being decoded.
    stack: Vec<Value>,
    reopened: Reopened,
    depth: usize,
}

/// Maps of one message, by slot: sorted once at the end, so that hostile orders cost no more than
/// others.
type Maps = Vec<(u8, Vec<(Name, Value)>)>;

impl Decoder {
    /// Goes a level deeper; [`Decoder::depth`] is the caller's to take back.
    fn enter(&mut self) -> Result<()> {
        if self.depth >= MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        self.depth += 1;
        Ok(())
    }

    /// A message on top of what an earlier occurrence of the same field left: protobuf merges them.
    fn message(&mut self, raw: &[u8], id: MsgId, old: Option<Value>) -> Result<Map> {
        self.enter()?;
        let layout = Layout::of(id);
        let mut parts = Parts::new(layout, old, &mut self.stack);
        let mut maps = Maps::new();
        self.fields(raw, id, &layout.tags, &mut parts, &mut maps)?;
        for (number, entries) in maps {
            parts.put(
                &mut self.stack,
                number,
                Value::Map(Map::from_entries(entries).0),
            );
        }
        self.depth -= 1;
        Ok(parts.finish(&mut self.stack))
    }

    fn fields(
        &mut self,
        raw: &[u8],
        id: MsgId,
        tags: &'static Tags,
        parts: &mut Parts,
        maps: &mut Maps,
    ) -> Result<()> {
        let mut fields = Fields::new(raw, id.name());
        while let Some((tag, wire)) = fields.next()? {
            let Some(row) = tags.find(tag) else { continue };
            match &tags.rows[row].to {
                Target::Slot(number) => self.field(id, *number, wire, parts, maps)?,
                Target::Inline(tags) => {
                    self.fields(wire.bytes(id.name())?, id, tags, parts, maps)?
                }
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        id: MsgId,
        number: u8,
        wire: Wire<'_>,
        parts: &mut Parts,
        maps: &mut Maps,
    ) -> Result<()> {
        let slot = Layout::of(id).slot(number);
        let field = slot.field;
        match field.shape {
            Shape::One => {
                let old = parts.take(&mut self.stack, number);
                let value = self.value(field, id, wire, old)?;
                let absent = slot.zero_is_absent && leaf::is_zero(&value, field.kind)
                    || value.is_null() && !field.has(Flags::POINTER);
                if !absent {
                    parts.put(&mut self.stack, number, value);
                }
            }
            Shape::List => {
                let mut items = match parts.get_mut(&mut self.stack, number) {
                    Some(Value::List(items)) => std::mem::take(items),
                    _ => Vec::new(),
                };
                self.enter()?;
                self.push(&mut items, field, id, wire)?;
                self.depth -= 1;
                // A packed list may have nothing in it.
                if !items.is_empty() {
                    parts.put(&mut self.stack, number, Value::List(items));
                }
            }
            Shape::Map => {
                self.enter()?;
                let entry = self.map_entry(field, id, wire.bytes(field.name.text())?)?;
                self.depth -= 1;
                match maps.iter_mut().find(|(n, _)| *n == number) {
                    Some((_, entries)) => entries.push(entry),
                    None => {
                        let mut entries = match parts.take(&mut self.stack, number) {
                            Some(Value::Map(map)) => self.reopened.take(map, field)?,
                            _ => Vec::new(),
                        };
                        entries.push(entry);
                        maps.push((number, entries));
                    }
                }
            }
        }
        Ok(())
    }

    /// An element of a list; numbers may also come packed.
    fn push(
        &mut self,
        items: &mut Vec<Value>,
        field: &'static Field,
        id: MsgId,
        wire: Wire<'_>,
    ) -> Result<()> {
        match (field.kind, wire.as_bytes()) {
            (Kind::Bool | Kind::Int32 | Kind::Int64, Some(mut packed)) => {
                while !packed.is_empty() {
                    let wire = Wire::of_varint(super::wire::varint(&mut packed)?);
                    items.push(self.value(field, id, wire, None)?);
                }
            }
            (Kind::Float64, Some(packed)) => {
                let (chunks, rest) = packed.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(DecodeError::Truncated);
                }
                items.extend(chunks.iter().map(|c| Value::Float(f64::from_le_bytes(*c))));
            }
            _ => items.push(self.value(field, id, wire, None)?),
        }
        Ok(())
    }

    fn map_entry(&mut self, field: &'static Field, id: MsgId, raw: &[u8]) -> Result<(Name, Value)> {
        let mut fields = Fields::new(raw, "MapEntry");
        let (mut key, mut value) = (Name::new(""), None);
        while let Some((tag, wire)) = fields.next()? {
            match tag {
                1 => key = Name::new(&json::lossy(wire.bytes("key")?)),
                2 => value = Some(self.value(field, id, wire, None)?),
                _ => {}
            }
        }
        let value = value.unwrap_or_else(|| match field.kind {
            // Upstream makes the bytes before it knows that there are none.
            Kind::Bytes => Value::Bytes(Box::default()),
            Kind::Strings => Value::List(Vec::new()),
            _ => zero_of(field),
        });
        Ok((key, value))
    }

    /// One value of the kind of a field of the message `around`.
    fn value(
        &mut self,
        field: &'static Field,
        around: MsgId,
        wire: Wire<'_>,
        old: Option<Value>,
    ) -> Result<Value> {
        let name = field.name.text();
        Ok(match field.kind {
            Kind::String => Value::String(json::lossy(wire.bytes(name)?).into()),
            Kind::Bool => Value::Bool(wire.varint(name)? != 0),
            Kind::Int32 => Value::Int(int32(wire.varint(name)?).into()),
            Kind::Int64 => Value::Int(wire.varint(name)?.cast_signed()),
            Kind::Float64 => Value::Float(wire.double(name)?),
            Kind::Bytes => Value::Bytes(wire.bytes(name)?.into()),
            Kind::Time | Kind::MicroTime => Value::String(leaf::time_text(
                timestamp(wire.bytes(name)?, field.kind)?,
                field.kind,
            )),
            Kind::Quantity => Value::String(quantity(wire.bytes(name)?)?),
            Kind::IntOrString => int_or_string(wire.bytes(name)?)?,
            Kind::RawExtension | Kind::FieldsV1 | Kind::Json => match raw(wire.bytes(name)?)? {
                Some(raw) if !raw.is_empty() || field.kind != Kind::FieldsV1 => {
                    Value::Raw(raw.into())
                }
                _ => Value::Null,
            },
            Kind::Strings => {
                let mut items = match old {
                    Some(Value::List(items)) => items,
                    _ => Vec::new(),
                };
                let mut fields = Fields::new(wire.bytes(name)?, name);
                while let Some((tag, wire)) = fields.next()? {
                    if tag == 1 {
                        items.push(Value::String(json::lossy(wire.bytes("Items")?).into()));
                    }
                }
                Value::List(items)
            }
            Kind::SchemaOrBool | Kind::SchemaOrArray | Kind::SchemaOrStrings => {
                self.union(field.kind, around, wire.bytes(name)?)?
            }
            Kind::Message(id) => Value::Map(self.message(wire.bytes(name)?, id, old)?),
        })
    }

    /// The unions of a CRD's schema, as JSON shows them.
    fn union(&mut self, kind: Kind, id: MsgId, raw: &[u8]) -> Result<Value> {
        let mut nested = |raw| self.message(raw, id, None).map(Value::Map);
        let (mut allows, mut schema, mut list) = (false, None, Vec::new());
        let mut fields = Fields::new(raw, "JSONSchemaPropsOr");
        while let Some((tag, wire)) = fields.next()? {
            match (kind, tag) {
                (Kind::SchemaOrBool, 1) => allows = wire.varint("Allows")? != 0,
                (Kind::SchemaOrBool, 2) | (_, 1) => schema = Some(nested(wire.bytes("Schema")?)?),
                (Kind::SchemaOrArray, 2) => list.push(nested(wire.bytes("JSONSchemas")?)?),
                (Kind::SchemaOrStrings, 2) => {
                    list.push(Value::String(json::lossy(wire.bytes("Property")?).into()))
                }
                _ => {}
            }
        }
        Ok(match schema {
            _ if !list.is_empty() => Value::List(list),
            Some(schema) => schema,
            None if kind == Kind::SchemaOrBool => Value::Bool(allows),
            None => Value::Null,
        })
    }
}

fn quantity(raw: &[u8]) -> Result<Box<str>> {
    let mut text = "0".into();
    let mut fields = Fields::new(raw, "Quantity");
    while let Some((tag, wire)) = fields.next()? {
        if tag == 1 {
            text = leaf::quantity(&json::lossy(wire.bytes("String_")?))?;
        }
    }
    Ok(text)
}

fn int_or_string(raw: &[u8]) -> Result<Value> {
    Ok(match int_or_bytes(raw)? {
        Ok(int) => Value::Int(int.into()),
        Err(text) => Value::String(json::lossy(text).into()),
    })
}
