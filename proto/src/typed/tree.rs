//! A conformed tree as serde sees the JSON of it.

use std::borrow::Cow;

use super::json::{look_float, look_raw};
use super::{Error, Left, Node as Any, Shown, look_empty};
use crate::catalogue::{Field, Kind, MsgId, Shape};
use crate::codec::json;
use crate::codec::layout::{Empty, Layout, Slot};
use crate::codec::leaf;
use crate::name::Name;
use crate::value::{Map, Value};

/// A message; none is an empty one.
#[derive(Clone, Copy)]
pub(super) struct Message<'v> {
    map: Option<&'v Map>,
    id: MsgId,
}

impl<'v> Message<'v> {
    pub(super) fn new(map: Option<&'v Map>, id: MsgId) -> Self {
        Self { map, id }
    }

    pub(super) fn look(self) -> Shown<'v> {
        Shown::map(Left::TreeFields(Fields {
            message: self,
            slots: Layout::of(self.id).fields.iter(),
        }))
    }
}

pub(super) struct Fields<'v> {
    message: Message<'v>,
    slots: std::slice::Iter<'static, Slot>,
}

impl<'v> Fields<'v> {
    pub(super) fn next(&mut self) -> Option<(Cow<'v, str>, Any<'v>)> {
        for slot in self.slots.by_ref() {
            let field = slot.field;
            let value = self.message.map.and_then(|m| m.get(field.name));
            let what = match (value.filter(|v| json::shows(slot, v)), slot.empty) {
                (Some(value), _) => What::Field(value),
                (None, Empty::Omit) => continue,
                (None, empty) => What::Empty(empty),
            };
            let node = Node {
                what,
                field,
                around: self.message.id,
            };
            return Some((Cow::Borrowed(field.name.text()), Any::TreeField(node)));
        }
        None
    }
}

/// A field, or one element of it.
#[derive(Clone, Copy)]
pub(super) struct Node<'v> {
    what: What<'v>,
    field: &'static Field,
    /// The message of the field.
    around: MsgId,
}

#[derive(Clone, Copy)]
enum What<'v> {
    Empty(Empty),
    Field(&'v Value),
    Element(&'v Value),
}

impl<'v> Node<'v> {
    pub(super) fn is_null(&self) -> bool {
        match self.what {
            What::Empty(empty) => empty == Empty::Null,
            What::Field(value) | What::Element(value) => match value {
                Value::Null => true,
                Value::Raw(raw) => !json::is_valid(raw),
                Value::String(text) => {
                    matches!(self.field.kind, Kind::Time | Kind::MicroTime)
                        && leaf::is_zero_time(text)
                }
                _ => false,
            },
        }
    }

    fn element(self, value: &'v Value) -> Any<'v> {
        Any::TreeField(Self {
            what: What::Element(value),
            ..self
        })
    }

    pub(super) fn look(self) -> Result<Shown<'v>, Error> {
        match self.what {
            What::Empty(empty) => look_empty(empty),
            What::Field(Value::Map(map)) if self.field.shape == Shape::Map => {
                Ok(Shown::map(Left::TreeEntries(Entries {
                    node: self,
                    entries: map.entries().iter(),
                })))
            }
            What::Field(value) | What::Element(value) => self.look_element(value),
        }
    }

    fn look_element(self, value: &'v Value) -> Result<Shown<'v>, Error> {
        Ok(match value {
            Value::Null => Shown::Null,
            Value::Bool(b) => Shown::Bool(*b),
            Value::Int(i) => Shown::Int(*i),
            Value::Float(f) => look_float(*f)?,
            Value::String(_) if self.is_null() => Shown::Null,
            Value::String(text) => Shown::Text(Cow::Borrowed(text)),
            Value::Bytes(bytes) => Shown::Text(leaf::to_base64(bytes).into()),
            Value::Raw(raw) => look_raw(raw)?,
            Value::List(items) => Shown::List(super::Items::Tree(Items {
                node: self,
                items: items.iter(),
            })),
            Value::Map(map) => {
                // The unions of a schema nest the message that they are in.
                let id = if let Kind::Message(id) = self.field.kind {
                    id
                } else {
                    self.around
                };
                Message::new(Some(map), id).look()
            }
        })
    }
}

pub(super) struct Items<'v> {
    node: Node<'v>,
    items: std::slice::Iter<'v, Value>,
}

impl<'v> Items<'v> {
    pub(super) fn next(&mut self) -> Option<Any<'v>> {
        self.items.next().map(|item| self.node.element(item))
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }
}

pub(super) struct Entries<'v> {
    node: Node<'v>,
    entries: std::slice::Iter<'v, (Name, Value)>,
}

impl<'v> Entries<'v> {
    pub(super) fn next(&mut self) -> Option<(Cow<'v, str>, Any<'v>)> {
        let (name, value) = self.entries.next()?;
        Some((Cow::Borrowed(name.as_str()), self.node.element(value)))
    }
}
