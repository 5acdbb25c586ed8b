//! How apply sees the types of the API: what is one value, what is merged, and by which keys.
//!
//! Today all types come from the catalogue. The schema of a custom resource would be one more kind of
//! [`Type`]; nothing outside this file looks behind it.

use std::sync::LazyLock;

use super::element::Element;
use crate::catalogue::{Field, Flags, Kind, MsgId, Shape, messages, names as n};
use crate::name::{Name, NameId};
use crate::value::{Map, Value};

/// The type of a node.
#[derive(Clone, Copy)]
pub(super) enum Type {
    /// A message: a map of declared fields.
    Message(MsgId),
    /// A message that is merged here though it is one value elsewhere.
    Granular(MsgId),
    /// A list or map of the elements of a field.
    List(&'static Field),
    Map(&'static Field),
    /// A list of strings that is one value.
    Strings,
    Scalar(Scalar),
    /// Whatever is there: maps are merged, lists are one value.
    Deduced,
    /// Whatever is there, as one value.
    Opaque,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    Number,
    String,
    Bool,
    Untyped,
}

/// What is done with a node of a type.
#[derive(Clone, Copy)]
pub(super) enum Treat {
    Scalar(Scalar),
    List(Merge),
    Map { atomic: bool },
}

/// How the elements of a list are told apart.
#[derive(Clone, Copy)]
pub(super) enum Merge {
    /// The list is one value.
    Atomic,
    Set,
    Keys(&'static [NameId]),
}

impl Type {
    /// What to do with `values` of this type; where the type leaves that open, they decide.
    pub(super) fn treat(self, values: [Option<&Value>; 2]) -> Treat {
        match self {
            Self::Message(message) => Treat::Map {
                atomic: message.is_atomic(),
            },
            Self::Granular(_) => Treat::Map { atomic: false },
            Self::List(field) => Treat::List(merge(field)),
            Self::Map(field) => Treat::Map {
                atomic: field.has(Flags::MAP_ATOMIC),
            },
            Self::Strings => Treat::List(Merge::Atomic),
            Self::Scalar(scalar) => Treat::Scalar(scalar),
            Self::Deduced | Self::Opaque => {
                let atomic = matches!(self, Self::Opaque);
                match values.into_iter().flatten().find(|v| !v.is_null()) {
                    None | Some(Value::Map(_)) => Treat::Map { atomic },
                    Some(Value::List(_)) => Treat::List(Merge::Atomic),
                    Some(_) => Treat::Scalar(Scalar::Untyped),
                }
            }
        }
    }

    /// The message that declares the fields.
    pub(super) fn message(self) -> Option<MsgId> {
        match self {
            Self::Message(message) | Self::Granular(message) => Some(message),
            _ => None,
        }
    }

    /// Whether the type leaves open what its values are.
    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::Deduced | Self::Opaque)
    }

    /// The type of an entry of a map. None if a message does not have the field.
    pub(super) fn entry(self, name: &Name) -> Option<Self> {
        match self {
            Self::Message(message) | Self::Granular(message) => {
                Some(of_field(message, message.field(name.known()?)?))
            }
            Self::Map(field) => Some(of_element(field)),
            Self::Deduced => Some(Self::Deduced),
            Self::Opaque => Some(Self::Opaque),
            Self::List(_) | Self::Strings | Self::Scalar(_) => None,
        }
    }

    /// Whether a map of this type declares the entry by name.
    pub(super) fn declares(self, name: &Name) -> bool {
        self.message().is_some() && self.entry(name).is_some()
    }

    /// The type of an element of a list.
    pub(super) fn element(self) -> Self {
        match self {
            Self::List(field) => of_element(field),
            Self::Strings => Self::Scalar(Scalar::String),
            _ => Self::Opaque,
        }
    }
}

fn merge(field: &'static Field) -> Merge {
    if field.has(Flags::LIST_MAP) {
        Merge::Keys(field.list_keys())
    } else if field.has(Flags::LIST_SET) {
        Merge::Set
    } else {
        Merge::Atomic
    }
}

pub(super) fn of_field(message: MsgId, field: &'static Field) -> Type {
    match (field.shape, field.kind) {
        // The one field whose own `structType` differs from its type's.
        (Shape::One, Kind::Message(claim))
            if message == messages::core_v1::PERSISTENT_VOLUME_SPEC
                && field.name == n::CLAIM_REF =>
        {
            Type::Granular(claim)
        }
        (Shape::One, _) => of_element(field),
        (Shape::List, _) => Type::List(field),
        (Shape::Map, _) => Type::Map(field),
    }
}

fn of_element(field: &'static Field) -> Type {
    match field.kind {
        Kind::String | Kind::Bytes => Type::Scalar(Scalar::String),
        Kind::Bool => Type::Scalar(Scalar::Bool),
        Kind::Int32 | Kind::Int64 | Kind::Float64 => Type::Scalar(Scalar::Number),
        Kind::Time | Kind::MicroTime | Kind::Quantity | Kind::IntOrString => {
            Type::Scalar(Scalar::Untyped)
        }
        Kind::RawExtension => Type::Opaque,
        Kind::FieldsV1
        | Kind::Json
        | Kind::SchemaOrBool
        | Kind::SchemaOrArray
        | Kind::SchemaOrStrings => Type::Deduced,
        Kind::Strings => Type::Strings,
        Kind::Message(message) => Type::Message(message),
    }
}

static NULL: Value = Value::Null;
static EMPTY_MAP: Value = Value::object();
static FALSE: Value = Value::Bool(false);
static ZERO: Value = Value::Int(0);
static EMPTY_STRING: LazyLock<Value> = LazyLock::new(|| Value::from(""));
static ZERO_QUANTITY: LazyLock<Value> = LazyLock::new(|| Value::from("0"));

/// What Go shows of a field of a conformed message: nothing if it omits the field, its zero value
/// where the tree leaves that out.
pub(super) fn shown<'a>(message: Option<&'a Map>, field: &Field) -> Option<&'a Value> {
    let omits = field.has(Flags::OMIT_EMPTY) || field.has(Flags::OMIT_ZERO);
    match message.and_then(|m| m.get(field.name)) {
        Some(value) if omits && !field.has(Flags::POINTER) && is_empty(value, field) => None,
        Some(value) => Some(value),
        None if omits => None,
        None => Some(zero(field)),
    }
}

fn is_empty(value: &Value, field: &Field) -> bool {
    match value {
        Value::Null => true,
        Value::List(items) => items.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::Map(map) => map.is_empty() && field.shape == Shape::Map,
        _ => false,
    }
}

fn zero(field: &Field) -> &'static Value {
    if field.shape != Shape::One || field.has(Flags::POINTER) {
        return &NULL;
    }
    match field.kind {
        Kind::Message(_) => &EMPTY_MAP,
        Kind::String => &EMPTY_STRING,
        Kind::Bool => &FALSE,
        Kind::Int32 | Kind::Int64 | Kind::Float64 | Kind::IntOrString => &ZERO,
        Kind::Quantity => &ZERO_QUANTITY,
        _ => &NULL,
    }
}

/// An element of a list that cannot be told from others.
#[derive(thiserror::Error, Debug, Clone, PartialEq)]
pub(super) enum Nameless {
    #[error("associative list with keys may not have a null element")]
    NullItem,
    #[error("associative list with keys may not have non-map elements")]
    NoMap,
    #[error(
        "associative list with keys has an element that omits all key fields {0} (and doesn't have default values for any key fields)"
    )]
    NoKeys(String),
    #[error("associative list without keys has an element that's a map type")]
    MapInSet,
    #[error("not supported: associative list with lists as elements")]
    ListInSet,
    #[error("associative list without keys has an element that's an explicit null")]
    NullInSet,
}

/// The path element of an element of a list.
pub(super) fn element_of(list: Type, merge: Merge, item: &Value) -> Result<Element, Nameless> {
    match (merge, item) {
        (Merge::Keys(_), Value::Null) => Err(Nameless::NullItem),
        (Merge::Keys(keys), Value::Map(map)) => keyed(list, keys, map),
        (Merge::Keys(_), _) => Err(Nameless::NoMap),
        (_, Value::Map(_)) => Err(Nameless::MapInSet),
        (_, Value::List(_)) => Err(Nameless::ListInSet),
        (_, Value::Null) => Err(Nameless::NullInSet),
        (_, value) => Ok(Element::Value(value.clone())),
    }
}

fn keyed(list: Type, keys: &'static [NameId], item: &Map) -> Result<Element, Nameless> {
    let message = list.element().message().ok_or(Nameless::NoMap)?;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let default = || key_default(message, *key);
        if let Some(value) = item.get(*key).cloned().or_else(default) {
            found.push((Name::Known(*key), value));
        }
    }
    if found.is_empty() {
        let keys: Vec<String> = keys.iter().map(|k| crate::path::quote(k.text())).collect();
        return Err(Nameless::NoKeys(format!("[{}]", keys.join(" "))));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Element::Key(found.into()))
}

/// What stands for a key that is not given: the default of the published schema, which has one for
/// every field that Go always shows.
fn key_default(message: MsgId, key: NameId) -> Option<Value> {
    let field = message.field(key)?;
    // The one optional key whose published default is the empty string.
    if message == messages::core_v1::LOCAL_OBJECT_REFERENCE && key == n::NAME {
        return Some(EMPTY_STRING.clone());
    }
    if let Some(json) = field.default() {
        return crate::codec::json::parse(json.as_bytes()).ok();
    }
    if field.has(Flags::OMIT_EMPTY) || field.has(Flags::POINTER) {
        return None;
    }
    match field.kind {
        Kind::String | Kind::Bool | Kind::Int32 | Kind::Int64 => Some(zero(field).clone()),
        _ => None,
    }
}

/// Equality as apply sees it: numbers by their value, bytes as the text that stands for them, raw JSON
/// as what it says.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Raw(x), Value::Raw(y)) if x == y => true,
        (Value::Raw(_), _)
        | (_, Value::Raw(_))
        | (Value::Bytes(_), Value::String(_))
        | (Value::String(_), Value::Bytes(_)) => match (plain(a), plain(b)) {
            (Some(a), Some(b)) => equal(&a, &b),
            _ => false,
        },
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            super::element::order(a, b).is_eq()
        }
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b.iter())
                    .all(|((an, av), (bn, bv))| an == bn && equal(av, bv))
        }
        _ => a == b,
    }
}

/// A value without bytes and raw text at its top.
fn plain(value: &Value) -> Option<Value> {
    match value {
        Value::Raw(raw) => crate::codec::json::parse(raw).ok(),
        Value::Bytes(_) => {
            let mut out = Vec::new();
            crate::codec::json::write(value, &mut out);
            crate::codec::json::parse(&out).ok()
        }
        other => Some(other.clone()),
    }
}
