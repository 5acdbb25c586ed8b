//! From structural and OpenAPI schemas: `apiserver/pkg/cel/common/schemas.go` and
//! `apiextensions-apiserver/pkg/apiserver/schema/cel/model/schemas.go`.

use std::sync::Arc;

use proto::{Map, Value};

use super::{Field, Fields, ListKind, MAX_REQUEST, Schema, Shape, UNNAMED};
use crate::escape::escape;
use crate::types::Type;

/// The longest duration and time as JSON, in characters.
const MAX_TIME: i64 = 32;
/// `"2006-01-02"` as JSON.
const DATE: i64 = 12;
/// The longest string that fits into a request.
const MAX_STRING: i64 = MAX_REQUEST - 2;
/// The longest name of an object (`DNS1123SubdomainMaxLength`).
const MAX_NAME: i64 = 253;

/// Whose schema it is: that decides what is added to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Root {
    /// A whole resource, or `x-kubernetes-embedded-resource`: `apiVersion`, `kind` and of `metadata`
    /// the two names are there whether the schema has them or not.
    Resource,
    /// A part of one.
    Part,
}

impl Schema {
    /// The description of what a schema (the content of `openAPIV3Schema`) describes; none where no
    /// type can be given to it, which is so below `x-kubernetes-preserve-unknown-fields`.
    #[must_use]
    pub fn from_openapi(schema: &Value, root: Root) -> Option<Self> {
        let map = schema.as_map()?;
        let made = Self {
            nullable: flag(map, "nullable"),
            ..typed(map, root)?
        };
        Some(made)
    }
}

fn flag(schema: &Map, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool) == Some(true)
}

fn text<'a>(schema: &'a Map, name: &str) -> &'a str {
    schema.get(name).and_then(Value::as_str).unwrap_or("")
}

/// A limit; below zero counts as zero.
fn limit(schema: &Map, name: &str) -> Option<i64> {
    schema.get(name)?.as_int().map(|n| n.max(0))
}

fn is_resource(schema: &Map) -> Root {
    if flag(schema, "x-kubernetes-embedded-resource") {
        Root::Resource
    } else {
        Root::Part
    }
}

fn typed(schema: &Map, root: Root) -> Option<Schema> {
    if flag(schema, "x-kubernetes-int-or-string") || text(schema, "format") == "int-or-string" {
        let max = limit(schema, "maxLength").map_or(MAX_STRING, |n| n.saturating_mul(4));
        return Some(Schema {
            shape: Shape::IntOrString,
            max_elements: max,
            ..Schema::plain(Type::Dyn, 1)
        });
    }
    let scalar = |ty, min_size, shape| {
        Some(Schema {
            shape,
            ..Schema::plain(ty, min_size)
        })
    };
    match text(schema, "type") {
        "array" => array(schema),
        "object" => object(schema, root),
        "string" => Some(string(schema)),
        "boolean" => scalar(Type::Bool, 4, Shape::Bool),
        "number" => scalar(Type::Double, 1, Shape::Double),
        "integer" => scalar(Type::Int, 1, Shape::Int),
        _ => None,
    }
}

fn array(schema: &Map) -> Option<Schema> {
    let items = schema.get("items")?.as_map()?;
    let item = Schema::from_openapi(schema.get("items")?, is_resource(items))?;
    let max_elements = limit(schema, "maxItems").unwrap_or((MAX_REQUEST - 2) / (item.min_size + 1));
    let kind = match text(schema, "x-kubernetes-list-type") {
        "set" => ListKind::Set,
        "map" => {
            let keys = schema
                .get("x-kubernetes-list-map-keys")
                .and_then(Value::as_list);
            let keys = keys.unwrap_or_default().iter().filter_map(Value::as_str);
            ListKind::Map(
                keys.map(|k| escape(k).unwrap_or_else(|| k.to_owned()))
                    .collect(),
            )
        }
        _ => ListKind::Atomic,
    };
    let ty = Type::list(item.ty.clone());
    let item = Arc::new(item);
    Some(Schema {
        shape: Shape::List { item, kind },
        max_elements,
        ..Schema::plain(ty, 2)
    })
}

fn object(schema: &Map, root: Root) -> Option<Schema> {
    if let Some(Value::Map(values)) = schema.get("additionalProperties") {
        let value = Schema::from_openapi(schema.get("additionalProperties")?, is_resource(values))?;
        let max_elements =
            limit(schema, "maxProperties").unwrap_or((MAX_REQUEST - 2) / (value.min_size + 6));
        return Some(Schema::map(value).with_most(max_elements));
    }
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_list)
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let mut min_size = 2;
    let mut fields = Fields::new();
    let mut add = |name: &str, made: Option<Schema>, has_default: bool| {
        let Some(made) = made else {
            let preserved = Schema {
                shape: Shape::Preserved,
                ..Schema::plain(Type::Dyn, 1)
            };
            let schema = Arc::new(preserved);
            let escaped = None;
            fields.insert(name.into(), Field { escaped, schema });
            return;
        };
        if required.contains(&name) && !has_default {
            min_size += i64::try_from(name.len()).unwrap_or(0) + made.min_size + 4;
        }
        fields.insert(name.into(), Field::new(name, made));
    };
    let properties = schema.get("properties").and_then(Value::as_map);
    let added = root == Root::Resource && !has_type_and_metadata(properties);
    for (name, property) in properties.into_iter().flat_map(Map::iter) {
        if added && matches!(name.as_str(), "kind" | "apiVersion" | "metadata") {
            continue;
        }
        let Some(map) = property.as_map() else {
            continue;
        };
        let has_default = map.get("default").is_some_and(|d| !d.is_null());
        let made = Schema::from_openapi(property, is_resource(map));
        add(name.as_str(), made, has_default);
    }
    if added {
        add("kind", Some(string(&Map::new())), false);
        add("apiVersion", Some(string(&Map::new())), false);
        let metadata = properties.and_then(|p| p.get("metadata"));
        add("metadata", Some(names_of_metadata(metadata)), false);
    }
    let fields = Arc::new(fields);
    Some(Schema {
        shape: Shape::Object { fields },
        ..Schema::plain(Type::object(UNNAMED), min_size)
    })
}

fn has_type_and_metadata(properties: Option<&Map>) -> bool {
    let of = |path: &[&str]| {
        properties
            .and_then(|p| p.get(path[0]))
            .and_then(|v| v.at(&path[1..]))
            .and_then(|v| v.get("type"))
            .and_then(Value::as_str)
    };
    of(&["kind"]) == Some("string")
        && of(&["apiVersion"]) == Some("string")
        && of(&["metadata"]) == Some("object")
        && of(&["metadata", "properties", "name"]) == Some("string")
        && of(&["metadata", "properties", "generateName"]) == Some("string")
}

/// `metadata` with the only two fields that rules of custom resources see.
fn names_of_metadata(metadata: Option<&Value>) -> Schema {
    let named = |field: &str, longest: i64| {
        let own = metadata
            .and_then(|m| m.at(&["properties", field]))
            .and_then(Value::as_map)
            .and_then(|m| limit(m, "maxLength"));
        let max = own.map_or(longest, |own| own.min(longest));
        Schema {
            shape: Shape::String,
            max_elements: max * 4,
            ..Schema::plain(Type::String, 2)
        }
    };
    // What the API server appends to a generated name is at least one byte.
    Schema::object(
        UNNAMED,
        [
            ("name", named("name", MAX_NAME)),
            ("generateName", named("generateName", MAX_NAME - 1)),
        ],
    )
}

fn string(schema: &Map) -> Schema {
    let max_length = limit(schema, "maxLength");
    let made = |ty, min_size, shape, max_elements| Schema {
        shape,
        max_elements,
        ..Schema::plain(ty, min_size)
    };
    match text(schema, "format") {
        "byte" => made(
            Type::Bytes,
            2,
            Shape::Bytes,
            max_length.unwrap_or(MAX_STRING),
        ),
        "duration" => made(Type::Duration, 3, Shape::Duration, MAX_TIME),
        "date" => made(Type::Timestamp, DATE, Shape::Date, DATE),
        "date-time" => made(Type::Timestamp, 21, Shape::DateTime, MAX_TIME),
        _ => {
            let values = schema.get("enum").and_then(Value::as_list);
            let longest = values
                .filter(|values| !values.is_empty())
                .map(|values| values.iter().filter_map(Value::as_str).map(str::len).max());
            let max = match (max_length, longest) {
                (Some(max), _) => max.saturating_mul(4),
                (None, Some(longest)) => i64::try_from(longest.unwrap_or(0)).unwrap_or(0),
                (None, None) => MAX_STRING,
            };
            made(Type::String, 2, Shape::String, max)
        }
    }
}
