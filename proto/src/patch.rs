//! The patch types that change a document: JSON patch, merge patch, strategic merge patch.
//!
//! All of them work on untyped JSON (see [`crate::codec::json::parse`]); the caller decodes the result
//! as a message again, strictly if asked to. Cost is linear in document and patch (times a logarithm);
//! what a JSON patch could cost beyond that is limited.

pub mod json;
pub mod merge;
pub mod strategic;

use crate::value::Value;

/// Why a patch cannot be applied. The texts are those of upstream's handlers and libraries.
#[derive(thiserror::Error, Clone, PartialEq, Debug)]
pub enum Error {
    /// It is not a patch of its type at all.
    #[error("{0}")]
    Unreadable(String),
    #[error("The allowed maximum operations in a JSON patch is {max}, got {given}")]
    TooManyOperations { max: usize, given: usize },
    #[error(
        "Unable to complete the copy, the accumulated size increase of copy is {size}, exceeding the limit {max}"
    )]
    CopyTooLarge { max: usize, size: usize },
    #[error("the patched object is nested deeper than {max} levels")]
    TooDeep { max: usize },
    #[error("the operations move too many elements of long lists and maps")]
    TooCostly,
    /// An operation of a JSON patch failed: a test, or a path that does not exist.
    #[error("{0}")]
    Operation(String),

    /// `$retainKeys`, `$deleteFromPrimitiveList` or `$setElementOrder` is not a list, or misnamed.
    #[error("invalid patch format of {0}")]
    Directive(&'static str),
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("unknown patch type: {directive} in map: {map}")]
    UnknownDirective { directive: String, map: String },
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirective,
    #[error("map: {map} does not contain declared merge key: {key}")]
    NoMergeKey { map: String, key: &'static str },
    #[error("cannot merge lists without merge key for struct")]
    NotMergeable,
    #[error("unable to find api field in struct {message} for the json field {field:?}")]
    UnknownField {
        message: &'static str,
        field: String,
    },
    #[error("merging an object in json but data type is not struct, instead is: {0}")]
    NotAStruct(&'static str),
    #[error("expected slice or array type, but got: {0}")]
    NotAList(&'static str),
    #[error("expected a {expected}, but received a {given}")]
    WrongType {
        expected: &'static str,
        given: &'static str,
    },
    #[error("list element types are not identical: {0}")]
    ElementTypes(String),
    #[error("no elements in any of the given slices")]
    NoElements,
    #[error("The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n")]
    Order { patch: String, order: String },
}

impl Error {
    /// Whether a `test` of a JSON patch found another value than it wanted.
    #[must_use]
    pub fn is_failed_test(&self) -> bool {
        matches!(self, Self::Operation(text) if text.starts_with("testing value ") && text.ends_with(": test failed"))
    }
}

impl Error {
    /// The HTTP status that upstream answers with. It says 500 to most patches whose shape does not fit
    /// the schema.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::Unreadable(_) | Self::Directive(_) => 400,
            Self::TooManyOperations { .. } => 413,
            Self::CopyTooLarge { .. }
            | Self::TooDeep { .. }
            | Self::TooCostly
            | Self::Operation(_)
            | Self::ListOfLists => 422,
            _ => 500,
        }
    }
}

/// The name of a JSON type as Go's decoder says it.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::Float(_) => "number",
        Value::String(_) | Value::Bytes(_) | Value::Raw(_) => "string",
        Value::List(_) => "array",
        Value::Map(_) => "object",
    }
}
