//! How values and paths are written in errors.

use std::fmt::Write;

use crate::value::Value;

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
/// A string of a Go type with a name of its own, which upstream prints as JSON and not with `%q`.
#[derive(Clone, Copy)]
pub struct Named<'a>(pub &'a str);

impl Show for Named<'_> {
    fn show(&self) -> String {
        json(&Value::from(self.0))
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
            other => json(other),
        }
    }
}

fn json(value: &Value) -> String {
    let mut out = Vec::new();
    crate::codec::json::write(value, &mut out);
    String::from_utf8_lossy(&out).into_owned()
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
            c if is_printable(c) => out.push(c),
            c => {
                let _ = match u32::from(c) {
                    n @ (0..0x20 | 0x7f) => write!(out, "\\x{n:02x}"),
                    n @ 0..0x1_0000 => write!(out, "\\u{n:04x}"),
                    n => write!(out, "\\U{n:08x}"),
                };
            }
        }
    }
    out.push('"');
    out
}

/// Go's `unicode.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space.
#[must_use]
pub fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    // The standard library prints the same categories as they are, but escapes marks at the start.
    let mut after_letter = [b'a'; 5];
    let len = 1 + c.encode_utf8(&mut after_letter[1..]).len();
    std::str::from_utf8(&after_letter[..len])
        .is_ok_and(|text| text.escape_debug().nth(1) != Some('\\'))
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
