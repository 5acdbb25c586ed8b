//! From messages of the catalogue: the types of built-in resources, with which upstream's policies
//! are type checked (`apiserver/pkg/admission/plugin/policy/validating/typechecking.go`).

use std::sync::Arc;

use proto::MsgId;
use proto::catalogue::{self, Kind};

use super::{Field, Fields, MAX_REQUEST, Schema, Shape};
use crate::types::Type;

impl Schema {
    /// The description of a built-in message. Where messages contain themselves (schemas of custom
    /// resources), what is inside has no type.
    #[must_use]
    pub fn from_message(message: MsgId) -> Self {
        message_of(message, &mut Vec::new())
    }
}

fn message_of(message: MsgId, open: &mut Vec<MsgId>) -> Schema {
    open.push(message);
    let mut fields = Fields::new();
    for field in message.fields() {
        let name = field.name.text();
        let Some(element) = element(field.kind, open) else {
            continue;
        };
        let schema = match field.shape {
            catalogue::Shape::One => element,
            catalogue::Shape::List => list(element),
            catalogue::Shape::Map => map(element),
        };
        fields.insert(name.into(), Field::new(name, schema));
    }
    open.pop();
    Schema {
        shape: Shape::Object {
            fields: Arc::new(fields),
        },
        ..Schema::plain(Type::object(message.openapi()), 2)
    }
}

fn list(item: Schema) -> Schema {
    let most = (MAX_REQUEST - 2) / (item.min_size + 1);
    Schema::list(item).with_most(most)
}

fn map(value: Schema) -> Schema {
    let most = (MAX_REQUEST - 2) / (value.min_size + 6);
    Schema::map(value).with_most(most)
}

fn element(kind: Kind, open: &mut Vec<MsgId>) -> Option<Schema> {
    let made = |ty, min_size, shape, max_elements| Schema {
        shape,
        max_elements,
        ..Schema::plain(ty, min_size)
    };
    let longest = MAX_REQUEST - 2;
    Some(match kind {
        Kind::String | Kind::Quantity => made(Type::String, 2, Shape::String, longest),
        Kind::Bool => made(Type::Bool, 4, Shape::Bool, 0),
        Kind::Int32 | Kind::Int64 => made(Type::Int, 1, Shape::Int, 0),
        Kind::Float64 => made(Type::Double, 1, Shape::Double, 0),
        Kind::Bytes => made(Type::Bytes, 2, Shape::Bytes, longest),
        Kind::Time | Kind::MicroTime => made(Type::Timestamp, 21, Shape::DateTime, 32),
        Kind::IntOrString => made(Type::Dyn, 1, Shape::IntOrString, longest),
        Kind::RawExtension | Kind::FieldsV1 => Schema::object(super::UNNAMED, []),
        Kind::Strings => list(made(Type::String, 2, Shape::String, longest)),
        Kind::Json | Kind::SchemaOrBool | Kind::SchemaOrArray | Kind::SchemaOrStrings => {
            return None;
        }
        Kind::Message(message) if open.contains(&message) => return None,
        Kind::Message(message) => message_of(message, open),
    })
}
