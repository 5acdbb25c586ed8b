//! Field paths and lists of errors: `spec.containers[0].name: Required value`.
//!
//! The error types, their texts and the order of their details follow upstream's
//! `apimachinery/pkg/util/validation/field`; clients match on `reason`, `field` and often on the text.

use std::fmt::{self, Write};

use crate::name::{Name, NameId};
use crate::value::Value;
use crate::view::View;

/// Upstream's `field.ErrorType`, which becomes the `reason` of a cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    TypeInvalid,
    Internal,
}

impl Reason {
    /// The machine-readable form in `status.details.causes[].reason`.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::TypeInvalid => "Invalid value",
            Self::Internal => "Internal error",
        }
    }
}

/// One finding of validation.
#[derive(Clone, PartialEq, Debug)]
pub struct FieldError {
    pub reason: Reason,
    /// `spec.containers[0].name`.
    pub field: String,
    /// The offending value as upstream prints it (strings quoted, objects as JSON); empty for reasons
    /// that do not show one.
    pub value: String,
    pub detail: String,
}

impl FieldError {
    /// The text without the field, as in `status.details.causes[].message`.
    #[must_use]
    pub fn body(&self) -> String {
        let mut s = self.reason.text().to_owned();
        match self.reason {
            Reason::Required | Reason::Forbidden | Reason::TooLong | Reason::Internal | Reason::TooMany => {}
            _ => {
                let _ = write!(s, ": {}", self.value);
            }
        }
        if !self.detail.is_empty() {
            let _ = write!(s, ": {}", self.detail);
        }
        s
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// Where an error is: a node of the tree, a field of it, or an element or key below that.
#[derive(Clone, Copy)]
pub struct Spot<'a> {
    node: &'a Value,
    tail: [Option<Segment<'a>>; 3],
}

#[derive(Clone, Copy)]
pub enum Segment<'a> {
    Field(NameId),
    Index(usize),
    Key(&'a str),
}

impl<'a> Spot<'a> {
    /// The node of a view itself.
    pub fn of<V: View<'a>>(view: V) -> Self {
        Self { node: view.node().value(), tail: [None; 3] }
    }

    /// A node of the tree.
    #[must_use]
    pub fn node(node: &'a Value) -> Self {
        Self { node, tail: [None; 3] }
    }

    #[must_use]
    fn push(mut self, segment: Segment<'a>) -> Self {
        if let Some(free) = self.tail.iter_mut().find(|s| s.is_none()) {
            *free = Some(segment);
        }
        self
    }
    /// A field below; at most three segments may follow a node.
    #[must_use]
    pub fn field(self, name: NameId) -> Self {
        self.push(Segment::Field(name))
    }
    #[must_use]
    pub fn index(self, i: usize) -> Self {
        self.push(Segment::Index(i))
    }
    #[must_use]
    pub fn key(self, key: &'a str) -> Self {
        self.push(Segment::Key(key))
    }
}

impl<'a, V: View<'a>> From<(V, NameId)> for Spot<'a> {
    fn from((view, name): (V, NameId)) -> Self {
        Self::of(view).field(name)
    }
}

/// Collects the errors of one object. All of them are reported at once, in the order found.
pub struct Errors<'a> {
    root: &'a Value,
    found: Vec<FieldError>,
}

impl<'a> Errors<'a> {
    #[must_use]
    pub fn new(root: &'a Value) -> Self {
        Self { root, found: Vec::new() }
    }

    #[must_use]
    pub fn into_vec(self) -> Vec<FieldError> {
        self.found
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The path of a spot, found by the address of its node.
    #[must_use]
    pub fn path(&self, spot: Spot<'_>) -> String {
        let mut path = String::new();
        find(self.root, spot.node, &mut path);
        for segment in spot.tail.into_iter().flatten() {
            match segment {
                Segment::Field(name) => push_field(&mut path, name.text()),
                Segment::Index(i) => push_index(&mut path, i),
                Segment::Key(key) => push_key(&mut path, key),
            }
        }
        path
    }

    pub fn push(&mut self, error: FieldError) {
        self.found.push(error);
    }

    fn add(&mut self, reason: Reason, spot: Spot<'_>, value: String, detail: impl Into<String>) {
        let field = self.path(spot);
        self.found.push(FieldError { reason, field, value, detail: detail.into() });
    }

    pub fn required<'s>(&mut self, at: impl Into<Spot<'s>>, detail: impl Into<String>) {
        self.add(Reason::Required, at.into(), String::new(), detail);
    }
    pub fn invalid<'s>(&mut self, at: impl Into<Spot<'s>>, value: impl Show, detail: impl Into<String>) {
        self.add(Reason::Invalid, at.into(), value.show(), detail);
    }
    pub fn forbidden<'s>(&mut self, at: impl Into<Spot<'s>>, detail: impl Into<String>) {
        self.add(Reason::Forbidden, at.into(), String::new(), detail);
    }
    pub fn duplicate<'s>(&mut self, at: impl Into<Spot<'s>>, value: impl Show) {
        self.add(Reason::Duplicate, at.into(), value.show(), "");
    }
    pub fn not_found<'s>(&mut self, at: impl Into<Spot<'s>>, value: impl Show) {
        self.add(Reason::NotFound, at.into(), value.show(), "");
    }
    /// `Unsupported value: "x": supported values: "a", "b"`, the values sorted as upstream sorts them.
    pub fn not_supported<'s>(&mut self, at: impl Into<Spot<'s>>, value: impl Show, allowed: &[&str]) {
        let mut allowed = allowed.to_vec();
        allowed.sort_unstable();
        let list: Vec<String> = allowed.iter().map(|v| quote(v)).collect();
        let detail = if list.is_empty() { String::new() } else { format!("supported values: {}", list.join(", ")) };
        self.add(Reason::NotSupported, at.into(), value.show(), detail);
    }
    pub fn too_long<'s>(&mut self, at: impl Into<Spot<'s>>, max: usize) {
        self.add(Reason::TooLong, at.into(), String::new(), format!("may not be more than {max} bytes"));
    }
    pub fn too_many<'s>(&mut self, at: impl Into<Spot<'s>>, actual: usize, max: usize) {
        let items = if max == 1 { "item" } else { "items" };
        let mut error = String::new();
        let _ = write!(error, "{actual}: must have at most {max} {items}");
        self.add(Reason::TooMany, at.into(), String::new(), error);
    }
}

/// How upstream prints an offending value.
pub trait Show {
    fn show(&self) -> String;
}
impl Show for &str {
    fn show(&self) -> String {
        quote(self)
    }
}
impl Show for String {
    fn show(&self) -> String {
        quote(self)
    }
}
impl Show for i64 {
    fn show(&self) -> String {
        self.to_string()
    }
}
impl Show for usize {
    fn show(&self) -> String {
        self.to_string()
    }
}
impl Show for bool {
    fn show(&self) -> String {
        self.to_string()
    }
}
impl Show for crate::view::IntOrStr<'_> {
    fn show(&self) -> String {
        match self {
            Self::Int(i) => i.to_string(),
            Self::Str(s) => quote(s),
        }
    }
}
impl Show for &Value {
    /// Objects and lists as JSON.
    fn show(&self) -> String {
        match self {
            Value::Null => "null".into(),
            Value::Bool(b) => b.to_string(),
            Value::Int(i) => i.to_string(),
            Value::String(s) => quote(s),
            other => {
                let mut out = Vec::new();
                crate::codec::json::write(other, &mut out);
                String::from_utf8_lossy(&out).into_owned()
            }
        }
    }
}

/// Go's `%q`.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `a` + `b` = `a.b`.
pub fn push_field(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}
/// `a` + 3 = `a[3]`.
pub fn push_index(path: &mut String, i: usize) {
    let _ = write!(path, "[{i}]");
}
/// `a` + `k` = `a[k]`.
pub fn push_key(path: &mut String, key: &str) {
    let _ = write!(path, "[{key}]");
}

/// Appends the path from `from` to the node at the address of `to`; false, and nothing appended, if it
/// is not below.
fn find(from: &Value, to: &Value, path: &mut String) -> bool {
    if std::ptr::eq(from, to) {
        return true;
    }
    let len = path.len();
    match from {
        Value::Map(map) => {
            for (name, value) in map.iter() {
                match name {
                    Name::Known(id) => push_field(path, id.text()),
                    Name::Other(key) => push_key(path, key),
                }
                if find(value, to, path) {
                    return true;
                }
                path.truncate(len);
            }
        }
        Value::List(items) => {
            for (i, value) in items.iter().enumerate() {
                push_index(path, i);
                if find(value, to, path) {
                    return true;
                }
                path.truncate(len);
            }
        }
        _ => {}
    }
    false
}
