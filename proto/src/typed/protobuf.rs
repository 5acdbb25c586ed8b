//! Encoded protobuf as serde sees the JSON of it, by the spans of [`crate::codec::spans`].

use std::borrow::Cow;

use super::json::{look_float, look_raw};
use super::{Error, Left, Node as Any, Shown, look_empty, look_time};
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

impl<'r> Message<'r> {
    pub(super) fn new(raw: &'r [u8], id: MsgId) -> Self {
        Self { raw, id, depth: 0 }
    }

    pub(super) fn look(self) -> Result<Shown<'r>, Error> {
        if self.depth >= MAX_DEPTH {
            return Err(Error::Uncommon);
        }
        let layout = Layout::of(self.id);
        let mut spans = Vec::with_capacity(layout.fields.len());
        let mut slots = Slots::new(&spans);
        common(spans::note(self.raw, &layout.tags, &mut slots, &mut spans))?;
        let left = slots.present() | layout.always;
        Ok(Shown::map(Left::Fields(Fields {
            message: self,
            layout,
            spans,
            slots,
            left,
        })))
    }
}

pub(super) struct Fields<'r> {
    message: Message<'r>,
    layout: &'static Layout,
    spans: Vec<Span<'r>>,
    slots: Slots,
    /// The slots still to be shown.
    left: u64,
}

impl<'r> Fields<'r> {
    pub(super) fn next(&mut self) -> Result<Option<(Cow<'r, str>, Any<'r>)>, Error> {
        for number in numbers(self.left) {
            self.left &= !(1 << number);
            let slot = self.layout.slot(number);
            let what = match self.slots.get(&self.spans, number) {
                Some(span) if !common(span.is_absent(slot))? => What::Field(*span),
                _ if slot.empty == Empty::Omit => continue,
                _ => What::Empty(slot.empty),
            };
            let node = Node {
                what,
                field: slot.field,
                around: self.message.id,
                depth: self.message.depth,
            };
            let name = Cow::Borrowed(slot.field.name.text());
            return Ok(Some((name, Any::Field(node))));
        }
        Ok(None)
    }
}

/// A field, or one element of it.
#[derive(Clone, Copy)]
pub(super) struct Node<'r> {
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

impl<'r> Node<'r> {
    pub(super) fn is_null(&self) -> Result<bool, Error> {
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

    pub(super) fn look(self) -> Result<Shown<'r>, Error> {
        match self.what {
            What::Empty(empty) => look_empty(empty),
            What::Field(span) => match self.field.shape {
                Shape::One => self.look_element(span.wire),
                Shape::List => Ok(Shown::List(super::Items::Protobuf(Items {
                    node: self.deeper(),
                    values: Values::of(span, self.field),
                }))),
                Shape::Map => Ok(Shown::map(Left::Entries(Entries {
                    node: self.deeper(),
                    values: Values::of(span, self.field),
                    last: None,
                }))),
            },
            What::Element(wire) => self.look_element(wire),
            What::Text(text) => Ok(look_text(text)),
            What::Schema(raw) => self.message(raw, self.around).look(),
        }
    }

    fn message(self, raw: &'r [u8], id: MsgId) -> Message<'r> {
        Message {
            raw,
            id,
            depth: self.depth + 1,
        }
    }

    fn look_element(self, wire: spans::Wire<'r>) -> Result<Shown<'r>, Error> {
        let kind = self.field.kind;
        Ok(match kind {
            Kind::String => look_text(common(wire.as_bytes())?),
            Kind::Bool => Shown::Bool(common(wire.as_varint())? != 0),
            Kind::Int32 => Shown::Int(scalar::int32(common(wire.as_varint())?).into()),
            Kind::Int64 => Shown::Int(common(wire.as_varint())?.cast_signed()),
            Kind::Float64 => look_float(common(wire.as_double())?)?,
            Kind::Bytes => Shown::Text(leaf::to_base64(common(wire.as_bytes())?).into()),
            Kind::Time | Kind::MicroTime => {
                let raw = common(wire.as_bytes())?;
                look_time(common(scalar::timestamp(raw, kind).ok())?, kind)
            }
            Kind::Quantity => match common(spans::quantity(wire))? {
                text if leaf::is_plainly_canonical(text) => Shown::Text(text.into()),
                text => Shown::Text(String::from(common(leaf::quantity(text).ok())?).into()),
            },
            Kind::IntOrString => match common(scalar::int_or_bytes(common(wire.as_bytes())?).ok())?
            {
                Ok(int) => Shown::Int(int.into()),
                Err(text) => look_text(text),
            },
            Kind::RawExtension | Kind::FieldsV1 | Kind::Json => {
                match common(scalar::raw(common(wire.as_bytes())?).ok())? {
                    Some(raw) => look_raw(raw)?,
                    None => Shown::Null,
                }
            }
            Kind::Strings => self.parts(common(wire.as_bytes())?, 1, What::Text),
            Kind::SchemaOrBool | Kind::SchemaOrArray | Kind::SchemaOrStrings => {
                self.look_union(common(wire.as_bytes())?)?
            }
            Kind::Message(id) => self.message(common(wire.as_bytes())?, id).look()?,
        })
    }

    fn parts(self, raw: &'r [u8], tag: u32, of: fn(&'r [u8]) -> What<'r>) -> Shown<'r> {
        Shown::List(super::Items::Parts(Parts {
            node: self,
            fields: wire::Fields::new(raw, ""),
            tag,
            of,
        }))
    }

    /// The unions of a CRD's schema.
    fn look_union(self, raw: &'r [u8]) -> Result<Shown<'r>, Error> {
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
            _ if list && self.field.kind == Kind::SchemaOrArray => {
                Ok(self.parts(raw, 2, What::Schema))
            }
            _ if list => Ok(self.parts(raw, 2, What::Text)),
            Some(schema) => self.with(What::Schema(schema)).look(),
            None if or_bool => Ok(Shown::Bool(allows.unwrap_or(false))),
            None => Ok(Shown::Null),
        }
    }
}

fn look_text(text: &[u8]) -> Shown<'_> {
    Shown::Text(json::lossy(text))
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

pub(super) struct Items<'r> {
    node: Node<'r>,
    values: Values<'r>,
}

impl<'r> Items<'r> {
    pub(super) fn next(&mut self) -> Option<Any<'r>> {
        let wire = self.values.next()?;
        Some(Any::Field(self.node.with(What::Element(wire))))
    }
}

pub(super) struct Entries<'r> {
    node: Node<'r>,
    values: Values<'r>,
    /// The key before, because keys must ascend.
    last: Option<&'r str>,
}

impl<'r> Entries<'r> {
    pub(super) fn next(&mut self) -> Result<Option<(Cow<'r, str>, Any<'r>)>, Error> {
        let Some(wire) = self.values.next() else {
            return Ok(None);
        };
        let (key, value) = common(spans::entry(wire))?;
        if self.last.is_some_and(|last| last >= key) {
            return Err(Error::Uncommon);
        }
        self.last = Some(key);
        let node = self.node.with(What::Element(value));
        Ok(Some((Cow::Borrowed(key), Any::Field(node))))
    }
}

/// The parts of a list that is a message of its own.
pub(super) struct Parts<'r> {
    node: Node<'r>,
    fields: wire::Fields<'r>,
    tag: u32,
    of: fn(&'r [u8]) -> What<'r>,
}

impl<'r> Parts<'r> {
    pub(super) fn next(&mut self) -> Result<Option<Any<'r>>, Error> {
        while let Some((tag, wire)) = common(self.fields.next().ok())? {
            if tag == self.tag {
                let part = (self.of)(common(wire.as_bytes())?);
                return Ok(Some(Any::Field(self.node.with(part))));
            }
        }
        Ok(None)
    }
}
