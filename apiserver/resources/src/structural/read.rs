//! A schema from `JSONSchemaProps`, as `schema/convert.go` makes it.

use std::sync::Arc;

use proto::name::Name;
use proto::{Map, Value};

use super::{Additional, Bounds, Checks, Flags, Junctors, Kind, Pattern, Rare, Schema};

/// Fields that no structural schema has.
const UNSUPPORTED: [&str; 7] = [
    "id",
    "schema",
    "$ref",
    "patternProperties",
    "dependencies",
    "additionalItems",
    "definitions",
];

impl Schema {
    /// Reads a schema: the content of `openAPIV3Schema`, decoded as part of a definition or as plain
    /// JSON.
    ///
    /// # Errors
    /// What upstream's `NewStructural` says to fields that a structural schema cannot have. A definition
    /// that was validated has none.
    pub fn new(props: &Value) -> Result<Self, String> {
        read_value(props, Reading::Whole)
    }

    /// The same of a schema that may have fields that no structural schema has: those are left out.
    #[must_use]
    pub fn lenient(props: &Value) -> Self {
        read_value(props, Reading::Lenient).unwrap_or_default()
    }
}

/// What is made of fields that no structural schema has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Whole,
    Lenient,
}

fn read_value(props: &Value, reading: Reading) -> Result<Schema, String> {
    let empty = Map::new();
    read(props.as_map().unwrap_or(&empty), reading)
}

fn read(props: &Map, reading: Reading) -> Result<Schema, String> {
    if reading == Reading::Whole {
        refuse_unsupported(props)?;
    }
    let checks = checks(props, reading)?;
    let preserve = props.get("x-kubernetes-preserve-unknown-fields");
    if preserve.and_then(Value::as_bool) == Some(false) && reading == Reading::Whole {
        return Err(
            "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined"
                .into(),
        );
    }
    let items = match props.get("items") {
        Some(Value::List(list)) if !list.is_empty() && reading == Reading::Whole => {
            return Err("OpenAPIV3Schema 'items' must be a schema, but is an array".into());
        }
        Some(Value::Map(map)) => Some(Arc::new(read(map, reading)?)),
        _ => None,
    };
    let mut properties = Vec::new();
    if let Some(Value::Map(map)) = props.get("properties") {
        properties.reserve_exact(map.len());
        for (name, value) in map.iter() {
            properties.push((name.clone(), Arc::new(read_value(value, reading)?)));
        }
    }
    let additional = match props.get("additionalProperties") {
        Some(Value::Bool(allowed)) => Additional::Allowed(*allowed),
        Some(Value::Map(map)) => Additional::Schema(Arc::new(read(map, reading)?)),
        _ => Additional::Absent,
    };
    Ok(Schema {
        kind: props.get("type").and_then(Value::as_str).and_then(Kind::of),
        flags: flags(props),
        properties: properties.into(),
        items,
        additional,
        checks,
        rare: rare(props),
    })
}

fn refuse_unsupported(props: &Map) -> Result<(), String> {
    for name in UNSUPPORTED {
        // `$schema` is called `schema` in upstream's words.
        let key = if name == "schema" { "$schema" } else { name };
        let given = |value: &Value| match name {
            "additionalItems" => !value.is_null(),
            _ => !is_empty(value),
        };
        if props.get(key).is_some_and(given) {
            return Err(format!("OpenAPIV3Schema '{name}' is not supported"));
        }
    }
    Ok(())
}

/// Whether Go would take it for absent.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Map(m) => m.is_empty(),
        _ => false,
    }
}

fn flags(props: &Map) -> Flags {
    const BOOLEANS: [(&str, Flags); 7] = [
        ("nullable", Flags::NULLABLE),
        (
            "x-kubernetes-preserve-unknown-fields",
            Flags::PRESERVE_UNKNOWN,
        ),
        ("x-kubernetes-embedded-resource", Flags::EMBEDDED),
        ("x-kubernetes-int-or-string", Flags::INT_OR_STRING),
        ("exclusiveMaximum", Flags::EXCLUSIVE_MAXIMUM),
        ("exclusiveMinimum", Flags::EXCLUSIVE_MINIMUM),
        ("uniqueItems", Flags::UNIQUE_ITEMS),
    ];
    const TEXTS: [(&str, Flags); 4] = [
        ("title", Flags::TITLE),
        ("description", Flags::DESCRIPTION),
        ("externalDocs", Flags::DOCUMENTED),
        ("example", Flags::DOCUMENTED),
    ];
    let mut flags = Flags::default();
    for (name, flag) in BOOLEANS {
        flags.set(flag, props.get(name).and_then(Value::as_bool) == Some(true));
    }
    for (name, flag) in TEXTS {
        let there = match props.get(name) {
            Some(Value::Map(_)) => true,
            Some(Value::Raw(raw)) => &**raw != b"null",
            Some(other) => !is_empty(other),
            None => false,
        };
        flags.set(flag, there);
    }
    flags
}

fn checks(props: &Map, reading: Reading) -> Result<Option<Box<Checks>>, String> {
    let text = |name| {
        props
            .get(name)
            .and_then(Value::as_str)
            .filter(|s| !s.is_empty())
    };
    let list = |name| props.get(name).and_then(Value::as_list).unwrap_or(&[]);
    let junctors = junctors(props, reading)?;
    let bounds = bounds(props);
    let checks = Checks {
        format: text("format").map(Into::into),
        pattern: text("pattern").map(|p| Box::new(Pattern::new(p))),
        allowed: list("enum").iter().map(json).collect(),
        required: list("required")
            .iter()
            .map(|v| Name::new(v.as_str().unwrap_or_default()))
            .collect(),
        bounds: (bounds != Bounds::default()).then(|| Box::new(bounds)),
        junctors: junctors.map(Box::new),
    };
    let Checks {
        format,
        pattern,
        allowed,
        required,
        bounds,
        junctors,
    } = &checks;
    let none = format.is_none()
        && pattern.is_none()
        && allowed.is_empty()
        && required.is_empty()
        && bounds.is_none()
        && junctors.is_none();
    Ok((!none).then(|| Box::new(checks)))
}

/// In the order in which upstream reads them, which decides what it complains of first.
fn junctors(props: &Map, reading: Reading) -> Result<Option<Junctors>, String> {
    let list = |name| -> Result<Box<[Arc<Schema>]>, String> {
        let items = props.get(name).and_then(Value::as_list).unwrap_or(&[]);
        items
            .iter()
            .map(|item| read_value(item, reading).map(Arc::new))
            .collect()
    };
    let not = match props.get("not") {
        Some(Value::Map(map)) => Some(Arc::new(read(map, reading)?)),
        _ => None,
    };
    let junctors = Junctors {
        not,
        all_of: list("allOf")?,
        any_of: list("anyOf")?,
        one_of: list("oneOf")?,
    };
    let none = junctors.not.is_none()
        && junctors.all_of.is_empty()
        && junctors.any_of.is_empty()
        && junctors.one_of.is_empty();
    Ok((!none).then_some(junctors))
}

fn bounds(props: &Map) -> Bounds {
    #[allow(clippy::cast_precision_loss, reason = "Go reads a double")]
    let number = |name| match props.get(name)? {
        Value::Int(i) => Some(*i as f64),
        Value::Float(f) => Some(*f),
        _ => None,
    };
    let count = |name| props.get(name).and_then(Value::as_int);
    Bounds {
        maximum: number("maximum"),
        minimum: number("minimum"),
        multiple_of: number("multipleOf"),
        max_length: count("maxLength"),
        min_length: count("minLength"),
        max_items: count("maxItems"),
        min_items: count("minItems"),
        max_properties: count("maxProperties"),
        min_properties: count("minProperties"),
    }
}

fn rare(props: &Map) -> Option<Box<Rare>> {
    let text = |name| props.get(name).and_then(Value::as_str).map(Into::into);
    let list = |name| {
        props
            .get(name)
            .and_then(Value::as_list)
            .filter(|list| !list.is_empty())
    };
    let rare = Rare {
        default: props.get("default").map(json).filter(|v| !v.is_null()),
        list_type: text("x-kubernetes-list-type"),
        list_map_keys: list("x-kubernetes-list-map-keys")
            .unwrap_or_default()
            .iter()
            .map(|key| key.as_str().unwrap_or_default().into())
            .collect(),
        map_type: text("x-kubernetes-map-type"),
        rules: list("x-kubernetes-validations").map(|rules| Value::List(rules.to_vec())),
    };
    let none = rare.default.is_none()
        && rare.list_type.is_none()
        && rare.list_map_keys.is_empty()
        && rare.map_type.is_none()
        && rare.rules.is_none();
    (!none).then(|| Box::new(rare))
}

/// A value that stands as raw JSON in a decoded definition. What cannot be read is null: the decoder
/// of the definition has refused it.
fn json(value: &Value) -> Value {
    match value {
        Value::Raw(raw) => proto::codec::json::parse(raw).unwrap_or_default(),
        other => other.clone(),
    }
}
