//! The small rules that validation is made of: one line each where they are used.
//!
//! A rule takes the errors, the view and the field that it is about, and what it needs to know. Texts
//! are upstream's (`apimachinery/pkg/api/validation`, `pkg/apis/core/validation`).

use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::view::{IntOrStr, View};
use proto::{Map, NameId, Value};

/// The object of the field's name must have been left as it was.
pub const IMMUTABLE: &str = "field is immutable";
/// Upstream's text for numbers that count something.
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// A string that must be given; says whether it is.
pub fn required<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, field: NameId) -> bool {
    let there = view
        .node()
        .get(field)
        .is_some_and(|v| v.as_str() != Some(""));
    if !there {
        e.required(Spot::of(view).field(field), "");
    }
    there
}

/// A string that, if given, must be one of a list.
pub fn one_of<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, field: NameId, allowed: &[&str]) {
    let text = view.node().str(field);
    if !text.is_empty() && !allowed.contains(&text) {
        e.not_supported(Spot::of(view).field(field), text, allowed);
    }
}

/// A string that must be given and one of a list.
pub fn required_one_of<'a, V: View<'a>>(
    e: &mut Errors<'_>,
    view: V,
    field: NameId,
    allowed: &[&str],
) {
    if required(e, view, field) {
        one_of(e, view, field, allowed);
    }
}

/// A number that, if given, must not be negative.
pub fn not_negative<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, field: NameId) {
    if let Some(number) = view.node().opt_int(field)
        && number < 0
    {
        e.invalid(Spot::of(view).field(field), number, NOT_NEGATIVE);
    }
}

/// A number that, if given, must be positive.
pub fn positive<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, field: NameId) {
    if let Some(number) = view.node().opt_int(field)
        && number < 1
    {
        e.invalid(
            Spot::of(view).field(field),
            number,
            "must be greater than 0",
        );
    }
}

/// Reports every text of a check on a string.
pub fn each<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, field: NameId, problems: Vec<String>) {
    let text = view.node().str(field);
    for problem in problems {
        e.invalid(Spot::of(view).field(field), text, problem);
    }
}

/// A port number from 1 to 65535.
pub fn port<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, field: NameId) {
    let number = view.node().int(field);
    for problem in names::port_number_problems(number) {
        e.invalid(Spot::of(view).field(field), number, problem);
    }
}

/// A port number or the name of one.
pub fn port_or_name<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, field: NameId) {
    let at = || Spot::of(view).field(field);
    match view.node().int_or_string(field) {
        Some(IntOrStr::Str(text)) => names::port_name_problems(text)
            .into_iter()
            .for_each(|p| e.invalid(at(), text, p)),
        Some(IntOrStr::Int(number)) => names::port_number_problems(number)
            .into_iter()
            .for_each(|p| e.invalid(at(), number, p)),
        None => names::port_number_problems(0)
            .into_iter()
            .for_each(|p| e.invalid(at(), 0_i64, p)),
    }
}

/// What two versions of a field must have in common: everything.
pub fn immutable<'a, V: View<'a>>(e: &mut Errors<'_>, new: V, old: V, field: NameId) {
    let (now, was) = (new.node().get(field), old.node().get(field));
    if !same(now, was) {
        match now {
            Some(value) => e.invalid(Spot::of(new).field(field), value, IMMUTABLE),
            None => e.invalid(Spot::of(new).field(field), &Value::Null, IMMUTABLE),
        }
    }
}

/// Equality as upstream's semantic one: absent and empty are the same.
#[must_use]
pub fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b || (empty(a) && empty(b)),
        (Some(v), None) | (None, Some(v)) => empty(v),
        (None, None) => true,
    }
}

fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::List(l) => l.is_empty(),
        Value::Map(m) => m.is_empty(),
        _ => false,
    }
}

/// Label keys and values of a map such as `spec.selector` or `spec.nodeSelector`.
pub fn labels(e: &mut Errors<'_>, map: &Map, at: Spot<'_>) {
    for (key, value) in map.iter() {
        for problem in names::label_key_problems(key.as_str()) {
            e.invalid(at, key.as_str(), problem);
        }
        let value = value.as_str().unwrap_or_default();
        for problem in names::label_value_problems(value) {
            e.invalid(at, value, problem);
        }
    }
}

/// Annotations outside an object's own metadata, such as a template's.
pub fn annotations(e: &mut Errors<'_>, map: &Map, at: Spot<'_>) {
    const MAX: usize = 256 * 1024;
    let mut size = 0;
    for (key, value) in map.iter() {
        // The case of a key does not matter here.
        e.invalid_each(
            at,
            key.as_str(),
            names::label_key_problems(&key.as_str().to_lowercase()),
        );
        size += key.as_str().len() + value.as_str().map_or(0, str::len);
    }
    if size > MAX {
        e.too_long(at, MAX);
    }
}
