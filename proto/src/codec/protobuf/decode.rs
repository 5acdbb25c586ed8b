//! Protobuf to a conformed tree, directed by a message.

use super::super::layout::{Layout, Slot, Tag, Target, find_tag, zero_of};
use super::super::{DecodeError, MAX_DEPTH, json, leaf};
use super::scalar::{int32, int_or_bytes, raw, timestamp};
use super::wire::{Fields, Wire};
use crate::catalogue::{Field, Flags, Kind, MsgId, Shape};
use crate::name::Name;
use crate::value::{Map, Value};

type Result<T> = std::result::Result<T, DecodeError>;
type Entries = Vec<(Name, Value)>;

pub(super) fn message(raw: &[u8], id: MsgId) -> Result<Value> {
    build(raw, id, Vec::new(), 0).map(Value::Map)
}

/// A message on top of what an earlier occurrence of the same field left: protobuf merges them.
fn build(raw: &[u8], id: MsgId, entries: Entries, depth: usize) -> Result<Map> {
    if depth >= MAX_DEPTH {
        return Err(DecodeError::TooDeep);
    }
    let layout = Layout::of(id);
    let mut builder = Builder { id, layout, inherited: !entries.is_empty(), entries, filled: 0, maps: Vec::new(), depth };
    builder.read(raw, &layout.tags)?;
    Ok(builder.finish())
}

/// A message being put together. Fields come in any order and more than once.
struct Builder {
    id: MsgId,
    layout: &'static Layout,
    entries: Entries,
    inherited: bool,
    /// The slots that have an entry.
    filled: u128,
    /// Maps, sorted once at the end, so that hostile orders cost no more than others.
    maps: Vec<(u8, Entries)>,
    depth: usize,
}

impl Builder {
    fn read(&mut self, raw: &[u8], tags: &'static [Tag]) -> Result<()> {
        let mut fields = Fields::new(raw, self.id.name());
        let mut guess = 0;
        while let Some((tag, wire)) = fields.next()? {
            let Some(i) = find_tag(tags, guess, tag) else { continue };
            guess = i;
            match &tags[i].to {
                Target::Slot(number) => self.set(*number, wire)?,
                Target::Inline(tags) => self.read(wire.bytes(self.id.name())?, tags)?,
            }
        }
        Ok(())
    }

    fn set(&mut self, number: u8, wire: Wire<'_>) -> Result<()> {
        let slot = self.layout.slot(number);
        let field = slot.field;
        match field.shape {
            Shape::One => {
                let old = self.take(number, slot);
                let value = self.value(field, wire, old)?;
                let absent = slot.zero_is_absent && leaf::is_zero(&value, field.kind)
                    || value.is_null() && !field.has(Flags::POINTER);
                if !absent {
                    self.put(number, slot, value);
                }
            }
            Shape::List => {
                let mut items = match self.entry(number, slot) {
                    Some(Value::List(items)) => std::mem::take(items),
                    _ => {
                        self.put(number, slot, Value::Null);
                        Vec::new()
                    }
                };
                self.push(&mut items, field, wire)?;
                if let Some(entry) = self.entry(number, slot) {
                    *entry = Value::List(items);
                }
            }
            Shape::Map => {
                let (name, value) = self.map_entry(field, wire.bytes(field.name.text())?)?;
                self.map(number, slot).push((name, value));
            }
        }
        Ok(())
    }

    fn has(&self, number: u8) -> bool {
        self.inherited || self.filled & (1 << number) != 0
    }

    fn position(&self, number: u8, slot: &Slot) -> Option<usize> {
        if !self.has(number) {
            return None;
        }
        // Mostly the field read last.
        self.entries.iter().rposition(|(name, _)| *name == Name::Known(slot.field.name))
    }

    fn entry(&mut self, number: u8, slot: &Slot) -> Option<&mut Value> {
        let i = self.position(number, slot)?;
        Some(&mut self.entries[i].1)
    }

    fn take(&mut self, number: u8, slot: &Slot) -> Option<Value> {
        let i = self.position(number, slot)?;
        self.filled &= !(1 << number);
        Some(self.entries.remove(i).1)
    }

    fn put(&mut self, number: u8, slot: &Slot, value: Value) {
        self.filled |= 1 << number;
        self.entries.push((Name::Known(slot.field.name), value));
    }

    fn map(&mut self, number: u8, slot: &Slot) -> &mut Entries {
        if let Some(i) = self.maps.iter().position(|(n, _)| *n == number) {
            return &mut self.maps[i].1;
        }
        let entries = match self.take(number, slot) {
            Some(Value::Map(map)) => map.into_iter().collect(),
            _ => Vec::new(),
        };
        self.maps.push((number, entries));
        let last = self.maps.len() - 1;
        &mut self.maps[last].1
    }

    fn finish(mut self) -> Map {
        for (number, entries) in std::mem::take(&mut self.maps) {
            self.put(number, self.layout.slot(number), Value::Map(Map::from_entries(entries).0));
        }
        for number in &self.layout.by_value {
            let slot = self.layout.slot(*number);
            if self.position(*number, slot).is_none() {
                self.put(*number, slot, zero_of(slot.field));
            }
        }
        Map::from_entries(self.entries).0
    }

    /// An element of a list; numbers may also come packed.
    fn push(&self, items: &mut Vec<Value>, field: &'static Field, wire: Wire<'_>) -> Result<()> {
        match (field.kind, wire) {
            (Kind::Bool | Kind::Int32 | Kind::Int64, Wire::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    let wire = Wire::Varint(super::wire::varint(&mut packed)?);
                    items.push(self.value(field, wire, None)?);
                }
            }
            (Kind::Float64, Wire::Bytes(packed)) => {
                let (chunks, rest) = packed.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(DecodeError::Truncated);
                }
                items.extend(chunks.iter().map(|c| Value::Float(f64::from_le_bytes(*c))));
            }
            _ => items.push(self.value(field, wire, None)?),
        }
        Ok(())
    }

    fn map_entry(&self, field: &'static Field, raw: &[u8]) -> Result<(Name, Value)> {
        let mut fields = Fields::new(raw, "MapEntry");
        let (mut key, mut value) = (Name::new(""), None);
        while let Some((tag, wire)) = fields.next()? {
            match tag {
                1 => key = Name::new(&json::lossy(wire.bytes("key")?)),
                2 => value = Some(self.value(field, wire, None)?),
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

    /// One value of the kind of a field.
    fn value(&self, field: &'static Field, wire: Wire<'_>, old: Option<Value>) -> Result<Value> {
        let name = field.name.text();
        Ok(match field.kind {
            Kind::String => Value::String(json::lossy(wire.bytes(name)?).into()),
            Kind::Bool => Value::Bool(wire.varint(name)? != 0),
            Kind::Int32 => Value::Int(int32(wire.varint(name)?).into()),
            Kind::Int64 => Value::Int(wire.varint(name)?.cast_signed()),
            Kind::Float64 => match wire {
                Wire::Fixed64(bits) => Value::Float(f64::from_bits(bits)),
                other => return Err(other.wrong(name)),
            },
            Kind::Bytes => Value::Bytes(wire.bytes(name)?.into()),
            Kind::Time | Kind::MicroTime => {
                Value::String(leaf::time_text(timestamp(wire.bytes(name)?, field.kind)?, field.kind))
            }
            Kind::Quantity => Value::String(quantity(wire.bytes(name)?)?),
            Kind::IntOrString => int_or_string(wire.bytes(name)?)?,
            Kind::RawExtension | Kind::FieldsV1 | Kind::Json => match raw(wire.bytes(name)?)? {
                Some(raw) if !raw.is_empty() || field.kind != Kind::FieldsV1 => Value::Raw(raw.into()),
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
            Kind::SchemaOrBool | Kind::SchemaOrArray | Kind::SchemaOrStrings => self.union(field.kind, wire.bytes(name)?)?,
            Kind::Message(id) => {
                let entries = match old {
                    Some(Value::Map(map)) => map.into_iter().collect(),
                    _ => Vec::new(),
                };
                Value::Map(build(wire.bytes(name)?, id, entries, self.depth + 1)?)
            }
        })
    }

    /// The unions of a CRD's schema, as JSON shows them.
    fn union(&self, kind: Kind, raw: &[u8]) -> Result<Value> {
        let nested = |raw| build(raw, self.id, Vec::new(), self.depth + 1).map(Value::Map);
        let (mut allows, mut schema, mut list) = (false, None, Vec::new());
        let mut fields = Fields::new(raw, "JSONSchemaPropsOr");
        while let Some((tag, wire)) = fields.next()? {
            match (kind, tag) {
                (Kind::SchemaOrBool, 1) => allows = wire.varint("Allows")? != 0,
                (Kind::SchemaOrBool, 2) | (_, 1) => schema = Some(nested(wire.bytes("Schema")?)?),
                (Kind::SchemaOrArray, 2) => list.push(nested(wire.bytes("JSONSchemas")?)?),
                (Kind::SchemaOrStrings, 2) => list.push(Value::String(json::lossy(wire.bytes("Property")?).into())),
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
