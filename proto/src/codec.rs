//! Bytes to trees and back, directed by the catalogue.
//!
//! - [`json`], [`yaml`] and [`protobuf`] decode a message into a conformed tree (see [`crate::value`])
//!   and encode it: protobuf byte for byte as upstream stores it, JSON field by field in the order and
//!   with the omissions of Go's structs.
//! - [`transcode`] turns stored protobuf into JSON without a tree between them.
//! - [`scan`] reads single fields out of stored protobuf and splices the resource version into it.
//! - [`settled`] says of stored protobuf that reading has nothing to mend in it.
//!
//! The rules of Go's structs show in a conformed tree in two more ways than [`crate::value`] says:
//! what a Go struct holds by value and has its zero value (an empty string, 0, `false`, the quantity
//! `0`, the zero time) is absent, because Go cannot tell the two apart; and unknown fields are gone.
//! So objects that are equal to upstream are equal trees, whichever form they came in.
//!
//! Decoders read what strangers send. They never panic; depth and allocation are bounded by the
//! constants here and by the length of the input.

pub(crate) mod layout;
pub(crate) mod leaf;
pub(crate) mod slots;
pub(crate) mod spans;

pub mod json;
pub mod protobuf;
pub mod scan;
pub mod settled;
pub mod transcode;
pub mod yaml;

/// Counts towards [`MAX_REOPENED`].
#[derive(Default)]
struct Reopened(usize);

impl Reopened {
    /// Takes the entries of a map out, to add to them.
    fn take(&mut self, map: Map, field: &'static Field) -> Result<Vec<(Name, Value)>, DecodeError> {
        self.0 += map.len();
        if self.0 > MAX_REOPENED {
            return Err(DecodeError::TooOften {
                field: field.name.text(),
            });
        }
        Ok(map.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;

use crate::catalogue::Field;
use crate::name::Name;
use crate::value::{Map, Value};
use crate::{quantity, time};

/// How many lists, maps and messages may be nested in a tree. Trees are walked (and dropped) by
/// recursion, so this bounds the stack: about 1 MiB in a build without optimisation, 200 KiB with it.
/// Upstream allows 10,000 because Go's stacks grow; the deepest message of the API that does not
/// contain itself has 15 levels.
pub const MAX_DEPTH: usize = 200;

/// How deep JSON that is only passed through (raw fields, unknown fields) may be nested, as in Go's
/// `encoding/json`.
pub const MAX_RAW_DEPTH: usize = 10_000;

/// How many entries of maps may be taken up again because their field is given again. Both formats
/// merge a field given twice; without a bound, a text of many small pieces would cost its square.
const MAX_REOPENED: usize = 1 << 20;

/// Why bytes are not a message. The texts are those of Go's decoders, which clients see in a `Status`.
#[derive(thiserror::Error, Clone, PartialEq, Debug)]
pub enum DecodeError {
    /// A byte that JSON does not allow in its place.
    #[error("invalid character {} {context}", json::quote_byte(*found))]
    Unexpected {
        found: u8,
        context: &'static str,
        offset: usize,
    },
    #[error("unexpected end of JSON input")]
    EndOfJson,
    /// The value of a field has another type than the field: what was given, and where it should go.
    #[error("json: cannot unmarshal {} into Go {}", .0.0, .0.1)]
    Type(Box<(String, String)>),
    #[error(transparent)]
    Quantity(Box<quantity::ParseError>),
    #[error(transparent)]
    Time(Box<time::ParseError>),
    #[error("illegal base64 data at input byte {0}")]
    Base64(usize),
    #[error("boolean or JSON schema expected")]
    SchemaOrBool,

    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    NoEnvelope,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: integer overflow")]
    VarintOverflow,
    #[error("proto: {message}: illegal tag {tag} (wire type {wire})")]
    IllegalTag {
        message: &'static str,
        tag: i32,
        wire: u64,
    },
    #[error("proto: illegal wireType {0}")]
    IllegalWireType(u8),
    #[error("proto: wrong wireType = {wire_type} for field {field}")]
    WrongWireType { wire_type: u8, field: &'static str },
    #[error("proto: unexpected end of group")]
    EndOfGroup,
    #[error("exceeded max depth")]
    TooDeep,
    /// See [`MAX_REOPENED`].
    #[error("field {field} is given too many times")]
    TooOften { field: &'static str },
    /// Only of [`scan`]: the other decoders replace what is not UTF-8.
    #[error("proto: field {field} is not UTF-8")]
    NotText { field: &'static str },
    /// Only of [`scan::splice_resource_version`].
    #[error("proto: field {field} comes in more than one piece")]
    Repeated { field: &'static str },

    #[error(transparent)]
    Yaml(Box<yaml::Error>),
}

// Boxed, so that the decoders do not carry room for the text of an error through every call.
impl From<quantity::ParseError> for DecodeError {
    fn from(error: quantity::ParseError) -> Self {
        Self::Quantity(Box::new(error))
    }
}
impl From<time::ParseError> for DecodeError {
    fn from(error: time::ParseError) -> Self {
        Self::Time(Box::new(error))
    }
}
impl From<yaml::Error> for DecodeError {
    fn from(error: yaml::Error) -> Self {
        Self::Yaml(Box::new(error))
    }
}
