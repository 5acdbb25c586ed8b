//! Whether an applied configuration fits its schema.

use std::collections::BTreeSet;

use super::element::Element;
use super::schema::{Merge, Scalar, Treat, Type, element_of};
use crate::catalogue::MsgId;
use crate::path::quote;
use crate::value::{Map, Value};

/// More problems than that nobody reads; a document can have millions.
const MAX_PROBLEMS: usize = 100;

/// All problems in one text, as upstream tells them; none if the configuration fits.
pub(super) fn check(object: &Value, message: MsgId) -> Option<String> {
    let mut check = Check::default();
    check.node(Type::Message(message), object);
    match check.problems.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("errors:\n  {}", many.join("\n  "))),
    }
}

#[derive(Default)]
struct Check {
    path: Vec<String>,
    problems: Vec<String>,
}

impl Check {
    fn add(&mut self, problem: &str) {
        let path = self.path.concat();
        let colon = if path.is_empty() { "" } else { ": " };
        self.problems.push(format!("{path}{colon}{problem}"));
    }

    fn below(&mut self, step: String, of: Type, value: &Value) {
        self.path.push(step);
        self.node(of, value);
        self.path.pop();
    }

    fn node(&mut self, of: Type, value: &Value) {
        if self.problems.len() >= MAX_PROBLEMS {
            return;
        }
        match (of.treat([Some(value), None]), value) {
            (_, Value::Null) => {}
            (Treat::Scalar(scalar), value) => {
                if let Some(problem) = misfit(scalar, value) {
                    self.add(&problem);
                }
            }
            (Treat::List(merge), Value::List(items)) => self.list(of, merge, items),
            (Treat::List(_), value) => self.add(&format!("expected list, got &{{{}}}", go(value))),
            (Treat::Map { .. }, Value::Map(map)) => self.map(of, map),
            (Treat::Map { .. }, value) => {
                self.add(&format!("expected map, got &{{{}}}", go(value)));
            }
        }
    }

    fn map(&mut self, of: Type, map: &Map) {
        for (name, value) in map.iter() {
            match of.entry(name) {
                Some(below) => self.below(format!(".{name}"), below, value),
                None => {
                    self.path.push(format!(".{name}"));
                    self.add("field not declared in schema");
                    self.path.pop();
                    return;
                }
            }
        }
    }

    fn list(&mut self, of: Type, merge: Merge, items: &[Value]) {
        let mut seen = BTreeSet::new();
        for (i, item) in items.iter().enumerate() {
            let element = match merge {
                Merge::Atomic => Element::Index(i64::try_from(i).unwrap_or(i64::MAX)),
                _ => match element_of(of, merge, item) {
                    Ok(element) => element,
                    Err(e) => return self.add(&format!("element {i}: {e}")),
                },
            };
            let step = element.to_string();
            if !seen.insert(element) {
                self.add(&format!("duplicate entries for key {step}"));
            }
            self.below(step, of.element(), item);
        }
    }
}

/// What is wrong with a value in the place of a scalar.
fn misfit(scalar: Scalar, value: &Value) -> Option<String> {
    let fits = match (scalar, value) {
        (Scalar::Untyped, v) => !matches!(v, Value::List(_) | Value::Map(_)),
        (Scalar::Number, Value::Int(_) | Value::Float(_))
        | (Scalar::String, Value::String(_))
        | (Scalar::Bool, Value::Bool(_)) => true,
        _ => false,
    };
    if fits {
        return None;
    }
    Some(match scalar {
        Scalar::Number => format!("expected numeric (int or float), got {}", go_type(value)),
        Scalar::String => format!(
            "expected string, got &value.valueUnstructured{{Value:{}}}",
            go_syntax(value)
        ),
        Scalar::Bool => format!("expected boolean, got &{{{}}}", go(value)),
        Scalar::Untyped => format!("expected any scalar, got &{{{}}}", go(value)),
    })
}

/// Go's `%T` of decoded JSON.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int64",
        Value::Float(_) => "float64",
        Value::String(_) | Value::Bytes(_) | Value::Raw(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
    }
}

/// Go's `%v` of decoded JSON.
fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.to_string(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(go).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Map(map) => {
            let entries: Vec<String> = map.iter().map(|(n, v)| format!("{n}:{}", go(v))).collect();
            format!("map[{}]", entries.join(" "))
        }
        other => plain(other),
    }
}

/// Go's `%#v` of decoded JSON.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => quote(text),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(go_syntax).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Map(map) => {
            let entries: Vec<String> = map
                .iter()
                .map(|(n, v)| format!("{}:{}", quote(n.as_str()), go_syntax(v)))
                .collect();
            format!("map[string]interface {{}}{{{}}}", entries.join(", "))
        }
        other => plain(other),
    }
}

fn plain(value: &Value) -> String {
    let mut out = Vec::new();
    crate::codec::json::write(value, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
