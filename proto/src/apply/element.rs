//! One step of a path: a field, an element of a list by its keys or its value, or by its place.

use std::cmp::Ordering;
use std::fmt;

use crate::codec::json;
use crate::name::Name;
use crate::value::{Map, Value};

/// Ordered as upstream orders path elements, which is also the order in which sets are printed:
/// fields, keys, values, places.
#[derive(Clone, Debug)]
pub enum Element {
    Field(Name),
    /// The element of a list whose keys have these values, sorted by name.
    Key(Box<[(Name, Value)]>),
    /// The element of a set.
    Value(Value),
    Index(i64),
}

/// A text that is not a path element.
#[derive(Debug)]
pub(super) struct NotAnElement;

impl Element {
    #[must_use]
    pub fn field(name: &str) -> Self {
        Self::Field(Name::new(name))
    }

    /// Reads `f:spec`, `k:{"name":"x"}`, `v:"x"` or `i:0`. A type that is not known is none: a later
    /// version may know it.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, NotAnElement> {
        let (kind, content) = match text.as_bytes() {
            [kind, b':', ..] => (*kind, &text[2..]),
            _ => return Err(NotAnElement),
        };
        let value = || json::parse(content.as_bytes()).map_err(|_| NotAnElement);
        Ok(Some(match kind {
            b'f' => Self::field(content),
            b'v' => Self::Value(value()?),
            b'k' => match value()? {
                Value::Map(keys) => Self::Key(keys.into_iter().collect()),
                Value::Null => Self::Key(Box::default()),
                _ => return Err(NotAnElement),
            },
            b'i' => Self::Index(content.parse().map_err(|_| NotAnElement)?),
            _ => return Ok(None),
        }))
    }

    /// Appends what [`Element::parse`] reads, not yet escaped for JSON.
    pub(super) fn print(&self, out: &mut Vec<u8>) {
        match self {
            Self::Field(name) => {
                out.extend_from_slice(b"f:");
                out.extend_from_slice(name.as_str().as_bytes());
            }
            Self::Key(keys) => {
                out.extend_from_slice(b"k:{");
                for (i, (name, value)) in keys.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    push_string(name.as_str(), Escape::Plain, out);
                    out.push(b':');
                    push_value(value, out);
                }
                out.push(b'}');
            }
            Self::Value(value) => {
                out.extend_from_slice(b"v:");
                push_value(value, out);
            }
            Self::Index(i) => {
                out.extend_from_slice(b"i:");
                json::push_int(*i, out);
            }
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => compare_keys(a, b),
            (Self::Value(a), Self::Value(b)) => order(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Element {}

fn compare_keys(a: &[(Name, Value)], b: &[(Name, Value)]) -> Ordering {
    let differing = a
        .iter()
        .zip(b)
        .map(|((an, av), (bn, bv))| an.cmp(bn).then_with(|| order(av, bv)))
        .find(|o| o.is_ne());
    differing.unwrap_or_else(|| a.len().cmp(&b.len()))
}

/// A total order of all values, upstream's: numbers, strings, booleans, lists, maps, null.
pub(super) fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            float(a).total_cmp(&float(b))
        }
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::List(a), Value::List(b)) => a
            .iter()
            .zip(b)
            .map(|(a, b)| order(a, b))
            .find(|o| o.is_ne())
            .unwrap_or_else(|| a.len().cmp(&b.len())),
        (Value::Map(a), Value::Map(b)) => order_maps(a, b),
        _ => rank(a).cmp(&rank(b)),
    }
}

fn order_maps(a: &Map, b: &Map) -> Ordering {
    a.iter()
        .zip(b.iter())
        .map(|((an, av), (bn, bv))| an.cmp(bn).then_with(|| order(av, bv)))
        .find(|o| o.is_ne())
        .unwrap_or_else(|| a.len().cmp(&b.len()))
}

#[expect(clippy::cast_precision_loss, reason = "upstream compares so as well")]
fn float(value: &Value) -> f64 {
    match value {
        Value::Int(i) => *i as f64,
        // Adding zero makes -0 the same as 0.
        Value::Float(f) => *f + 0.0,
        _ => 0.0,
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Int(_) | Value::Float(_) => 0,
        Value::String(_) | Value::Bytes(_) | Value::Raw(_) => 1,
        Value::Bool(_) => 2,
        Value::List(_) => 3,
        Value::Map(_) => 4,
        Value::Null => 5,
    }
}

/// How conflicts and errors name it: `.spec`, `[name="x"]`, `[="x"]`, `[0]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => {
                f.write_str("[")?;
                for (i, (name, value)) in keys.iter().enumerate() {
                    let comma = if i > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={}", shown(value))?;
                }
                f.write_str("]")
            }
            Self::Value(value) => write!(f, "[={}]", shown(value)),
            Self::Index(i) => write!(f, "[{i}]"),
        }
    }
}

/// Upstream's `value.ToString`.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::String(text) => crate::path::quote(text),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(","))
        }
        Value::Map(map) => map
            .iter()
            .map(|(name, value)| format!("{name}={}", shown(value)))
            .collect(),
        other => {
            let mut out = Vec::new();
            json::write(other, &mut out);
            String::from_utf8_lossy(&out).into_owned()
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Escape {
    /// Quotes, backslashes and control characters.
    Plain,
    /// Also what could end a script in HTML.
    Html,
}

/// Appends a value as upstream's JSON library writes it inside a path element.
fn push_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::String(text) => push_string(text, Escape::Html, out),
        other => json::write(other, out),
    }
}

/// Appends a quoted string. Not [`json::push_string`]: the library that prints sets has other short
/// forms than Go's own.
pub(super) fn push_string(text: &str, escape: Escape, out: &mut Vec<u8>) {
    out.push(b'"');
    push_escaped(text, escape, out);
    out.push(b'"');
}

fn push_escaped(text: &str, escape: Escape, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut plain = 0;
    for (i, c) in text.char_indices() {
        let special = match c {
            '"' | '\\' | '\0'..='\x1f' => true,
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => escape == Escape::Html,
            _ => false,
        };
        if !special {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[plain..i]);
        plain = i + c.len_utf8();
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let code = u32::from(c);
                out.extend_from_slice(b"\\u");
                for shift in [12, 8, 4, 0] {
                    out.push(HEX[((code >> shift) & 0xf) as usize]);
                }
            }
        }
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
}
