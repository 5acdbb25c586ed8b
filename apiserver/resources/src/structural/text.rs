//! Paths and values as upstream prints them.

use std::fmt::Write;

use proto::Value;
use proto::codec::json;
use proto::path::{Show, push_index, push_key, quote};

/// Upstream's `field.Path`, linked on the stack and written only into an error.
#[derive(Clone, Copy)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    part: Part<'a>,
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Root(&'a str),
    Child(&'a str),
    /// A child that has its dot even at the root, as the validators of values write some.
    Dotted(&'a str),
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    /// Where a walk begins; the empty text is the object itself, upstream's nil path.
    pub(crate) fn root(at: &'a str) -> Self {
        Self {
            parent: None,
            part: Part::Root(at),
        }
    }

    fn with(&'a self, part: Part<'a>) -> Self {
        Self {
            parent: Some(self),
            part,
        }
    }

    pub(crate) fn child(&'a self, name: &'a str) -> Path<'a> {
        self.with(Part::Child(name))
    }
    pub(super) fn dotted(&'a self, name: &'a str) -> Path<'a> {
        self.with(Part::Dotted(name))
    }
    pub(crate) fn key(&'a self, key: &'a str) -> Path<'a> {
        self.with(Part::Key(key))
    }
    pub(crate) fn index(&'a self, i: usize) -> Path<'a> {
        self.with(Part::Index(i))
    }

    /// Whether it is the root of a walk.
    pub(super) fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    fn push(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.push(out);
        }
        match self.part {
            Part::Root(at) => out.push_str(at),
            Part::Child(name) => proto::path::push_field(out, name),
            Part::Dotted(name) => {
                out.push('.');
                out.push_str(name);
            }
            Part::Key(key) => push_key(out, key),
            Part::Index(i) => push_index(out, i),
        }
    }

    /// Empty at the root of an object.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        self.push(&mut out);
        out
    }

    /// As it stands in the field of an error.
    pub(crate) fn field(&self) -> String {
        match self.part {
            Part::Root("") => nil(),
            _ => self.text(),
        }
    }
}

/// How upstream writes the path of the object itself.
pub(super) fn nil() -> String {
    "<nil>".into()
}

/// The offending value in an error.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::Float(f) => float(*f),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::String(_) => value.show(),
        compound => json_text(compound),
    }
}

/// A value as Go's `encoding/json` writes it.
pub(super) fn json_text(value: &Value) -> String {
    let mut out = Vec::new();
    json::write(value, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// A double under Go's verb `%v`: shortest digits, with an exponent below -4 and from 6 on.
pub(super) fn float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let exponent: Option<(&str, i32)> = scientific
        .split_once('e')
        .and_then(|(digits, exponent)| Some((digits, exponent.parse().ok()?)));
    match exponent {
        Some((digits, e)) if !(-4..6).contains(&e) => {
            let sign = if e < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", e.unsigned_abs())
        }
        _ => value.to_string(),
    }
}

/// Values of a list under Go's verb `%v`.
pub(super) fn list(values: &[Value]) -> String {
    let mut out = String::new();
    push_list(values, &mut out);
    out
}

fn push_list(values: &[Value], out: &mut String) {
    out.push('[');
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        push_value(value, out);
    }
    out.push(']');
}

fn push_value(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::Bool(b) => _ = write!(out, "{b}"),
        Value::Int(i) => _ = write!(out, "{i}"),
        Value::Float(f) => out.push_str(&float(*f)),
        Value::String(s) => out.push_str(s),
        Value::Bytes(_) | Value::Raw(_) => out.push_str(&json_text(value)),
        Value::List(values) => push_list(values, out),
        Value::Map(map) => {
            out.push_str("map[");
            for (i, (name, value)) in map.iter().enumerate() {
                let space = if i > 0 { " " } else { "" };
                let _ = write!(out, "{space}{name}:");
                push_value(value, out);
            }
            out.push(']');
        }
    }
}

/// An allowed value in an error: strings as they are, others as JSON.
pub(super) fn allowed(values: &[Value]) -> String {
    let texts: Vec<String> = values
        .iter()
        .map(|value| match value {
            Value::String(s) => quote(s),
            other => quote(&json_text(other)),
        })
        .collect();
    if texts.is_empty() {
        String::new()
    } else {
        format!("supported values: {}", texts.join(", "))
    }
}
