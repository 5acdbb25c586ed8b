//! Stored protobuf to JSON without a tree between them.
//!
//! One walk over the bytes of a message notes where each field is ([`super::spans`]), a second over the
//! fields in JSON order prints them. What no encoder writes (a single field given twice, keys out of order, packed
//! numbers, invalid UTF-8 in keys) takes the way over the tree, so that the result is always that of
//! [`protobuf::decode`] and [`json::encode`], byte for byte.

use super::json::{self, push_float, push_raw, push_string};
use super::layout::{Empty, Layout, Slot, numbers};
use super::protobuf::wire::{Fields, Wire};
use super::protobuf::{self, scalar};
use super::slots::Slots;
use super::spans::{self, Span};
use super::{DecodeError, MAX_DEPTH, leaf};
use crate::catalogue::{Field, Kind, MsgId, Shape, names};

/// What a message says of itself in JSON, where protobuf leaves it to the envelope.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TypeMeta<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
}

/// Appends the JSON of an encoded message (without envelope). Objects in lists have no `type_meta`.
///
/// # Errors
/// As [`protobuf::decode`]; nothing is appended then.
pub fn to_json(
    raw: &[u8],
    message: MsgId,
    type_meta: Option<TypeMeta<'_>>,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let start = out.len();
    let mut fast = Transcoder {
        out,
        spans: Vec::with_capacity(128),
        depth: 0,
    };
    if fast.message(raw, message, type_meta).is_some() {
        return Ok(());
    }
    out.truncate(start);
    let mut value = protobuf::decode(raw, message)?;
    if let Some(meta) = type_meta {
        let map = value.make_map();
        map.insert("kind", meta.kind);
        map.insert("apiVersion", meta.api_version);
    }
    json::encode(&value, message, out);
    Ok(())
}

/// Methods return none where only the way over the tree knows what to do.
struct Transcoder<'r, 'o> {
    out: &'o mut Vec<u8>,
    /// The fields of the messages being printed, innermost last.
    spans: Vec<Span<'r>>,
    depth: usize,
}

impl<'r> Transcoder<'r, '_> {
    fn enter(&mut self) -> Option<()> {
        self.depth += 1;
        (self.depth <= MAX_DEPTH).then_some(())
    }

    fn message(&mut self, raw: &'r [u8], id: MsgId, type_meta: Option<TypeMeta<'_>>) -> Option<()> {
        self.enter()?;
        let layout = Layout::of(id);
        let mut slots = Slots::new(&self.spans);
        spans::note(raw, &layout.tags, &mut slots, &mut self.spans)?;
        self.out.push(b'{');
        let mut open = false;
        if let Some(meta) = type_meta {
            self.type_meta(layout, meta, &mut open);
        }
        for number in numbers(slots.present() | layout.always) {
            let slot = layout.slot(number);
            match slots.get(&self.spans, number).copied() {
                Some(span) if !span.is_absent(slot)? => {
                    self.key(slot, &mut open);
                    self.field(slot.field, id, &span)?;
                }
                _ if slot.empty == Empty::Omit => {}
                _ => {
                    self.key(slot, &mut open);
                    json::push_empty(slot.empty, self.out);
                }
            }
        }
        self.out.push(b'}');
        slots.leave(&mut self.spans);
        self.depth -= 1;
        Some(())
    }

    /// `kind` and `apiVersion`, which Go's structs have first.
    fn type_meta(&mut self, layout: &'static Layout, meta: TypeMeta<'_>, open: &mut bool) {
        for slot in layout.fields.iter().take_while(|slot| slot.is_type_meta) {
            let text = if slot.field.name == names::KIND {
                meta.kind
            } else {
                meta.api_version
            };
            if !text.is_empty() {
                self.key(slot, open);
                push_string(text, self.out);
            }
        }
    }

    fn key(&mut self, slot: &Slot, open: &mut bool) {
        if *open {
            self.out.push(b',');
        }
        *open = true;
        self.out.extend_from_slice(slot.key.as_bytes());
    }

    fn field(&mut self, field: &'static Field, around: MsgId, span: &Span<'r>) -> Option<()> {
        match field.shape {
            Shape::One => self.element(field, around, span.wire),
            Shape::List => {
                self.enter()?;
                self.out.push(b'[');
                self.element(field, around, span.wire)?;
                for wire in span.others(field) {
                    self.out.push(b',');
                    self.element(field, around, wire)?;
                }
                self.out.push(b']');
                self.depth -= 1;
                Some(())
            }
            Shape::Map => {
                self.enter()?;
                self.out.push(b'{');
                let mut last = self.entry(field, around, span.wire)?;
                for wire in span.others(field) {
                    self.out.push(b',');
                    let key = self.entry(field, around, wire)?;
                    // Sorted and without duplicates, or the tree has to see to it.
                    if last >= key {
                        return None;
                    }
                    last = key;
                }
                self.out.push(b'}');
                self.depth -= 1;
                Some(())
            }
        }
    }

    /// An entry of a map; returns its key.
    fn entry(&mut self, field: &'static Field, around: MsgId, wire: Wire<'r>) -> Option<&'r str> {
        let (key, value) = spans::entry(wire)?;
        push_string(key, self.out);
        self.out.push(b':');
        self.element(field, around, value)?;
        Some(key)
    }

    fn element(&mut self, field: &'static Field, around: MsgId, wire: Wire<'r>) -> Option<()> {
        match field.kind {
            Kind::String => json::push_text(wire.as_bytes()?, self.out),
            Kind::Bool => json::push_bool(wire.as_varint()? != 0, self.out),
            Kind::Int32 => json::push_int(scalar::int32(wire.as_varint()?).into(), self.out),
            Kind::Int64 => json::push_int(wire.as_varint()?.cast_signed(), self.out),
            Kind::Float64 => push_float(wire.as_double()?, self.out),
            Kind::Bytes => json::push_bytes(wire.as_bytes()?, self.out),
            Kind::Time | Kind::MicroTime => {
                match scalar::timestamp(wire.as_bytes()?, field.kind).ok()? {
                    None => self.out.extend_from_slice(b"null"),
                    time => {
                        self.out.push(b'"');
                        leaf::push_time(time, field.kind, self.out);
                        self.out.push(b'"');
                    }
                }
            }
            Kind::Quantity => {
                let text = spans::quantity(wire)?;
                if leaf::is_plainly_canonical(text) {
                    push_string(text, self.out);
                } else {
                    push_string(&leaf::quantity(text).ok()?, self.out);
                }
            }
            Kind::IntOrString => match scalar::int_or_bytes(wire.as_bytes()?).ok()? {
                Ok(int) => json::push_int(int.into(), self.out),
                Err(text) => json::push_text(text, self.out),
            },
            Kind::RawExtension | Kind::FieldsV1 | Kind::Json => {
                match scalar::raw(wire.as_bytes()?).ok()? {
                    Some(raw) => push_raw(raw, self.out),
                    None => self.out.extend_from_slice(b"null"),
                }
            }
            Kind::Strings => self.strings(wire.as_bytes()?)?,
            Kind::SchemaOrBool | Kind::SchemaOrArray | Kind::SchemaOrStrings => {
                self.union(field.kind, around, wire.as_bytes()?)?
            }
            Kind::Message(id) => self.message(wire.as_bytes()?, id, None)?,
        }
        Some(())
    }

    fn strings(&mut self, raw: &'r [u8]) -> Option<()> {
        self.out.push(b'[');
        let mut fields = Fields::new(raw, "");
        let mut first = true;
        while let Some((tag, wire)) = fields.next().ok()? {
            if tag == 1 {
                if !first {
                    self.out.push(b',');
                }
                first = false;
                json::push_text(wire.as_bytes()?, self.out);
            }
        }
        self.out.push(b']');
        Some(())
    }

    /// The unions of a CRD's schema.
    fn union(&mut self, kind: Kind, around: MsgId, raw: &'r [u8]) -> Option<()> {
        let mut fields = Fields::new(raw, "");
        let (mut allows, mut schema, mut list) = (None, None, false);
        while let Some((tag, wire)) = fields.next().ok()? {
            match (kind, tag) {
                (Kind::SchemaOrBool, 1) if allows.is_none() => {
                    allows = Some(wire.as_varint()? != 0)
                }
                (Kind::SchemaOrBool, 2) | (Kind::SchemaOrArray | Kind::SchemaOrStrings, 1)
                    if schema.is_none() =>
                {
                    schema = Some(wire.as_bytes()?);
                }
                (Kind::SchemaOrArray | Kind::SchemaOrStrings, 2) => {
                    self.out.push(if list { b',' } else { b'[' });
                    list = true;
                    match kind {
                        Kind::SchemaOrArray => self.message(wire.as_bytes()?, around, None)?,
                        _ => json::push_text(wire.as_bytes()?, self.out),
                    }
                }
                _ => return None,
            }
        }
        match (schema, allows) {
            // Both: the schema would have to be checked, too.
            (Some(_), _) if list => return None,
            _ if list => self.out.push(b']'),
            (Some(schema), _) => self.message(schema, around, None)?,
            (None, allows) if kind == Kind::SchemaOrBool => {
                json::push_bool(allows.unwrap_or(false), self.out)
            }
            _ => self.out.extend_from_slice(b"null"),
        }
        Some(())
    }
}
