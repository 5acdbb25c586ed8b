//! Nodes of objects as values.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proto::Value as Tree;
use proto::time::Duration;

use super::{List, Map, Outcome, Timestamp, Value};
use crate::error::Error;
use crate::schema::{Schema, Shape};

/// By its JSON type alone.
pub(super) fn plain(tree: &Tree) -> Value<'_> {
    match tree {
        Tree::Null => Value::Null,
        Tree::Bool(b) => Value::Bool(*b),
        Tree::Int(i) => Value::Int(*i),
        Tree::Float(d) => Value::Double(*d),
        Tree::String(text) => Value::text(text),
        Tree::Bytes(bytes) => Value::owned(STANDARD.encode(bytes)),
        Tree::Raw(json) => match proto::codec::json::parse(json) {
            Ok(parsed) => owned(&parsed),
            Err(_) => Value::Null,
        },
        Tree::List(nodes) => Value::List(List::Tree(nodes)),
        Tree::Map(map) => Value::Map(Map::Tree(map)),
    }
}

/// A copy, of what was parsed for the purpose.
fn owned<'a>(tree: &Tree) -> Value<'a> {
    match tree {
        Tree::Null => Value::Null,
        Tree::Bool(b) => Value::Bool(*b),
        Tree::Int(i) => Value::Int(*i),
        Tree::Float(d) => Value::Double(*d),
        Tree::String(text) => Value::owned(&**text),
        Tree::Bytes(bytes) => Value::owned(STANDARD.encode(bytes)),
        Tree::Raw(_) => Value::Null,
        Tree::List(nodes) => Value::list(nodes.iter().map(owned).collect()),
        Tree::Map(map) => {
            let entries = map.iter().map(|(name, node)| {
                let key = super::Text::Shared(name.as_str().into());
                (super::Key::String(key), owned(node))
            });
            Value::map(entries.collect())
        }
    }
}

/// Go's name for the type of a JSON value.
fn go_type(tree: &Tree) -> &'static str {
    match tree {
        Tree::Null => "<nil>",
        Tree::Bool(_) => "bool",
        Tree::Int(_) => "int64",
        Tree::Float(_) => "float64",
        Tree::String(_) | Tree::Bytes(_) => "string",
        Tree::List(_) => "[]interface {}",
        Tree::Raw(_) | Tree::Map(_) => "map[string]interface {}",
    }
}

/// As a schema says: upstream's `UnstructuredToVal` (`apiserver/pkg/cel/common/valuesunstructured.go`).
pub(super) fn typed<'a>(tree: &'a Tree, schema: &'a Schema) -> Outcome<'a> {
    if tree.is_null() && !matches!(schema.shape, Shape::Plain | Shape::Preserved) {
        return if schema.nullable {
            Ok(Value::Null)
        } else {
            Err(Error::new(
                "invalid data, got null for schema with nullable=false",
            ))
        };
    }
    let expected = |what: &str| {
        Err(Error::new(format!(
            "invalid data, expected {what}, got {}",
            go_type(tree)
        )))
    };
    match (&schema.shape, tree) {
        (Shape::Plain, _) => Ok(plain(tree)),
        (Shape::Preserved, _) => Ok(Value::Preserved(tree)),
        (Shape::IntOrString, Tree::String(text)) => Ok(Value::text(text)),
        (Shape::IntOrString | Shape::Int, Tree::Int(i)) => Ok(Value::Int(*i)),
        (Shape::IntOrString, _) => Err(Error::new(
            "invalid data, expected XIntOrString value to be either a string or integer",
        )),
        (Shape::Int, _) => expected("int"),
        (Shape::Bool, Tree::Bool(b)) => Ok(Value::Bool(*b)),
        (Shape::Bool, _) => expected("bool"),
        #[allow(
            clippy::cast_precision_loss,
            reason = "a number of the schema is a double"
        )]
        (Shape::Double, Tree::Int(i)) => Ok(Value::Double(*i as f64)),
        (Shape::Double, Tree::Float(d)) => Ok(Value::Double(*d)),
        (Shape::Double, _) => expected("float"),
        (Shape::List { .. }, Tree::List(nodes)) => Ok(Value::List(List::Typed(nodes, schema))),
        (Shape::List { .. }, _) => Err(Error::new(
            "invalid data, expected an array for the provided schema with type=array",
        )),
        (Shape::Map { .. } | Shape::Bounded { .. } | Shape::Object { .. }, Tree::Map(map)) => {
            Ok(Value::Map(Map::Typed(map, schema)))
        }
        (Shape::Map { .. } | Shape::Bounded { .. } | Shape::Object { .. }, _) => Err(Error::new(
            "invalid data, expected a map for the provided schema with type=object",
        )),
        (Shape::String, Tree::String(text)) => Ok(Value::text(text)),
        (Shape::Bytes, Tree::Bytes(bytes)) => Ok(Value::Bytes(super::Octets::Borrowed(bytes))),
        (Shape::Bytes | Shape::Duration | Shape::Date | Shape::DateTime, Tree::String(text)) => {
            formatted(text, &schema.shape)
        }
        (Shape::String | Shape::Bytes | Shape::Duration | Shape::Date | Shape::DateTime, _) => {
            expected("string")
        }
    }
}

fn formatted<'a>(text: &str, shape: &Shape) -> Outcome<'a> {
    match shape {
        Shape::Duration => duration(text).map(Value::Duration).ok_or_else(|| {
            Error::new(format!(
                "Invalid duration {text}: unable to parse {text} as duration"
            ))
        }),
        Shape::Date => Timestamp::parse(&format!("{text}T00:00:00Z"))
            .map(Value::Timestamp)
            .map_err(|e| Error::new(format!("Invalid date formatted string {text}: {e}"))),
        Shape::DateTime => date_time(text)
            .map(Value::Timestamp)
            .map_err(|e| Error::new(format!("Invalid date-time formatted string {text}: {e}"))),
        // Upstream reads base64 for URLs here, whatever the validation of the format says.
        _ => URL_SAFE
            .decode(text.replace(['\r', '\n'], ""))
            .map(Value::bytes)
            .map_err(|e| Error::new(format!("Invalid byte formatted string {text}: {e}"))),
    }
}

/// RFC 3339, or without a zone, or nothing at all: the epoch.
fn date_time(text: &str) -> Result<Timestamp, proto::time::ParseError> {
    if text.is_empty() {
        return Ok(Timestamp::utc(0, 0));
    }
    Timestamp::parse(text).or_else(|error| Timestamp::parse(&format!("{text}Z")).map_err(|_| error))
}

/// A duration as kube-openapi's `strfmt` reads it: Go's, or numbers with words ("2 days").
fn duration(text: &str) -> Option<i64> {
    if let Ok(duration) = Duration::from_str(text) {
        return Some(duration.0);
    }
    let mut total = 0_i64;
    let mut found = false;
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        rest = &rest[start..];
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let word = behind.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']);
        let letters = word
            .find(|c: char| !c.is_ascii_alphabetic() && c != 'µ')
            .unwrap_or(word.len());
        let (unit, after) = word.split_at(letters);
        if !unit.is_empty() {
            let number: i64 = number.parse().ok()?;
            if let Some(nanos) = unit_of(&unit.to_lowercase()) {
                found = true;
                total = total.wrapping_add(number.wrapping_mul(nanos));
            }
        }
        rest = after;
    }
    found.then_some(total)
}

/// Nanoseconds of a unit by one of its names; the last name may go on.
fn unit_of(unit: &str) -> Option<i64> {
    const UNITS: &[(&[&str], i64)] = &[
        (&["ns", "nano"], 1),
        (&["us", "µs", "micro"], 1_000),
        (&["ms", "milli"], 1_000_000),
        (&["s", "sec"], 1_000_000_000),
        (&["m", "min"], 60_000_000_000),
        (&["h", "hr", "hour"], 3_600_000_000_000),
        (&["d", "day"], 86_400_000_000_000),
        (&["w", "wk", "week"], 604_800_000_000_000),
    ];
    let found = UNITS.iter().find(|(names, _)| {
        names.contains(&unit) || names.last().is_some_and(|last| unit.starts_with(last))
    });
    found.map(|(_, nanos)| *nanos)
}
