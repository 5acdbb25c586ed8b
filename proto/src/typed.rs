//! Objects as the structs of `k8s-openapi` (or any other serde type that reads the API's JSON),
//! without JSON in between.
//!
//! A deserializer directed by the catalogue shows encoded protobuf or a tree as the JSON that
//! [`codec::json`](crate::codec::json) would print: the same names in the same order, the same fields
//! omitted, times and quantities as strings, bytes in base64, raw fields as the JSON in them. So a type
//! reads the same from all three. `kind` and `apiVersion` are not in protobuf and not made up.
//!
//! All forms go through one deserializer ([`Node`]), which asks them what comes next: a type's code is
//! made once, whatever it is read from. One more deserializer would add megabytes of code to every
//! daemon, because the types nest deeply. So JSON is read here too, not with `serde_json::from_slice`.
//!
//! Such structs drop fields that they do not know: read with them, write by patch, apply or status.

mod json;
mod protobuf;
mod tree;

use std::borrow::Cow;

use serde::Deserializer;
use serde::de::value::CowStrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};

use crate::catalogue::{Kind, MsgId};
use crate::codec::layout::Empty;
use crate::codec::leaf::{self, Unix};
use crate::codec::{self, DecodeError};
use crate::value::Value;

/// Why an object does not become a value of a type.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Text that is no JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// What the type says.
    #[error("{0}")]
    Type(String),
    /// Bytes that only the way over the tree can read; never leaves this module.
    #[error("not as encoders write it")]
    Uncommon,
}

impl de::Error for Error {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Type(message.to_string())
    }
}

/// Reads an encoded message (without envelope).
///
/// # Errors
/// Malformed bytes, or an object that the type refuses.
pub fn from_protobuf<T: DeserializeOwned>(raw: &[u8], message: MsgId) -> Result<T, Error> {
    let node = Node::Message(protobuf::Message::new(raw, message));
    match T::deserialize(node) {
        Err(Error::Uncommon) => from_value(&codec::protobuf::decode(raw, message)?, message),
        result => result,
    }
}

/// Reads a conformed tree.
///
/// # Errors
/// The type refuses the object.
pub fn from_value<T: DeserializeOwned>(value: &Value, message: MsgId) -> Result<T, Error> {
    T::deserialize(Node::Tree(tree::Message::new(value.as_map(), message)))
}

/// Reads JSON.
///
/// # Errors
/// Malformed text, or an object that the type refuses.
pub fn from_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    from_json_value(serde_json::from_slice(text)?)
}

/// Reads parsed JSON.
///
/// # Errors
/// The type refuses the object.
pub fn from_json_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, Error> {
    T::deserialize(Node::Json(value))
}

/// A part of an object that was not looked at yet.
enum Node<'r> {
    Message(protobuf::Message<'r>),
    Field(protobuf::Node<'r>),
    Tree(tree::Message<'r>),
    TreeField(tree::Node<'r>),
    Json(serde_json::Value),
}

/// What a part turns out to be.
enum Shown<'r> {
    Null,
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    Float(f64),
    Text(Cow<'r, str>),
    List(Items<'r>),
    Map(Entries<'r>),
}

/// The elements of a list.
enum Items<'r> {
    Protobuf(protobuf::Items<'r>),
    Parts(protobuf::Parts<'r>),
    Tree(tree::Items<'r>),
    Json(std::vec::IntoIter<serde_json::Value>),
}

/// The fields of a message, or the entries of a map.
struct Entries<'r> {
    left: Left<'r>,
    /// The value of the key that was shown last.
    value: Option<Node<'r>>,
}

enum Left<'r> {
    Fields(protobuf::Fields<'r>),
    Entries(protobuf::Entries<'r>),
    TreeFields(tree::Fields<'r>),
    TreeEntries(tree::Entries<'r>),
    Json(serde_json::map::IntoIter),
}

impl<'r> Node<'r> {
    fn is_null(&self) -> Result<bool, Error> {
        match self {
            Self::Field(node) => node.is_null(),
            Self::TreeField(node) => Ok(node.is_null()),
            Self::Json(value) => Ok(value.is_null()),
            Self::Message(_) | Self::Tree(_) => Ok(false),
        }
    }

    fn look(self) -> Result<Shown<'r>, Error> {
        match self {
            Self::Message(message) => message.look(),
            Self::Field(node) => node.look(),
            Self::Tree(message) => Ok(message.look()),
            Self::TreeField(node) => node.look(),
            Self::Json(value) => Ok(json::look(value)),
        }
    }
}

impl<'r> Shown<'r> {
    fn map(left: Left<'r>) -> Self {
        Self::Map(Entries { left, value: None })
    }
}

impl<'r> Items<'r> {
    fn next(&mut self) -> Result<Option<Node<'r>>, Error> {
        match self {
            Self::Protobuf(items) => Ok(items.next()),
            Self::Parts(parts) => parts.next(),
            Self::Tree(items) => Ok(items.next()),
            Self::Json(items) => Ok(items.next().map(Node::Json)),
        }
    }
}

impl<'r> Left<'r> {
    fn next(&mut self) -> Result<Option<(Cow<'r, str>, Node<'r>)>, Error> {
        match self {
            Self::Fields(fields) => fields.next(),
            Self::Entries(entries) => entries.next(),
            Self::TreeFields(fields) => Ok(fields.next()),
            Self::TreeEntries(entries) => Ok(entries.next()),
            Self::Json(entries) => Ok(entries
                .next()
                .map(|(key, value)| (Cow::Owned(key), Node::Json(value)))),
        }
    }
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.look()? {
            Shown::Null => visitor.visit_unit(),
            Shown::Bool(b) => visitor.visit_bool(b),
            Shown::Int(i) => visitor.visit_i64(i),
            Shown::Unsigned(u) => visitor.visit_u64(u),
            Shown::Float(f) => visitor.visit_f64(f),
            Shown::Text(Cow::Borrowed(text)) => visitor.visit_borrowed_str(text),
            Shown::Text(Cow::Owned(text)) => visitor.visit_string(text),
            Shown::List(items) => visitor.visit_seq(items),
            Shown::Map(entries) => visitor.visit_map(entries),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_null()? {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let text: String = de::Deserialize::deserialize(self)?;
        text.into_deserializer()
            .deserialize_enum(name, variants, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier
    }
}

impl<'r> de::SeqAccess<'r> for Items<'r> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'r>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        match self.next()? {
            Some(node) => seed.deserialize(node).map(Some),
            None => Ok(None),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        match self {
            Self::Tree(items) => Some(items.len()),
            Self::Json(items) => Some(items.len()),
            Self::Protobuf(_) | Self::Parts(_) => None,
        }
    }
}

impl<'r> de::MapAccess<'r> for Entries<'r> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'r>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.left.next()? else {
            return Ok(None);
        };
        self.value = Some(value);
        let key: CowStrDeserializer<'r, Error> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'r>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let value = self.value.take();
        seed.deserialize(value.expect("serde asks for a value after its key"))
    }
}

/// What JSON prints for an absent field that is not omitted.
fn look_empty<'r>(empty: Empty) -> Result<Shown<'r>, Error> {
    match empty {
        Empty::Omit | Empty::Null => Ok(Shown::Null),
        Empty::Text(text) => Ok(json::look(serde_json::from_str(text)?)),
        Empty::Message(id) => Ok(tree::Message::new(None, id).look()),
    }
}

fn look_time<'r>(unix: Unix, kind: Kind) -> Shown<'r> {
    match unix {
        None => Shown::Null,
        unix => Shown::Text(Cow::Owned(leaf::time_text(unix, kind).into())),
    }
}
