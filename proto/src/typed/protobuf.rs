//! Encoded protobuf as serde sees the JSON of it, by the spans of [`crate::codec::spans`].

use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::{Error, show_empty, show_float, show_raw, show_time, shows_itself};
use crate::catalogue::{Field, Kind, MsgId, Shape};
use crate::codec::layout::{Empty, Layout, numbers};
use crate::codec::protobuf::scalar;
use crate::codec::protobuf::wire;
use crate::codec::slots::Slots;
use crate::codec::spans::{self, Others, Span};
use crate::codec::{MAX_DEPTH, json, leaf};

/// Stops where only the way over the tree knows what to do.
fn common<T>(found: Option<T>) -> Result<T, Error> {
    found.ok_or(Error::Uncommon)
}

#[derive(Clone, Copy)]
pub(super) struct Message<'r> {
    raw: &'r [u8],
    id: MsgId,
    depth: usize,
}

shows_itself!(Message);

impl<'r> Message<'r> {
    pub(super) fn new(raw: &'r [u8], id: MsgId) -> Self {
        Self { raw, id, depth: 0 }
    }

    fn is_null(&self) -> Result<bool, Error> {
        Ok(false)
    }

    fn show<V: Visitor<'r>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.depth >= MAX_DEPTH {
            return Err(Error::Uncommon);
        }
        let layout = Layout::of(self.id);
        let mut spans = Vec::with_capacity(layout.fields.len());
        let mut slots = Slots::new(&spans);
        common(spans::note(self.raw, &layout.tags, &mut slots, &mut spans))?;
        let left = slots.present() | layout.always;
        visitor.visit_map(Fields {
            message: self,
            layout,
            spans,
            slots,
            left,
            current: None,
        })
    }
}

struct Fields<'r> {
    message: Message<'r>,
    layout: &'static Layout,
    spans: Vec<Span<'r>>,
    slots: Slots,
    /// The slots still to be shown.
    left: u64,
    current: Option<Node<'r>>,
}

impl<'r> MapAccess<'r> for Fields<'r> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'r>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        for number in numbers(self.left) {
            self.left &= !(1 << number);
            let slot = self.layout.slot(number);
            let what = match self.slots.get(&self.spans, number) {
                Some(span) if !common(span.is_absent(slot))? => What::Field(*span),
                _ if slot.empty == Empty::Omit => continue,
                _ => What::Empty(slot.empty),
            };
            let field = slot.field;
            self.current = Some(Node {
                what,
                field,
                around: self.message.id,
                depth: self.message.depth,
            });
            return seed
                .deserialize(field.name.text().into_deserializer())
                .map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'r>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(
            self.current
                .take()
                .expect("serde asks for a value after its key"),
        )
    }
}

/// A field, or one element of it.
#[derive(Clone, Copy)]
struct Node<'r> {
    what: What<'r>,
    field: &'static Field,
    /// The message of the field, and its depth.
    around: MsgId,
    depth: usize,
}

#[derive(Clone, Copy)]
enum What<'r> {
    Empty(Empty),
    Field(Span<'r>),
    Element(spans::Wire<'r>),
    /// A string of a list of strings that is a message of its own.
    Text(&'r [u8]),
    /// A schema of a union.
    Schema(&'r [u8]),
}

shows_itself!(Node);

impl<'r> Node<'r> {
    fn is_null(&self) -> Result<bool, Error> {
        let wire = match self.what {
            What::Empty(empty) => return Ok(empty == Empty::Null),
            What::Field(span) if self.field.shape == Shape::One => span.wire,
            What::Element(wire) => wire,
            _ => return Ok(false),
        };
        Ok(match self.field.kind {
            Kind::Time | Kind::MicroTime => {
                common(scalar::timestamp(common(wire.as_bytes())?, self.field.kind).ok())?.is_none()
            }
            Kind::RawExtension | Kind::FieldsV1 | Kind::Json => {
                !common(scalar::raw(common(wire.as_bytes())?).ok())?.is_some_and(json::is_valid)
            }
            Kind::SchemaOrArray | Kind::SchemaOrStrings => common(wire.as_bytes())?.is_empty(),
            _ => false,
        })
    }

    fn deeper(self) -> Self {
        Self {
            depth: self.depth + 1,
            ..self
        }
    }

    fn with(self, what: What<'r>) -> Self {
        Self { what, ..self }
    }

    fn show<V: Visitor<'r>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.what {
            What::Empty(empty) => show_empty(empty, visitor),
            What::Field(span) => match self.field.shape {
                Shape::One => self.show_element(span.wire, visitor),
                Shape::List => visitor.visit_seq(Items {
                    node: self.deeper(),
                    values: Values::of(span, self.field),
                }),
                Shape::Map => {
                    let values = Values::of(span, self.field);
                    visitor.visit_map(Entries {
                        node: self.deeper(),
                        values,
                        last: None,
                        value: None,
                    })
                }
            },
            What::Element(wire) => self.show_element(wire, visitor),
            What::Text(text) => show_text(text, visitor),
            What::Schema(raw) => self.message(raw, self.around).show(visitor),
        }
    }

    fn message(self, raw: &'r [u8], id: MsgId) -> Message<'r> {
        Message {
            raw,
            id,
            depth: self.depth + 1,
        }
    }

    fn show_element<V: Visitor<'r>>(
        self,
        wire: spans::Wire<'r>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let kind = self.field.kind;
        match kind {
            Kind::String => show_text(common(wire.as_bytes())?, visitor),
            Kind::Bool => visitor.visit_bool(common(wire.as_varint())? != 0),
            Kind::Int32 => visitor.visit_i64(scalar::int32(common(wire.as_varint())?).into()),
            Kind::Int64 => visitor.visit_i64(common(wire.as_varint())?.cast_signed()),
            Kind::Float64 => show_float(common(wire.as_double())?, visitor),
            Kind::Bytes => visitor.visit_string(leaf::to_base64(common(wire.as_bytes())?)),
            Kind::Time | Kind::MicroTime => show_time(
                common(scalar::timestamp(common(wire.as_bytes())?, kind).ok())?,
                kind,
                visitor,
            ),
            Kind::Quantity => match common(spans::quantity(wire))? {
                text if leaf::is_plainly_canonical(text) => visitor.visit_borrowed_str(text),
                text => visitor.visit_string(common(leaf::quantity(text).ok())?.into()),
            },
            Kind::IntOrString => match common(scalar::int_or_bytes(common(wire.as_bytes())?).ok())?
            {
                Ok(int) => visitor.visit_i64(int.into()),
                Err(text) => show_text(text, visitor),
            },
            Kind::RawExtension | Kind::FieldsV1 | Kind::Json => {
                match common(scalar::raw(common(wire.as_bytes())?).ok())? {
                    Some(raw) => show_raw(raw, visitor),
                    None => visitor.visit_unit(),
                }
            }
            Kind::Strings => visitor.visit_seq(Parts {
                node: self,
                fields: wire::Fields::new(common(wire.as_bytes())?, ""),
                tag: 1,
                of: What::Text,
            }),
            Kind::SchemaOrBool | Kind::SchemaOrArray | Kind::SchemaOrStrings => {
                self.show_union(common(wire.as_bytes())?, visitor)
            }
            Kind::Message(id) => self.message(common(wire.as_bytes())?, id).show(visitor),
        }
    }

    /// The unions of a CRD's schema.
    fn show_union<V: Visitor<'r>>(self, raw: &'r [u8], visitor: V) -> Result<V::Value, Error> {
        let or_bool = self.field.kind == Kind::SchemaOrBool;
        let (mut allows, mut schema, mut list) = (None, None, false);
        let mut fields = wire::Fields::new(raw, "");
        while let Some((tag, wire)) = common(fields.next().ok())? {
            match tag {
                1 if or_bool && allows.is_none() => allows = Some(common(wire.as_varint())? != 0),
                2 if !or_bool => list = true,
                1 | 2 if schema.is_none() => schema = Some(common(wire.as_bytes())?),
                _ => return Err(Error::Uncommon),
            }
        }
        match schema {
            Some(_) if list => Err(Error::Uncommon),
            _ if list => {
                let of = if self.field.kind == Kind::SchemaOrArray {
                    What::Schema
                } else {
                    What::Text
                };
                visitor.visit_seq(Parts {
                    node: self,
                    fields: wire::Fields::new(raw, ""),
                    tag: 2,
                    of,
                })
            }
            Some(schema) => self.with(What::Schema(schema)).show(visitor),
            None if or_bool => visitor.visit_bool(allows.unwrap_or(false)),
            None => visitor.visit_unit(),
        }
    }
}

fn show_text<'r, V: Visitor<'r>>(text: &'r [u8], visitor: V) -> Result<V::Value, Error> {
    match json::lossy(text) {
        std::borrow::Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
        std::borrow::Cow::Owned(text) => visitor.visit_string(text),
    }
}

/// The values of a list or map.
struct Values<'r> {
    first: Option<spans::Wire<'r>>,
    others: Others<'r>,
}

impl<'r> Values<'r> {
    fn of(span: Span<'r>, field: &Field) -> Self {
        Self {
            first: Some(span.wire),
            others: span.others(field),
        }
    }

    fn next(&mut self) -> Option<spans::Wire<'r>> {
        self.first.take().or_else(|| self.others.next())
    }
}

struct Items<'r> {
    node: Node<'r>,
    values: Values<'r>,
}

impl<'r> SeqAccess<'r> for Items<'r> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'r>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        self.values
            .next()
            .map(|wire| seed.deserialize(self.node.with(What::Element(wire))))
            .transpose()
    }
}

struct Entries<'r> {
    node: Node<'r>,
    values: Values<'r>,
    /// The key before, because keys must ascend.
    last: Option<&'r str>,
    value: Option<spans::Wire<'r>>,
}

impl<'r> MapAccess<'r> for Entries<'r> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'r>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(wire) = self.values.next() else {
            return Ok(None);
        };
        let (key, value) = common(spans::entry(wire))?;
        if self.last.is_some_and(|last| last >= key) {
            return Err(Error::Uncommon);
        }
        (self.last, self.value) = (Some(key), Some(value));
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'r>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let value = self
            .value
            .take()
            .expect("serde asks for a value after its key");
        seed.deserialize(self.node.with(What::Element(value)))
    }
}

/// The parts of a list that is a message of its own.
struct Parts<'r> {
    node: Node<'r>,
    fields: wire::Fields<'r>,
    tag: u32,
    of: fn(&'r [u8]) -> What<'r>,
}

impl<'r> SeqAccess<'r> for Parts<'r> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'r>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        while let Some((tag, wire)) = common(self.fields.next().ok())? {
            if tag == self.tag {
                let part = (self.of)(common(wire.as_bytes())?);
                return seed.deserialize(self.node.with(part)).map(Some);
            }
        }
        Ok(None)
    }
}
