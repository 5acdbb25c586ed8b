//! Bytes to trees and back, directed by the catalogue.
//!
//! - [`json`], [`yaml`] and [`protobuf`] decode a message into a conformed tree (see [`crate::value`])
//!   and encode it: protobuf byte for byte as upstream stores it, JSON field by field in the order and
//!   with the omissions of Go's structs.
//! - [`transcode`] turns stored protobuf into JSON without a tree between them.
//! - [`scan`] reads single fields out of stored protobuf and splices the resource version into it.
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
pub mod transcode;
pub mod yaml;

use crate::{quantity, time};

/// How deep a tree may be nested. Trees are walked (and dropped) by recursion, so this bounds the
/// stack; upstream allows 10,000 because Go's stacks grow. The deepest message of the API without
/// recursive schemas has 15 levels.
pub const MAX_DEPTH: usize = 400;

/// How deep JSON that is only passed through (raw fields, unknown fields) may be nested, as in Go's
/// `encoding/json`.
pub const MAX_RAW_DEPTH: usize = 10_000;

/// Why bytes are not a message. The texts are those of Go's decoders, which clients see in a `Status`.
#[derive(thiserror::Error, Clone, PartialEq, Debug)]
pub enum DecodeError {
    /// A byte that JSON does not allow in its place.
    #[error("invalid character {} {context}", json::quote_byte(*found))]
    Unexpected { found: u8, context: &'static str, offset: usize },
    #[error("unexpected end of JSON input")]
    EndOfJson,
    /// The value of a field has another type than the field.
    #[error("json: cannot unmarshal {given} into Go {target}")]
    Type { given: String, target: String },
    #[error(transparent)]
    Quantity(#[from] quantity::ParseError),
    #[error(transparent)]
    Time(#[from] time::ParseError),
    #[error("illegal base64 data at input byte {0}")]
    Base64(usize),
    #[error("boolean or JSON schema expected")]
    SchemaOrBool,

    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoEnvelope,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: integer overflow")]
    VarintOverflow,
    #[error("proto: {message}: illegal tag {tag} (wire type {wire})")]
    IllegalTag { message: &'static str, tag: i32, wire: u64 },
    #[error("proto: illegal wireType {0}")]
    IllegalWireType(u8),
    #[error("proto: wrong wireType = {wire_type} for field {field}")]
    WrongWireType { wire_type: u8, field: &'static str },
    #[error("proto: unexpected end of group")]
    EndOfGroup,
    #[error("exceeded max depth")]
    TooDeep,
    /// Only of [`scan`]: the other decoders replace what is not UTF-8.
    #[error("proto: field {field} is not UTF-8")]
    NotText { field: &'static str },
    /// Only of [`scan::splice_resource_version`].
    #[error("proto: field {field} comes in more than one piece")]
    Repeated { field: &'static str },

    #[error(transparent)]
    Yaml(#[from] yaml::Error),
}
