//! A conformed tree as serde sees the JSON of it.

use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::{Error, show_empty, show_float, show_raw, shows_itself};
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

shows_itself!(Message);

impl<'v> Message<'v> {
    pub(super) fn new(map: Option<&'v Map>, id: MsgId) -> Self {
        Self { map, id }
    }

    fn is_null(&self) -> Result<bool, Error> {
        Ok(false)
    }

    fn show<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Fields {
            message: self,
            slots: Layout::of(self.id).fields.iter(),
            current: None,
        })
    }
}

struct Fields<'v> {
    message: Message<'v>,
    slots: std::slice::Iter<'static, Slot>,
    current: Option<Node<'v>>,
}

impl<'v> MapAccess<'v> for Fields<'v> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'v>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        for slot in self.slots.by_ref() {
            let field = slot.field;
            let value = self
                .message
                .map
                .and_then(|m| m.get(field.name))
                .filter(|v| json::shows(slot, v));
            self.current = match (value, slot.empty) {
                (Some(value), _) => Some(Node {
                    what: What::Field(value),
                    field,
                    around: self.message.id,
                }),
                (None, Empty::Omit) => continue,
                (None, empty) => Some(Node {
                    what: What::Empty(empty),
                    field,
                    around: self.message.id,
                }),
            };
            return seed
                .deserialize(field.name.text().into_deserializer())
                .map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'v>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(
            self.current
                .take()
                .expect("serde asks for a value after its key"),
        )
    }
}

/// A field, or one element of it.
#[derive(Clone, Copy)]
struct Node<'v> {
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

shows_itself!(Node);

impl<'v> Node<'v> {
    fn is_null(&self) -> Result<bool, Error> {
        Ok(match self.what {
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
        })
    }

    fn element(self, value: &'v Value) -> Self {
        Self {
            what: What::Element(value),
            ..self
        }
    }

    fn show<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.what {
            What::Empty(empty) => show_empty(empty, visitor),
            What::Field(Value::List(items)) if self.field.shape == Shape::List => visitor
                .visit_seq(Items {
                    node: self,
                    items: items.iter(),
                }),
            What::Field(Value::Map(map)) if self.field.shape == Shape::Map => {
                visitor.visit_map(Entries {
                    node: self,
                    entries: map.iter(),
                    current: None,
                })
            }
            What::Field(value) | What::Element(value) => self.show_element(value, visitor),
        }
    }

    fn show_element<V: Visitor<'v>>(self, value: &'v Value, visitor: V) -> Result<V::Value, Error> {
        match value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Int(i) => visitor.visit_i64(*i),
            Value::Float(f) => show_float(*f, visitor),
            Value::String(_) if self.is_null()? => visitor.visit_unit(),
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Bytes(bytes) => visitor.visit_string(leaf::to_base64(bytes)),
            Value::Raw(raw) => show_raw(raw, visitor),
            Value::List(items) => visitor.visit_seq(Items {
                node: self,
                items: items.iter(),
            }),
            Value::Map(map) => {
                // The unions of a schema nest the message that they are in.
                let id = if let Kind::Message(id) = self.field.kind {
                    id
                } else {
                    self.around
                };
                Message::new(Some(map), id).show(visitor)
            }
        }
    }
}

struct Items<'v> {
    node: Node<'v>,
    items: std::slice::Iter<'v, Value>,
}

impl<'v> SeqAccess<'v> for Items<'v> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'v>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        self.items
            .next()
            .map(|item| seed.deserialize(self.node.element(item)))
            .transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'v, I> {
    node: Node<'v>,
    entries: I,
    current: Option<&'v Value>,
}

impl<'v, I: Iterator<Item = (&'v Name, &'v Value)>> MapAccess<'v> for Entries<'v, I> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'v>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((name, value)) = self.entries.next() else {
            return Ok(None);
        };
        self.current = Some(value);
        seed.deserialize(name.as_str().into_deserializer())
            .map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'v>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let value = self
            .current
            .take()
            .expect("serde asks for a value after its key");
        seed.deserialize(self.node.element(value))
    }
}
