//! Metadata of whole and of embedded resources, which no schema describes: `schema/objectmeta`.

use std::sync::LazyLock;

use proto::codec::json::{self, Strictness};
use proto::meta::{self, names};
use proto::name::Name;
use proto::path::{Errors, FieldError, Reason, quote};
use proto::{Map, MsgId, Value};

use super::Schema;
use super::text::{Path, json_text, show};

static OBJECT_META: LazyLock<MsgId> =
    LazyLock::new(|| MsgId::find("meta/v1.ObjectMeta").expect("every catalogue has metadata"));

/// What to do with metadata of a wrong type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// Refuse the object: it comes from a client.
    Refuse,
    /// Drop the field: the object was stored before the rule was made.
    Drop,
}

impl Schema {
    /// Gives `apiVersion`, `kind` and `metadata` of embedded resources their types and drops what
    /// metadata does not have; of the object itself too if `root` says that it is a whole resource. `at`
    /// is the path of the object, empty if it is whole. Returns the paths of what was dropped, in sorted
    /// order (`metadata.a`).
    ///
    /// # Errors
    /// The first field of a wrong type, unless those are dropped.
    pub fn coerce_metadata(
        &self,
        object: &mut Value,
        at: &str,
        root: bool,
        malformed: Malformed,
    ) -> Result<Vec<String>, FieldError> {
        let mut coercer = Coercer {
            malformed,
            unknown: Vec::new(),
        };
        coercer.coerce(self, object, &Path::root(at), root)?;
        coercer.unknown.sort();
        Ok(coercer.unknown)
    }

    /// Checks `apiVersion`, `kind` and `metadata` of embedded resources; of the object itself too if
    /// `root`. Metadata has its types already ([`Schema::coerce_metadata`]).
    #[must_use]
    pub fn validate_metadata(&self, object: &Value, at: &str, root: bool) -> Vec<FieldError> {
        let mut errors = Vec::new();
        validate(self, object, &Path::root(at), root, &mut errors);
        errors
    }
}

fn invalid(at: &Path<'_>, value: &Value, why: impl Into<String>) -> FieldError {
    FieldError::new(Reason::Invalid, at.field(), show(value), why)
}

struct Coercer {
    malformed: Malformed,
    unknown: Vec<String>,
}

impl Coercer {
    fn coerce(
        &mut self,
        s: &Schema,
        value: &mut Value,
        at: &Path<'_>,
        root: bool,
    ) -> Result<(), FieldError> {
        match value {
            Value::Map(map) => {
                if root || s.is_embedded_resource() {
                    self.resource(map, at)?;
                }
                for (name, child) in map.iter_mut() {
                    let name = name.as_str();
                    if let Some(property) = s.property(name) {
                        self.coerce(property, child, &at.child(name), false)?;
                    } else if let Some(schema) = s.additional.schema() {
                        self.coerce(schema, child, &at.key(name), false)?;
                    }
                }
            }
            Value::List(items) => {
                if let Some(schema) = &s.items {
                    for (i, item) in items.iter_mut().enumerate() {
                        self.coerce(schema, item, &at.index(i), false)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn resource(&mut self, map: &mut Map, at: &Path<'_>) -> Result<(), FieldError> {
        for name in ["apiVersion", "kind"] {
            match map.get(name) {
                Some(value) if value.as_str().is_none() => {
                    if self.malformed == Malformed::Refuse {
                        return Err(invalid(&at.child(name), value, "must be a string"));
                    }
                    map.remove(name);
                }
                _ => {}
            }
        }
        let Some(metadata) = map.get_mut("metadata") else {
            return Ok(());
        };
        let at = at.child("metadata");
        match typed(metadata, self.malformed) {
            Ok(Some((typed, unknown))) => {
                *metadata = typed;
                let path = at.field();
                self.unknown
                    .extend(unknown.iter().map(|field| format!("{path}.{field}")));
            }
            Ok(None) => {}
            Err(why) => return Err(invalid(&at, metadata, why)),
        }
        Ok(())
    }
}

/// Gives the metadata of an object itself its types, without a schema, and returns the paths of what it
/// does not have (`metadata.a`), in sorted order. Upstream does so to all custom resources that it reads,
/// before it prunes them, so that no schema takes something from metadata.
///
/// # Errors
/// What Go's decoder says to the first field of a wrong type, if those are refused; if not, that metadata
/// is no object.
pub fn coerce_root_metadata(
    object: &mut Value,
    malformed: Malformed,
) -> Result<Vec<String>, String> {
    let Some(metadata) = object.get_mut("metadata") else {
        return Ok(Vec::new());
    };
    let Some((typed, unknown)) = typed(metadata, malformed)? else {
        let found = match metadata {
            Value::Bool(_) => "bool",
            Value::Int(_) => "int64",
            Value::Float(_) => "float64",
            Value::List(_) => "[]interface {}",
            _ => "string",
        };
        return Err(format!("invalid metadata: expected object, got {found}"));
    };
    *metadata = typed;
    let mut paths: Vec<String> = unknown
        .iter()
        .map(|field| format!("metadata.{field}"))
        .collect();
    paths.sort();
    Ok(paths)
}

/// Metadata with its types, as plain JSON, and the fields that it does not have; nothing if it is no object
/// and that is no matter.
fn typed(metadata: &Value, malformed: Malformed) -> Result<Option<(Value, Vec<String>)>, String> {
    let decoded = match (decode(metadata), metadata) {
        (Ok(decoded), _) => decoded,
        (Err(why), _) if malformed == Malformed::Refuse => return Err(why),
        (Err(_), Value::Map(fields)) => {
            let one = |(name, value): &(&Name, &Value)| {
                let one = [((*name).clone(), (*value).clone())].into_iter().collect();
                decode(&Value::Map(one)).is_ok()
            };
            let fitting = fields.iter().filter(one);
            let fitting = fitting.map(|(name, value)| (name.clone(), value.clone()));
            decode(&Value::Map(fitting.collect()))?
        }
        (Err(_), _) => return Ok(None),
    };
    let unknown = decoded.problems.iter().filter_map(|problem| {
        let quoted = problem.strip_prefix("unknown field ")?;
        Some(quoted.get(1..quoted.len() - 1)?.to_owned())
    });
    Ok(Some((unstructured(&decoded.value), unknown.collect())))
}

/// Metadata with its types, or why it has not: what Go's decoder says.
fn decode(metadata: &Value) -> Result<json::Decoded, String> {
    if metadata.is_null() {
        return Ok(json::Decoded {
            value: Value::object(),
            problems: Vec::new(),
        });
    }
    let text = json_text(metadata);
    json::decode(text.as_bytes(), *OBJECT_META, Strictness::Strict).map_err(|e| e.to_string())
}

/// Metadata as part of a custom resource: plain JSON without what is empty.
fn unstructured(metadata: &Value) -> Value {
    let mut out = Vec::new();
    json::encode(metadata, *OBJECT_META, &mut out);
    let mut plain = json::parse(&out).unwrap_or_else(|_| Value::object());
    if plain.get("creationTimestamp").is_some_and(Value::is_null) {
        plain.remove(&["creationTimestamp"]);
    }
    plain
}

fn validate(s: &Schema, value: &Value, at: &Path<'_>, root: bool, errors: &mut Vec<FieldError>) {
    match value {
        Value::Map(map) => {
            if root || s.is_embedded_resource() {
                resource(map, at, errors);
            }
            for (name, child) in map.iter() {
                let name = name.as_str();
                if let Some(property) = s.property(name) {
                    validate(property, child, &at.child(name), false, errors);
                } else if let Some(schema) = s.additional.schema() {
                    validate(schema, child, &at.key(name), false, errors);
                }
            }
        }
        Value::List(items) => {
            if let Some(schema) = &s.items {
                for (i, item) in items.iter().enumerate() {
                    validate(schema, item, &at.index(i), false, errors);
                }
            }
        }
        _ => {}
    }
}

/// The type and the metadata of a resource. Its name may be missing.
fn resource(map: &Map, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    for name in ["apiVersion", "kind"] {
        if !map.contains(name) {
            errors.push(FieldError::required(at.child(name).field(), ""));
        }
    }
    for (name, check) in [
        ("apiVersion", group_version as fn(&str) -> Option<String>),
        ("kind", kind),
    ] {
        let Some(value) = map.get(name) else {
            continue;
        };
        let why = match value.as_str() {
            None => Some("must be a string".to_owned()),
            Some("") => Some("must not be empty".to_owned()),
            Some(text) => check(text),
        };
        if let Some(why) = why {
            errors.push(invalid(&at.child(name), value, why));
        }
    }
    if let Some(value) = map.get("metadata") {
        let at = at.child("metadata");
        match decode(value) {
            Err(why) => errors.push(invalid(&at, value, why)),
            Ok(decoded) => metadata(decoded.value, &at, errors),
        }
    }
}

fn group_version(text: &str) -> Option<String> {
    (text.matches('/').count() > 1).then(|| format!("unexpected GroupVersion string: {text}"))
}

fn kind(text: &str) -> Option<String> {
    let problems = names::dns_1035_label_problems(&text.to_lowercase());
    let all = problems.join(",");
    (!all.is_empty()).then(|| format!("may have mixed case, but should otherwise match: {all}"))
}

fn metadata(decoded: Value, at: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut object = Value::object();
    object.set(&["metadata"], decoded);
    if meta::name(&object).is_empty() {
        object.set(&["metadata", "name"], "fakename");
    }
    let namespaced = !meta::namespace(&object).is_empty();
    let mut found = Errors::new(&object);
    meta::validate_object_meta(&object, namespaced, names::path_segment_name, &mut found);
    let prefix = at.field();
    errors.extend(found.into_vec().into_iter().map(|mut error| {
        let rest = error.field.strip_prefix("metadata").unwrap_or(&error.field);
        error.field = format!("{prefix}{rest}");
        error
    }));
}

/// Several errors about one default, in one text.
pub(super) fn must_be_valid(at: &Path<'_>, value: &Value, why: &str) -> FieldError {
    let shown = match value {
        Value::String(text) => quote(text),
        other => show(other),
    };
    FieldError::new(
        Reason::Invalid,
        at.field(),
        shown,
        format!("must result in valid metadata: {why}"),
    )
}
