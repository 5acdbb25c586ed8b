//! Objects as the structs of `k8s-openapi` (or any other serde type that reads the API's JSON),
//! without JSON in between.
//!
//! A deserializer directed by the catalogue shows encoded protobuf or a tree as the JSON that
//! [`codec::json`](crate::codec::json) would print: the same names in the same order, the same fields
//! omitted, times and quantities as strings, bytes in base64, raw fields as the JSON in them. So a type
//! reads the same from all three. `kind` and `apiVersion` are not in protobuf and not made up.
//!
//! Such structs drop fields that they do not know: read with them, write by patch, apply or status.

mod protobuf;
mod tree;

use std::borrow::Cow;

use serde::Deserializer;
use serde::de::{self, DeserializeOwned, Visitor};

use crate::catalogue::{Kind, MsgId};
use crate::codec::layout::Empty;
use crate::codec::leaf::{self, Unix};
use crate::codec::{self, DecodeError, json};
use crate::value::Value;

/// Why an object does not become a value of a type.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// JSON kept raw in a field, which is not what the type expects there.
    #[error(transparent)]
    Raw(#[from] serde_json::Error),
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
    match T::deserialize(protobuf::Message::new(raw, message)) {
        Err(Error::Uncommon) => from_value(&codec::protobuf::decode(raw, message)?, message),
        result => result,
    }
}

/// Reads a conformed tree.
///
/// # Errors
/// The type refuses the object.
pub fn from_value<T: DeserializeOwned>(value: &Value, message: MsgId) -> Result<T, Error> {
    T::deserialize(tree::Message::new(value.as_map(), message))
}

/// A deserializer of something that can be shown in one way only.
macro_rules! shows_itself {
    ($type:ident) => {
        impl<'de> serde::Deserializer<'de> for $type<'de> {
            type Error = Error;

            fn deserialize_any<V: serde::de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
                self.show(visitor)
            }
            fn deserialize_option<V: serde::de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
                if self.is_null()? { visitor.visit_none() } else { visitor.visit_some(self) }
            }
            fn deserialize_newtype_struct<V: serde::de::Visitor<'de>>(
                self,
                _: &'static str,
                visitor: V,
            ) -> Result<V::Value, Error> {
                visitor.visit_newtype_struct(self)
            }
            fn deserialize_enum<V: serde::de::Visitor<'de>>(
                self,
                name: &'static str,
                variants: &'static [&'static str],
                visitor: V,
            ) -> Result<V::Value, Error> {
                use serde::de::IntoDeserializer;
                let text: String = serde::Deserialize::deserialize(self)?;
                text.into_deserializer().deserialize_enum(name, variants, visitor)
            }
            fn deserialize_ignored_any<V: serde::de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
                visitor.visit_unit()
            }
            serde::forward_to_deserialize_any! {
                bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
                unit_struct seq tuple tuple_struct map struct identifier
            }
        }
    };
}
use shows_itself;

/// Shows JSON that is kept raw. What is not JSON shows as null, as it prints.
fn show_raw<'de, V: Visitor<'de>>(raw: &'de [u8], visitor: V) -> Result<V::Value, Error> {
    if !json::is_valid(raw) {
        return visitor.visit_unit();
    }
    match json::lossy(raw) {
        Cow::Borrowed(text) => {
            Ok(serde_json::Deserializer::from_str(text).deserialize_any(visitor)?)
        }
        Cow::Owned(text) => {
            Ok(serde_json::from_str::<serde_json::Value>(&text)?.deserialize_any(visitor)?)
        }
    }
}

/// Shows what JSON prints for an absent field that is not omitted.
fn show_empty<'de, V: Visitor<'de>>(empty: Empty, visitor: V) -> Result<V::Value, Error> {
    match empty {
        Empty::Omit | Empty::Null => visitor.visit_unit(),
        Empty::Text(text) => Ok(serde_json::Deserializer::from_str(text).deserialize_any(visitor)?),
        Empty::Message(id) => tree::Message::new(None, id).deserialize_any(visitor),
    }
}

/// Shows a number as its JSON reads: whole ones as integers.
fn show_float<'de, V: Visitor<'de>>(f: f64, visitor: V) -> Result<V::Value, Error> {
    let mut text = Vec::new();
    json::push_float(f, &mut text);
    Ok(serde_json::from_slice::<serde_json::Value>(&text)?.deserialize_any(visitor)?)
}

fn show_time<'de, V: Visitor<'de>>(unix: Unix, kind: Kind, visitor: V) -> Result<V::Value, Error> {
    match unix {
        None => visitor.visit_unit(),
        unix => visitor.visit_string(leaf::time_text(unix, kind).into()),
    }
}
